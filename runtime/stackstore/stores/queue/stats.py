"""What a queue counts, as plain values for whoever shows them."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field

BATCH_ROWS = (1, 2, 5, 10, 20, 50, 100, 200, 500)
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


@dataclass(frozen=True, slots=True)
class Distribution:
    """How often which size was seen.

    Attributes:
        bounds: upper bounds, each inclusive.
        counts: how many fell under each bound and over the one before; one more for the rest.
        total: the sum of all values.
    """

    bounds: tuple[float, ...]
    counts: tuple[int, ...]
    total: float

    @property
    def count(self) -> int:
        """How many values there were."""
        return sum(self.counts)


@dataclass(frozen=True, slots=True)
class QueueStats:
    """A queue at one moment. Counters only go up while the process lives.

    Attributes:
        rows: in the queue or being written.
        bytes: of those.
        waiting: callers who wait for room.
        oldest_seconds: how long the oldest row waits; 0 when there is none.
        acknowledged: counter of rows that were taken.
        replayed: counter of rows taken over from journals.
        written: counter of rows that reached the database.
        folded: how many of those were superseded by a newer one in the same batch.
        dead_letters: counter of rows that were set aside.
        retries: counter of writes that failed and are tried again.
        busy: counter of callers who found no room in time.
        journal_failures: counter of rows that the journal could not take.
        batch_rows: rows a batch.
        write_seconds: how long a successful write took.
        age_seconds: how long a row took from its acknowledgement to the database, once a batch,
            for its oldest.
        last_trouble: why the last failed write failed; empty after a success.
    """

    rows: int
    bytes: int
    waiting: int
    oldest_seconds: float
    acknowledged: int
    replayed: int
    written: int
    folded: int
    dead_letters: int
    retries: int
    busy: int
    journal_failures: int
    batch_rows: Distribution
    write_seconds: Distribution
    age_seconds: Distribution
    last_trouble: str


class Seen:
    """A distribution that grows."""

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._total = 0.0

    def add(self, value: float) -> None:
        """Count a value."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self._total += value

    def now(self) -> Distribution:
        """As it is now."""
        return Distribution(self._bounds, tuple(self._counts), self._total)


@dataclass(slots=True)
class Counters:
    """What the parts of a queue count as they go."""

    acknowledged: int = 0
    replayed: int = 0
    written: int = 0
    folded: int = 0
    dead_letters: int = 0
    retries: int = 0
    busy: int = 0
    journal_failures: int = 0
    batch_rows: Seen = field(default_factory=lambda: Seen(BATCH_ROWS))
    write_seconds: Seen = field(default_factory=lambda: Seen(SECONDS))
    age_seconds: Seen = field(default_factory=lambda: Seen(SECONDS))
    last_trouble: str = ""
