"""From a change in the cluster to the stacks and backends that have to be looked at again."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from stackstore_operator.api.backend import StorageBackend
from stackstore_operator.api.binding import StoreBinding
from stackstore_operator.probe.finding import Finding
from stackstore_operator.reconcile import news
from stackstore_operator.reconcile.cache import Cache, Unreadable
from stackstore_operator.reconcile.inputs import Key
from stackstore_operator.reconcile.invalid import told
from stackstore_operator.reconcile.looks import Look
from stackstore_operator.reconcile.namespaces import Namespace

logger = logging.getLogger(__name__)


@dataclass
class Listing:
    """All objects of our two kinds; to be filled in.

    Attributes:
        namespaces: those that were listed; None: all there are. Elsewhere nothing is taken for gone.
        news: found at the end: what there is that nobody had told of, by (kind, namespace, name), with
            its version.
    """

    backends: list[Mapping[str, Any]] = field(default_factory=list)
    bindings: list[Mapping[str, Any]] = field(default_factory=list)
    namespaces: set[str | None] = field(default_factory=set)
    news: dict[tuple[str, str, str], int] = field(default_factory=dict)

    def covers(self, namespace: str) -> bool:
        """Whether the namespace was listed."""
        return None in self.namespaces or namespace in self.namespaces


class Changes:
    """Keeps the cache, and asks for looks.

    Args:
        cache: what is known of our own two kinds.
        look: asks for one more look; asking twice costs nothing.
        look_later: the same, some seconds from now.
    """

    def __init__(
        self, cache: Cache, look: Callable[[Look], None], look_later: Callable[[Look], None]
    ) -> None:
        self._cache = cache
        self._look = look
        self._look_later = look_later
        self._gone: dict[tuple[str, str, str], int] | None = None

    def backend(self, obj: Mapping[str, Any], *, deleted: bool = False) -> None:
        """A StorageBackend came, changed or went."""
        key = _key(obj)
        if deleted:
            self._note_gone("StorageBackend", obj)
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
            if before is not None:
                # With the last binding go the outputs, and what they held of other backends.
                for backend in self._cache.in_force((key[0], before.spec.stack)):
                    self._look(Look("backend", *backend))
            self._note_gone("StoreBinding", obj)
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
                self._look_at_backends_of(binding)

    def referent(self, kind: str, namespace: str, name: str) -> None:
        """A Secret or ConfigMap came, changed or went."""
        for backend in list(self._cache.backends_reading(kind, (namespace, name))):
            self._look_at_backend(backend)
        for stack in list(self._cache.stacks_touching(kind, (namespace, name))):
            self._look(Look("stack", *stack))

    def workload(self, kind: str, namespace: str, name: str) -> None:
        """A workload that may run a stack's server, or an autoscaler, came, changed or went."""
        for stack in self._cache.stacks_run_by(kind, (namespace, name)):
            self._look(Look("stack", *stack))

    def visited(self, key: Key, before: Finding | None, found: Finding) -> None:
        """A backend's database was visited; arguments as of `news.of_finding`."""
        for look in news.of_finding(self._cache, key, before, found):
            self._look(look)

    def namespace(self, kind: str, metadata: Mapping[str, Any], gone: bool) -> None:
        """A namespace came, changed or went; as a watch of its metadata tells."""
        del kind
        if not self._cache.namespaces.readable:
            self._cache.namespaces.readable = True
            self._look_at_selecting()
        found = Namespace(metadata.get("labels") or {}, "deletionTimestamp" in metadata)
        name = str(metadata["name"])
        if self._cache.namespaces.put(name, None if gone else found):
            for stack in self._cache.stacks_in(name):
                self._look(Look("stack", *stack))
                for binding in self._cache.bindings_of(*stack):
                    self._look_at_backends_of(binding)
            for key in self._cache.keys()["StorageBackend"]:
                # Whose namespace ends.
                if key[0] == name:
                    self._look_at_backend(key)

    def no_namespaces(self) -> None:
        """Namespaces can't be read (any more)."""
        if self._cache.namespaces.readable:
            self._cache.namespaces.forget()
            self._look_at_selecting()

    def everything(self) -> None:
        """Look at all that is known; what was seen in Secrets in an earlier term is out of date."""
        self._cache.forget_in_force()
        for backend in self._cache.keys()["StorageBackend"]:
            self._look(Look("backend", *backend))
        for stack in self._cache.stacks():
            self._look(Look("stack", *stack))

    @contextlib.contextmanager
    def listing(self) -> Iterator[Listing]:
        """All there is: what a watch has missed is caught up with when the block is left.

        Listing takes time, and the watches go on meanwhile. So only what was known before and isn't
        listed is gone, and what a watch tells of in between is not undone by an older word.
        """
        found = Listing()
        before = self._cache.keys()
        self._gone = {}
        try:
            yield found
        except BaseException:
            self._gone = None
            raise
        gone, self._gone = self._gone, None
        for kind, take, listed in (
            ("StorageBackend", self.backend, found.backends),
            ("StoreBinding", self.binding, found.bindings),
        ):
            for namespace, name in before[kind] - {_key(obj) for obj in listed}:
                if found.covers(namespace):
                    take({"metadata": {"namespace": namespace, "name": name}}, deleted=True)
            for obj in listed:
                key, version = _key(obj), version_of(obj)
                if version <= gone.get((kind, *key), -1):
                    continue
                if version > self._cache.version(kind, key):
                    found.news[kind, *key] = version
                    take(obj)

    def _note_gone(self, kind: str, obj: Mapping[str, Any]) -> None:
        if self._gone is not None:
            self._gone[kind, *_key(obj)] = version_of(obj)

    def _look_at_backends_of(self, binding: StoreBinding) -> None:
        for key in self._cache.backends_of(binding):
            backend = self._cache.backends.get(key)
            if backend is None or self._cache.allows(backend, binding.metadata.namespace):
                self._look(Look("backend", *key))
            else:
                # The owner is told how many ask in vain, but not while a stranger could measure that
                # more is done for him than for a name that leads nowhere.
                self._look_later(Look("backend", *key))

    def _look_at_selecting(self) -> None:
        for key in self._cache.selecting():
            self._look_at_backend(key)

    def _look_at_backend(self, key: Key) -> None:
        self._look(Look("backend", *key))
        for stack in self._cache.stacks_of(key):
            self._look(Look("stack", *stack))


def version_of(obj: Mapping[str, Any]) -> int:
    """Resource versions of one kind may be compared as numbers (KEP-5504)."""
    version = str(obj["metadata"].get("resourceVersion", ""))
    return int(version) if version.isdigit() else 0


def _key(obj: Mapping[str, Any]) -> Key:
    metadata = obj["metadata"]
    return str(metadata["namespace"]), str(metadata["name"])
