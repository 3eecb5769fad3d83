"""What processes that are gone left in their journals: read, compared with the marks, written.

Their records go into the lanes before anything else does, under the numbers they had. The database
says which of them it has already (`Mark`), so each is written exactly once. A journal whose records
are all written is removed.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from stackstore.errors import BackendUnavailableError
from stackstore.stores.queue.journal_file import JournalFile, Kept, trouble
from stackstore.stores.queue.records import Entry, Mark, Record, covered
from stackstore.stores.queue.sink import Sink, reason

logger = logging.getLogger(__name__)

PAUSE_SECONDS = 0.5
"""About how long to wait before the marks are asked for again."""


class Replay:
    """Takes over journals.

    Args:
        sink: what the records are for.
        take: told of each record, in order: its journal's id, its number there, and itself.
    """

    def __init__(self, sink: Sink, take: Callable[[str, int, Record], None]) -> None:
        self._sink = sink
        self._take = take
        self._journals: dict[str, JournalFile] = {}
        self._left: Counter[str] = Counter()
        self._marks: dict[str, Sequence[Mark]] = {}
        self._removals: set[asyncio.Task[None]] = set()

    async def load(self, journals: Sequence[JournalFile]) -> None:
        """Read them; oldest first.

        Raises:
            BackendUnavailableError: one can't be read.
        """
        self._journals = {journal.id: journal for journal in journals}
        for journal in journals:
            records = await asyncio.to_thread(journal.records)
            for number, kept in records:
                self._take(journal.id, number, self._read(journal, kept))
            self._left[journal.id] = len(records)
            logger.info("journal %s: %d records taken over", journal.path, len(records))
            if not records:
                self._remove(journal.id)

    def _read(self, journal: JournalFile, kept: Kept) -> Record:
        failure: BackendUnavailableError
        try:
            return kept.record(self._sink.load(kept.payload))
        except (ValueError, TypeError, AttributeError) as error:
            failure = trouble(journal.path, error)
        # Raised out here: what can't be read is quoted in the error that says so.
        raise failure

    async def marks(self) -> Mapping[str, Sequence[Mark]]:
        """How far each got, asked until the database answers."""
        for journal in list(self._journals):
            told = False
            while journal not in self._marks:
                try:
                    self._marks[journal] = await self._sink.marks(journal)
                except Exception as error:  # noqa: BLE001 - nothing can be written before
                    if not told:
                        logger.warning("journal %s waits: %s", journal, reason(error))
                    told = True
                    await asyncio.sleep(random.uniform(PAUSE_SECONDS / 2, PAUSE_SECONDS))  # noqa: S311
        return self._marks

    def is_written(self, entry: Entry) -> bool:
        """Whether an earlier process has written it."""
        marks = self._marks.get(entry.queue, ())
        return covered(entry.shard, entry.sequence, marks)

    def done(self, entries: Sequence[Entry]) -> None:
        """These are written or set aside."""
        if not self._journals:
            return
        for entry in entries:
            if entry.queue in self._journals:
                self._left[entry.queue] -= 1
                if not self._left[entry.queue]:
                    self._remove(entry.queue)

    async def end(self) -> None:
        """Finish removing; what is not done stays for the next process."""
        await asyncio.gather(*self._removals, return_exceptions=True)
        self.close()

    def close(self) -> None:
        """Let go of what is still here."""
        for journal in self._journals.values():
            journal.close()
        self._journals = {}

    def _remove(self, queue: str) -> None:
        task = asyncio.get_running_loop().create_task(self._removed(self._journals.pop(queue)))
        self._removals.add(task)
        task.add_done_callback(self._removals.discard)

    async def _removed(self, journal: JournalFile) -> None:
        try:
            # First the file: marks without a journal harm nobody, the other way round it would be
            # written again.
            await asyncio.to_thread(journal.remove)
            await self._sink.forget(journal.id)
        except Exception as error:  # noqa: BLE001 - the next process tries again
            logger.debug("journal %s: %s", journal.path, type(error).__name__)
