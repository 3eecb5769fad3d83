"""Keeps the finalizer on backends in use: on before the first use is rendered, off after the last.

Where namespaces can't be watched there is none: nobody would know when one ends and must not wait.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Sequence

from stackstore_operator.api.backend import StorageBackend
from stackstore_operator.api.part import ObjectMeta
from stackstore_operator.kube import finalizers
from stackstore_operator.kube.client import Client, Object
from stackstore_operator.reconcile.cache import Cache
from stackstore_operator.reconcile.inputs import Key
from stackstore_operator.reconcile.protection import FINALIZER, Users, users

logger = logging.getLogger(__name__)

_KIND = "StorageBackend"
_SOON_SECONDS = 0.5


class Guard:
    """Writes finalizers.

    Args:
        client: to the API server.
        cache: what is known.
    """

    def __init__(self, client: Client, cache: Cache) -> None:
        self._client = client
        self._cache = cache
        self._one = asyncio.Lock()

    async def protect(self, keys: Iterable[Key]) -> bool:
        """Before a stack's Secret gets these backends' logins.

        Returns:
            False: one of them is going or gone by now, so look again.

        Raises:
            ApiError: the finalizer was refused.
        """
        if not self._cache.namespaces.readable:
            return True
        for key in sorted(keys):
            backend = self._cache.backends.get(key)
            if backend is None or not _lacks(backend.metadata):
                continue
            if self._is_ending(backend.metadata):
                continue
            # Many stacks want it at once.
            async with self._one:
                backend = self._cache.backends.get(key)
                lacks = backend is not None and _lacks(backend.metadata)
                if backend is not None and lacks and not await self._put(backend.metadata):
                    return False
        return True

    async def settle(self, key: Key, about: ObjectMeta) -> float | None:
        """At a backend's own look; returns in how many seconds to look again.

        Raises:
            ApiError: the finalizer was refused.
        """
        used = users(self._cache, key, about)
        if not used and FINALIZER not in about.finalizers:
            return None
        # Rights that a Role gives go with its namespace, and then nobody could take the finalizer off.
        ending = self._is_ending(about) or not self._cache.namespaces.readable
        if used and not ending:
            if _lacks(about):
                async with self._one:
                    await self._put(about)
            return None
        if FINALIZER not in about.finalizers:
            return None
        # After a start it is not known at once whose Secret holds what.
        if not ending and self._cache.unseen():
            return _SOON_SECONDS
        left = await finalizers.take(self._client, _KIND, about, FINALIZER)
        logger.info("StorageBackend %s/%s is in use no more", *key)
        if about.deletion_timestamp is not None and (left is None or _last(left)):
            # Gone with it; the watch says so in a moment.
            self._cache.drop_backend(key)
        elif left is not None:
            self._cache.put_backend(StorageBackend.from_object(left))
        return None

    def users(self, key: Key, about: ObjectMeta) -> Users | None:
        """Who holds up the deletion that was asked for; None: nobody asked."""
        return users(self._cache, key, about) if about.deletion_timestamp is not None else None

    async def _put(self, about: ObjectMeta) -> bool:
        obj = await finalizers.put(self._client, _KIND, about, FINALIZER)
        if obj is None:
            return False
        self._cache.put_backend(StorageBackend.from_object(obj))
        return True

    def _is_ending(self, about: ObjectMeta) -> bool:
        """Whether the backend's namespace is being deleted: it must not wait for anybody."""
        return bool(self._cache.namespaces.is_ending(about.namespace))


def _last(obj: Object) -> bool:
    return not obj["metadata"].get("finalizers")


def _lacks(about: ObjectMeta) -> bool:
    # The API server takes no new finalizer for what is being deleted.
    return FINALIZER not in about.finalizers and about.deletion_timestamp is None


async def release(client: Client, namespaces: Sequence[str]) -> tuple[int, int]:
    """Take the finalizer off every backend, in use or not.

    Args:
        client: to the API server.
        namespaces: where; empty: everywhere.

    Returns:
        How many bore it, and how many backends there are.

    Raises:
        ApiError: it was refused.
    """
    scope: Sequence[str | None] = namespaces or [None]
    found = [obj for namespace in scope for obj in await client.list(_KIND, namespace)]
    held = [ObjectMeta.model_validate(obj["metadata"]) for obj in found]
    held = [about for about in held if FINALIZER in about.finalizers]
    for about in held:
        await finalizers.take(client, _KIND, about, FINALIZER)
    return len(held), len(found)
