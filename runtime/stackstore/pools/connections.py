"""One database's connections in one process: bounded, generational, and patient.

The pool never holds more connections than `size + max_overflow`, counting those being opened,
proved and closed. Whoever finds none idle waits for one, in turn and at most
`acquire_timeout_seconds`. Here connections are lent, kept and closed; `pools.opening` brings them.
It knows nothing of SQLAlchemy.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import random
import time
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Generic

from stackstore.credentials.machine import Machine
from stackstore.credentials.snapshot import PoolSettings
from stackstore.errors import BackendUnavailableError, StackstoreError
from stackstore.pools.messages import not_ours, too_late, unproven
from stackstore.pools.opening import Opener
from stackstore.pools.slots import Connection, Slot, T
from stackstore.pools.stats import Counters, PoolStats

PING_AFTER_SECONDS = 30.0
"""A connection that idled longer is asked whether it still lives before it is lent."""

OVERFLOW_LINGER_SECONDS = 5.0
"""How long a connection above `size` may idle; closing at once would reconnect under bursts."""

FRESH_SECONDS = 1.0
"""A connection younger than this outlives an `expire()`: it was opened when the news was known."""

_PING_SECONDS = 3.0
_GOODBYE_SECONDS = 2.0


class ConnectionPool(Generic[T]):
    """The connections of one database.

    Args:
        name: the backend's name, for messages.
        open_connection: opens one; raises LoginRefusedError or UnreachableError.
        describe: a target's name for messages (a revision), without secrets.
        settings: bounds.
        on_refused: called when a login is refused, so that a newer snapshot is looked for at once.
        on_proven: called when another login is proven than before.
    """

    def __init__(
        self,
        name: str,
        open_connection: Callable[[T], Awaitable[Connection]],
        *,
        describe: Callable[[T], str],
        settings: PoolSettings,
        on_refused: Callable[[], None] = lambda: None,
        on_proven: Callable[[], None] = lambda: None,
    ) -> None:
        self.name = name
        self._counters = Counters()
        self._opener: Opener[T] = Opener(
            self,
            open_connection,
            describe,
            on_refused=on_refused,
            on_proven=on_proven,
            counters=self._counters,
        )
        self._describe = describe
        self._settings = settings
        self._idle: deque[Slot[T]] = deque()
        self._lent: set[Slot[T]] = set()
        self._closing = 0
        self._waiters: deque[asyncio.Future[Slot[T] | None]] = deque()
        self._closers: set[asyncio.Task[None]] = set()
        self._sweeper: asyncio.TimerHandle | None = None
        self.retired = False
        self._closed = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._pid = os.getpid()

    # -- what the outside tells

    def offer(self, targets: tuple[T, ...]) -> None:
        """The snapshot in force lists these targets, most preferred first."""
        if self._opener.offer(targets) and self._loop is not None:
            self.drain()
            self._opener.work()

    def resize(self, settings: PoolSettings) -> None:
        """New bounds; a pool that is now too large shrinks as its connections come back."""
        self._settings = settings
        if self._loop is not None:
            while self._idle and self.total > self.capacity:
                self._close(self._idle.popleft())
            self._sweep_later()
            self._opener.work()

    def expire(self) -> None:
        """Whatever was opened a while ago is no longer lent: the server has changed its role."""
        edge = time.monotonic() - FRESH_SECONDS
        for slot in [slot for slot in self._idle if slot.opened < edge]:
            self._idle.remove(slot)
            self._close(slot)
        for slot in self._lent:
            slot.discard = slot.discard or slot.opened < edge

    def retire(self) -> None:
        """Nobody new comes: serve who is here, and keep no connection that nobody waits for."""
        self.retired = True
        while self._idle:
            self._close(self._idle.popleft())

    # -- what it shows

    @property
    def capacity(self) -> int:
        """The most connections there may be."""
        return self._settings.size + self._settings.max_overflow

    @property
    def total(self) -> int:
        """The connections there are, including those being opened and closed."""
        return len(self._idle) + len(self._lent) + self._opener.count + self._closing

    @property
    def machine(self) -> Machine[T]:
        """Which logins there are, and which of them is used."""
        return self._opener.machine

    @property
    def trouble(self) -> str:
        """Why no connection can be opened, without secrets; empty: one can, or nothing was tried yet."""
        machine = self.machine
        if machine.proven is not None or not (machine.refusals or machine.absences):
            return ""
        return unproven(machine, self._troubles(), self._describe)

    @property
    def waiting(self) -> int:
        """How many callers wait for a connection."""
        return len(self._waiters)

    @property
    def lifetime(self) -> float:
        """After how many seconds a connection opened now is to be replaced."""
        recycle = self._settings.recycle_seconds
        # Jitter: connections opened together would otherwise be closed together.
        return recycle * random.uniform(0.9, 1.1) if recycle > 0 else float("inf")  # noqa: S311

    def status(self) -> dict[str, object]:
        """Numbers and revisions, no secrets."""
        proven, targets = self.machine.proven, self.machine.targets
        return {
            "capacity": self.capacity,
            "idle": len(self._idle),
            "lent": len(self._lent),
            "opening": self._opener.count,
            "closing": self._closing,
            "waiting": sum(not waiter.done() for waiter in self._waiters),
            "proven": None if proven is None else self._describe(proven),
            "newest": self._describe(targets[0]) if targets else None,
            "trouble": next(reversed(self._opener.troubles.values()), None),
        }

    def stats(self) -> PoolStats:
        """Numbers alone."""
        return PoolStats(
            size=self._settings.size,
            max_overflow=self._settings.max_overflow,
            idle=len(self._idle),
            lent=len(self._lent),
            opening=self._opener.count,
            closing=self._closing,
            waiting=sum(not waiter.done() for waiter in self._waiters),
            counters=dataclasses.replace(self._counters),
        )

    # -- lending

    async def acquire(self) -> Slot[T]:
        """Lend a connection.

        Raises:
            BackendUnavailableError: none in time; CredentialsError if for want of a login.
        """
        self._check_owner()
        slot = self._pop_idle()
        if slot is None or slot.returned <= time.monotonic() - PING_AFTER_SECONDS:
            slot = await self._acquire_slowly(slot)
        self._counters.lends += 1
        return slot

    def release(self, slot: Slot[T]) -> None:
        """Take a lent connection back."""
        self._lent.discard(slot)
        if (
            self._closed
            or slot.discard
            or slot.connection.is_closed()
            or self.machine.is_stale(slot.target)
            # Only after a resize: this one would be one too many.
            or self.total - self._closing >= self.capacity
            # One that gives way is enough for the prover.
            or (self._opener.wants_place and self._closing == 0)
        ):
            self._close(slot)
            return
        slot.returned = time.monotonic()
        if self._give(slot):
            return
        if self.retired:
            self._close(slot)
            return
        self._idle.append(slot)
        self._sweep_later()

    async def close(self) -> None:
        """Close what is idle now and what is lent when it comes back.

        Raises:
            StackstoreError: in a forked child or another event loop, whose connections they aren't.
        """
        self._check_process()
        self._closed = True
        if self._sweeper is not None:
            self._sweeper.cancel()
        await self._opener.close()
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
        while self._idle:
            self._close(self._idle.pop())
        while self._closers:
            await asyncio.gather(*self._closers, return_exceptions=True)

    # -- inside: lending

    def _check_owner(self) -> None:
        self._check_process()
        if self._closed:
            raise BackendUnavailableError(f"backend {self.name!r}: its pool is closed")
        if self._loop is None:
            self._loop = asyncio.get_running_loop()

    def _check_process(self) -> None:
        if os.getpid() != self._pid:
            raise StackstoreError(not_ours(self.name, forked=True))
        if self._loop is not None and self._loop is not asyncio.get_running_loop():
            raise StackstoreError(not_ours(self.name, forked=False))

    def _pop_idle(self) -> Slot[T] | None:
        """Lend the one that came back last; those that can't be lent any more are closed."""
        while self._idle:
            slot = self._idle.pop()
            if (
                slot.connection.is_closed()
                or self.machine.is_stale(slot.target)
                or (slot.expires < time.monotonic() and self.machine.may_recycle())
            ):
                self._close(slot)
            else:
                self._lent.add(slot)
                return slot
        return None

    async def _acquire_slowly(self, slot: Slot[T] | None) -> Slot[T]:
        began = time.monotonic()
        while True:
            if self._closed:
                if slot is not None:
                    # It was given just before the end.
                    self.release(slot)
                raise BackendUnavailableError(f"backend {self.name!r}: its pool is closed")
            if slot is not None:
                if await self._is_usable(slot):
                    return slot
            else:
                remaining = began + self._settings.acquire_timeout_seconds - time.monotonic()
                if remaining <= 0:
                    self._counters.timeouts += 1
                    raise self._too_late(time.monotonic() - began)
                slot = await self._wait(remaining)
                if slot is not None:
                    continue
            slot = self._pop_idle()

    async def _is_usable(self, slot: Slot[T]) -> bool:
        """Ask a lent connection that idled for long; close it, and its like, if it's dead."""
        idled_since = time.monotonic() - PING_AFTER_SECONDS
        if not slot.connection.is_closed():
            if slot.returned > idled_since:
                return True
            try:
                async with asyncio.timeout(
                    min(_PING_SECONDS, self._settings.acquire_timeout_seconds / 3)
                ):
                    await slot.connection.execute("SELECT 1")
            except asyncio.CancelledError:
                slot.discard = True
                self.release(slot)
                raise
            except Exception:  # noqa: BLE001 - whatever it is, this connection is of no use
                slot.discard = True
                # What idled as long went the same way; asking each would take as long again.
                while self._idle and self._idle[0].returned <= idled_since:
                    self._close(self._idle.popleft())
            else:
                return True
        self.release(slot)
        return False

    async def _wait(self, seconds: float) -> Slot[T] | None:
        """Wait for a connection; None: in vain. It counts as lent from when it was given."""
        waiter: asyncio.Future[Slot[T] | None] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        self._opener.work()
        began = time.monotonic()
        try:
            async with asyncio.timeout(seconds):
                return await waiter
        except TimeoutError:
            # The answer may have come in the same turn of the loop.
            return self._leave(waiter)
        except asyncio.CancelledError:
            slot = self._leave(waiter)
            if slot is not None:
                self.release(slot)
            raise
        finally:
            self._counters.waits += 1
            self._counters.waited_seconds += time.monotonic() - began

    def _leave(self, waiter: asyncio.Future[Slot[T] | None]) -> Slot[T] | None:
        """Wait no longer; what was given meanwhile is the caller's."""
        if waiter.done() and not waiter.cancelled():
            return waiter.result()
        with contextlib.suppress(ValueError):
            self._waiters.remove(waiter)
        return None

    def _give(self, slot: Slot[T]) -> bool:
        """Hand a connection to whoever waits longest, if anybody does."""
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                self._lent.add(slot)
                waiter.set_result(slot)
                return True
        return False

    def _troubles(self) -> dict[T, str]:
        return {target: self._opener.troubles.get(target, "") for target in self.machine.targets}

    def _too_late(self, waited: float) -> BackendUnavailableError:
        return too_late(
            self.name,
            waited,
            self.machine,
            self._troubles(),
            self._describe,
            capacity=self.capacity,
            opening=self._opener.count,
        )

    # -- inside: closing

    def make_way(self) -> None:
        """Close the one that idled longest, unless one is being closed; it is missed least."""
        if self._idle and self._closing == 0:
            self._close(self._idle.popleft())

    def drain(self) -> None:
        """Close what is stale and idle."""
        for slot in [slot for slot in self._idle if self.machine.is_stale(slot.target)]:
            self._idle.remove(slot)
            self._close(slot)

    @property
    def _surplus(self) -> int:
        return self.total - self._closing - self._settings.size

    def _sweep_later(self, patience: float = 1.0) -> None:
        if self._closed or self._loop is None or self._sweeper is not None:
            return
        if self._idle and self._surplus > 0:
            self._sweeper = self._loop.call_later(OVERFLOW_LINGER_SECONDS * patience, self._sweep)

    def _sweep(self) -> None:
        self._sweeper = None
        edge = time.monotonic() - OVERFLOW_LINGER_SECONDS
        while self._surplus > 0 and self._idle and self._idle[0].returned <= edge + 0.01:
            self._close(self._idle.popleft())
        self._sweep_later(0.5)

    def _close(self, slot: Slot[T]) -> None:
        """Close one that is in no list any more; its place is free when the server let go of it."""
        self._counters.closed += 1
        loop = self._loop
        if loop is None or loop.is_closed():
            # Given back by the garbage collector after the end.
            return
        if slot.connection.is_closed():
            self._opener.work()
            return
        self._closing += 1
        task = loop.create_task(self._say_goodbye(slot))
        self._closers.add(task)
        task.add_done_callback(self._closers.discard)

    async def _say_goodbye(self, slot: Slot[T]) -> None:
        try:
            async with asyncio.timeout(_GOODBYE_SECONDS):
                await slot.connection.close()
        except BaseException as error:
            slot.connection.terminate()
            if not isinstance(error, Exception):
                raise
        finally:
            self._closing -= 1
            self._opener.work()
