"""An entry of the run config in the shape of the snapshot, so that the pools know only one."""

from __future__ import annotations

import math
from pathlib import Path

from stackstore.config.backends import PATH
from stackstore.config.model import BackendEntry, PostgresConnection, SqliteEntry
from stackstore.config.report import Reading
from stackstore.credentials.snapshot import (
    Login,
    PoolSettings,
    PostgresBackend,
    SqliteBackend,
    Tls,
)


def convert(reading: Reading, entry: BackendEntry) -> PostgresBackend | SqliteBackend | None:
    """Convert one entry; its CA file is read here, and a broken one is a problem.

    Returns:
        None where the config leaves the connection to the real snapshot.
    """
    if isinstance(entry, SqliteEntry):
        if entry.db_path is None:
            return None
        return SqliteBackend(type=entry.type, path=entry.db_path)
    connection = entry.connection
    if connection is None:
        return None
    timeouts = [t for t in (entry.command_timeout, connection.statement_timeout) if t is not None]
    return PostgresBackend(
        type=entry.type,
        current=Login(
            host=connection.host,
            port=connection.port,
            database=connection.database,
            username=connection.username,
            password=connection.password,
        ),
        tls=_tls(reading, entry.name, connection),
        pool=PoolSettings(
            size=entry.pool_size,
            max_overflow=entry.max_overflow,
            recycle_seconds=entry.pool_recycle,
        ),
        statement_timeout_seconds=math.ceil(min(timeouts)) if timeouts else None,
    )


def _tls(reading: Reading, name: str, connection: PostgresConnection) -> Tls:
    path = connection.ca_path
    return Tls(mode=connection.ssl_mode, ca=path and _read(reading, name, path))


def _read(reading: Reading, name: str, path: Path) -> str | None:
    try:
        text = path.read_text(encoding="utf-8") if path.is_file() else ""
    except (OSError, ValueError):
        text = ""
    if "-----BEGIN CERTIFICATE-----" in text:
        return text
    leaf = "ca_cert_path"
    if reading.document.at((*PATH, name, leaf)) is None:
        leaf = "connection_string"
    reading.report(
        (*PATH, name, leaf),
        "its CA is not a readable PEM file",
        allowed="the path of a file with -----BEGIN CERTIFICATE-----",
    )
    return None
