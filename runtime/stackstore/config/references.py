"""Who uses which backend: `storage.stores` and the providers' own references."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from stackstore.config.backends import Backends
from stackstore.config.model import Family, ProviderReference, StoreConfig
from stackstore.config.problems import Path, nearest, shown
from stackstore.config.report import Reading
from stackstore.config.schema import (
    PROVIDER_FIELDS,
    STORES,
    InferenceReference,
    KvReference,
    Reference,
    ResponsesReference,
)

PATH: Path = ("storage", "stores")
DISABLED = "__disabled__"
"""The server passes over a provider whose id comes out as this."""


@dataclass(frozen=True)
class Use:
    """One reference, and where it stands."""

    path: Path
    family: Family
    reference: Reference


def stores(
    reading: Reading, storage: Mapping[str, Any], backends: Backends
) -> Iterator[tuple[StoreConfig, Use]]:
    """The stores that are configured and switched on; problems go to the reading."""
    if "stores" not in storage:
        return
    entries = reading.mapping(storage["stores"], PATH) or {}
    for name, entry in entries.items():
        path = (*PATH, name)
        if reading.knows(path):
            continue
        if name not in STORES:
            reading.unknown(path, STORES)
            continue
        value = reading.resolve(entry, path)
        if value is None:
            continue
        use = _use(reading, STORES[name], value, path, backends)
        if use is None:
            continue
        made = use.reference
        if isinstance(made, InferenceReference) and not made.enabled:
            continue
        queued = made if isinstance(made, (InferenceReference, ResponsesReference)) else None
        yield (
            StoreConfig(
                name=name,
                family=use.family,
                backend=made.backend,
                namespace=made.namespace if isinstance(made, KvReference) else None,
                table_name=None if isinstance(made, KvReference) else made.table_name,
                max_write_queue_size=queued.max_write_queue_size if queued else None,
                num_writers=queued.num_writers if queued else None,
            ),
            use,
        )


def providers(
    reading: Reading, section: Any, backends: Backends
) -> Iterator[tuple[ProviderReference, Use]]:
    """The references of providers that the server has; everything else in them is left alone."""
    if section is None:
        return
    for api, entries in (reading.mapping(section, ("providers",)) or {}).items():
        fields = {field: model for (of, field), model in PROVIDER_FIELDS.items() if of == api}
        if not fields or entries is None:
            continue
        if not isinstance(entries, list):
            reading.report(("providers", api), "must be a list of providers")
            continue
        for index, entry in enumerate(entries):
            yield from _provider(reading, ("providers", api, index), entry, fields, backends)


def _provider(
    reading: Reading,
    path: Path,
    entry: Any,
    fields: Mapping[str, type[Reference]],
    backends: Backends,
) -> Iterator[tuple[ProviderReference, Use]]:
    provider = reading.mapping(entry, path)
    config = provider.get("config") if provider else None
    if provider is None or not isinstance(config, dict):
        return
    found = {field: value for field in fields if (value := _at(config, field)) is not None}
    if not found:
        return
    identity = reading.resolve(provider.get("provider_id"), (*path, "provider_id"))
    if identity == DISABLED:
        return
    for field, value in found.items():
        here = (*path, "config", *field.split("."))
        if reading.knows(here):
            continue
        use = _use(reading, fields[field], reading.resolve(value, here), here, backends)
        if use is None or identity is None:
            continue
        made = use.reference
        yield (
            ProviderReference(
                api=str(path[1]),
                provider_id=str(identity),
                provider_type=str(provider.get("provider_type") or ""),
                field=field,
                family=use.family,
                backend=made.backend,
                namespace=made.namespace if isinstance(made, KvReference) else None,
                table_name=None if isinstance(made, KvReference) else made.table_name,
            ),
            use,
        )


def _at(config: Mapping[str, Any], field: str) -> Any:
    node: Any = config
    for key in field.split("."):
        node = node.get(key) if isinstance(node, dict) else None
    return node


def _use(
    reading: Reading, model: type[Reference], value: Any, path: Path, backends: Backends
) -> Use | None:
    fields = reading.mapping(value, path)
    if fields is None:
        return None
    family: Family = "kv" if issubclass(model, KvReference) else "sql"
    made = reading.section(model, fields, path)
    # Where something else is wrong, a misspelt backend is worth saying in the same breath.
    literal = fields.get("backend")
    backend = made.backend if made else literal if shown(literal) else None
    fits = backend is None or _fits(reading, str(backend), family, path, backends)
    return Use(path, family, made) if made and fits else None


def _fits(reading: Reading, backend: str, family: Family, path: Path, backends: Backends) -> bool:
    here = (*path, "backend")
    # A name that came from the environment, or is more than a plain word, may be a secret.
    word = shown(reading.document.at(here))
    fitting = [name for name, found in backends.families.items() if found in {family, None}]
    allowed = ", ".join(sorted(filter(shown, fitting)))
    allowed = allowed or f"none is declared; add one of type {family}_…"
    if backend not in backends.families:
        hint = nearest(backend, fitting) if word else ""
        reading.report(here, f"unknown backend{word}", allowed=allowed, hint=hint)
        return False
    found = backends.families[backend]
    if found is not None and found != family:
        reading.report(
            here,
            f"needs a {family} backend, and this is a {found} backend",
            allowed=allowed,
        )
        return False
    return True
