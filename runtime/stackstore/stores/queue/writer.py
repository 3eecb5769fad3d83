"""One of a queue's writers: takes batches of its lane to the sink, one after another."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from stackstore.stores.queue.lane import Lane
from stackstore.stores.queue.records import Entry, Mark, folded, named
from stackstore.stores.queue.sink import Sink, is_transient, reason
from stackstore.stores.queue.stats import Counters

logger = logging.getLogger(__name__)

FIRST_PAUSE_SECONDS = 0.05
LONGEST_PAUSE_SECONDS = 2.0
"""Bounds of the pause before a write is tried again. It doubles each time."""


class _Aside(NamedTuple):
    """An entry that can't be written, and why."""

    entry: Entry
    why: str


class Writer:
    """Writes one lane.

    Args:
        name: the queue's, for the log.
        lane: what to write.
        number: the lane's number, from 0.
        writers: how many lanes there are.
        sink: where to.
        counters: counted into.
        is_durable: whether a queue id is a journal's.
        done: told of entries that are written or set aside.
    """

    def __init__(
        self,
        name: str,
        lane: Lane,
        *,
        number: int,
        writers: int,
        sink: Sink,
        counters: Counters,
        is_durable: Callable[[str], bool],
        done: Callable[[list[Entry]], None],
    ) -> None:
        self.lane = lane
        self._name = name
        self._number = number
        self._writers = writers
        self._sink = sink
        self._counters = counters
        self._is_durable = is_durable
        self._done = done
        self._marks: dict[str, int] = {}
        # The furthest that was tried since the last answer; what became of it is unknown.
        self._doubt: Mark | None = None
        self._aside: _Aside | None = None
        self._stopped = asyncio.Event()
        self._idle: asyncio.Future[None] | None = None

    def knows(self, marks: Mapping[str, Sequence[Mark]]) -> None:
        """How far this lane was when earlier processes wrote it."""
        for queue, found in marks.items():
            for mark in found:
                if (mark.writers, mark.lane) == (self._writers, self._number):
                    self._marks[queue] = mark.sequence

    def wake(self) -> None:
        """There is something to write."""
        if self._idle is not None and not self._idle.done():
            self._idle.set_result(None)

    def stop(self) -> None:
        """End after what is under way."""
        self._stopped.set()
        self.wake()

    async def run(self) -> None:
        """Write until `stop`, whatever goes wrong."""
        while not self._stopped.is_set():
            batch = self.lane.take()
            if not batch:
                self._idle = asyncio.get_running_loop().create_future()
                await self._idle
                self._idle = None
            elif not await self._write(batch):
                await self._pause()

    async def settle(self) -> list[Entry]:
        """Find out what became of a write that was cut off; returns what remains unknown.

        An attempt that still goes on in the database has the mark locked, so this waits for its end.
        """
        doubt = self._doubt
        if doubt is None:
            return []
        try:
            fence = self._mark(doubt.queue, self._marks.get(doubt.queue, 0))
            self._answered(fence, await self._sink.write([], fence))
        except Exception as error:  # noqa: BLE001 - whatever it is, it stays unknown
            logger.warning(
                "queue %s: what became of the last write is unknown: %s", self._name, reason(error)
            )
            return self.doubted()
        return []

    def doubted(self) -> list[Entry]:
        """Entries of which nobody knows whether they are written."""
        doubt = self._doubt
        return [
            entry
            for entry in self.lane
            if doubt and entry.queue == doubt.queue and entry.sequence <= doubt.sequence
        ]

    # -- inside

    async def _pause(self) -> None:
        pause = FIRST_PAUSE_SECONDS * 2 ** min(max(self.lane.failures, 1) - 1, 10)
        pause = min(pause, LONGEST_PAUSE_SECONDS)
        with contextlib.suppress(TimeoutError):
            # Jitter, or all writers of all processes would knock at the same moment.
            async with asyncio.timeout(random.uniform(pause / 2, pause)):  # noqa: S311
                await self._stopped.wait()

    def _mark(self, queue: str, sequence: int) -> Mark:
        return Mark(
            queue,
            self._writers,
            self._number,
            sequence,
            previous=self._marks.get(queue, 0),
            durable=self._is_durable(queue),
        )

    def _tries(self, mark: Mark) -> None:
        if self._doubt is None or self._doubt.sequence < mark.sequence:
            self._doubt = mark

    async def _write(self, batch: list[Entry]) -> bool:
        """Try once; False: pause before the next try."""
        clock = asyncio.get_running_loop().time
        began = clock()
        records = folded(batch)
        mark = self._mark(batch[0].queue, batch[-1].sequence)
        self._tries(mark)
        poisoned: Entry | None = None
        why = ""
        try:
            elsewhere = await self._sink.write(records, mark)
        except Exception as error:  # noqa: BLE001 - a writer never ends by what it writes
            if is_transient(error):
                return self._failed(error)
            poisoned, why = self.lane.refused(), reason(error)
        else:
            if elsewhere is None:
                counters = self._counters
                counters.folded += len(batch) - len(records)
                counters.batch_rows.add(len(batch))
                counters.write_seconds.add(clock() - began)
                counters.age_seconds.add(clock() - batch[0].since)
            return self._answered(mark, elsewhere)
        return True if poisoned is None else await self._set_aside(poisoned, why)

    async def _set_aside(self, entry: Entry, why: str) -> bool:
        mark = self._mark(entry.queue, entry.sequence)
        self._tries(mark)
        self._aside = _Aside(entry, why)
        try:
            elsewhere = await self._sink.set_aside(entry, why, mark)
        except Exception as error:  # noqa: BLE001 - likewise
            if is_transient(error):
                return self._failed(error)
        else:
            return self._answered(mark, elsewhere, set_aside=True)
        # Whatever is in the payload, that it was there must not be lost.
        try:
            elsewhere = await self._sink.set_aside(entry, why, mark, with_payload=False)
        except Exception as error:  # noqa: BLE001 - likewise
            return self._failed(error)
        return self._answered(mark, elsewhere, set_aside=True)

    def _answered(self, mark: Mark, elsewhere: int | None, *, set_aside: bool = False) -> bool:
        """The database says how far the lane is; False: nothing came of it."""
        through = mark.sequence if elsewhere is None else elsewhere
        if elsewhere is not None and through > mark.previous:
            logger.info(
                "queue %s: an attempt that was believed lost had been committed", self._name
            )
        self._marks[mark.queue] = through
        self._doubt = None
        gone = self.lane.written(mark.queue, through, grow=not set_aside)
        aside, self._aside = self._aside, None
        self._counters.written += len(gone)
        if aside is not None and aside.entry in gone and (set_aside or elsewhere is not None):
            self._counters.written -= 1
            self._counters.dead_letters += 1
            logger.error(
                "queue %s: %s can't be written and is set aside in table dead_letters: %s",
                self._name,
                named(aside.entry.identity),
                aside.why,
            )
        if self._counters.last_trouble:
            self._counters.last_trouble = ""
            logger.info("queue %s: writing again", self._name)
        if gone:
            self._done(gone)
        return bool(gone)

    def _failed(self, error: Exception) -> bool:
        self._counters.retries += 1
        trouble = reason(error)
        if not self._counters.last_trouble:
            logger.warning(
                "queue %s: it could not be written and is tried again: %s", self._name, trouble
            )
        self._counters.last_trouble = trouble
        self.lane.failed()
        return False
