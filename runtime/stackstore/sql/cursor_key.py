"""The key that cursors are signed with: one a database, in a table of ours.

All processes of a stack share it, and it outlives every rotation because it comes from no
credential. Who can read it can read the rows as well.
"""

from __future__ import annotations

import secrets
import time

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from stackstore.pools.database import Database
from stackstore.schema import Component, Migration, migrate, qualified

REFRESH_SECONDS = 60.0
"""How long a key is believed; the name may have moved to another database by a rotation."""

_TABLES = Component(
    "sql",
    (
        Migration(
            postgresql=(
                'CREATE TABLE stackstore."cursor_keys" (id integer PRIMARY KEY, key text NOT NULL)',
            ),
            sqlite=(
                'CREATE TABLE "stackstore_cursor_keys" (id INTEGER PRIMARY KEY, key TEXT NOT NULL)',
            ),
        ),
    ),
)


class CursorKey:
    """A database's key, as this process knows it."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._key: bytes | None = None
        self._read = 0.0
        table = qualified(database.dialect, "cursor_keys")
        self._select = text(f"SELECT key FROM {table} WHERE id = 1")  # noqa: S608 - our own name
        self._insert = text(
            f"INSERT INTO {table} (id, key) VALUES (1, :key) ON CONFLICT (id) DO NOTHING"  # noqa: S608 - likewise
        )

    def known(self) -> bytes | None:
        """The key, if it was read lately."""
        return self._key if time.monotonic() - self._read < REFRESH_SECONDS else None

    def forget(self) -> None:
        """The database is another one now."""
        self._key = None
        self._read = float("-inf")

    def last(self) -> bytes | None:
        """The key as it was read last, however long ago."""
        return self._key

    async def read(self, connection: AsyncConnection) -> bytes | None:
        """The key, from its row; None: there is none yet, `make` makes one."""
        found = (await connection.execute(self._select)).scalar()
        if found is None:
            return None
        self._key = bytes.fromhex(str(found))
        self._read = time.monotonic()
        return self._key

    async def make(self) -> None:
        """Make the table and its row, unless another process was first."""
        await migrate(self._database, _TABLES)
        async with self._database.engine.begin() as connection:
            await connection.execute(self._insert, {"key": secrets.token_hex(32)})
