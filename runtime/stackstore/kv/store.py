"""The key-value store: a namespace of a database's one table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime

from stackstore.errors import InvalidArgumentError
from stackstore.kv import arguments
from stackstore.kv.postgres import PostgresRows
from stackstore.kv.sqlite import SqliteRows
from stackstore.kv.sweeper import Sweeper
from stackstore.kv.tables import Rows
from stackstore.pools.database import Database


class KVStore:
    """Text under text keys, of one namespace. Every method is one atomic step on both engines.

    Keys are at most 1,536 bytes in UTF-8, values 256 MiB; both may be empty and hold NUL, neither a
    lone surrogate. Keys are ordered by their UTF-8 bytes, whatever the database's collation.

    A row with an expiration is gone from that moment on, for every method; the moment may be of any
    time zone, a naive one means UTC. On Postgres the server's clock decides, on SQLite this machine's.
    Expired rows are deleted an hour later, so that a clock that jumps ahead for a while destroys nothing:
    then by the next write of any store on the same database, or when a process first uses one, and at most
    once a minute a store.

    Every method raises:
        InvalidArgumentError: an argument is of the wrong type or too large.
        BackendUnavailableError: the database can't be reached or refuses; worth retrying later. A read
            whose connection is lost is tried again by itself. A write is not, and where the connection
            was lost on the way the text says that it may have happened.
    """

    def __init__(self, database: Database, namespace: str) -> None:
        self.namespace = namespace
        self._namespace = arguments.namespace_bytes(namespace)
        self._rows: Rows = (
            PostgresRows(database) if database.dialect == "postgresql" else SqliteRows(database)
        )
        self._sweeper = Sweeper(self._rows)

    async def get(self, key: str) -> str | None:
        """The value of a key; None: there is none."""
        value = await self._rows.get(self._namespace, arguments.key_bytes(key))
        self._sweeper.begin()
        return None if value is None else value.decode()

    async def get_many(self, keys: Iterable[str]) -> dict[str, str]:
        """The values of those keys that are there, all of one moment."""
        wanted = sorted({arguments.key_bytes(key) for key in _not_text(keys, "keys")})
        if not wanted:
            return {}
        rows = await self._rows.get_many(self._namespace, wanted)
        self._sweeper.begin()
        return {key.decode(): value.decode() for key, value in rows}

    async def keys_in_range(self, start: str, end: str, limit: int | None = None) -> list[str]:
        """The keys from `start` to before `end` in order, the first `limit` of them."""
        found = await self._rows.keys(self._namespace, *_range(start, end, limit))
        self._sweeper.begin()
        return _texts(found)

    async def values_in_range(self, start: str, end: str, limit: int | None = None) -> list[str]:
        """The values of the keys from `start` to before `end` in the keys' order."""
        found = await self._rows.values(self._namespace, *_range(start, end, limit))
        self._sweeper.begin()
        return _texts(found)

    async def set(self, key: str, value: str, expiration: datetime | None = None) -> None:
        """Write a value, whatever was there; without an expiration it stays."""
        await self._rows.set(
            self._namespace,
            arguments.key_bytes(key),
            arguments.value_bytes(value),
            arguments.microseconds(expiration),
        )
        self._sweeper.wake()

    async def set_many(self, items: Mapping[str, str], expiration: datetime | None = None) -> None:
        """Write several values, all of them or none."""
        rows = sorted(
            (arguments.key_bytes(key), arguments.value_bytes(value)) for key, value in items.items()
        )
        if sum(len(value) for _, value in rows) > arguments.MAX_VALUE_BYTES:
            raise InvalidArgumentError(
                f"the values take more than {arguments.MAX_VALUE_BYTES:,} bytes in UTF-8 together; "
                "write them in several calls"
            )
        expires = arguments.microseconds(expiration)
        if rows:
            await self._rows.set_many(self._namespace, rows, expires)
            self._sweeper.wake()

    async def delete(self, key: str) -> None:
        """Remove a key; nothing happens when it is not there."""
        await self._rows.delete(self._namespace, arguments.key_bytes(key))
        self._sweeper.wake()

    async def compare_and_set(
        self, key: str, expected: str | None, value: str, expiration: datetime | None = None
    ) -> bool:
        """Write a value if the one that is there equals `expected`; None: if none is there.

        Returns:
            Whether it was written. Of several callers that expect the same, one is told True.
        """
        written = await self._rows.replace(
            self._namespace,
            arguments.key_bytes(key),
            None if expected is None else arguments.value_bytes(expected),
            arguments.value_bytes(value),
            arguments.microseconds(expiration),
        )
        self._sweeper.wake()
        return written

    async def increment(self, key: str, by: int = 1) -> int:
        """Add to a counter and say what it is now.

        The value is a decimal integer; a key that is not there counts as 0. An expiration stays.

        Raises:
            InvalidArgumentError: also when the value is no integer of 64 bits, or would leave them.
        """
        total = await self._rows.add(self._namespace, arguments.key_bytes(key), arguments.step(by))
        self._sweeper.wake()
        return total

    async def close(self) -> None:
        """End what the store does by itself; the database is closed by whoever opened it."""
        await self._sweeper.stop()


def _range(start: str, end: str, limit: int | None) -> tuple[bytes, bytes, int | None]:
    return (
        arguments.bound_bytes(start),
        arguments.bound_bytes(end),
        arguments.row_limit(limit),
    )


def _not_text(keys: Iterable[str], what: str) -> Iterable[str]:
    if isinstance(keys, str):
        raise InvalidArgumentError(f"{what} must be several, not one str")
    return keys


def _texts(found: Iterable[bytes]) -> list[str]:
    return [one.decode() for one in found]
