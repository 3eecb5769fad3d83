"""How a queue ends: what is under way is ended in time, and what is left is known and named."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from stackstore.stores.queue.records import Entry, Identity, named
from stackstore.stores.queue.writer import Writer

logger = logging.getLogger(__name__)

_LAST_SECONDS = 0.5
"""How long what was cancelled may take to end; then it is left alone."""

_SHOWN = 10


@dataclass(frozen=True, slots=True)
class Remains:
    """What a queue could not write before it ended.

    Attributes:
        unwritten: identities of records that are not in the database.
        unknown: identities of records whose last write was cut off; they may be in the database.
        journaled: the journal has them all, so the next process writes them.
    """

    unwritten: tuple[Identity, ...]
    unknown: tuple[Identity, ...]
    journaled: bool

    @property
    def count(self) -> int:
        """How many in all."""
        return len(self.unwritten) + len(self.unknown)


async def end_writers(
    writers: Sequence[Writer], tasks: Sequence[asyncio.Task[None]], soft: float, hard: float
) -> None:
    """Let them end what is under way, and look what became of what they could not.

    Args:
        writers: they take no more batches from now on.
        tasks: theirs, and what else has to end.
        soft: when they are cancelled, by the event loop's clock.
        hard: until when the database is asked what became of their last writes.
    """
    loop = asyncio.get_running_loop()
    for writer in writers:
        writer.stop()
    await _ended(tasks, soft)
    await _ended([loop.create_task(writer.settle()) for writer in writers], hard)


def remains(writers: Iterable[Writer], *, journaled: bool) -> Remains:
    """What is left in the lanes, in the order in which it came."""
    left: list[Entry] = []
    doubted: set[int] = set()
    for writer in writers:
        left += writer.lane
        doubted.update(entry.order for entry in writer.doubted())
    left.sort(key=lambda entry: entry.order)
    return Remains(
        tuple(entry.identity for entry in left if entry.order not in doubted),
        tuple(entry.identity for entry in left if entry.order in doubted),
        journaled,
    )


def report(name: str, left: Remains) -> None:
    """One line in the log, if anything is left."""
    if left.count:
        logger.error(
            "queue %s: ended with %d records that are not written and %d of which that is not "
            "known; %s; the first: %s",
            name,
            len(left.unwritten),
            len(left.unknown),
            "the journal has them" if left.journaled else "they are lost",
            ", ".join(map(named, (*left.unwritten, *left.unknown)[:_SHOWN])),
        )


async def _ended(tasks: Sequence[asyncio.Task[Any]], moment: float) -> None:
    """Wait for tasks until a moment, then cancel those that go on."""
    if not tasks:
        return
    now = asyncio.get_running_loop().time()
    _, late = await asyncio.wait(tasks, timeout=max(0.0, moment - now))
    for task in late:
        task.cancel()
    if late:
        # Not for ever: what a driver does on its thread can't be cancelled.
        await asyncio.wait(late, timeout=_LAST_SECONDS)
