"""Everything of our two kinds, counted now and then: nothing that a watch has missed stays missed.

kopf does not tell what went while a watch was down for so long that its place was lost.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from typing import Any

from stackstore_operator.handlers.changes import Changes, version_of
from stackstore_operator.kube.client import ApiError, Client
from stackstore_operator.kube.scope import Scope
from stackstore_operator.telemetry import metrics
from stackstore_operator.telemetry.health import Health

logger = logging.getLogger(__name__)

KINDS = ("StorageBackend", "StoreBinding")
_SOON_SECONDS = 1.0


class Census:
    """Lists what there is, lets `changes` find what is news, and sees whether the watches tell it too.

    Args:
        client: to the API server.
        scope: which namespaces.
        changes: whom to tell.
        health: told what the watches miss.
        seconds: how often.
        grace: how many seconds a watch may be later than a list.
    """

    def __init__(
        self,
        client: Client,
        scope: Scope,
        changes: Changes,
        health: Health,
        *,
        seconds: float,
        grace: float,
    ) -> None:
        self._client = client
        self._scope = scope
        self._changes = changes
        self._health = health
        self._seconds = seconds
        self._grace = grace
        self._due = asyncio.Event()
        self._deaf = asyncio.Event()
        self._one = asyncio.Lock()
        self._untold: dict[tuple[str, str, str], tuple[int, float]] = {}

    def soon(self) -> None:
        """Once more within a second or so: a watch has begun anew, and may have missed something."""
        self._due.set()

    def told(self, kind: str, obj: Mapping[str, Any]) -> None:
        """A watch has told of an object."""
        self._health.told(kind)
        metadata = obj["metadata"]
        key = (kind, str(metadata["namespace"]), str(metadata["name"]))
        if key in self._untold and version_of(obj) >= self._untold[key][0]:
            del self._untold[key]

    async def found_deaf(self) -> None:
        """Wait until watches are found to have missed something."""
        await self._deaf.wait()
        self._deaf.clear()

    async def take(self) -> None:
        """List everything once; two never at the same time.

        Raises:
            ApiError: there was no answer. Nothing was changed then.
        """
        async with self._one:
            with self._changes.listing() as listing:
                for namespace in self._scope.open:
                    try:
                        backends = await self._client.list("StorageBackend", namespace)
                        bindings = await self._client.list("StoreBinding", namespace)
                    except ApiError as error:
                        # Its objects stay as they were seen last.
                        if error.status == 403 and namespace is not None:
                            logger.warning("namespace %s can't be read any more", namespace)
                            self._scope.close(namespace)
                            continue
                        raise
                    listing.namespaces.add(namespace)
                    listing.backends += backends
                    listing.bindings += bindings
            self._health.begun("the first list")
            self._compare(listing.news)

    def _compare(self, news: Mapping[tuple[str, str, str], int]) -> None:
        """Find what watches should have told by now, and note what they have yet to tell."""
        now = time.monotonic()
        overdue = [key for key, (_, due) in self._untold.items() if due < now]
        for kind in sorted({kind for kind, _, _ in overdue}):
            missed = sum(1 for key in overdue if key[0] == kind)
            logger.warning("the watch of %s has missed %d changes; it begins anew", kind, missed)
            metrics.WATCH_MISSED.labels(kind).inc(missed)
            self._health.missed(kind)
            self._deaf.set()
        for key in overdue:
            del self._untold[key]
        for key, version in news.items():
            self._untold[key] = (version, now + self._grace)

    async def run(self) -> None:
        """Now and then, and when it is due; for ever."""
        while True:
            try:
                async with asyncio.timeout(self._seconds):
                    await self._due.wait()
                await asyncio.sleep(_SOON_SECONDS)
            except TimeoutError:
                pass
            self._due.clear()
            try:
                await self.take()
            except ApiError as error:
                logger.warning("listing everything: %s", error)
