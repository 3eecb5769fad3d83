"""Retention of one store: a task of this process that sweeps when it is its turn."""

from __future__ import annotations

import asyncio
import logging
import random
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

from stackstore.errors import StackstoreError
from stackstore.sql import SqlStore
from stackstore.stores.retention.ageing import Ageing
from stackstore.stores.retention.clock import CautiousClock
from stackstore.stores.retention.leases import LEASES
from stackstore.stores.retention.pace import Pace
from stackstore.stores.retention.sweep import Sweep, Swept

logger = logging.getLogger(__name__)

FIRST_SECONDS = 30.0
"""Within which time after the start a process looks for the first time."""

SPREAD_SECONDS = 1.0
"""By how much later than its moment a process looks, at most."""

LONGEST_PERIOD_SECONDS = 3_600.0
SHORTEST_PERIOD_SECONDS = 10.0

BATCH_SECONDS = 60.0
"""How long a batch may take, with the wait for a connection, until it is given up."""

LONGEST_REST_SECONDS = 60.0
"""How long to rest, at most, after a failure."""

TOLD_AT = 3
"""At which failure in a row it is logged: one alone is nothing, as when SQLite's file is busy."""


@dataclass(frozen=True, slots=True)
class RetentionStats:
    """How it stands, and what it counted since the process began.

    Attributes:
        seconds: the age at which rows go; None: they stay.
        deleted: rows of the store's first table.
        letters: dead letters.
        sweeps: how often this process came to the end of the old rows.
        last_sweep: when it last did, in microseconds since 1970; None: never.
        failures: batches that failed.
        trouble: why the last one failed; None: it didn't.
    """

    seconds: int | None = None
    deleted: int = 0
    letters: int = 0
    sweeps: int = 0
    last_sweep: int | None = None
    failures: int = 0
    trouble: str | None = None


def period(seconds: int) -> float:
    """Seconds between two sweeps: a tenth of the age, at least 10 s, at most an hour.

    Without an age the rows say themselves when they go, and an hour later is soon enough.
    """
    if not seconds:
        return LONGEST_PERIOD_SECONDS
    return min(LONGEST_PERIOD_SECONDS, max(SHORTEST_PERIOD_SECONDS, seconds / 10))


class Retention:
    """Deletes rows of a store that are old enough, for as long as the process lives.

    Of all processes one sweeps at a time, and how often doesn't grow with their number. It is
    nobody's request: whatever goes wrong is counted, logged, and tried again.

    Args:
        sql: where the store's tables are.
        ageing: what of the store grows old.
        ready: makes sure of its tables (`StoreTables.ready`).
        seconds: the age at which rows go; 0: at the moment that the column says; None: they stay.
        clock: this process's.
    """

    def __init__(
        self,
        sql: SqlStore,
        ageing: Ageing,
        ready: Callable[[], Awaitable[object]],
        *,
        seconds: int | None = None,
        clock: CautiousClock | None = None,
    ) -> None:
        self._sql = sql
        self._ageing = ageing
        self._ready = ready
        self._clock = clock or CautiousClock()
        self._stats = RetentionStats(seconds=seconds)
        self._task: asyncio.Task[None] | None = None
        self._changed = asyncio.Event()
        self._pace = Pace()
        self._start: int | None = None
        self._failed = 0

    @property
    def table(self) -> str:
        """Whose rows go."""
        return self._ageing.table

    @property
    def stats(self) -> RetentionStats:
        """How it stands."""
        return self._stats

    def begin(self) -> None:
        """Go to work in the running event loop, unless it does already. Nothing is connected yet."""
        if self._task is None:
            sweep = Sweep(self._sql, self._ageing, uuid.uuid4().hex, self._clock)
            self._task = asyncio.get_running_loop().create_task(self._work(sweep))

    def keep(self, seconds: int | None) -> None:
        """From now on rows go at this age; None: they stay."""
        if seconds != self._stats.seconds:
            self._stats = replace(self._stats, seconds=seconds)
            self._changed.set()

    async def close(self) -> None:
        """Stop, in the middle of a batch if need be; its transaction is undone."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _work(self, sweep: Sweep) -> None:
        await self._rest(random.uniform(0, FIRST_SECONDS))  # noqa: S311 - so that not all come at once
        while True:
            seconds = self._stats.seconds
            await self._rest(None if seconds is None else await self._batch(sweep, seconds))

    async def _rest(self, seconds: float | None) -> None:
        """Wait so long, None: for ever; or until the setting changes."""
        try:
            async with asyncio.timeout(seconds):
                await self._changed.wait()
            self._changed.clear()
        except TimeoutError:
            pass

    async def _batch(self, sweep: Sweep, seconds: int) -> float:
        """Do one; returns how many seconds to wait for the next."""
        every = period(seconds)
        try:
            async with asyncio.timeout(BATCH_SECONDS):
                await self._ready()
                await self._sql.require(LEASES)
                swept = await sweep.batch(seconds, every, self._pace.size, self._start)
        except StackstoreError as error:
            return self._troubled(str(error))
        except TimeoutError:
            return self._troubled(f"it took longer than {BATCH_SECONDS:g} s")
        except Exception as error:  # noqa: BLE001 - nobody waits for it who could be told, and it has to go on
            return self._troubled(type(error).__name__)
        return self._went_well(swept, every)

    def _went_well(self, swept: Swept, every: float) -> float:
        stats = self._stats
        if self._failed >= TOLD_AT:
            logger.info("table %s: retention goes on", self._ageing.table)
        self._failed = 0
        ended = swept.is_mine and not swept.is_full
        self._stats = replace(
            stats,
            deleted=stats.deleted + swept.rows,
            letters=stats.letters + swept.letters,
            sweeps=stats.sweeps + ended,
            last_sweep=self._clock.wall() if ended else stats.last_sweep,
            trouble=None,
        )
        if swept.is_full:
            self._start = swept.last
            return self._pace.took(swept.took)
        self._start = None
        # Not all at one moment: who comes first sweeps.
        spread = random.uniform(0, SPREAD_SECONDS)  # noqa: S311 - likewise
        return (every if ended else swept.wait) + spread

    def _troubled(self, trouble: str) -> float:
        self._failed += 1
        self._pace.failed()
        self._start = None
        self._stats = replace(self._stats, failures=self._stats.failures + 1, trouble=trouble)
        if self._failed == TOLD_AT:
            logger.warning(
                "table %s: old rows are not deleted: %s; it is tried again",
                self._ageing.table,
                trouble,
            )
        rest = min(LONGEST_REST_SECONDS, 2.0 ** min(self._failed, 10))
        return rest * random.uniform(0.5, 1)  # noqa: S311 - likewise
