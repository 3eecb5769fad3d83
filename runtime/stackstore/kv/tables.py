"""The table of all key-value stores of a database, and what both engines agree on about it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from stackstore.errors import InvalidArgumentError
from stackstore.schema import Component, Migration, qualified

POSTGRES = qualified("postgresql", "kv")
SQLITE = qualified("sqlite", "kv")

# Namespace and key are bytes, in a key of two columns: no two stores can meet in one row whatever
# their names, and order is that of the bytes whatever the database's collation. Values are bytes
# because Postgres' text has no NUL. `expires_at` is in microseconds since 1970, UTC.
KV = Component(
    "kv",
    (
        Migration(
            postgresql=(
                f"CREATE TABLE {POSTGRES} (namespace bytea NOT NULL, key bytea NOT NULL, "
                "value bytea NOT NULL, expires_at bigint, PRIMARY KEY (namespace, key))",
                f"CREATE INDEX kv_expires_at ON {POSTGRES} (expires_at) "
                "WHERE expires_at IS NOT NULL",
            ),
            sqlite=(
                f"CREATE TABLE {SQLITE} (namespace BLOB NOT NULL, key BLOB NOT NULL, "
                "value BLOB NOT NULL, expires_at INTEGER, PRIMARY KEY (namespace, key))",
                f"CREATE INDEX stackstore_kv_expires_at ON {SQLITE} (expires_at) "
                "WHERE expires_at IS NOT NULL",
            ),
        ),
    ),
)


class Rows(Protocol):
    """The table as a store sees it: bytes in, bytes out; expired rows are not there.

    Every method raises BackendUnavailableError when the database can't be reached, and each write
    happens wholly or not at all.
    """

    async def get(self, namespace: bytes, key: bytes) -> bytes | None:
        """One value."""

    async def get_many(
        self, namespace: bytes, keys: Sequence[bytes]
    ) -> Sequence[tuple[bytes, bytes]]:
        """(key, value) of those that are there, of one moment, in no order."""

    async def keys(
        self, namespace: bytes, start: bytes, end: bytes, limit: int | None
    ) -> Sequence[bytes]:
        """The keys of [start, end), in the order of bytes."""

    async def values(
        self, namespace: bytes, start: bytes, end: bytes, limit: int | None
    ) -> Sequence[bytes]:
        """Their values."""

    async def set(self, namespace: bytes, key: bytes, value: bytes, expires: int | None) -> None:
        """Write one, whatever was there."""

    async def set_many(
        self, namespace: bytes, items: Sequence[tuple[bytes, bytes]], expires: int | None
    ) -> None:
        """Write several, sorted by key, each key once."""

    async def delete(self, namespace: bytes, key: bytes) -> None:
        """Remove one if it is there."""

    async def replace(
        self,
        namespace: bytes,
        key: bytes,
        expected: bytes | None,
        value: bytes,
        expires: int | None,
    ) -> bool:
        """Write one if what is there equals `expected` (None: nothing is there)."""

    async def add(self, namespace: bytes, key: bytes, by: int) -> int:
        """Move a counter; raises InvalidArgumentError as `not_an_integer` and `too_large`."""

    async def sweep(self, older_than: int, limit: int) -> int:
        """Delete up to `limit` rows of all stores that expired this many microseconds ago."""


def not_an_integer() -> InvalidArgumentError:
    """A counter was asked of a value that is none."""
    return InvalidArgumentError(
        "the value of this key is not a decimal integer of 64 bits, so it can't be incremented; "
        "set or delete it first"
    )


def too_large() -> InvalidArgumentError:
    """A counter would leave its range."""
    return InvalidArgumentError(
        "the result would not fit a signed 64-bit integer; the value is left as it was"
    )
