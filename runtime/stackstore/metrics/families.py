"""The metrics by their names, made of what the parts count."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import get_args

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    SummaryMetricFamily,
)
from prometheus_client.metrics_core import Metric

from stackstore.pools.standing import State
from stackstore.pools.stats import BackendStats, PoolStats
from stackstore.stores.queue.stats import Distribution, QueueStats
from stackstore.stores.retention import Retained, RetentionStats


@dataclass(frozen=True, slots=True)
class Moment:
    """Everything that one scrape shows."""

    pools: Mapping[str, PoolStats]
    backends: Sequence[BackendStats]
    queues: Mapping[tuple[str, str], QueueStats]
    """By backend and store."""
    retained: Sequence[Retained]


NOTHING = Moment({}, (), {}, ())

# (name, help, value), here and below.
_POOL_GAUGES: tuple[tuple[str, str, Callable[[PoolStats], int | None]], ...] = (
    ("size", "Connections that the pool keeps.", lambda pool: pool.size),
    ("max_overflow", "Connections that there may be beyond size.", lambda pool: pool.max_overflow),
    ("overflow_connections", "Connections beyond size.", lambda pool: pool.overflow),
    ("waiting_callers", "Callers who wait for a connection.", lambda pool: pool.waiting),
)
_CONNECTIONS: tuple[tuple[str, Callable[[PoolStats], int]], ...] = (
    ("idle", lambda pool: pool.idle),
    ("lent", lambda pool: pool.lent),
    ("opening", lambda pool: pool.opening),
    ("closing", lambda pool: pool.closing),
)
_POOL_COUNTERS: tuple[tuple[str, str, Callable[[PoolStats], int]], ...] = (
    ("opened_connections", "Connections opened.", lambda pool: pool.counters.opened),
    (
        "closed_connections",
        "Connections closed, or found dead.",
        lambda pool: pool.counters.closed,
    ),
)
# Of Postgres alone: on SQLite nobody counts them.
_LENDING_COUNTERS: tuple[tuple[str, str, Callable[[PoolStats], int]], ...] = (
    ("lends", "Connections lent.", lambda pool: pool.counters.lends),
    (
        "wait_timeouts",
        "Callers who went away without a connection.",
        lambda pool: pool.counters.timeouts,
    ),
)
_FAILURES: tuple[tuple[str, Callable[[PoolStats], int]], ...] = (
    ("refused", lambda pool: pool.counters.refused),
    ("unreachable", lambda pool: pool.counters.unreachable),
)

_QUEUE_GAUGES: tuple[tuple[str, str, Callable[[QueueStats], float]], ...] = (
    ("rows", "Rows in the queue or being written.", lambda queue: queue.rows),
    ("bytes", "Bytes of those rows.", lambda queue: queue.bytes),
    ("waiting_callers", "Callers who wait for room.", lambda queue: queue.waiting),
    (
        "oldest_row_age_seconds",
        "How long the oldest row waits; 0: there is none.",
        lambda queue: queue.oldest_seconds,
    ),
)
_QUEUE_COUNTERS: tuple[tuple[str, str, Callable[[QueueStats], int]], ...] = (
    ("acknowledged_rows", "Rows taken.", lambda queue: queue.acknowledged),
    ("replayed_rows", "Rows taken over from journals.", lambda queue: queue.replayed),
    ("written_rows", "Rows that reached the database.", lambda queue: queue.written),
    (
        "folded_rows",
        "Those of them that a newer one in their batch superseded.",
        lambda queue: queue.folded,
    ),
    (
        "dead_letters",
        "Rows set aside because the database can't take them.",
        lambda queue: queue.dead_letters,
    ),
    ("retries", "Writes that failed and were tried again.", lambda queue: queue.retries),
    ("busy", "Callers who found no room in time (StoreBusyError).", lambda queue: queue.busy),
    (
        "journal_failures",
        "Rows that the journal could not take.",
        lambda queue: queue.journal_failures,
    ),
)
_QUEUE_HISTOGRAMS: tuple[tuple[str, str, Callable[[QueueStats], Distribution]], ...] = (
    ("batch_rows", "Rows a batch.", lambda queue: queue.batch_rows),
    ("write_seconds", "How long a successful write took.", lambda queue: queue.write_seconds),
    (
        "row_age_seconds",
        "From its acknowledgement to the database, for the oldest row of each batch.",
        lambda queue: queue.age_seconds,
    ),
)
_RETENTION_GAUGES: tuple[tuple[str, str, Callable[[RetentionStats], float | None]], ...] = (
    ("age_seconds", "The age at which rows go; none: they stay.", lambda stats: stats.seconds),
    (
        "last_sweep_timestamp_seconds",
        "When this process last came to the end of the old rows.",
        lambda stats: None if stats.last_sweep is None else stats.last_sweep / 1e6,
    ),
)
_RETENTION_COUNTERS: tuple[tuple[str, str, Callable[[RetentionStats], int]], ...] = (
    ("deleted_rows", "Rows that went because of their age.", lambda stats: stats.deleted),
    ("deleted_dead_letters", "Dead letters likewise.", lambda stats: stats.letters),
    (
        "sweeps",
        "How often this process came to the end of the old rows.",
        lambda stats: stats.sweeps,
    ),
    ("failures", "Batches that failed, and are tried again.", lambda stats: stats.failures),
)


def answered() -> GaugeMetricFamily:
    """Whether there is more than this."""
    return GaugeMetricFamily("stackstore_up", "Whether the event loop answered the scrape.")


def families(moment: Moment) -> Iterable[Metric]:
    """All metrics of a moment; of nothing: their names alone."""
    yield from _of_backends(moment.backends)
    yield from _of_pools(moment.pools)
    yield from _of_queues(moment.queues)
    yield from _of_retention(moment.retained)


def _of_backends(backends: Sequence[BackendStats]) -> Iterable[Metric]:
    info = InfoMetricFamily(
        "stackstore_backend",
        "The revision that is proven (empty: none, or none known), and the pool that serves.",
        labels=["backend", "type"],
    )
    login = GaugeMetricFamily(
        "stackstore_backend_login",
        "1 at the state of the login that new connections use.",
        labels=["backend", "type", "state"],
    )
    for backend in backends:
        names = [backend.name, backend.type]
        info.add_metric(names, {"pool": backend.pool, "revision": backend.revision or ""})
        for state in get_args(State):
            login.add_metric([*names, state], backend.state == state)
    return [info, login]


def _of_pools(pools: Mapping[str, PoolStats]) -> Iterable[Metric]:
    connections = GaugeMetricFamily(
        "stackstore_pool_connections",
        "Connections there are.",
        labels=["backend", "state"],
    )
    for name, pool in pools.items():
        for state, number in _CONNECTIONS:
            connections.add_metric([name, state], number(pool))
    yield connections
    for metric, told, gauge in _POOL_GAUGES:
        gauges = GaugeMetricFamily(f"stackstore_pool_{metric}", told, labels=["backend"])
        for name, pool in pools.items():
            if (value := gauge(pool)) is not None:
                gauges.add_metric([name], value)
        yield gauges
    lending = {name: pool for name, pool in pools.items() if pool.waiting is not None}
    for shown, counters in ((pools, _POOL_COUNTERS), (lending, _LENDING_COUNTERS)):
        for metric, told, counter in counters:
            family = CounterMetricFamily(f"stackstore_pool_{metric}", told, labels=["backend"])
            for name, pool in shown.items():
                family.add_metric([name], counter(pool))
            yield family
    waits = SummaryMetricFamily(
        "stackstore_pool_wait_seconds",
        "How long callers waited who found no idle connection.",
        labels=["backend"],
    )
    failures = CounterMetricFamily(
        "stackstore_pool_connect_failures",
        "Attempts to connect that failed.",
        labels=["backend", "reason"],
    )
    for name, pool in lending.items():
        waits.add_metric([name], pool.counters.waits, pool.counters.waited_seconds)
        for reason, number in _FAILURES:
            failures.add_metric([name, reason], number(pool))
    yield waits
    yield failures


def _of_queues(queues: Mapping[tuple[str, str], QueueStats]) -> Iterable[Metric]:
    labels = ["backend", "store"]
    for metric, told, gauge in _QUEUE_GAUGES:
        gauges = GaugeMetricFamily(f"stackstore_queue_{metric}", told, labels=labels)
        for names, queue in queues.items():
            gauges.add_metric(names, gauge(queue))
        yield gauges
    for metric, told, counter in _QUEUE_COUNTERS:
        counters = CounterMetricFamily(f"stackstore_queue_{metric}", told, labels=labels)
        for names, queue in queues.items():
            counters.add_metric(names, counter(queue))
        yield counters
    for metric, told, distribution in _QUEUE_HISTOGRAMS:
        histograms = HistogramMetricFamily(f"stackstore_queue_{metric}", told, labels=labels)
        for names, queue in queues.items():
            seen = distribution(queue)
            histograms.add_metric(names, _buckets(seen), seen.total)
        yield histograms


def _of_retention(retained: Sequence[Retained]) -> Iterable[Metric]:
    labels = ["backend", "store", "table"]
    for metric, told, gauge in _RETENTION_GAUGES:
        gauges = GaugeMetricFamily(f"stackstore_retention_{metric}", told, labels=labels)
        for one in retained:
            if (value := gauge(one.stats)) is not None:
                gauges.add_metric([one.backend, one.store, one.table], value)
        yield gauges
    for metric, told, counter in _RETENTION_COUNTERS:
        counters = CounterMetricFamily(f"stackstore_retention_{metric}", told, labels=labels)
        for one in retained:
            counters.add_metric([one.backend, one.store, one.table], counter(one.stats))
        yield counters


def _buckets(seen: Distribution) -> list[tuple[str, float]]:
    """(upper bound, how many are not above it), as Prometheus counts."""
    sums: list[tuple[str, float]] = []
    below = 0
    for bound, count in zip((*seen.bounds, math.inf), seen.counts, strict=True):
        below += count
        sums.append(("+Inf" if bound == math.inf else str(float(bound)), below))
    return sums
