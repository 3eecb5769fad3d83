"""Appending to a journal from an event loop: in groups, one commit for all that came meanwhile.

A commit to the disk takes longer than everything else here. So whatever comes while one is under
way goes into the next one together.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from stackstore.errors import BackendUnavailableError
from stackstore.stores.queue.journal_file import JournalFile, Kept
from stackstore.stores.queue.records import Record

logger = logging.getLogger(__name__)

MOST = 2_000
"""Most records of one commit."""

FORGET_SECONDS = 0.2
"""How long written records stay in a journal that nobody appends to; the marks say that they are."""


@dataclass(slots=True)
class _Append:
    record: Record
    kept: Kept
    answer: asyncio.Future[None]


class Journal:
    """The journal that this process writes.

    Args:
        file: open and locked.
        kept: told of each record that is on the disk, and its number, in order and before its
            caller is.
        lost: told of each that could not be.
    """

    def __init__(
        self,
        file: JournalFile,
        kept: Callable[[Record, int], None],
        lost: Callable[[Record], None],
    ) -> None:
        self.file = file
        self._kept = kept
        self._lost = lost
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="stackstore-journal")
        self._appends: list[_Append] = []
        self._forgets: list[int] = []
        self._carrier: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._told = False

    def append(self, record: Record, kept: Kept, answer: asyncio.Future[None]) -> None:
        """Add a record. From now on it is added whoever gives up waiting.

        Args:
            record: handed to the callbacks.
            kept: what is written.
            answer: done when it is on the disk, or BackendUnavailableError: it is not.
        """
        self._appends.append(_Append(record, kept, answer))
        self._start()

    def forget(self, numbers: list[int]) -> None:
        """These are in the database; sooner or later they leave the journal."""
        self._forgets += numbers
        if len(self._forgets) >= MOST:
            self._start()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(FORGET_SECONDS, self._start)

    async def settled(self) -> None:
        """Wait until everything that was asked for was tried."""
        if self._forgets:
            self._start()
        while self._carrier is not None:
            await asyncio.wait([self._carrier])

    async def close(self, *, remove: bool) -> None:
        """Close it; `remove`: everything in it is in the database."""
        await self.settled()
        if self._timer is not None:
            self._timer.cancel()
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._thread, self.file.remove if remove else self.file.close)
        self._thread.shutdown()

    # -- inside

    def _start(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._carrier is None:
            self._carrier = asyncio.get_running_loop().create_task(self._carry())

    async def _carry(self) -> None:
        group: list[_Append] = []
        try:
            while True:
                group, self._appends = self._appends[:MOST], self._appends[MOST:]
                forgets, self._forgets = self._forgets, []
                if not group and not forgets:
                    break
                await self._commit(group, forgets)
                if self._forgets and not self._appends:
                    # They could not be removed, or came just now: not at once again.
                    self._timer = asyncio.get_running_loop().call_later(FORGET_SECONDS, self._start)
                    break
        except asyncio.CancelledError:
            for one in (*group, *self._appends):
                one.answer.cancel()
            raise
        finally:
            self._carrier = None

    async def _commit(self, group: list[_Append], forgets: list[int]) -> None:
        loop = asyncio.get_running_loop()
        failure: str
        try:
            first = await loop.run_in_executor(
                self._thread, self.file.commit, [one.kept for one in group], forgets
            )
        except BackendUnavailableError as error:
            failure = str(error)
        else:
            self._told = False
            for number, one in enumerate(group, first):
                self._kept(one.record, number)
                if not one.answer.done():
                    one.answer.set_result(None)
            return
        self._forgets[:0] = forgets
        if not self._told:
            self._told = True
            logger.error("%s", failure)
        for one in group:
            self._lost(one.record)
            if not one.answer.done():
                # One exception each: raised in several tasks, one would collect all their traces.
                one.answer.set_exception(
                    BackendUnavailableError(f"{failure}; the record was not stored")
                )
