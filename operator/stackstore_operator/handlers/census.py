"""Everything of our two kinds, counted now and then: nothing that a watch has missed stays missed."""

from __future__ import annotations

import asyncio
import logging

from stackstore_operator.handlers.changes import Changes
from stackstore_operator.kube.client import ApiError, Client
from stackstore_operator.kube.scope import Scope

logger = logging.getLogger(__name__)

SECONDS = 60.0
"""kopf does not tell what went while a watch was down for so long that its place was lost."""

_SOON_SECONDS = 1.0


class Census:
    """Lists what there is, and lets `changes` find what is news.

    Args:
        client: to the API server.
        scope: which namespaces.
        changes: whom to tell.
        seconds: how often.
    """

    def __init__(
        self, client: Client, scope: Scope, changes: Changes, *, seconds: float = SECONDS
    ) -> None:
        self._client = client
        self._scope = scope
        self._changes = changes
        self._seconds = seconds
        self._due = asyncio.Event()
        self._one = asyncio.Lock()

    def soon(self) -> None:
        """Once more within a second or so: a watch has begun anew, and may have missed something."""
        self._due.set()

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
