"""One coalescing queue: a key that is asked for ten times is looked at once more, never twice at once."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

logger = logging.getLogger(__name__)

T = TypeVar("T", bound=Hashable)

_BACKOFF = (0.2, 0.5, 1.0, 2.0, 5.0, 15.0, 30.0)


class Queue(Generic[T]):
    """Keys to work on.

    Args:
        work: handles one key; returns in how many seconds it wants to see the key again, or None.
            When it raises, the key comes back after a delay that grows with each failure.
        workers: how many keys are worked on at once.
    """

    def __init__(self, work: Callable[[T], Awaitable[float | None]], workers: int = 8) -> None:
        self._work = work
        self._workers = workers
        self._waiting: asyncio.Queue[T] = asyncio.Queue()
        self._queued: dict[T, float] = {}
        self._active: set[T] = set()
        self._again: set[T] = set()
        self._failures: dict[T, int] = {}
        self._timers: dict[T, tuple[float, asyncio.TimerHandle]] = {}

    @property
    def depth(self) -> int:
        """How many keys wait for a worker."""
        return len(self._queued)

    @property
    def oldest_age(self) -> float:
        """For how many seconds the key has waited that waits longest; 0: none waits."""
        oldest = next(iter(self._queued.copy().values()), None)
        return 0.0 if oldest is None else time.monotonic() - oldest

    def add(self, key: T) -> None:
        """Look at this key, now or as soon as the look that is under way is over."""
        if key in self._active:
            self._again.add(key)
        elif key not in self._queued:
            self._queued[key] = time.monotonic()
            self._waiting.put_nowait(key)

    def add_after(self, key: T, seconds: float) -> None:
        """Look at this key later; the earlier of two times wins."""
        due = time.monotonic() + seconds
        if key in self._timers:
            earlier, timer = self._timers[key]
            if earlier <= due:
                return
            timer.cancel()
        handle = asyncio.get_running_loop().call_later(seconds, self._ring, key)
        self._timers[key] = (due, handle)

    def _ring(self, key: T) -> None:
        self._timers.pop(key, None)
        self.add(key)

    async def run(self) -> None:
        """Work until cancelled."""
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(self._workers):
                    group.create_task(self._worker())
        finally:
            for _, timer in self._timers.values():
                timer.cancel()
            # Who works on with this queue would otherwise wait for bells that never ring.
            self._timers.clear()

    async def _worker(self) -> None:
        while True:
            key = await self._waiting.get()
            self._queued.pop(key, None)
            self._active.add(key)
            try:
                seconds = await self._work(key)
            except Exception as error:  # noqa: BLE001 - one key's failure is not the others'
                count = self._failures.get(key, 0)
                self._failures[key] = count + 1
                # The type and text of our own errors only: others may quote what they were given.
                logger.warning("%s: %s, trying again", key, _text(error))
                seconds = _BACKOFF[min(count, len(_BACKOFF) - 1)]
            else:
                self._failures.pop(key, None)
            finally:
                self._active.discard(key)
            if key in self._again:
                self._again.discard(key)
                self.add(key)
            if seconds is not None:
                self.add_after(key, seconds)


def _text(error: Exception) -> str:
    if type(error).__module__.startswith("stackstore_operator"):
        return f"{type(error).__name__}: {error}"
    return type(error).__name__
