"""Two users of one place: what one writes there the other would read, or lose."""

from __future__ import annotations

import os
from collections.abc import Hashable, Iterable, Mapping

from stackstore.config.model import BackendEntry, SqliteEntry
from stackstore.config.problems import dotted
from stackstore.config.references import Use
from stackstore.config.report import Reading
from stackstore.config.schema import MEMORY, KvReference

_SHARED_BY_DESIGN = ("vector_stores", "metadata_store")


def check(reading: Reading, uses: Iterable[Use], backends: Mapping[str, BackendEntry]) -> None:
    """Report every use of a place that an earlier one has."""
    taken: dict[Hashable, Use] = {}
    for use in sorted(uses, key=lambda use: reading.document.line(use.path)):
        made = use.reference
        if made.backend not in backends or _is_vector_metadata(use):
            continue
        backend = backends[made.backend]
        if isinstance(made, KvReference):
            # A backend's `table_name` parts nothing: it is the server's own table. Ours is one for all.
            place: Hashable = (_database(backend), "kv", made.namespace)
            leaf, what = "namespace", "this namespace of this database"
        else:
            # SQLite knows no case in a table's name.
            place = (_database(backend), "sql", made.table_name.casefold())
            leaf, what = "table_name", "this table of this database"
        if place in taken:
            other = taken[place]
            reading.report(
                (*use.path, leaf),
                f"{dotted(other.path)} (line {reading.document.line(other.path)}) has {what} already",
                hint="give each its own",
            )
        else:
            taken[place] = use


def _is_vector_metadata(use: Use) -> bool:
    # The server keeps all vector stores' metadata in the same four tables, whatever is written.
    return use.path[-1] in _SHARED_BY_DESIGN and ("vector_io" in use.path or "stores" in use.path)


def _database(backend: BackendEntry) -> Hashable:
    if isinstance(backend, SqliteEntry):
        if backend.db_path in {None, MEMORY}:
            return backend.name
        return os.path.normpath(str(backend.db_path))
    if backend.connection is None:
        return backend.name
    return (backend.connection.host.lower(), backend.connection.port, backend.connection.database)
