"""A SQLite file: one connection that writes and serves hot paths, more for SQLAlchemy's reads.

SQLite has one writer at a time. WAL lets readers go on beside it; `busy_timeout` waits for writers
of other processes; inside this process the engine's transactions take turns by `BEGIN IMMEDIATE`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Literal

import aiosqlite
from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import AsyncAdaptedQueuePool, StaticPool

from stackstore.errors import BackendUnavailableError, StackstoreError

BUSY_TIMEOUT_MILLISECONDS = 10_000
READERS = 4

_PRAGMAS = (
    f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MILLISECONDS}",
    "PRAGMA journal_mode = WAL",
    # In WAL, NORMAL can lose the last commits on power loss but never corrupts the file.
    "PRAGMA synchronous = NORMAL",
    "PRAGMA foreign_keys = ON",
)


class SqliteDatabase:
    """`Database` over one file; see `stackstore.pools.database`."""

    dialect: Literal["sqlite"] = "sqlite"

    def __init__(self, name: str, path: str) -> None:
        self.name = name
        self.path = path
        self._memory = path == ":memory:"
        self._engine: AsyncEngine | None = None
        self._hot: aiosqlite.Connection | None = None
        self._opening = asyncio.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._pid = os.getpid()
        self._closed = False

    @property
    def engine(self) -> AsyncEngine:
        """The SQLAlchemy engine over the same file (over the same connection for `:memory:`)."""
        if self._engine is None:
            if self._memory:
                engine = create_async_engine(
                    "sqlite+aiosqlite://",
                    hide_parameters=True,
                    poolclass=StaticPool,
                    async_creator=self._hot_connection,
                )
            else:
                engine = create_async_engine(
                    "sqlite+aiosqlite://",
                    hide_parameters=True,
                    poolclass=AsyncAdaptedQueuePool,
                    pool_size=READERS,
                    max_overflow=0,
                    async_creator=self._connect,
                )

            # The driver is in autocommit (isolation_level None), so transactions are begun here.
            # IMMEDIATE: a read that later writes would otherwise fail at once when another wrote.
            @event.listens_for(engine.sync_engine, "begin")
            def _begin(connection: Any) -> None:
                options = connection.get_execution_options()
                connection.exec_driver_sql(
                    "BEGIN" if options.get("stackstore_read_only") else "BEGIN IMMEDIATE"
                )

            self._engine = engine
        return self._engine

    @contextlib.asynccontextmanager
    async def driver(self) -> AsyncIterator[aiosqlite.Connection]:
        """Lend the file's hot connection in autocommit; several callers may share it."""
        yield await self._hot_connection()

    async def close(self) -> None:
        """Close every connection and end their threads."""
        self._closed = True
        if self._engine is not None:
            await self._engine.dispose()
        if self._hot is not None:
            await self._hot.close()
            self._hot = None

    async def _hot_connection(self) -> aiosqlite.Connection:
        if self._hot is not None and self._loop is asyncio.get_running_loop():
            if self._pid != os.getpid():
                raise self._not_ours("this process was forked after stackstore.open()")
            return self._hot
        async with self._opening:
            if self._hot is None:
                self._hot = await self._connect()
            return self._hot

    async def _connect(self) -> aiosqlite.Connection:
        if self._closed:
            raise BackendUnavailableError(f"backend {self.name!r}: it is closed")
        loop = asyncio.get_running_loop()
        if self._loop is None:
            self._loop = loop
        if self._loop is not loop:
            raise self._not_ours("opened in another event loop")
        if self._pid != os.getpid():
            raise self._not_ours("this process was forked after stackstore.open()")
        connection: aiosqlite.Connection | None = None
        try:
            if not self._memory:
                await asyncio.to_thread(self._make_directory)
            connection = await aiosqlite.connect(
                self.path, isolation_level=None, cached_statements=512
            )
            for pragma in _PRAGMAS:
                await connection.execute_fetchall(pragma)
        except (sqlite3.Error, OSError) as error:
            if connection is not None:
                await connection.close()
            raise BackendUnavailableError(
                f"backend {self.name!r}: {self.path}: {error}; the directory must exist or be creatable, "
                "and it and the file be writable by this process"
            ) from None
        except BaseException:
            if connection is not None:
                await connection.close()
            raise
        return connection

    def _make_directory(self) -> None:
        Path(self.path).parent.mkdir(parents=True, exist_ok=True)

    def _not_ours(self, why: str) -> StackstoreError:
        return StackstoreError(
            f"backend {self.name!r}: {why}; call stackstore.open() in the process and event loop that "
            "use it"
        )
