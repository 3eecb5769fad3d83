"""`storage.backends`: each entry checked and turned into a `BackendEntry`."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from stackstore.config import uri
from stackstore.config.env import UnsetVariableError, has_placeholder, substitute
from stackstore.config.model import (
    BackendEntry,
    Family,
    PostgresConnection,
    PostgresEntry,
    SqliteEntry,
)
from stackstore.config.problems import Path as NodePath
from stackstore.config.problems import nearest, shown
from stackstore.config.report import Reading
from stackstore.config.schema import (
    BACKENDS,
    COMPONENTS,
    MEMORY,
    KvPostgres,
    KvSqlite,
    Postgres,
    SqlPostgres,
    SqlSqlite,
)

PATH: NodePath = ("storage", "backends")
UNSUPPORTED = ("kv_redis", "kv_mongodb")
UNPREFIXED = ("sqlite", "postgres", "redis", "mongodb")
"""The types of releases before `storage.backends`."""


@dataclass(frozen=True)
class Backends:
    """What is known of the backends.

    Attributes:
        entries: those without a problem.
        families: of every name in the file, so that a reference to a broken backend isn't
            reported as well; None where not even the type can be told.
    """

    entries: Mapping[str, BackendEntry]
    families: Mapping[str, Family | None]


def read(reading: Reading, section: Any, snapshot_backends: Collection[str]) -> Backends:
    """Check the section; problems go to the reading."""
    hint = "declare at least one backend; Stackstore never falls back to a local SQLite file"
    entries = reading.mapping(section, PATH, hint)
    good: dict[str, BackendEntry] = {}
    families: dict[str, Family | None] = {}
    if entries is not None and not entries:
        reading.report(PATH, "is empty", hint=hint)
    for name, entry in (entries or {}).items():
        path = (*PATH, name)
        families[name] = None
        if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,62}", name):
            reading.report(
                path,
                "is no name for a backend",
                allowed="letters, digits, _, . and -, at most 63 in all",
            )
        fields = reading.mapping(entry, path)
        if fields is None:
            continue
        kind = _type(reading, fields, path)
        if kind is None:
            continue
        families[name] = "kv" if kind.startswith("kv_") else "sql"
        made = _backend(reading, name, {**fields, "type": kind}, name in snapshot_backends)
        if made is not None:
            good[name] = made
    return Backends(good, families)


def _type(reading: Reading, fields: Mapping[str, Any], path: NodePath) -> str | None:
    allowed = ", ".join(BACKENDS)
    here = (*path, "type")
    if "type" not in fields:
        reading.report(path, "has no type", allowed=allowed)
        return None
    before = len(reading.problems)
    kind = reading.resolve(fields["type"], here)
    if len(reading.problems) > before:
        return None
    if isinstance(kind, str) and kind in BACKENDS:
        return str(kind)
    if kind in UNSUPPORTED:
        reading.report(here, f"{kind} is not supported by Stackstore", allowed=allowed)
    elif kind in UNPREFIXED:
        reading.report(
            here,
            f"'{kind}' is a type of llama-stack before 0.3",
            allowed=allowed,
            hint="put the family before it",
        )
    else:
        word = shown(kind)
        reading.report(
            here,
            f"unknown type{word}",
            allowed=allowed,
            hint=nearest(kind, BACKENDS) if word else "",
        )
    return None


def _backend(
    reading: Reading, name: str, fields: dict[str, Any], supplied: bool
) -> BackendEntry | None:
    path = (*PATH, name)
    present = {key for key, value in fields.items() if supplied or _given(reading, value)}
    awaited = {
        key
        for key, value in fields.items()
        if supplied and key != "type" and has_placeholder(value)
    }
    known = {key: value for key, value in fields.items() if key not in awaited}
    if "db_path" in awaited:
        known["db_path"] = MEMORY
    model = BACKENDS[fields["type"]]
    made = reading.section(model, known, path)
    for key in sorted(awaited - model.model_fields.keys()):
        reading.unknown((*path, key), model.model_fields)
    if isinstance(made, (KvSqlite, SqlSqlite)):
        return SqliteEntry(
            name=name,
            type=made.type,
            db_path=None if "db_path" in awaited else made.db_path,
        )
    clear = not issubclass(model, Postgres) or _one_way(reading, path, present, supplied)
    if made is None or not clear:
        return None
    connection = None
    if not awaited & {"connection_string", *COMPONENTS}:
        connection = _connection(reading, made, path)
        if connection is None:
            return None
    return _postgres(name, made, None if supplied else connection)


def _given(reading: Reading, value: Any) -> bool:
    try:
        return value is not None and (
            not has_placeholder(value) or substitute(value, reading.environ) != ""
        )
    except UnsetVariableError:
        return True


def _one_way(reading: Reading, path: NodePath, present: Collection[str], supplied: bool) -> bool:
    components = [name for name in COMPONENTS if name in present]
    if "connection_string" in present and components:
        reading.report(
            (*path, "connection_string"),
            "excludes " + ", ".join(components),
            hint="keep either the connection_string or the single fields",
        )
        return False
    if "connection_string" not in present and "user" not in present and not supplied:
        reading.report(path, "has neither a connection_string nor a user", hint="give one of them")
        return False
    return True


def _connection(
    reading: Reading, made: KvPostgres | SqlPostgres, path: NodePath
) -> PostgresConnection | None:
    if made.connection_string is None:
        if made.user is None:
            # Fields that aren't there are noted before; here a placeholder came out empty.
            written = (
                "connection_string" if reading.document.at((*path, "connection_string")) else "user"
            )
            reading.report((*path, written), "is empty once its placeholder is replaced")
            return None
        connection = PostgresConnection(
            host=made.host,
            port=made.port,
            database=made.db,
            username=made.user,
            password=made.password,
        )
    else:
        here = (*path, "connection_string")
        try:
            connection, speaks_of_tls = uri.parse(made.connection_string.get_secret_value())
        except uri.UriError as error:
            reading.report(here, error.message, allowed=error.allowed, hint=error.hint)
            return None
        if speaks_of_tls and (made.ssl_mode or made.ca_cert_path):
            reading.report(
                here,
                "speaks of TLS, and so do ssl_mode or ca_cert_path beside it",
                hint="say it in one place",
            )
            return None
    if made.ssl_mode:
        connection = replace(connection, ssl_mode=uri.SSL_MODES[made.ssl_mode])
    if made.ca_cert_path:
        connection = replace(connection, ca_path=Path(made.ca_cert_path))
    if connection.ca_path and connection.ssl_mode not in uri.CHECKING_MODES:
        reading.report(
            (*path, "ca_cert_path" if made.ca_cert_path else "connection_string"),
            "names a CA, but the ssl mode would not check it",
            allowed="verify-full, verify-ca or require beside a CA",
        )
        return None
    return connection


def _postgres(
    name: str, made: KvPostgres | SqlPostgres, connection: PostgresConnection | None
) -> PostgresEntry:
    if isinstance(made, KvPostgres):
        return PostgresEntry(
            name=name,
            type=made.type,
            connection=connection,
            pool_size=made.pool_size,
            max_overflow=made.max_overflow,
            command_timeout=made.command_timeout,
            table_name=made.table_name,
        )
    return PostgresEntry(
        name=name,
        type=made.type,
        connection=connection,
        pool_size=made.pool_size,
        max_overflow=made.max_overflow,
        pool_recycle=made.pool_recycle,
    )
