"""From a change in the cluster to the stacks and backends that have to be looked at again."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from pydantic import ValidationError

from stackstore_operator.api.backend import StorageBackend
from stackstore_operator.api.binding import StoreBinding
from stackstore_operator.reconcile.cache import Cache, Unreadable
from stackstore_operator.reconcile.inputs import Key
from stackstore_operator.reconcile.invalid import told
from stackstore_operator.reconcile.reconciler import Look

logger = logging.getLogger(__name__)


class Changes:
    """Keeps the cache, and asks for looks.

    Args:
        cache: what is known of our own two kinds.
        look: asks for one more look; asking twice costs nothing.
    """

    def __init__(self, cache: Cache, look: Callable[[Look], None]) -> None:
        self._cache = cache
        self._look = look

    def backend(self, obj: Mapping[str, Any], *, deleted: bool = False) -> None:
        """A StorageBackend came, changed or went."""
        key = _key(obj)
        if deleted:
            self._cache.drop_backend(key)
        else:
            try:
                changed = self._cache.put_backend(StorageBackend.from_object(dict(obj)))
            except ValidationError as error:
                logger.warning("StorageBackend %s/%s: %s", *key, told(error))
                self._cache.put_unreadable_backend(key, Unreadable(obj, error))
                changed = True
            if not changed:
                return
        self._look_at_backend(key)

    def binding(self, obj: Mapping[str, Any], *, deleted: bool = False) -> None:
        """A StoreBinding came, changed or went."""
        key = _key(obj)
        before = self._cache.bindings.get(key)
        if deleted:
            self._cache.drop_binding(key)
        else:
            try:
                changed = self._cache.put_binding(StoreBinding.from_object(dict(obj)))
            except ValidationError as error:
                logger.warning("StoreBinding %s/%s: %s", *key, told(error))
                stack = str((obj.get("spec") or {}).get("stack", ""))
                self._cache.put_unreadable_binding(key, stack, Unreadable(obj, error))
                self._look(Look("stack", key[0], stack))
                changed = True
            if not changed:
                return
        for binding in (before, self._cache.bindings.get(key)):
            if binding is not None:
                self._look(Look("stack", key[0], binding.spec.stack))
                for backend in self._cache.backends_of(binding):
                    self._look(Look("backend", *backend))

    def referent(self, kind: str, namespace: str, name: str) -> None:
        """A Secret or ConfigMap came, changed or went."""
        for backend in list(self._cache.backends_reading(kind, (namespace, name))):
            self._look_at_backend(backend)
        for stack in list(self._cache.stacks_touching(kind, (namespace, name))):
            self._look(Look("stack", *stack))

    def everything(
        self, backends: Iterable[Mapping[str, Any]], bindings: Iterable[Mapping[str, Any]]
    ) -> None:
        """All there is, as listed: what a watch has missed is caught up with."""
        backends, bindings = list(backends), list(bindings)
        for key in self._cache.backends.keys() - {_key(obj) for obj in backends}:
            self.backend({"metadata": {"namespace": key[0], "name": key[1]}}, deleted=True)
        for key in self._cache.bindings.keys() - {_key(obj) for obj in bindings}:
            self.binding({"metadata": {"namespace": key[0], "name": key[1]}}, deleted=True)
        for obj in backends:
            self.backend(obj)
        for obj in bindings:
            self.binding(obj)

    def _look_at_backend(self, key: Key) -> None:
        self._look(Look("backend", *key))
        for stack in self._cache.stacks_of(key):
            self._look(Look("stack", *stack))


def _key(obj: Mapping[str, Any]) -> Key:
    metadata = obj["metadata"]
    return str(metadata["namespace"]), str(metadata["name"])
