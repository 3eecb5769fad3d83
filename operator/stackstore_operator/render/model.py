"""One stack's storage with everything looked up: what the files are made from."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from stackstore.credentials.snapshot import PostgresBackend, SqliteBackend
from stackstore_operator.api.conditions import Reason
from stackstore_operator.render.releases import NEWEST, Family, Release

CONFIG_KEY = "config.yaml"
SNAPSHOT_KEY = "stackstore.json"
STORAGE_MOUNT = "/etc/stack/storage"
"""Where a stock server's pod must mount the Secret, for the CA's path in its connection string."""

_TAKEN = ("KUBERNETES_SERVICE",)
"""Its _HOST and _PORT are the API server's in every pod."""


@dataclass(frozen=True, slots=True)
class PlacedStore:
    """A store and its place.

    Attributes:
        place: the kv namespace or the table.
        journal: the directory of its journal; None: acknowledged rows wait in memory.
    """

    name: str
    family: Family
    backend: str
    place: str
    max_write_queue_size: int | None = None
    num_writers: int | None = None
    retention_seconds: int | None = None
    journal: str | None = None


@dataclass(frozen=True, slots=True)
class PlacedProvider:
    """A provider's field and its place."""

    api: str
    provider_id: str
    field: str
    family: Family
    backend: str
    place: str
    retention_seconds: int | None = None


@dataclass(frozen=True, slots=True)
class ResolvedStack:
    """Everything one stack's files are made from; backends by their names in the run config."""

    stack_id: str
    backends: Mapping[str, PostgresBackend | SqliteBackend]
    stores: tuple[PlacedStore, ...]
    providers: tuple[PlacedProvider, ...] = ()
    default_kv: str | None = None
    default_sql: str | None = None
    base_config: str | None = None
    release: Release = field(default=NEWEST)


class RenderError(Exception):
    """These inputs give no run config that the server would boot on."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason


def environment_prefix(backend: str) -> str:
    """The prefix of a backend's environment variables: `sql_default` gives `SQL_DEFAULT`."""
    prefix = re.sub(r"[^A-Z0-9]", "_", backend.upper())
    # Kubelets before 1.34 leave out a variable whose name begins with a digit.
    return f"_{prefix}" if prefix[:1].isdigit() else prefix


def check_prefixes(backends: Iterable[str]) -> None:
    """Raise `RenderError` unless every backend's variables are its own."""
    owners: dict[str, str] = {}
    for backend in sorted(backends):
        prefix = environment_prefix(backend)
        other = owners.setdefault(prefix, backend)
        if other != backend:
            raise RenderError(
                Reason.NAME_COLLISION,
                f"backends '{other}' and '{backend}' would share the environment variables "
                f"{prefix}_…; give one an alias",
            )
        if prefix in _TAKEN:
            raise RenderError(
                Reason.NAME_COLLISION,
                f"the environment variables {prefix}_… of backend '{backend}' are Kubernetes' own; "
                "give it an alias",
            )
