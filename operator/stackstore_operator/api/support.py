"""What the schema has and this release does not do yet. It is refused by name, never ignored."""

from __future__ import annotations

from collections.abc import Iterator

from stackstore_operator.api.backend import StorageBackend
from stackstore_operator.api.binding import (
    CONSUMER_KINDS,
    JOURNALED,
    RETAINED,
    RETAINED_FIELDS,
    StoreBinding,
)


def unsupported(obj: StorageBackend | StoreBinding) -> list[str]:
    """The fields of an object that ask for something that isn't there yet, each with its path."""
    if isinstance(obj, StorageBackend):
        return list(_of_backend(obj))
    return list(_of_binding(obj))


def _of_backend(backend: StorageBackend) -> Iterator[str]:
    spec = backend.spec
    # The API server refuses this; an older schema let it in.
    if spec.max_connections is not None and spec.postgres is None:
        yield "`spec.maxConnections` of a SQLite file"


def _of_binding(binding: StoreBinding) -> Iterator[str]:
    spec = binding.spec
    for consumer in spec.consumers:
        if CONSUMER_KINDS.get(consumer.kind) != consumer.api_version:
            known = ", ".join(f"{kind} ({version})" for kind, version in CONSUMER_KINDS.items())
            yield (
                f"`spec.consumers[{consumer.kind}/{consumer.name}]` of {consumer.api_version}, where "
                f"only {known} are known"
            )
    for store in spec.stores:
        # The API server refuses these two; an older schema let them in.
        if store.retention_seconds is not None and store.name not in RETAINED:
            yield f"`spec.stores[{store.name}].retentionSeconds`"
        if store.journal is not None and store.name not in JOURNALED:
            yield f"`spec.stores[{store.name}].durability.mode: Journal`"
    for own in spec.providers:
        if own.retention_seconds is not None and (own.api, own.field) not in RETAINED_FIELDS:
            path = f"{own.api}/{own.provider_id}/{own.field}"
            yield f"`spec.providers[{path}].retentionSeconds`"
