"""One database's connections in one process: bounded, generational, and patient.

The pool never holds more connections than `size + max_overflow`, counting those being opened,
proved and closed. Which login a connection is opened with is `credentials.machine`'s decision; the
pool reports what it saw and does what it is told. It knows nothing of SQLAlchemy.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import random
import time
from collections import deque
from collections.abc import Awaitable, Callable, Hashable
from typing import Any, Generic, Protocol, TypeVar

from stackstore.credentials.machine import Machine
from stackstore.credentials.snapshot import PoolSettings
from stackstore.errors import BackendUnavailableError, CredentialsError, StackstoreError

logger = logging.getLogger(__name__)

PING_AFTER_SECONDS = 30.0
"""A connection that idled longer is asked whether it still lives before it is lent."""

OVERFLOW_LINGER_SECONDS = 5.0
"""How long a connection above `size` may idle; closing at once would reconnect under bursts."""

_UNREACHABLE_DELAYS = (0.05, 0.1, 0.2, 0.5, 1.0)


class LoginRefusedError(Exception):
    """The database answered and said no: to the login, to the database's name or to the TLS."""


class UnreachableError(Exception):
    """No answer that says anything about the login: down, starting, full, cut off."""


class Connection(Protocol):
    """What the pool needs of a driver's connection (asyncpg's has it)."""

    def is_closed(self) -> bool:
        """Whether it is gone."""

    async def close(self) -> None:
        """Say goodbye and close."""

    def terminate(self) -> None:
        """Drop it without a word."""

    async def execute(self, query: str) -> object:
        """Run a statement."""


T = TypeVar("T", bound=Hashable)


class Slot(Generic[T]):
    """One open connection and what the pool remembers of it."""

    __slots__ = ("connection", "discard", "expires", "returned", "sqlalchemy", "target")

    def __init__(self, connection: Any, target: T, expires: float) -> None:
        self.connection = connection
        self.target = target
        self.expires = expires
        self.returned = time.monotonic()
        self.discard = False
        self.sqlalchemy: Any = None


class ConnectionPool(Generic[T]):
    """The connections of one database.

    Args:
        name: the backend's name, for messages.
        open_connection: opens one; raises LoginRefusedError or UnreachableError.
        describe: a target's name for messages (a revision), without secrets.
        settings: bounds.
        on_refused: called when a login is refused, so that a newer snapshot is looked for at once.
    """

    def __init__(
        self,
        name: str,
        open_connection: Callable[[T], Awaitable[Connection]],
        *,
        describe: Callable[[T], str],
        settings: PoolSettings,
        on_refused: Callable[[], None] = lambda: None,
    ) -> None:
        self.name = name
        self.machine: Machine[T] = Machine()
        self._open_connection = open_connection
        self._describe = describe
        self._settings = settings
        self._on_refused = on_refused
        self._idle: deque[Slot[T]] = deque()
        self._lent: set[Slot[T]] = set()
        self._opening = 0
        self._closing = 0
        self._waiters: deque[asyncio.Future[Slot[T] | None]] = deque()
        self._place_wanted: asyncio.Future[None] | None = None
        self._prover: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._changed = asyncio.Event()
        self._tried: dict[T, float] = {}
        self._trouble: str | None = None
        self._unreachable = 0
        self._sweeper: asyncio.TimerHandle | None = None
        self._closed = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._pid = os.getpid()

    # -- what the outside tells

    def offer(self, targets: tuple[T, ...]) -> None:
        """The snapshot in force lists these targets, most preferred first."""
        before = self.machine
        self.machine = before.saw_snapshot(targets)
        if self.machine is before:
            return
        self._tried.clear()
        self._changed.set()
        if self._loop is not None:
            self._prove_if_needed()
            self._drain()

    def resize(self, settings: PoolSettings) -> None:
        """New bounds; a pool that is now too large shrinks as connections come back."""
        self._settings = settings

    # -- what it shows

    @property
    def capacity(self) -> int:
        """The most connections there may be."""
        return self._settings.size + self._settings.max_overflow

    @property
    def total(self) -> int:
        """The connections there are, including those being opened and closed."""
        return len(self._idle) + len(self._lent) + self._opening + self._closing

    def status(self) -> dict[str, object]:
        """Numbers and revisions, no secrets."""
        proven, targets = self.machine.proven, self.machine.targets
        return {
            "capacity": self.capacity,
            "idle": len(self._idle),
            "lent": len(self._lent),
            "opening": self._opening,
            "waiting": sum(not waiter.done() for waiter in self._waiters),
            "proven": None if proven is None else self._describe(proven),
            "newest": self._describe(targets[0]) if targets else None,
            "trouble": self._trouble,
        }

    # -- lending

    async def acquire(self) -> Slot[T]:
        """Lend a connection.

        Raises:
            BackendUnavailableError: none in time; CredentialsError if for want of a login.
        """
        self._check_owner()
        slot = await self._take_idle()
        if slot is None:
            slot = await self._acquire_slowly()
        self._lent.add(slot)
        return slot

    def release(self, slot: Slot[T]) -> None:
        """Take a lent connection back."""
        self._lent.discard(slot)
        if (
            self._closed
            or slot.discard
            or slot.connection.is_closed()
            or self.machine.is_stale(slot.target)
            or self.total >= self.capacity
        ):
            self._close_in_background(slot)
            return
        if self._place_wanted is not None and not self._place_wanted.done():
            self._close_in_background(slot)
            return
        slot.returned = time.monotonic()
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(slot)
                # Between two owners it counts as lent, so that the bound holds.
                self._lent.add(slot)
                return
        self._idle.append(slot)
        if self.total > self._settings.size and self._sweeper is None and self._loop is not None:
            self._sweeper = self._loop.call_later(OVERFLOW_LINGER_SECONDS, self._sweep)

    async def close(self) -> None:
        """Close what is idle now and what is lent when it comes back."""
        self._closed = True
        self._changed.set()
        if self._sweeper is not None:
            self._sweeper.cancel()
        if self._prover is not None:
            self._prover.cancel()
            await asyncio.gather(self._prover, return_exceptions=True)
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
        while self._idle:
            self._close_in_background(self._idle.pop())
        while self._tasks:
            await asyncio.gather(*self._tasks, return_exceptions=True)

    # -- inside: lending

    def _check_owner(self) -> None:
        if self._closed:
            raise BackendUnavailableError(f"backend {self.name!r}: its pool is closed")
        loop = asyncio.get_running_loop()
        if self._loop is None:
            self._loop = loop
        if os.getpid() != self._pid:
            raise StackstoreError(
                f"backend {self.name!r}: this process was forked after stackstore.open(); connections "
                "can't be shared by two processes, so call stackstore.open() in the child"
            )
        if self._loop is not loop:
            raise StackstoreError(
                f"backend {self.name!r}: opened in another event loop; call stackstore.open() in the "
                "loop that uses it"
            )

    async def _take_idle(self) -> Slot[T] | None:
        while self._idle:
            slot = self._idle.pop()
            now = time.monotonic()
            if (
                slot.connection.is_closed()
                or self.machine.is_stale(slot.target)
                or (slot.expires < now and self.machine.may_recycle())
                or (now - slot.returned > PING_AFTER_SECONDS and not await self._answers(slot))
            ):
                self._close_in_background(slot)
            else:
                return slot
        return None

    async def _answers(self, slot: Slot[T]) -> bool:
        self._lent.add(slot)
        try:
            async with asyncio.timeout(5):
                await slot.connection.execute("SELECT 1")
        except asyncio.CancelledError:
            self._close_in_background(slot)
            raise
        except Exception:  # noqa: BLE001 - whatever it is, this connection is of no use
            return False
        finally:
            self._lent.discard(slot)
        return True

    async def _acquire_slowly(self) -> Slot[T]:
        deadline = time.monotonic() + self._settings.acquire_timeout_seconds
        while True:
            if self._closed:
                raise BackendUnavailableError(f"backend {self.name!r}: its pool is closed")
            slot = await self._take_idle()
            if slot is not None:
                return slot
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                raise self._too_late()
            target = self.machine.for_new()
            if target is None:
                slot = await self._wait(remaining, proving=True)
            elif self.total < self.capacity and self._place_wanted is None:
                slot = await self._open(target, deadline)
            else:
                slot = await self._wait(remaining)
            if slot is not None:
                return slot

    async def _wait(self, seconds: float, *, proving: bool = False) -> Slot[T] | None:
        """Wait for a connection, or (None) for a reason to look again."""
        waiter: asyncio.Future[Slot[T] | None] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        if proving:
            self._prove_if_needed()
        slot = None
        try:
            async with asyncio.timeout(seconds):
                slot = await waiter
        except TimeoutError:
            # The answer may have come in the same turn of the loop.
            slot = _answer(waiter)
        except asyncio.CancelledError:
            slot = _answer(waiter)
            if slot is not None:
                self.release(slot)
            else:
                self._wake_one()
            raise
        finally:
            with contextlib.suppress(ValueError):
                self._waiters.remove(waiter)
        if slot is not None:
            self._lent.discard(slot)
        return slot

    def _wake_one(self) -> None:
        """A place came free: whoever waits longest looks again (the prover before all)."""
        if self._place_wanted is not None and not self._place_wanted.done():
            self._place_wanted.set_result(None)
            return
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return

    def _wake_all(self) -> None:
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)

    def _too_late(self) -> BackendUnavailableError:
        seconds = self._settings.acquire_timeout_seconds
        where = f"backend {self.name!r}: no connection within {seconds} s"
        if self.machine.for_new() is None:
            tried = ", ".join(
                f"{self._describe(target)} ({'refused' if target in self.machine.refusals else 'untried'})"
                for target in self.machine.targets
            )
            return CredentialsError(
                f"{where}: no login is proven; revisions: {tried or 'none'}; "
                f"last trouble: {self._trouble or 'none'}"
            )
        if self._trouble is not None:
            return BackendUnavailableError(f"{where}: {self._trouble}")
        return BackendUnavailableError(
            f"{where}: all {self.capacity} are in use; raise pool.size or pool.maxOverflow, or look for "
            "a caller that keeps one"
        )

    # -- inside: opening and proving

    async def _open(self, target: T, deadline: float) -> Slot[T] | None:
        """Open one with a proven target; None: it failed, look again."""
        self._opening += 1
        slot = None
        try:
            slot = await self._try(target)
        except LoginRefusedError:
            return None
        except UnreachableError:
            remaining = deadline - time.monotonic()
            if remaining > 0:
                # Not held as `opening`: the place is free for others meanwhile.
                self._opening -= 1
                try:
                    await asyncio.sleep(min(self._unreachable_delay(), remaining))
                finally:
                    self._opening += 1
            return None
        finally:
            self._opening -= 1
            if slot is None:
                self._wake_one()
        return slot

    async def _try(self, target: T) -> Slot[T]:
        try:
            connection = await self._open_connection(target)
        except LoginRefusedError as error:
            self._trouble = str(error)
            self.machine = self.machine.refused(target)
            logger.warning(
                "backend %s: login of revision %s refused: %s",
                self.name,
                self._describe(target),
                error,
            )
            self._on_refused()
            self._prove_if_needed()
            raise
        except UnreachableError as error:
            self._trouble = str(error)
            self._unreachable += 1
            raise
        self._trouble = None
        self._unreachable = 0
        before = self.machine.proven
        self.machine = self.machine.accepted(target)
        if self.machine.proven != before:
            logger.info("backend %s: revision %s is proven", self.name, self._describe(target))
            self._drain()
        recycle = self._settings.recycle_seconds
        # Jitter: connections opened together would otherwise be closed together.
        age = recycle * random.uniform(0.9, 1.1) if recycle > 0 else float("inf")  # noqa: S311
        return Slot(connection, target, time.monotonic() + age)

    def _unreachable_delay(self) -> float:
        return _UNREACHABLE_DELAYS[min(max(self._unreachable, 1), len(_UNREACHABLE_DELAYS)) - 1]

    def _prove_if_needed(self) -> None:
        if self._closed or self.machine.to_prove() is None:
            return
        if self.machine.proven is None and not self._waiters and self.total == 0:
            return
        if self._prover is None or self._prover.done():
            self._prover = asyncio.get_running_loop().create_task(self._prove())

    async def _prove(self) -> None:
        """Try what the machine wants tried until it wants nothing more or nobody needs it."""
        while not self._closed:
            target = self.machine.to_prove()
            if target is None:
                return
            if self.machine.proven is None and not self._waiters and self.total == 0:
                return
            pause = self.machine.retry_delay(target)
            if self._unreachable:
                pause = max(pause, self._unreachable_delay())
            due = self._tried.get(target, 0.0) + pause - time.monotonic()
            if due > 0:
                self._changed.clear()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(due):
                        await self._changed.wait()
                continue
            await self._take_place()
            self._opening += 1
            slot = None
            try:
                slot = await self._try(target)
            except (LoginRefusedError, UnreachableError):
                pass
            finally:
                self._opening -= 1
                self._tried[target] = time.monotonic()
                if slot is None:
                    self._wake_one()
            if slot is not None:
                self.release(slot)
                self._wake_all()

    async def _take_place(self) -> None:
        """Make room for one more connection without ever exceeding the bound."""
        while self.total >= self.capacity:
            self._place_wanted = asyncio.get_running_loop().create_future()
            if self._idle:
                # The longest idle gives way; the proven login (if any) reopens it when it is missed.
                self._close_in_background(self._idle.popleft())
            try:
                await self._place_wanted
            finally:
                self._place_wanted = None

    # -- inside: closing

    def _drain(self) -> None:
        stale = [slot for slot in self._idle if self.machine.is_stale(slot.target)]
        for slot in stale:
            self._idle.remove(slot)
            self._close_in_background(slot)

    def _sweep(self) -> None:
        self._sweeper = None
        surplus = self.total - self._settings.size
        edge = time.monotonic() - OVERFLOW_LINGER_SECONDS
        while surplus > 0 and self._idle and self._idle[0].returned <= edge + 0.01:
            self._close_in_background(self._idle.popleft())
            surplus -= 1
        if surplus > 0 and self._idle and self._loop is not None and not self._closed:
            self._sweeper = self._loop.call_later(OVERFLOW_LINGER_SECONDS / 2, self._sweep)

    def _close_in_background(self, slot: Slot[T]) -> None:
        if slot.connection.is_closed():
            self._wake_one()
            return
        self._closing += 1
        task = asyncio.get_running_loop().create_task(self._close_slot(slot))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _close_slot(self, slot: Slot[T]) -> None:
        try:
            if slot.discard:
                slot.connection.terminate()
            else:
                async with asyncio.timeout(2):
                    await slot.connection.close()
        except Exception:  # noqa: BLE001 - it is being thrown away; nobody is there to tell
            slot.connection.terminate()
        finally:
            self._closing -= 1
            self._wake_one()


def _answer(waiter: asyncio.Future[Slot[T] | None]) -> Slot[T] | None:
    return waiter.result() if waiter.done() and not waiter.cancelled() else None
