"""How a pool comes to its connections: opened with the proven login, or to prove another one.

Opening is done by tasks of the pool, so that a caller who gives up neither leaks a place nor throws
away a connection that is half open. Which login is used, tried or waited for is
`credentials.machine`'s decision; what is seen is reported to it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Generic, Protocol

from stackstore.credentials.machine import Machine
from stackstore.pools.slots import Connection, LoginRefusedError, Slot, T, UnreachableError
from stackstore.pools.stats import Counters

logger = logging.getLogger(__name__)

_UNREACHABLE_DELAYS = (0.05, 0.1, 0.2, 0.5, 1.0)


class Places(Protocol[T]):
    """What opening needs of the pool: room within its bound, and somebody to take what was opened."""

    name: str

    @property
    def total(self) -> int:
        """The connections there are, including those being opened and closed."""

    @property
    def capacity(self) -> int:
        """The most there may be."""

    @property
    def waiting(self) -> int:
        """How many callers wait for one."""

    @property
    def retired(self) -> bool:
        """Nobody new comes."""

    @property
    def lifetime(self) -> float:
        """After how many seconds a connection opened now is to be replaced."""

    def release(self, slot: Slot[T]) -> None:
        """Take a connection that is open."""

    def drain(self) -> None:
        """Close what is stale and idle."""

    def make_way(self) -> None:
        """Close one that is idle, unless one is being closed."""


class Opener(Generic[T]):
    """Opens connections for one pool.

    Args:
        places: the pool.
        open_connection: opens one; raises LoginRefusedError or UnreachableError.
        describe: a target's name for messages (a revision), without secrets.
        on_refused: called when a login is refused.
        on_proven: called when another login is proven than before.
        counters: where attempts are counted.

    Attributes:
        machine: which login to use.
        count: how many attempts are under way; each has a place.
        troubles: the last failure of each target that failed last time, the newest at the end.
    """

    def __init__(
        self,
        places: Places[T],
        open_connection: Callable[[T], Awaitable[Connection]],
        describe: Callable[[T], str],
        *,
        on_refused: Callable[[], None],
        on_proven: Callable[[], None],
        counters: Counters,
    ) -> None:
        self.machine: Machine[T] = Machine()
        self.count = 0
        self.troubles: dict[T, str] = {}
        self._places = places
        self._open_connection = open_connection
        self._describe = describe
        self._on_refused = on_refused
        self._on_proven = on_proven
        self._counters = counters
        self._tasks: set[asyncio.Task[None]] = set()
        self._prover: asyncio.Task[None] | None = None
        self._place: asyncio.Future[None] | None = None
        self._changed = asyncio.Event()
        self._due: dict[T, float] = {}
        self._retry: asyncio.TimerHandle | None = None
        self._closed = False

    def offer(self, targets: tuple[T, ...]) -> bool:
        """The snapshot in force lists these targets; whether that is news."""
        before = self.machine
        self.machine = before.saw_snapshot(targets)
        if self.machine is before:
            return False
        self._due.clear()
        self.troubles.clear()
        self._changed.set()
        return True

    @property
    def wants_place(self) -> bool:
        """A proof waits for a connection to give way."""
        return self._place is not None and not self._place.done()

    def work(self) -> None:
        """Do what can be done for those who wait; called whenever something has changed."""
        if self._closed:
            return
        if self._proof_is_wanted() and (self._prover is None or self._prover.done()):
            self._prover = asyncio.get_running_loop().create_task(self._prove())
        places = self._places
        if self._place is not None:
            # A proof goes before: what it finds may serve all who wait.
            if places.total >= places.capacity:
                places.make_way()
            elif not self._place.done():
                self._place.set_result(None)
            return
        target = self.machine.for_new()
        if target is None:
            return
        if self.machine.absences.get(target):
            self._work_against_silence(target)
            return
        while places.waiting > self.count and places.total < places.capacity:
            self._start(target)

    async def close(self) -> None:
        """End every attempt."""
        self._closed = True
        if self._retry is not None:
            self._retry.cancel()
        tasks = {*self._tasks, *filter(None, [self._prover])}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        # Who was cancelled before its first step has not counted itself out.
        self.count = 0

    # -- with the proven login

    def _work_against_silence(self, target: T) -> None:
        """Nobody answers: one attempt at a time is begun, though the one before may still hang."""
        places, now = self._places, time.monotonic()
        if not places.waiting:
            return
        if places.total < places.capacity and now >= self._due.get(target, 0.0):
            self._due[target] = now + _UNREACHABLE_DELAYS[-1]
            self._start(target)
        if self._retry is None:
            delay = max(self._due.get(target, 0.0) - now, 0.01)
            self._retry = asyncio.get_running_loop().call_later(delay, self._work_again)

    def _work_again(self) -> None:
        self._retry = None
        self.work()

    def _start(self, target: T) -> None:
        self.count += 1
        task = asyncio.get_running_loop().create_task(self._open(target))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _open(self, target: T) -> None:
        """Open one, for whoever waits longest by then."""
        slot = None
        try:
            slot = await self._try(target)
        except UnreachableError:
            count = self.machine.absences.get(target, 1)
            delay = _UNREACHABLE_DELAYS[min(count, len(_UNREACHABLE_DELAYS)) - 1]
            self._due[target] = time.monotonic() + delay
            if self._retry is not None:
                self._retry.cancel()
                self._retry = None
        except LoginRefusedError:
            pass
        finally:
            self.count -= 1
        if slot is not None:
            self._places.release(slot)
        self.work()

    # -- with one that is to be proven

    def _proof_is_wanted(self) -> bool:
        target = self.machine.to_prove()
        if self._closed or target is None:
            return False
        if self._places.waiting:
            return True
        if self._places.retired:
            return False
        # With nothing proven and nobody here each login is tried once, so that the next who comes
        # need not wait; then that one asks for more.
        return (
            self.machine.proven is not None
            or self._places.total > 0
            or self.machine.is_untried(target)
        )

    async def _prove(self) -> None:
        """Try what the machine wants tried until it wants nothing more or nobody needs it."""
        while self._proof_is_wanted():
            target = self.machine.to_prove()
            assert target is not None  # noqa: S101 - the proof of nothing is not wanted
            pause = self._due.get(target, 0.0) - time.monotonic()
            if pause > 0:
                self._changed.clear()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(pause):
                        await self._changed.wait()
                continue
            await self._take_place()
            self.count += 1
            began = time.monotonic()
            slot = None
            try:
                slot = await self._try(target)
            except (LoginRefusedError, UnreachableError):
                # An attempt that hung kept a place from others; they get it for longer.
                pause = max(self.machine.retry_delay(target), 2 * (time.monotonic() - began))
                self._due[target] = time.monotonic() + pause
            finally:
                self.count -= 1
            if slot is not None:
                self._places.release(slot)
            self.work()

    async def _take_place(self) -> None:
        """Make room for one more connection without ever exceeding the bound."""
        places = self._places
        while places.total >= places.capacity:
            self._place = asyncio.get_running_loop().create_future()
            places.make_way()
            try:
                await self._place
            finally:
                self._place = None

    # -- either way

    async def _try(self, target: T) -> Slot[T]:
        name, revision = self._places.name, self._describe(target)
        try:
            connection = await self._open_connection(target)
        except (LoginRefusedError, UnreachableError) as error:
            refused = isinstance(error, LoginRefusedError)
            # The same again is no news; at 1 a second it would fill the log.
            news = self.troubles.pop(target, None) != str(error)
            self.troubles[target] = str(error)
            logger.log(
                logging.WARNING if news else logging.DEBUG,
                "backend %s: revision %s %s: %s",
                name,
                revision,
                "refused" if refused else "unreachable",
                error,
            )
            if refused:
                self._counters.refused += 1
                self.machine = self.machine.refused(target)
                self._on_refused()
            else:
                self._counters.unreachable += 1
                self.machine = self.machine.unreachable(target)
            raise
        self._counters.opened += 1
        self.troubles.pop(target, None)
        before = self.machine.proven
        self.machine = self.machine.accepted(target)
        if self.machine.proven != before:
            logger.info("backend %s: revision %s is proven", name, revision)
            self._places.drain()
            self._on_proven()
        return Slot(connection, target, self._places.lifetime)
