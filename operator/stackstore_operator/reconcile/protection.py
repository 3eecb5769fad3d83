"""Who uses a backend, so that it is not deleted under them. Pure.

A backend is in use while a stack's Secret holds its login, whoever refers to it by now, and while a
binding that it allows refers to it. One that came after the deletion began is refused and holds
nothing up.
"""

from __future__ import annotations

from dataclasses import dataclass

from stackstore_operator.api.binding import StoreBinding
from stackstore_operator.api.part import ObjectMeta
from stackstore_operator.reconcile.cache import Cache
from stackstore_operator.reconcile.inputs import Key

FINALIZER = "stackstore.dev/in-use"
_SHOWN = 10


@dataclass(frozen=True, slots=True)
class Users:
    """The bindings that use a backend.

    Attributes:
        own: names of those in its own namespace.
        foreign: how many there are in others; their names are none of the owner's business.
    """

    own: tuple[str, ...] = ()
    foreign: int = 0

    def __bool__(self) -> bool:
        return bool(self.own or self.foreign)

    def __str__(self) -> str:
        """In words, for conditions."""
        parts = []
        if self.own:
            shown = ", ".join(f"'{name}'" for name in self.own[:_SHOWN])
            more = f" and {len(self.own) - _SHOWN} more" if len(self.own) > _SHOWN else ""
            parts.append(f"{_counted(len(self.own))} of this namespace: {shown}{more}")
        if self.foreign:
            parts.append(f"{_counted(self.foreign)} of other namespaces")
        return "; ".join(parts)


def users(cache: Cache, key: Key, about: ObjectMeta) -> Users:
    """Who uses a backend.

    Args:
        cache: what is known.
        key: the backend's.
        about: its metadata; of one that can't be read there is no more.
    """
    found: dict[Key, StoreBinding] = {}
    for stack in cache.holding(key):
        found |= {_key(binding): binding for binding in cache.all_bindings_of(*stack)}
    for binding in cache.users_of(key):
        if _may(cache, key, binding) and not came_late(binding, about):
            found[_key(binding)] = binding
    # A stack whose bindings can't be read has its outputs all the same.
    unread = sum(
        len(cache.unreadable_of(*stack)) for stack in cache.holding(key) if stack[0] != key[0]
    )
    mine = [
        str(one.obj["metadata"]["name"])
        for stack in cache.holding(key)
        if stack[0] == key[0]
        for one in cache.unreadable_of(*stack)
    ]
    own = {name for namespace, name in found if namespace == key[0]}
    foreign = sum(namespace != key[0] for namespace, _ in found)
    return Users(tuple(sorted({*own, *mine})), foreign + unread)


def came_late(binding: StoreBinding, backend: ObjectMeta) -> bool:
    """Whether a binding is going, or was made when the backend's deletion had begun."""
    if binding.metadata.deletion_timestamp is not None:
        return True
    deleted = backend.deletion_timestamp
    # RFC 3339 in UTC, as the API server writes all its times: in order as texts. They have whole seconds;
    # of the same one nobody knows, and nothing was rendered for it yet.
    return deleted is not None and binding.metadata.creation_timestamp >= deleted


def _may(cache: Cache, key: Key, binding: StoreBinding) -> bool:
    if binding.metadata.namespace == key[0]:
        return True
    backend = cache.backends.get(key)
    return backend is not None and cache.allows(backend, binding.metadata.namespace)


def _key(binding: StoreBinding) -> Key:
    return binding.metadata.namespace, binding.metadata.name


def _counted(count: int) -> str:
    return f"{count} StoreBinding" + ("" if count == 1 else "s")
