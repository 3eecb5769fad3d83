"""Our own two kinds as the watches showed them last, and who refers to what."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, TypeVar

from pydantic import ValidationError

from stackstore_operator.api.backend import StorageBackend, allows
from stackstore_operator.api.binding import StoreBinding
from stackstore_operator.kube.workloads import MADE_INTO_DEPLOYMENTS
from stackstore_operator.reconcile.inputs import Key
from stackstore_operator.reconcile.namespaces import Namespaces
from stackstore_operator.reconcile.outputs import config_map_name, secret_name

At = TypeVar("At")


class Unreadable(NamedTuple):
    """An object that only an older schema can have let in."""

    obj: Mapping[str, Any]
    error: ValidationError


class Cache:
    """What is known without asking the API server."""

    def __init__(self) -> None:
        self.namespaces = Namespaces()
        self.backends: dict[Key, StorageBackend] = {}
        self.bindings: dict[Key, StoreBinding] = {}
        self._stacks: dict[Key, set[Key]] = {}
        self._users: dict[Key, set[Key]] = {}
        self.unreadable_backends: dict[Key, Unreadable] = {}
        self._unreadable_bindings: dict[Key, tuple[str, Unreadable]] = {}
        self._in_force: dict[Key, set[Key]] = {}
        self._reading: dict[tuple[str, Key], set[Key]] = {}
        self._bases: dict[Key, set[Key]] = {}
        self._consumers: dict[tuple[str, Key], set[Key]] = {}
        self._consuming: dict[str, set[Key]] = {}
        self._earlier: dict[Key, dict[Key, bool]] = {}
        self._expected: dict[Key, int | None] = {}

    # -- changes

    def put_backend(self, backend: StorageBackend) -> bool:
        """A backend is like this now; False when that is no news."""
        key = _key(backend)
        healed = self.unreadable_backends.pop(key, None) is not None
        if not _newer(backend, self.backends.get(key)):
            return healed
        self._unread(key)
        self.backends[key] = backend
        for referent in _referents(backend):
            self._reading.setdefault(referent, set()).add(key)
        return True

    def put_unreadable_backend(self, key: Key, found: Unreadable) -> None:
        """A backend can't be read: as after a restart, nothing is known of it."""
        self.drop_backend(key)
        self.unreadable_backends[key] = found

    def drop_backend(self, key: Key) -> None:
        """A backend is gone."""
        self.unreadable_backends.pop(key, None)
        self._unread(key)

    def _unread(self, key: Key) -> None:
        old = self.backends.pop(key, None)
        for referent in _referents(old) if old is not None else ():
            _discard(self._reading, referent, key)

    def put_binding(self, binding: StoreBinding) -> bool:
        """A binding is like this now; False when that is no news."""
        key = _key(binding)
        if not _newer(binding, self.bindings.get(key)):
            return False
        self._unlink(key)
        self.bindings[key] = binding
        self._stacks.setdefault((key[0], binding.spec.stack), set()).add(key)
        for backend in self.backends_of(binding):
            self._users.setdefault(backend, set()).add(key)
        if binding.spec.base_config_ref is not None:
            self._bases.setdefault((key[0], binding.spec.base_config_ref.name), set()).add(key)
        for consumer in _consumers(binding):
            self._consumers.setdefault(consumer, set()).add(key)
            self._consuming.setdefault(key[0], set()).add(key)
        return True

    def put_unreadable_binding(self, key: Key, stack: str, found: Unreadable) -> None:
        """A binding can't be read: its stack's outputs stay as they are until it can."""
        before = self._stack_of(key)
        self._unlink(key)
        self._unreadable_bindings[key] = (stack, found)
        self._forget(before)

    def drop_binding(self, key: Key) -> None:
        """A binding is gone."""
        before = self._stack_of(key)
        self._unlink(key)
        self._forget(before)

    def _stack_of(self, binding: Key) -> Key | None:
        old = self.bindings.get(binding)
        if old is not None:
            return binding[0], old.spec.stack
        unreadable = self._unreadable_bindings.get(binding)
        return None if unreadable is None else (binding[0], unreadable[0])

    def _forget(self, stack: Key | None) -> None:
        """A stack that no binding names any more; its outputs go with the last one."""
        if stack is not None and not self._is_known(stack):
            self._in_force.pop(stack, None)
            self._earlier.pop(stack, None)
            self._expected.pop(stack, None)

    def _is_known(self, stack: Key) -> bool:
        return stack in self._stacks or any(
            (key[0], of) == stack for key, (of, _) in self._unreadable_bindings.items()
        )

    def _unlink(self, key: Key) -> None:
        self._unreadable_bindings.pop(key, None)
        old = self.bindings.pop(key, None)
        if old is None:
            return
        _discard(self._stacks, (key[0], old.spec.stack), key)
        for backend in self.backends_of(old):
            _discard(self._users, backend, key)
        if old.spec.base_config_ref is not None:
            _discard(self._bases, (key[0], old.spec.base_config_ref.name), key)
        for consumer in _consumers(old):
            _discard(self._consumers, consumer, key)
        if old.spec.consumers:
            _discard(self._consuming, key[0], key)

    def note_in_force(self, stack: Key, backends: set[Key]) -> None:
        """A stack's Secret holds the logins of these backends, whoever refers to them by now."""
        if self._is_known(stack):
            self._in_force[stack] = backends

    def forget_in_force(self) -> None:
        """As after a start: nobody has looked into any Secret yet."""
        self._in_force.clear()

    def note_earlier(self, stack: Key, backends: dict[Key, bool]) -> None:
        """A stack's Secret holds earlier logins of these backends; True: one for another address."""
        self._earlier[stack] = backends

    def note_expected(self, stack: Key, processes: int | None) -> bool:
        """So many server processes should a stack have now; None: nobody says. Whether it is news."""
        before, self._expected[stack] = self._expected.get(stack), processes
        return before != processes

    # -- questions

    def keys(self) -> dict[str, set[Key]]:
        """All objects that are known, by kind, readable or not."""
        return {
            "StorageBackend": self.backends.keys() | self.unreadable_backends.keys(),
            "StoreBinding": self.bindings.keys() | self._unreadable_bindings.keys(),
        }

    def version(self, kind: str, key: Key) -> int:
        """The resource version of an object as it is known; -1: it isn't, or has none."""
        version = ""
        if kind == "StorageBackend":
            if key in self.unreadable_backends:
                version = self.unreadable_backends[key].obj["metadata"].get("resourceVersion", "")
            elif key in self.backends:
                version = self.backends[key].metadata.resource_version
        elif key in self._unreadable_bindings:
            found = self._unreadable_bindings[key][1]
            version = found.obj["metadata"].get("resourceVersion", "")
        elif key in self.bindings:
            version = self.bindings[key].metadata.resource_version
        return int(version) if version.isdigit() else -1

    def stacks(self) -> set[Key]:
        """All stacks that a binding names, readable or not."""
        unreadable = {(key[0], of) for key, (of, _) in self._unreadable_bindings.items()}
        return self._stacks.keys() | unreadable

    def bindings_of(self, namespace: str, stack: str) -> tuple[StoreBinding, ...]:
        """The bindings of a stack, by name; those being deleted are no longer among them."""
        keys = sorted(self._stacks.get((namespace, stack), ()))
        found = (self.bindings[key] for key in keys)
        return tuple(b for b in found if b.metadata.deletion_timestamp is None)

    def all_bindings_of(self, namespace: str, stack: str) -> list[StoreBinding]:
        """The bindings of a stack; also those being deleted, for its outputs are there as long."""
        return [self.bindings[key] for key in sorted(self._stacks.get((namespace, stack), ()))]

    def in_force(self, stack: Key) -> set[Key]:
        """The backends whose logins a stack's Secret holds, as far as anybody looked."""
        return self._in_force.get(stack, set())

    def holding(self, backend: Key) -> list[Key]:
        """The stacks whose Secrets hold a backend's login, as far as anybody looked."""
        return sorted(stack for stack, held in self._in_force.items() if backend in held)

    def unseen(self) -> bool:
        """Whether there are stacks whose Secrets nobody has looked into since the start."""
        return not self.stacks() <= self._in_force.keys()

    def unreadable_of(self, namespace: str, stack: str) -> list[Unreadable]:
        """The bindings of a stack that can't be read."""
        return [
            found
            for key, (of, found) in sorted(self._unreadable_bindings.items())
            if (key[0], of) == (namespace, stack)
        ]

    def backends_of(self, binding: StoreBinding) -> set[Key]:
        """The backends that a binding refers to, existing or not."""
        spec = binding.spec
        references = [store.backend_ref for store in spec.stores]
        references += [provider.backend_ref for provider in spec.providers]
        if spec.defaults is not None:
            references += [r for r in (spec.defaults.kv, spec.defaults.sql) if r is not None]
        own = binding.metadata.namespace
        return {(reference.namespace or own, reference.name) for reference in references}

    def allows(self, backend: StorageBackend, namespace: str) -> bool:
        """Whether bindings of a namespace may use a backend, as far as is known."""
        return allows(backend, namespace, self.namespaces.labels(namespace))

    def usable(self, namespace: str, key: Key) -> StorageBackend | None:
        """A backend, if it is there and lets a namespace use it."""
        backend = self.backends.get(key)
        return backend if backend is not None and self.allows(backend, namespace) else None

    def stacks_in(self, namespace: str) -> list[Key]:
        """The stacks of a namespace."""
        return [stack for stack in self.stacks() if stack[0] == namespace]

    def selecting(self) -> list[Key]:
        """The backends that choose namespaces by label."""
        return [
            key
            for key, backend in self.backends.items()
            if backend.spec.allowed_namespaces.from_ == "Selector"
        ]

    def users_of(self, backend: Key) -> list[StoreBinding]:
        """The bindings that refer to a backend."""
        return [self.bindings[key] for key in sorted(self._users.get(backend, ()))]

    def stacks_of(self, backend: Key) -> set[Key]:
        """The stacks that refer to a backend, or hold its login."""
        referring = {(b.metadata.namespace, b.spec.stack) for b in self.users_of(backend)}
        return referring.union(self.holding(backend))

    def holding_earlier(self, backend: Key) -> list[Key]:
        """The stacks whose Secrets hold an earlier login of a backend."""
        return [stack for stack, held in self._earlier.items() if backend in held]

    def has_moved(self, stack: Key, backend: Key) -> bool:
        """Whether a stack's Secret holds an earlier login of a backend for another address."""
        return self._earlier.get(stack, {}).get(backend, False)

    def expected(self, stack: Key) -> int | None:
        """How many server processes a stack should have now; None: nobody says."""
        return self._expected.get(stack)

    def expected_in_all(self) -> int:
        """How many server processes all stacks together should have, as far as anybody says."""
        return sum(count or 0 for count in list(self._expected.values()))

    def backends_reading(self, kind: str, key: Key) -> set[Key]:
        """The backends that read a Secret or ConfigMap."""
        return self._reading.get((kind, key), set())

    def stacks_touching(self, kind: str, key: Key) -> set[Key]:
        """The stacks whose output or base config a Secret or ConfigMap is."""
        namespace, name = key
        found = {
            (namespace, self.bindings[binding].spec.stack)
            for binding in (self._bases.get(key, ()) if kind == "ConfigMap" else ())
        }
        ending = (secret_name if kind == "Secret" else config_map_name)("")
        stack = (namespace, name.removesuffix(ending))
        if name.endswith(ending) and stack in self._stacks:
            found.add(stack)
        return found

    def concerns(self, kind: str, namespace: str, name: str) -> bool:
        """Whether anything that is known has to do with a Secret, a ConfigMap or a workload."""
        key = (namespace, name)
        if kind in ("Secret", "ConfigMap"):
            return bool(self.backends_reading(kind, key) or self.stacks_touching(kind, key))
        return bool(self.stacks_run_by(kind, key))

    def consuming(self, namespace: str) -> list[StoreBinding]:
        """The bindings of a namespace that name workloads."""
        return [self.bindings[key] for key in sorted(self._consuming.get(namespace, ()))]

    def stacks_run_by(self, kind: str, key: Key) -> set[Key]:
        """The stacks whose server a workload runs, or may scale: an autoscaler any of its namespace."""
        if kind == "HorizontalPodAutoscaler":
            bindings = self._consuming.get(key[0], set())
        else:
            bindings = self._consumers.get((kind, key), set())
        return {(key[0], self.bindings[binding].spec.stack) for binding in bindings}


def _consumers(binding: StoreBinding) -> set[tuple[str, Key]]:
    """The workloads that a binding names, and the Deployments that other operators make of them."""
    namespace = binding.metadata.namespace
    found = {(c.kind, (namespace, c.name)) for c in binding.spec.consumers}
    return found | {
        ("Deployment", (namespace, c.name))
        for c in binding.spec.consumers
        if c.kind in MADE_INTO_DEPLOYMENTS
    }


def _referents(backend: StorageBackend) -> set[tuple[str, Key]]:
    """The Secrets and ConfigMaps that a backend reads, as (kind, key)."""
    namespace, spec = backend.metadata.namespace, backend.spec
    found = set()
    if spec.credentials is not None:
        found.add(("Secret", (namespace, spec.credentials.secret_ref.name)))
    ca = spec.postgres.tls.ca_ref if spec.postgres is not None else None
    if ca is not None:
        found.add((str(ca.kind), (namespace, ca.name)))
    return found


def _key(obj: StorageBackend | StoreBinding) -> Key:
    return obj.metadata.namespace, obj.metadata.name


def _discard(index: dict[At, set[Key]], at: At, key: Key) -> None:
    index[at].discard(key)
    if not index[at]:
        del index[at]


def _newer(new: StorageBackend | StoreBinding, known: StorageBackend | StoreBinding | None) -> bool:
    """Whether `new` is what the object of that name became after `known`.

    Our own writes answer sooner than the watch tells of them, and a list may be older than a watch.
    Resource versions of one kind may be compared as numbers (KEP-5504), those of an object that was
    deleted and made again too.
    """
    if known is None:
        return True
    try:
        return int(new.metadata.resource_version) > int(known.metadata.resource_version)
    except ValueError:
        return True
