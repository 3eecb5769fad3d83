"""Every namespace with its labels, for consent by label; where the operator may read them."""

from __future__ import annotations

import asyncio
import logging

from stackstore_operator.handlers.changes import Changes
from stackstore_operator.kube.client import ApiError, Client
from stackstore_operator.kube.watch import watch

logger = logging.getLogger(__name__)

_REFUSED = 403
_AGAIN_SECONDS = 300.0
"""Rights come and go: how often they are asked for where there are none."""


class Registry:
    """The namespaces of the cluster.

    An install that serves some namespaces only has none of it: then no labels are known.

    Args:
        client: to the API server.
        changes: whom to tell.
    """

    def __init__(self, client: Client, changes: Changes) -> None:
        self._client = client
        self._changes = changes

    async def take(self) -> None:
        """List them once, before anything is looked at: who isn't known is let in nowhere.

        Raises:
            ApiError: there was no answer.
        """
        try:
            namespaces, _ = await self._client.list_metadata("Namespace", None)
        except ApiError as error:
            if error.status != _REFUSED:
                raise
            self._changes.no_namespaces()
            logger.info("namespaces can't be read (%s): `from: Selector` is not served", error)
            return
        for metadata in namespaces:
            self._changes.namespace("Namespace", metadata, gone=False)

    async def run(self) -> None:
        """Watch them, for ever."""
        told, final = self._changes.namespace, frozenset({_REFUSED})
        while True:
            try:
                await watch(self._client, "Namespace", None, told, final=final)
            except ApiError:
                self._changes.no_namespaces()
            await asyncio.sleep(_AGAIN_SECONDS)
