"""What goes through a write queue; pure."""

from __future__ import annotations

import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

Identity: TypeAlias = tuple[str | int, ...]
"""What makes two records one row: whose it is, then the values of its key."""


class Record(NamedTuple):
    """One write.

    Attributes:
        shard: records of one shard are written in the order in which they came. All records of one
            identity have the same shard.
        identity: of several writes of one identity, the newest counts.
        user: on whose behalf it is, as it was when the record was made.
        size: bytes it takes, for the queue's bound.
        payload: what to write or delete, as the sink understands it.
        deletes: it deletes.
    """

    shard: str
    identity: Identity
    user: str
    size: int
    payload: Any
    deletes: bool = False


@dataclass(slots=True, eq=False)
class Entry:
    """A record that was acknowledged; made by `Entry(queue, sequence, order, since, *record)`.

    It has what the record had, and does not hold it: of two objects a row Python's garbage collector
    would look at both.

    Attributes:
        queue: the id of the queue, or of the journal, that numbered it.
        sequence: its number there; a later one is higher.
        order: its number in this process, whoever numbered it.
        since: when it came, by the event loop's clock.
    """

    queue: str
    sequence: int
    order: int
    since: float
    shard: str
    identity: Identity
    user: str
    size: int
    payload: Any
    deletes: bool = False


Write: TypeAlias = Record | Entry
"""What a sink writes, be it numbered or not."""


@dataclass(frozen=True, slots=True)
class Mark:
    """How far one lane of a queue got; committed together with what was written.

    Everything of the lane up to `sequence` is written or set aside. Lanes are cut by the number of
    writers, so that is part of the name: after a restart with another number the old marks still
    say what they said.

    Attributes:
        queue: the queue's or the journal's id.
        writers: how many lanes there are.
        lane: which one, from 0.
        sequence: how far it gets by this write.
        previous: how far it was before, as far as this process knows.
        durable: it belongs to a journal, so it may be needed by a later process.
    """

    queue: str
    writers: int
    lane: int
    sequence: int
    previous: int = 0
    durable: bool = False


def lane_of(shard: str, writers: int) -> int:
    """Which lane a shard goes to: the same in every process, unlike `hash()`."""
    if writers == 1:
        return 0
    return zlib.crc32(shard.encode("utf-8", "surrogatepass")) % writers


def folded(batch: list[Entry]) -> list[Entry]:
    """The newest write of each identity. Deletes stay: the newest may be refused, and the others not.

    Args:
        batch: at least one; all of them write, or all of them delete.
    """
    if batch[0].deletes:
        return batch
    return list({entry.identity: entry for entry in batch}.values())


def named(identity: Identity) -> str:
    """An identity's key as text that fits any log and column; whose it is stays out of logs."""
    return json.dumps(identity[1:], separators=(",", ":"))


def covered(shard: str, sequence: int, marks: Sequence[Mark]) -> bool:
    """Whether one of a queue's marks says that this is written or set aside."""
    return any(
        sequence <= mark.sequence and lane_of(shard, mark.writers) == mark.lane for mark in marks
    )
