"""Numbers that are computed when they are asked for, from what is known anyway."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from stackstore_operator.api.backend import StorageBackend
from stackstore_operator.api.binding import StoreBinding
from stackstore_operator.probe.prober import Prober
from stackstore_operator.reconcile.cache import Cache
from stackstore_operator.reconcile.looks import Look
from stackstore_operator.reconcile.queue import Queue

_PREFIX = "stackstore_operator"


class Shown(Collector):
    """A collector; called by another thread, so everything is copied in one step before it is read.

    Args:
        cache: objects and their conditions.
        queue: what waits.
        prober: which processes and sessions were seen.
        ages: by watch, for how many seconds nothing was heard of it.
        namespaces: how many there are by state, open or waiting.
    """

    def __init__(
        self,
        cache: Cache,
        queue: Queue[Look],
        prober: Prober,
        ages: Callable[[], Mapping[str, float]],
        namespaces: Callable[[], Mapping[str, int]],
    ) -> None:
        self._cache = cache
        self._queue = queue
        self._prober = prober
        self._ages = ages
        self._namespaces = namespaces

    def describe(self) -> Iterable[Metric]:
        """Names and labels, without values."""
        return self._families().values()

    def collect(self) -> Iterable[Metric]:
        """All of them as they are now."""
        families = self._families()
        objects: Mapping[str, Sequence[StorageBackend | StoreBinding]] = {
            "StorageBackend": list(self._cache.backends.values()),
            "StoreBinding": list(self._cache.bindings.values()),
        }
        counts: Counter[tuple[str, ...]] = Counter()
        for kind, found in objects.items():
            families["objects"].add_metric([kind], len(found))
            counts.update(
                (kind, c.type, c.status, c.reason) for one in found for c in one.status.conditions
            )
        for labels, count in sorted(counts.items()):
            families["conditions"].add_metric(labels, count)
        families["queue_depth"].add_metric([], self._queue.depth)
        families["queue_oldest_age_seconds"].add_metric([], self._queue.oldest_age)
        for watch, age in sorted(self._ages().items()):
            families["watch_age_seconds"].add_metric([watch], age)
        for state, many in sorted(self._namespaces().items()):
            families["namespaces"].add_metric([state], many)
        for (what, state), count in self._adoption().items():
            families[f"adoption_{what}"].add_metric([state], count)
        return families.values()

    def _adoption(self) -> Mapping[tuple[str, str], int]:
        counts = {
            (what, state): 0
            for what in ("processes", "sessions")
            for state in ("proven", "earlier")
        }
        for key in list(self._cache.backends):
            finding = self._prober.finding(key)
            if finding is None:
                continue
            for sight in finding.sights.values():
                for what, parts in (("processes", sight.processes), ("sessions", sight.sessions)):
                    for part in parts:
                        state = "proven" if part.revision == finding.revision else "earlier"
                        counts[what, state] += part.count
        counts["processes", "expected"] = self._cache.expected_in_all()
        return counts

    @staticmethod
    def _families() -> dict[str, GaugeMetricFamily]:
        return {
            name: GaugeMetricFamily(f"{_PREFIX}_{name}", text, labels=labels)
            for name, text, labels in (
                ("objects", "StorageBackends and StoreBindings that are known.", ["kind"]),
                (
                    "conditions",
                    "Objects by what their conditions say.",
                    ["kind", "type", "status", "reason"],
                ),
                ("queue_depth", "Looks that wait for a worker.", []),
                ("queue_oldest_age_seconds", "How long the oldest of them has waited.", []),
                (
                    "watch_age_seconds",
                    "For how long nothing was heard of a watch; bookmarks come every minute.",
                    ["kind"],
                ),
                ("namespaces", "Namespaces that were asked for: open or waiting.", ["state"]),
                (
                    "adoption_processes",
                    "Server processes: expected, and seen in databases with the current login or not yet.",
                    ["state"],
                ),
                (
                    "adoption_sessions",
                    "Sessions seen in databases: of the current login, or of an earlier one.",
                    ["state"],
                ),
            )
        }
