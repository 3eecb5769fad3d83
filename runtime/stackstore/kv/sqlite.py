"""The table on SQLite: what runs on the connection's thread, and how to get there.

The clock is this process's: whoever shares a SQLite file shares the machine.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Sequence
from typing import TypeAlias, TypeVar

from stackstore.errors import BackendUnavailableError
from stackstore.kv.arguments import INTEGER_MAX, INTEGER_MIN
from stackstore.kv.groups import Groups
from stackstore.kv.tables import KV, SQLITE, not_an_integer, too_large
from stackstore.pools.database import Database
from stackstore.schema import Tables, qualified

T = TypeVar("T")
Row: TypeAlias = tuple[bytes, bytes, bytes, int | None]
"""Namespace, key, value, expiry."""

_LIVE = "(expires_at IS NULL OR expires_at > ?)"
_RANGE = (
    f"FROM {SQLITE} WHERE namespace = ? AND key >= ? AND key < ? AND {_LIVE} ORDER BY key LIMIT ?"
)
_OVERWRITE = (
    f"INSERT INTO {SQLITE} AS kv (namespace, key, value, expires_at) VALUES (?, ?, ?, ?) "  # noqa: S608
    "ON CONFLICT (namespace, key) DO UPDATE SET value = excluded.value, "
    "expires_at = excluded.expires_at"
)

_GET = f"SELECT value FROM {SQLITE} WHERE namespace = ? AND key = ? AND {_LIVE}"  # noqa: S608
_GET_COUNTER = f"SELECT value, expires_at FROM {SQLITE} WHERE namespace = ? AND key = ? AND {_LIVE}"  # noqa: S608
_KEYS = f"SELECT key {_RANGE}"
_VALUES = f"SELECT value {_RANGE}"
_SET = _OVERWRITE
_DELETE = f"DELETE FROM {SQLITE} WHERE namespace = ? AND key = ?"  # noqa: S608
_CREATE = f"{_OVERWRITE} WHERE kv.expires_at IS NOT NULL AND kv.expires_at <= ?"
_REPLACE = (
    f"UPDATE {SQLITE} SET value = ?, expires_at = ? "  # noqa: S608
    f"WHERE namespace = ? AND key = ? AND value = ? AND {_LIVE}"
)
_SWEEP = (
    f"DELETE FROM {SQLITE} WHERE rowid IN "  # noqa: S608
    f"(SELECT rowid FROM {SQLITE} WHERE expires_at <= ? ORDER BY expires_at LIMIT ?)"
)

# The same integers as Postgres is asked for.
_INTEGER = re.compile(rb"-?[0-9]{1,19}")


class SqliteRows:
    """`Rows` on SQLite; see `stackstore.kv.tables`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._tables = Tables(database, KV)
        self._groups = Groups(database)

    async def get(self, namespace: bytes, key: bytes) -> bytes | None:
        """See `Rows`."""
        return await self._call(lambda driver, now: _get(driver, now, namespace, key), write=False)

    async def get_many(
        self, namespace: bytes, keys: Sequence[bytes]
    ) -> Sequence[tuple[bytes, bytes]]:
        """See `Rows`."""
        return await self._call(
            lambda driver, now: _get_many(driver, now, namespace, keys), write=False
        )

    async def keys(
        self, namespace: bytes, start: bytes, end: bytes, limit: int | None
    ) -> Sequence[bytes]:
        """See `Rows`."""
        return await self._range(_KEYS, namespace, start, end, limit)

    async def values(
        self, namespace: bytes, start: bytes, end: bytes, limit: int | None
    ) -> Sequence[bytes]:
        """See `Rows`."""
        return await self._range(_VALUES, namespace, start, end, limit)

    async def set(self, namespace: bytes, key: bytes, value: bytes, expires: int | None) -> None:
        """See `Rows`."""
        row = (namespace, key, value, expires)
        await self._call(lambda driver, _: _set(driver, row), write=True)

    async def set_many(
        self, namespace: bytes, items: Sequence[tuple[bytes, bytes]], expires: int | None
    ) -> None:
        """See `Rows`."""
        rows = [(namespace, key, value, expires) for key, value in items]
        await self._call(lambda driver, _: _set_many(driver, rows), write=True)

    async def delete(self, namespace: bytes, key: bytes) -> None:
        """See `Rows`."""
        await self._call(lambda driver, _: _delete(driver, namespace, key), write=True)

    async def replace(
        self,
        namespace: bytes,
        key: bytes,
        expected: bytes | None,
        value: bytes,
        expires: int | None,
    ) -> bool:
        """See `Rows`."""
        row = (namespace, key, value, expires)
        return await self._call(
            lambda driver, now: _replace(driver, now, row, expected), write=True
        )

    async def add(self, namespace: bytes, key: bytes, by: int) -> int:
        """See `Rows`."""
        return await self._call(
            lambda driver, now: _add(driver, now, namespace, key, by), write=True
        )

    async def sweep(self, older_than: int, limit: int) -> int:
        """See `Rows`; the file's write lock lets one process sweep at a time."""
        return await self._call(
            lambda driver, now: _sweep(driver, now - older_than, limit), write=True
        )

    async def _range(
        self, statement: str, namespace: bytes, start: bytes, end: bytes, limit: int | None
    ) -> Sequence[bytes]:
        def look(driver: sqlite3.Connection, now: int) -> Sequence[bytes]:
            parameters = (namespace, start, end, now, -1 if limit is None else limit)
            return [row[0] for row in driver.execute(statement, parameters)]

        return await self._call(look, write=False)

    async def _call(self, work: Callable[[sqlite3.Connection, int], T], *, write: bool) -> T:
        """Run one operation on the connection's thread, and make the table where it is missing."""
        generation = self._tables.generation or await self._tables.ensure()
        repaired = False
        while True:
            try:
                return await self._groups.run(work, write=write)
            except sqlite3.Error as caught:
                error = caught
            if _no_table(error) and not repaired:
                repaired = True
                await self._tables.repair(generation)
            else:
                raise self._failure(error)

    def _failure(self, error: sqlite3.Error) -> BackendUnavailableError:
        where = f"backend {self._database.name!r}"
        if _no_table(error):
            versions = qualified("sqlite", "schema_versions")
            return BackendUnavailableError(
                f"{where}: table {SQLITE} is gone, yet {versions} lists it; restore it, or delete the "
                f"row of component {KV.name!r} there to begin with an empty one"
            )
        # SQLite's messages are constant sentences and names of tables; no parameter is in them.
        return BackendUnavailableError(f"{where}: SQLite refused: {error}")


# -- on the connection's thread


def _get(driver: sqlite3.Connection, now: int, namespace: bytes, key: bytes) -> bytes | None:
    row = driver.execute(_GET, (namespace, key, now)).fetchone()
    return None if row is None else row[0]


def _get_many(
    driver: sqlite3.Connection, now: int, namespace: bytes, keys: Sequence[bytes]
) -> Sequence[tuple[bytes, bytes]]:
    # In a transaction: another process may write between two of them.
    driver.execute("BEGIN")
    try:
        found = [(key, _get(driver, now, namespace, key)) for key in keys]
    finally:
        driver.rollback()
    return [(key, value) for key, value in found if value is not None]


def _set(driver: sqlite3.Connection, row: Row) -> None:
    driver.execute(_SET, row)


def _set_many(driver: sqlite3.Connection, rows: Sequence[Row]) -> None:
    driver.executemany(_SET, rows)


def _delete(driver: sqlite3.Connection, namespace: bytes, key: bytes) -> None:
    driver.execute(_DELETE, (namespace, key))


def _replace(driver: sqlite3.Connection, now: int, row: Row, expected: bytes | None) -> bool:
    if expected is None:
        cursor = driver.execute(_CREATE, (*row, now))
    else:
        namespace, key, value, expires = row
        cursor = driver.execute(_REPLACE, (value, expires, namespace, key, expected, now))
    return cursor.rowcount == 1


def _add(driver: sqlite3.Connection, now: int, namespace: bytes, key: bytes, by: int) -> int:
    # Several statements are one step here: a write has the file to itself until it commits.
    row = driver.execute(_GET_COUNTER, (namespace, key, now)).fetchone()
    value, expires = (b"0", None) if row is None else row
    if _INTEGER.fullmatch(value) is None:
        raise not_an_integer()
    total = int(value) + by
    if not (INTEGER_MIN <= int(value) <= INTEGER_MAX and INTEGER_MIN <= total <= INTEGER_MAX):
        raise too_large()
    _set(driver, (namespace, key, b"%d" % total, expires))
    return total


def _sweep(driver: sqlite3.Connection, edge: int, limit: int) -> int:
    return driver.execute(_SWEEP, (edge, limit)).rowcount


def _no_table(error: sqlite3.Error) -> bool:
    return isinstance(error, sqlite3.OperationalError) and "no such table" in str(error)
