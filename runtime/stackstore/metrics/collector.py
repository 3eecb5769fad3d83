"""The collector: a scrape asks the storage's event loop, and reads there."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector as BaseCollector

from stackstore.config import RunConfig
from stackstore.errors import InvalidArgumentError
from stackstore.metrics.families import NOTHING, Moment, answered, families
from stackstore.pools.stats import BackendStats, PoolStats
from stackstore.stores.queue.stats import QueueStats
from stackstore.stores.retention import Retained

ANSWER_SECONDS = 2.0
"""How long a scrape from another thread waits for the event loop."""


class Source(Protocol):
    """What is read; a `Storage` is one."""

    @property
    def config(self) -> RunConfig:
        """The run config."""

    def pools(self) -> Mapping[str, PoolStats]:
        """Each pool, by the first of its backends."""

    def backends(self) -> Sequence[BackendStats]:
        """Each backend."""

    def queues(self) -> Mapping[str, QueueStats]:
        """Each write queue, by its store."""

    def retained(self) -> Sequence[Retained]:
        """Each table whose rows grow old."""


class Collector(BaseCollector):
    """Shows one `Storage` to a registry of prometheus-client; made in the storage's event loop.

    A scrape may come from any thread: it asks the loop, and reads there. A loop that doesn't answer
    within `ANSWER_SECONDS` is told by `stackstore_up`, and the rest is left out.

    Raises:
        InvalidArgumentError: no event loop runs here.
    """

    def __init__(self, storage: Source) -> None:
        self._storage = storage
        try:
            self._loop = asyncio.get_running_loop()
        except RuntimeError:
            raise InvalidArgumentError(
                "stackstore.metrics.Collector is made in the event loop that uses the storage"
            ) from None

    def describe(self) -> Iterable[Metric]:
        """The names alone, for the registry."""
        return [answered(), *families(NOTHING)]

    def collect(self) -> Iterable[Metric]:
        """Everything, of one moment."""
        moment = self._ask()
        up = answered()
        up.add_metric([], 0 if moment is None else 1)
        return [up] if moment is None else [up, *families(moment)]

    def _ask(self) -> Moment | None:
        running = None
        with contextlib.suppress(RuntimeError):
            running = asyncio.get_running_loop()
        if running is self._loop or not self._loop.is_running():
            return self._read()
        answer: concurrent.futures.Future[Moment] = concurrent.futures.Future()

        def read() -> None:
            if answer.set_running_or_notify_cancel():
                try:
                    answer.set_result(self._read())
                except Exception as error:  # noqa: BLE001 - it is the scrape's
                    answer.set_exception(error)

        try:
            self._loop.call_soon_threadsafe(read)
            return answer.result(ANSWER_SECONDS)
        except (TimeoutError, RuntimeError):
            # Blocked, or it has just ended.
            answer.cancel()
            return None

    def _read(self) -> Moment:
        stores = self._storage.config.stores
        return Moment(
            self._storage.pools(),
            self._storage.backends(),
            {
                (stores[store].backend, store): stats
                for store, stats in self._storage.queues().items()
            },
            self._storage.retained(),
        )
