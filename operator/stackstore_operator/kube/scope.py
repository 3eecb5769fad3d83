"""Which namespaces the operator serves, and which of them let it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from stackstore_operator.kube.client import ApiError, Client

logger = logging.getLogger(__name__)

NEEDED = ("StorageBackend", "StoreBinding", "Secret", "ConfigMap")
"""The kinds without which a namespace can't be served."""

RETRY_SECONDS = 5.0


class Scope:
    """The namespaces that were asked for, and those of them that can be read.

    To who has rights in a namespace only, one that does not exist answers as one that forbids: where
    nothing at all may be listed, it is waited for. Where some kinds may be and others not, the Role is
    wrong, and nobody should have to guess why nothing happens.

    Args:
        client: to the API server.
        namespaces: which; empty: all there are, by requests to the whole cluster.
        retry: after how many seconds one that is waited for is asked again.

    Attributes:
        namespaces: as asked for; `(None,)` stands for all.
        open: those that can be read.
    """

    def __init__(
        self, client: Client, namespaces: Sequence[str] = (), *, retry: float = RETRY_SECONDS
    ) -> None:
        self.namespaces: tuple[str | None, ...] = tuple(dict.fromkeys(namespaces)) or (None,)
        self.open: frozenset[str | None] = frozenset()
        self._client = client
        self._retry = retry
        self._changed = asyncio.Event()

    def __str__(self) -> str:
        names = [name for name in self.namespaces if name is not None]
        return f"namespaces {', '.join(names)}" if names else "all namespaces"

    async def look(self) -> None:
        """Ask all that are not open whether they are by now.

        Raises:
            ApiError: something that the operator can't do without is forbidden, or the CRDs aren't
                there, or there was no answer.
        """
        for namespace in self.namespaces:
            if namespace not in self.open and await self._answers(namespace):
                self._set(self.open | {namespace})

    async def keep(self) -> None:
        """Wait for those that are not open yet; for ever."""
        told: frozenset[str | None] = frozenset()
        while True:
            missing = frozenset(self.namespaces) - self.open
            for namespace in sorted(map(str, missing - told)):
                logger.warning(
                    "waiting for namespace %s: nothing in it may be listed, so it is not there yet, "
                    "or has no Role for the operator",
                    namespace,
                )
            told = missing
            await asyncio.sleep(self._retry)
            try:
                await self.look()
            except ApiError as error:
                logger.warning("looking for namespaces: %s", error)

    async def opened(self, namespace: str | None) -> None:
        """Wait until it can be read."""
        while namespace not in self.open:
            await self.changed(self.open)

    def counts(self) -> dict[str, int]:
        """How many namespaces were asked for and are open, or waited for; all at once count as one."""
        return {"open": len(self.open), "waiting": len(self.namespaces) - len(self.open)}

    def close(self, namespace: str | None) -> None:
        """It can't be read any more."""
        if namespace is not None:
            self._set(self.open - {namespace})

    async def changed(self, known: frozenset[str | None]) -> None:
        """Wait until others than these are open."""
        while self.open == known:
            self._changed.clear()
            await self._changed.wait()

    def _set(self, found: frozenset[str | None]) -> None:
        if found != self.open:
            self.open = found
            self._changed.set()

    async def _answers(self, namespace: str | None) -> bool:
        refused = []
        for kind in NEEDED:
            try:
                await self._client.peek(kind, namespace)
            except ApiError as error:
                if error.status == 404:
                    raise ApiError(
                        404, "the CRDs of stackstore.dev are not installed: kubectl apply -f crds/"
                    ) from None
                if error.status != 403:
                    raise
                refused.append(error)
        if refused and (namespace is None or len(refused) < len(NEEDED)):
            raise refused[0]
        return not refused
