"""A SQLite file: one connection that writes and serves hot paths, more for SQLAlchemy's reads.

SQLite has one writer at a time. WAL lets readers go on beside it; `busy_timeout` waits for writers
of other processes; inside this process the engine's transactions take turns by `BEGIN IMMEDIATE`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sqlite3
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Literal, TypeAlias

import aiosqlite
from sqlalchemy import event
from sqlalchemy.exc import DisconnectionError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import AsyncAdaptedQueuePool

from stackstore.errors import BackendUnavailableError, StackstoreError
from stackstore.pools.messages import not_ours

BUSY_TIMEOUT_MILLISECONDS = 10_000
READERS = 4

# At DEBUG it prints every statement with its parameters, which are other people's prompts.
logging.getLogger("aiosqlite").setLevel(logging.INFO)

FileId: TypeAlias = tuple[int, int]
"""Device and inode."""

_PRAGMAS = (
    f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MILLISECONDS}",
    "PRAGMA journal_mode = WAL",
    # In WAL, NORMAL can lose the last commits on power loss but never corrupts the file.
    "PRAGMA synchronous = NORMAL",
    "PRAGMA foreign_keys = ON",
)


async def _prepare(connection: aiosqlite.Connection) -> None:
    """Set the connection up, within the busy timeout.

    Turning a fresh file to WAL fails at once where another process does the same, whatever the busy
    timeout says: it is tried again.
    """
    deadline = time.monotonic() + BUSY_TIMEOUT_MILLISECONDS / 1000
    for pragma in _PRAGMAS:
        while True:
            try:
                await connection.execute_fetchall(pragma)
                break
            except sqlite3.OperationalError as error:
                busy = error.sqlite_errorcode & 0xFF in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}
                if not busy or time.monotonic() > deadline:
                    raise
            await asyncio.sleep(0.01)


class SqliteDatabase:
    """`Database` over one file; see `stackstore.pools.database`."""

    dialect: Literal["sqlite"] = "sqlite"

    def __init__(self, name: str, path: str) -> None:
        self.name = name
        self.path = path
        self._memory = path == ":memory:"
        self._engine: AsyncEngine | None = None
        self._hot: aiosqlite.Connection | None = None
        self._hot_file: FileId | None = None
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
                    # The one connection there is, and one transaction at a time on it.
                    poolclass=AsyncAdaptedQueuePool,
                    pool_size=1,
                    max_overflow=0,
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

            @event.listens_for(engine.sync_engine, "connect")
            def _note(_connection: Any, record: Any) -> None:
                record.info["file"] = self._file()

            @event.listens_for(engine.sync_engine, "checkout")
            def _check(_connection: Any, record: Any, _proxy: Any) -> None:
                self._check_owner()
                if record.info["file"] != self._file():
                    # SQLAlchemy replaces the connection and goes on.
                    raise DisconnectionError

            self._engine = engine
        return self._engine

    @contextlib.asynccontextmanager
    async def driver(self) -> AsyncIterator[aiosqlite.Connection]:
        """Lend the file's hot connection in autocommit; several callers may share it."""
        yield await self._hot_connection()

    async def close(self) -> None:
        """Close every connection and end their threads.

        Raises:
            StackstoreError: in a forked child or another event loop, whose connections they aren't.
        """
        if self._loop is not None:
            self._check_process()
        self._closed = True
        if self._engine is not None:
            await self._engine.dispose()
        if self._hot is not None:
            await self._hot.close()
            self._hot = None

    async def _hot_connection(self) -> aiosqlite.Connection:
        self._check_owner()
        if self._hot is not None and self._hot_file == self._file():
            return self._hot
        async with self._opening:
            if self._hot is not None and self._hot_file != self._file():
                # The file was removed or replaced: what is written to the old one is lost.
                old, self._hot = self._hot, None
                await old.close()
            if self._hot is None:
                self._hot = await self._connect()
                self._hot_file = self._file()
            return self._hot

    async def _connect(self) -> aiosqlite.Connection:
        self._check_owner()
        connection: aiosqlite.Connection | None = None
        try:
            if not self._memory:
                await asyncio.to_thread(self._make_directory)
            connection = await aiosqlite.connect(
                self.path, isolation_level=None, cached_statements=512
            )
            await _prepare(connection)
        except BaseException as error:
            if connection is not None:
                await connection.close()
            if not isinstance(error, (sqlite3.Error, OSError)):
                raise
            reason = error.strerror if isinstance(error, OSError) else str(error)
            raise BackendUnavailableError(
                f"backend {self.name!r}: {self.path}: {reason}; the directory must exist or be "
                "creatable, and it and the file be writable by this process"
            ) from None
        return connection

    def _make_directory(self) -> None:
        Path(self.path).parent.mkdir(parents=True, exist_ok=True)

    def _file(self) -> FileId | None:
        """Which file the path means now; None: there is none."""
        if self._memory:
            return None
        try:
            found = os.stat(self.path)  # noqa: PTH116 - on the hot path; Path costs more than the call
        except OSError:
            return None
        return found.st_dev, found.st_ino

    def _check_owner(self) -> None:
        if self._closed:
            raise BackendUnavailableError(f"backend {self.name!r}: it is closed")
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
        self._check_process()

    def _check_process(self) -> None:
        if self._pid != os.getpid():
            raise StackstoreError(not_ours(self.name, forked=True))
        if self._loop is not asyncio.get_running_loop():
            raise StackstoreError(not_ours(self.name, forked=False))
