"""Where the run config puts each store, and what each does there; pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from stackstore.config.model import ProviderReference, RunConfig, StoreConfig
from stackstore.credentials.snapshot import Snapshot, provider_key
from stackstore.stores.settings import Settings, of_provider, of_store

PROVIDERS = {
    "responses": ("responses", "persistence.responses"),
    "batches": ("batches", "sqlstore"),
    "vector_stores": ("vector_io", "metadata_store"),
}
"""Stores that providers refer to, (api, field), where the run config's `stores` has none of the name."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a store is.

    Attributes:
        source: what of the run config says so.
        backend: in which.
        place: the table, or the kv namespace.
    """

    source: StoreConfig | ProviderReference
    backend: str
    place: str


def place_of(config: RunConfig, name: str) -> Place | None:
    """A store's place; None: the run config has none."""
    # A provider's word first: it is the one that a stock server goes by.
    sources: list[StoreConfig | ProviderReference] = [
        *_references(config, name),
        *_stores(config, name),
    ]
    return Place(sources[0], sources[0].backend, sources[0].place) if sources else None


def settings(config: RunConfig, snapshot: Snapshot | None) -> dict[str, Settings]:
    """What each store that has a place does, by its name."""
    found = {}
    for name in sorted({*config.stores, *PROVIDERS}):
        there = place_of(config, name)
        if there is not None:
            source = there.source
            found[name] = (
                of_store(source, snapshot)
                if isinstance(source, StoreConfig)
                else of_provider(source, snapshot)
            )
    return found


def strangers(config: RunConfig, snapshot: Snapshot | None) -> list[str]:
    """What the snapshot says of stores and fields that the run config doesn't have: a sentence each."""
    if snapshot is None:
        return []
    fields = {provider_key(one.api, one.provider_id, one.field) for one in config.providers}
    # A provider's store may have its settings under the store's name, too.
    stores = {*config.stores, *(name for name in PROVIDERS if place_of(config, name) is not None)}
    unknown = [("store", name, stores) for name in sorted(snapshot.stores.keys() - stores)]
    unknown += [
        ("provider field", key, fields) for key in sorted(snapshot.providers.keys() - fields)
    ]
    return [
        f"{what} {name!r}: the snapshot has settings for it, and the run config has no such {what}; "
        f"it has {', '.join(sorted(there)) or 'none'}"
        for what, name, there in unknown
    ]


def _references(config: RunConfig, name: str) -> Iterator[ProviderReference]:
    wanted = PROVIDERS.get(name)
    return (one for one in config.providers if (one.api, one.field) == wanted)


def _stores(config: RunConfig, name: str) -> Iterator[StoreConfig]:
    if name in config.stores:
        yield config.stores[name]
