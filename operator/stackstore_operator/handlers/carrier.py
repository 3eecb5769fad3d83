"""Keeps kopf at work: it ends at the first answer that it does not expect, and the operator must not."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection
from typing import Any

import kopf

from stackstore_operator.handlers import kinds
from stackstore_operator.handlers.census import KINDS, Census
from stackstore_operator.handlers.changes import Changes
from stackstore_operator.kube.client import Client
from stackstore_operator.kube.scope import Scope
from stackstore_operator.kube.watch import Pace
from stackstore_operator.telemetry.health import Health

logger = logging.getLogger(__name__)

_PAUSES = (0.2, 0.5, 1.0, 2.0, 5.0)
_WELL_SECONDS = 60.0
_IDENTITY: Any = "stackstore-operator"
"""For kopf's peering, which is off: who leads is decided elsewhere. kopf does not export its type."""


class Carrier:
    """kopf's watches of our two kinds, begun anew when they end and when other namespaces open.

    Args:
        client: whose login is used.
        scope: which namespaces.
        changes: whom to tell what changed.
        census: asked for after each beginning; what went before that, kopf does not tell.
        health: told when it has begun.
        begun: called when kopf has begun, and has taken over the signals of the process.
        pace: how patient its watches are.
    """

    def __init__(
        self,
        client: Client,
        scope: Scope,
        changes: Changes,
        census: Census,
        *,
        health: Health,
        begun: Callable[[], None],
        pace: Pace,
    ) -> None:
        self._scope = scope
        self._census = census
        self._health = health
        self._begun = begun
        self._pace = pace
        self._registry = kinds.registry(client, changes, census, health)

    async def run(self) -> None:
        """Carry; for ever."""
        loop = asyncio.get_running_loop()
        failures = 0
        while True:
            namespaces = self._scope.open
            since = loop.time()
            carrying = asyncio.create_task(self._carry(namespaces))
            turning = asyncio.create_task(self._scope.changed(namespaces))
            deaf = asyncio.create_task(self._census.found_deaf())
            parts = (carrying, turning, deaf)
            try:
                await asyncio.wait(parts, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for part in parts:
                    part.cancel()
                await asyncio.gather(*parts, return_exceptions=True)
            if carrying.done() and not carrying.cancelled() and (error := carrying.exception()):
                logger.warning("kopf's watches did not begin: %s: %s", type(error).__name__, error)
            if self._scope.open != namespaces:
                continue
            failures = 0 if loop.time() - since > _WELL_SECONDS else failures
            await asyncio.sleep(_PAUSES[min(failures, len(_PAUSES) - 1)])
            failures += 1

    async def _carry(self, namespaces: Collection[str | None]) -> None:
        """Until kopf ends by itself, which is told, or is cancelled."""
        while not namespaces:
            for kind in KINDS:
                self._health.heard(kind)
            await asyncio.sleep(_WELL_SECONDS)
        everywhere = None in namespaces
        tasks = await kopf.spawn_tasks(
            registry=self._registry,
            settings=kinds.settings(self._pace),
            clusterwide=everywhere,
            namespaces=[name for name in namespaces if name is not None],
            standalone=True,
            # Or it asks for the name of the process's user, and in a container that has none.
            identity=_IDENTITY,
        )
        self._begun()
        self._health.begun("kopf")
        self._census.soon()
        # Not by kopf's own run_tasks(): at its end that ends every task younger than itself, ours too.
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            ends = await asyncio.gather(*tasks, return_exceptions=True)
        errors = [end for end in ends if isinstance(end, Exception)]
        what = type(errors[0]).__name__ if errors else f"{len(done)} of its tasks ended"
        logger.warning("kopf's watches ended (%s) and begin anew", what)
