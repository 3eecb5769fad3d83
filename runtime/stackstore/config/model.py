"""What a run config means once it is read: frozen, and without placeholders."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from pydantic import SecretStr

from stackstore.credentials import snapshot
from stackstore.credentials.snapshot import TlsMode

Family = Literal["kv", "sql"]
BackendType = Literal["kv_sqlite", "sql_sqlite", "kv_postgres", "sql_postgres"]


@dataclass(frozen=True, slots=True)
class PostgresConnection:
    """Where a Postgres database is and how to get in.

    Attributes:
        host: a name, an address (IPv6 without brackets) or the directory of a Unix socket.
        ssl_mode: as libpq means it; `Prefer` where the config says nothing.
        ca_path: a PEM file, not yet opened; only with `Require`, `VerifyCA` or `VerifyFull`.
        statement_timeout: seconds, as the URI says it; None where it says nothing.
    """

    host: str
    port: int
    database: str
    username: str
    password: SecretStr | None = None
    ssl_mode: TlsMode = "Prefer"
    ca_path: Path | None = None
    statement_timeout: float | None = None


@dataclass(frozen=True, slots=True)
class PostgresEntry:
    """An entry of `storage.backends` on Postgres.

    Attributes:
        connection: None where the snapshot supplies it; the pool's numbers are then the snapshot's
            business too.
        pool_recycle: seconds; -1 means never.
        command_timeout: seconds a statement may take; None means no bound (sql backends).
        table_name: the server's table of a kv backend; None on sql backends.
    """

    name: str
    type: Literal["kv_postgres", "sql_postgres"]
    connection: PostgresConnection | None
    pool_size: int
    max_overflow: int
    pool_recycle: int = 3600
    command_timeout: float | None = None
    table_name: str | None = None


@dataclass(frozen=True, slots=True)
class SqliteEntry:
    """An entry of `storage.backends` on a SQLite file.

    Attributes:
        db_path: with `~` expanded, or `:memory:`; None where the snapshot supplies it.
    """

    name: str
    type: Literal["kv_sqlite", "sql_sqlite"]
    db_path: str | None


BackendEntry: TypeAlias = PostgresEntry | SqliteEntry


@dataclass(frozen=True, slots=True)
class StoreConfig:
    """A named use of a backend.

    Attributes:
        namespace: set on kv stores, and only there.
        table_name: set on sql stores, and only there.
        max_write_queue_size: set on stores that write through a queue (inference, responses).
        num_writers: likewise.
    """

    name: str
    family: Family
    backend: str
    namespace: str | None = None
    table_name: str | None = None
    max_write_queue_size: int | None = None
    num_writers: int | None = None

    @property
    def place(self) -> str:
        """Where in the backend: the namespace of a kv store, the table of a sql store."""
        return self.namespace or self.table_name or ""


@dataclass(frozen=True, slots=True)
class ProviderReference:
    """A provider's own use of a backend; `field` is dotted, as in `persistence.responses`."""

    api: str
    provider_id: str
    provider_type: str
    field: str
    family: Family
    backend: str
    namespace: str | None = None
    table_name: str | None = None

    @property
    def place(self) -> str:
        """Where in the backend, as with a store."""
        return self.namespace or self.table_name or ""


@dataclass(frozen=True, slots=True)
class RunConfig:
    """The storage part of one run config, checked whole.

    Attributes:
        file: what it was read from.
        types: the type of every backend.
        backends: every backend whose connection the config itself gives; those that the snapshot
            supplies are not among them.
        absent_stores: known stores that are not configured or switched off; they have no entry in
            `stores`, and nothing stands in for them.
    """

    file: str
    types: Mapping[str, BackendType]
    backends: Mapping[str, snapshot.PostgresBackend | snapshot.SqliteBackend]
    stores: Mapping[str, StoreConfig]
    providers: tuple[ProviderReference, ...] = ()
    absent_stores: tuple[str, ...] = ()
