"""One stack's storage with everything looked up: what the files are made from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from stackstore.credentials.snapshot import PostgresBackend, SqliteBackend
from stackstore_operator.api.conditions import Reason
from stackstore_operator.render.releases import NEWEST, Family, Release

CONFIG_KEY = "config.yaml"
SNAPSHOT_KEY = "stackstore.json"
STORAGE_MOUNT = "/etc/stack/storage"
"""Where a stock server's pod must mount the Secret, for the CA's path in its connection string."""


@dataclass(frozen=True, slots=True)
class PlacedStore:
    """A store and its place; `place` is the kv namespace or the table."""

    name: str
    family: Family
    backend: str
    place: str
    max_write_queue_size: int | None = None
    num_writers: int | None = None


@dataclass(frozen=True, slots=True)
class PlacedProvider:
    """A provider's field and its place."""

    api: str
    provider_id: str
    field: str
    family: Family
    backend: str
    place: str


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
    return "".join(
        letter if letter.isascii() and letter.isalnum() else "_" for letter in backend
    ).upper()
