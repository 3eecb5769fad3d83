"""Which stacks use a backend, and under which names, as the bindings in the cache say. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from stackstore_operator.api.backend import StorageBackend
from stackstore_operator.api.binding import BackendRef, StoreBinding
from stackstore_operator.reconcile.cache import Cache
from stackstore_operator.reconcile.composition import run_config_name
from stackstore_operator.reconcile.inputs import Key
from stackstore_operator.reconcile.tally import Use
from stackstore_operator.render import revision


def uses_of(cache: Cache, backend: StorageBackend) -> tuple[Use, ...]:
    """The uses of a backend by stacks that it allows; it may be gone from the cache by now."""
    key = (backend.metadata.namespace, backend.metadata.name)
    stacks = {
        (binding.metadata.namespace, binding.spec.stack)
        for binding in cache.users_of(key)
        if cache.allows(backend, binding.metadata.namespace)
    }
    return tuple(use_of(cache, backend, stack) for stack in sorted(stacks))


def use_of(cache: Cache, backend: StorageBackend, stack: Key) -> Use:
    """One stack's use of a backend."""
    key = (backend.metadata.namespace, backend.metadata.name)
    names: set[str] = set()
    others: set[Key] = set()
    for binding in cache.bindings_of(*stack):
        for reference in references(binding):
            found = (reference.namespace or stack[0], reference.name)
            if found == key:
                names.add(run_config_name(reference))
            else:
                others.add(found)
    postgres = backend.spec.postgres
    return Use(
        revision.stack_id(*stack),
        frozenset(names),
        frozenset(
            other.status.revision
            for other in map(cache.backends.get, others)
            # What refuses this stack is none of its business, its revision included.
            if other is not None and cache.allows(other, stack[0])
        ),
        expected=cache.expected(stack),
        moved=cache.has_moved(stack, key),
        pooled=postgres is not None and postgres.pooler != "None",
    )


def references(binding: StoreBinding) -> Iterable[BackendRef]:
    """Every reference to a backend that a binding makes."""
    spec = binding.spec
    yield from (store.backend_ref for store in spec.stores)
    yield from (provider.backend_ref for provider in spec.providers)
    if spec.defaults is not None:
        yield from (ref for ref in (spec.defaults.kv, spec.defaults.sql) if ref is not None)
