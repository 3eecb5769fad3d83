"""The table on Postgres: constant statements on the driver's own connection, one an operation.

Whether a row has expired is judged by the server's clock, the one clock that all pods share. Being
in autocommit, each statement is a transaction of its own.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

import asyncpg

from stackstore.errors import BackendUnavailableError
from stackstore.kv.tables import KV, POSTGRES, not_an_integer, too_large
from stackstore.pools.database import Database
from stackstore.schema import SCHEMA, Tables

T = TypeVar("T")

_NOW = "(extract(epoch FROM now()) * 1000000)::bigint"
_LIVE = f"(expires_at IS NULL OR expires_at > {_NOW})"
_DEAD = f"(kv.expires_at IS NOT NULL AND kv.expires_at <= {_NOW})"
_RANGE = (
    f"FROM {POSTGRES} WHERE namespace = $1 AND key >= $2 AND key < $3 AND {_LIVE} "
    "ORDER BY key LIMIT $4"
)
_INSERT = f"INSERT INTO {POSTGRES} AS kv (namespace, key, value, expires_at)"
_OVERWRITE = (
    "ON CONFLICT (namespace, key) DO UPDATE SET value = excluded.value, "
    "expires_at = excluded.expires_at"
)

_GET = f"SELECT value FROM {POSTGRES} WHERE namespace = $1 AND key = $2 AND {_LIVE}"  # noqa: S608
_GET_MANY = f"SELECT key, value FROM {POSTGRES} WHERE namespace = $1 AND key = ANY($2) AND {_LIVE}"  # noqa: S608
_KEYS = f"SELECT key {_RANGE}"
_VALUES = f"SELECT value {_RANGE}"
_SET = f"{_INSERT} VALUES ($1, $2, $3, $4) {_OVERWRITE}"
_SET_MANY = (
    f"{_INSERT} SELECT $1::bytea, item.key, item.value, $4::bigint "  # noqa: S608
    f"FROM unnest($2::bytea[], $3::bytea[]) AS item (key, value) {_OVERWRITE}"
)
_DELETE = f"DELETE FROM {POSTGRES} WHERE namespace = $1 AND key = $2"  # noqa: S608
_CREATE = f"{_INSERT} VALUES ($1, $2, $3, $4) {_OVERWRITE} WHERE {_DEAD}"
_REPLACE = (
    f"UPDATE {POSTGRES} SET value = $3, expires_at = $4 "  # noqa: S608
    f"WHERE namespace = $1 AND key = $2 AND value = $5 AND {_LIVE}"
)
# `encode(…, 'escape')` reads ASCII as it is and fails on nothing, unlike convert_from. A value that is
# no integer fails the last WHERE, so that no row comes back, instead of in a cast, whose error would
# quote it.
_ADD = (
    f"{_INSERT} VALUES ($1, $2, convert_to($3::bigint::text, 'UTF8'), NULL) "
    "ON CONFLICT (namespace, key) DO UPDATE SET "
    f"value = CASE WHEN {_DEAD} THEN excluded.value "
    "ELSE convert_to((encode(kv.value, 'escape')::bigint + $3)::text, 'UTF8') END, "
    f"expires_at = CASE WHEN {_DEAD} THEN NULL ELSE kv.expires_at END "
    f"WHERE {_DEAD} OR encode(kv.value, 'escape') ~ '^-?[0-9]{{1,19}}$' "
    "RETURNING value"
)

_SWEEP_LOCK = 0x5354_4143_4B53_5750
"""Key of the advisory lock of whoever sweeps ("STACKSWP")."""
_TAKE_SWEEP = "SELECT pg_try_advisory_xact_lock($1)"
# SKIP LOCKED: a row that is being written anew at this moment is left to its writer.
_SWEEP = (
    f"DELETE FROM {POSTGRES} WHERE ctid = ANY (ARRAY("  # noqa: S608
    f"SELECT ctid FROM {POSTGRES} WHERE expires_at <= {_NOW} - $1::bigint "
    "ORDER BY expires_at LIMIT $2 FOR UPDATE SKIP LOCKED))"
)

# The server is sure that it did nothing; another try is safe. They come only where somebody has set
# another isolation than READ COMMITTED for the role, and under heavy contention then.
_AGAIN = (asyncpg.SerializationError, asyncpg.DeadlockDetectedError)
_TRIES = 50

_REFUSED = (asyncpg.ReadOnlySQLTransactionError,)
_LOST = (
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.CannotConnectNowError,
    OSError,
)


class PostgresRows:
    """`Rows` on Postgres; see `stackstore.kv.tables`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._tables = Tables(database, KV)

    async def get(self, namespace: bytes, key: bytes) -> bytes | None:
        """See `Rows`."""
        value: bytes | None = await self._read(lambda driver: driver.fetchval(_GET, namespace, key))
        return value

    async def get_many(
        self, namespace: bytes, keys: Sequence[bytes]
    ) -> Sequence[tuple[bytes, bytes]]:
        """See `Rows`."""
        rows = await self._read(lambda driver: driver.fetch(_GET_MANY, namespace, keys))
        return [(row[0], row[1]) for row in rows]

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
        await self._write(lambda driver: driver.execute(_SET, namespace, key, value, expires))

    async def set_many(
        self, namespace: bytes, items: Sequence[tuple[bytes, bytes]], expires: int | None
    ) -> None:
        """See `Rows`."""
        # Sorted, two writers of the same keys lock them in the same order, so none deadlocks.
        keys, values = [key for key, _ in items], [value for _, value in items]
        await self._write(
            lambda driver: driver.execute(_SET_MANY, namespace, keys, values, expires)
        )

    async def delete(self, namespace: bytes, key: bytes) -> None:
        """See `Rows`."""
        await self._write(lambda driver: driver.execute(_DELETE, namespace, key))

    async def replace(
        self,
        namespace: bytes,
        key: bytes,
        expected: bytes | None,
        value: bytes,
        expires: int | None,
    ) -> bool:
        """See `Rows`."""
        if expected is None:
            tag = await self._write(
                lambda driver: driver.execute(_CREATE, namespace, key, value, expires)
            )
        else:
            tag = await self._write(
                lambda driver: driver.execute(_REPLACE, namespace, key, value, expires, expected)
            )
        return _count(tag) == 1

    async def add(self, namespace: bytes, key: bytes, by: int) -> int:
        """See `Rows`."""
        value = await self._write(lambda driver: driver.fetchval(_ADD, namespace, key, by))
        if value is None:
            raise not_an_integer()
        return int(value)

    async def sweep(self, older_than: int, limit: int) -> int:
        """See `Rows`; 0 while another process sweeps this database."""

        async def sweep(driver: Any) -> int:
            async with driver.transaction():
                if not await driver.fetchval(_TAKE_SWEEP, _SWEEP_LOCK):
                    return 0
                return _count(await driver.execute(_SWEEP, older_than, limit))

        return await self._call(sweep, write=True)

    async def _range(
        self, statement: str, namespace: bytes, start: bytes, end: bytes, limit: int | None
    ) -> Sequence[bytes]:
        rows = await self._read(
            lambda driver: driver.fetch(statement, namespace, start, end, limit)
        )
        return [row[0] for row in rows]

    async def _read(self, call: Callable[[Any], Awaitable[Any]]) -> Any:
        return await self._call(call, write=False)

    async def _write(self, call: Callable[[Any], Awaitable[Any]]) -> Any:
        return await self._call(call, write=True)

    async def _call(self, call: Callable[[Any], Awaitable[T]], *, write: bool) -> T:
        """Run one operation on a connection.

        A read that lost its connection is tried once more on another. A write is not: it may have
        happened, others may have written since, and a second time would undo that. What the server
        surely refused for want of a primary is tried again, for the pool now looks for another.
        """
        generation = self._tables.generation or await self._tables.ensure()
        lost = repaired = False
        tries = 0
        while True:
            error: Exception
            try:
                async with self._database.driver() as driver:
                    return await call(driver)
            except (asyncpg.PostgresError, *_LOST) as caught:
                error = caught
            # Out here, so that the driver's error, which may quote a row, is no exception's context.
            if isinstance(error, asyncpg.UndefinedTableError) and not repaired:
                repaired = True
                await self._tables.repair(generation)
            elif isinstance(error, _REFUSED if write else (*_REFUSED, *_LOST)) and not lost:
                lost = True
            elif isinstance(error, _AGAIN) and tries < _TRIES:
                tries += 1
                await asyncio.sleep(random.uniform(0, min(0.001 * 2**tries, 0.1)))  # noqa: S311 - no secret
            elif isinstance(error, asyncpg.NumericValueOutOfRangeError):
                raise too_large()
            else:
                raise self._failure(error, write=write)

    def _failure(self, error: Exception, *, write: bool) -> BackendUnavailableError:
        where = f"backend {self._database.name!r}"
        if isinstance(error, _LOST):
            doubt = "; whether the write happened is not known: read before writing again"
            return BackendUnavailableError(
                f"{where}: the connection was lost ({_reason(error)}){doubt if write else ''}"
            )
        if isinstance(error, asyncpg.UndefinedTableError):
            return BackendUnavailableError(
                f"{where}: table {POSTGRES} is gone, yet {SCHEMA}.schema_versions lists it; restore it, "
                f"or delete the row of component {KV.name!r} there to begin with an empty one"
            )
        if isinstance(error, asyncpg.InsufficientPrivilegeError):
            return BackendUnavailableError(
                f"{where}: the role may not use {POSTGRES}; GRANT USAGE ON SCHEMA {SCHEMA} and SELECT, "
                f"INSERT, UPDATE, DELETE ON {POSTGRES} to it"
            )
        return BackendUnavailableError(f"{where}: the database refused: {_reason(error)}")


def _reason(error: Exception) -> str:
    if isinstance(error, asyncpg.PostgresError) and error.sqlstate:
        return f"{type(error).__name__}, SQLSTATE {error.sqlstate}"
    return type(error).__name__


def _count(tag: str) -> int:
    """How many rows a command's tag speaks of ("INSERT 0 1", "UPDATE 1", "DELETE 17")."""
    return int(tag.rpartition(" ")[2])
