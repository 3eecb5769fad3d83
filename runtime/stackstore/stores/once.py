"""Something that has to be done once, by whoever needs it first."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from stackstore.errors import BackendUnavailableError


class Once:
    """Work that all who need it wait for; who comes after it was done goes on at once.

    It is a task of its own: whoever is cancelled meanwhile does not take it from the others. If it
    fails, all who waited are told, and the next one who comes tries again.

    Args:
        work: what to do.

    Attributes:
        is_done: whether it was done.
    """

    def __init__(self, work: Callable[[], Awaitable[None]]) -> None:
        self._work = work
        self._task: asyncio.Task[None] | None = None
        self.is_done = False

    async def __call__(self) -> None:
        """See to it that it is done.

        Raises:
            Exception: of the type and with the text of the work's own.
            BackendUnavailableError: the event loop is ending.
        """
        if self.is_done:
            return
        task = self._task
        if task is None or task.done() or task.get_loop() is not asyncio.get_running_loop():
            task = self._task = asyncio.create_task(self._do())
            # Where nobody is left to be told, the loop need not be either.
            task.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
        await asyncio.wait([task])
        if task.cancelled():
            raise BackendUnavailableError("the event loop is ending")
        if error := task.exception():
            # One exception each: raised in several tasks, one would collect all their traces.
            raise type(error)(str(error))

    async def ended(self, seconds: float) -> None:
        """Wait for what is under way, if anything is, but not for ever."""
        if self._task is not None and not self._task.done():
            await asyncio.wait([self._task], timeout=seconds)

    async def _do(self) -> None:
        await self._work()
        self.is_done = True
