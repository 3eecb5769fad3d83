"""From the file of a run config to a `RunConfig`, or to every problem in it at once."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from pathlib import Path
from types import MappingProxyType

from stackstore.config import backends, collisions, document, legacy, references, snapshot
from stackstore.config.model import RunConfig
from stackstore.config.problems import InvalidConfigError, nearest
from stackstore.config.report import Reading
from stackstore.config.schema import STORES

_KEYS = ("backends", "stores")


def load(
    path: str | os.PathLike[str],
    environ: Mapping[str, str] | None = None,
    *,
    snapshot_backends: Collection[str] = frozenset(),
) -> RunConfig:
    """Read and check the storage part of a run config; the rest of it is left alone.

    Args:
        path: the YAML file.
        environ: where `${env.…}` is looked up; the process's environment by default.
        snapshot_backends: the names of backends that the credentials' snapshot supplies. Their
            placeholders stay unresolved, their shape is checked all the same.

    Raises:
        InvalidConfigError: with all problems found. Nothing is ever assumed in their place; above
            all, no SQLite file that the config doesn't name.
    """
    found = document.read(Path(path))
    reading = Reading(found, os.environ if environ is None else environ)
    legacy.report(reading)
    storage = _storage(reading)
    if storage is None:
        raise InvalidConfigError(found.source, reading.problems)
    known = backends.read(reading, storage.get("backends"), snapshot_backends)
    stores = list(references.stores(reading, storage, known))
    own = list(references.providers(reading, found.data.get("providers"), known))
    collisions.check(reading, [use for _, use in (*stores, *own)], known.entries)
    converted = {
        name: backend
        for name, entry in known.entries.items()
        if (backend := snapshot.convert(reading, entry)) is not None
    }
    if reading.problems:
        raise InvalidConfigError(found.source, reading.problems)
    configured = {store.name: store for store, _ in stores}
    return RunConfig(
        file=found.source,
        types=MappingProxyType({name: entry.type for name, entry in known.entries.items()}),
        backends=MappingProxyType(converted),
        stores=MappingProxyType(configured),
        providers=tuple(reference for reference, _ in own),
        absent_stores=tuple(name for name in STORES if name not in configured),
    )


def _storage(reading: Reading) -> dict[str, object] | None:
    data = reading.document.data
    if "storage" not in data:
        if not reading.problems:
            # A legacy shape that was named says it better.
            near = nearest("storage", [key for key in data if len(key) < 32])
            reading.report(
                ("storage",),
                "is missing",
                hint=near.replace("did you mean", "is it misspelt as")
                or "declare storage.backends and storage.stores; Stackstore never falls back to "
                "a local SQLite file",
            )
        return None
    storage = reading.mapping(data["storage"], ("storage",))
    for key in storage or ():
        path = ("storage", key)
        if key not in _KEYS and not reading.knows(path):
            reading.unknown(path, _KEYS)
    return storage
