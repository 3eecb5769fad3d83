"""A SQLite file: one connection that serves hot paths, more for reads and for SQLAlchemy.

SQLite has one writer at a time. WAL lets readers go on beside it; `busy_timeout` waits for writers
of other processes; inside this process the engine's transactions take turns by `BEGIN IMMEDIATE`.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import os
import sqlite3
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, Literal, TypeAlias

import aiosqlite
from sqlalchemy import event
from sqlalchemy.exc import DisconnectionError
from sqlalchemy.ext import asyncio as sqlalchemy_asyncio
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.pool import AsyncAdaptedQueuePool, QueuePool

from stackstore.errors import BackendUnavailableError, StackstoreError
from stackstore.pools.messages import not_ours
from stackstore.pools.stats import Counters, PoolStats

BUSY_TIMEOUT_MILLISECONDS = 10_000
READERS = 4
"""Most connections for reads on hot paths, and most of SQLAlchemy's."""

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
    # Large batches of rows with indexes: with the usual 2 MB what one changes is read again for the
    # next, and with the usual 4 MB of WAL the same pages are copied into the file again and again.
    "PRAGMA cache_size = -8000",
    "PRAGMA wal_autocheckpoint = 4000",
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


@dataclasses.dataclass(slots=True)
class _Reader:
    """A connection for reads, to which file it is, and how many callers have it."""

    connection: aiosqlite.Connection
    file: FileId | None
    users: int = 0


def _users(reader: _Reader) -> int:
    return reader.users


class SqliteDatabase:
    """`Database` over one file; see `stackstore.pools.database`."""

    dialect: Literal["sqlite"] = "sqlite"
    trouble = ""
    """A file is there or not: each use finds out by itself."""

    def __init__(
        self, name: str, path: str, *, on_opened: Callable[[], None] = lambda: None
    ) -> None:
        self.name = name
        self.path = path
        self._memory = path == ":memory:"
        self._engine: AsyncEngine | None = None
        self._hot: aiosqlite.Connection | None = None
        self._hot_file: FileId | None = None
        self._opening = asyncio.Lock()
        self._readers: list[_Reader] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._pid = os.getpid()
        self._closed = False
        self._counters = Counters()
        self._on_opened = on_opened

    @property
    def engine(self) -> AsyncEngine:
        """The SQLAlchemy engine over the same file (over the same connection for `:memory:`).

        Raises:
            StackstoreError: in a forked child.
        """
        if self._pid != os.getpid():
            # Before it looks at a connection: to refuse one, it closes it, and would wait for a thread
            # that was not forked.
            raise StackstoreError(not_ours(self.name, forked=True))
        if self._engine is None:
            # Looked up here and not when this module is loaded: tracing replaces the function.
            if self._memory:
                engine = sqlalchemy_asyncio.create_async_engine(
                    "sqlite+aiosqlite://",
                    hide_parameters=True,
                    # The one connection there is, and one transaction at a time on it.
                    poolclass=AsyncAdaptedQueuePool,
                    pool_size=1,
                    max_overflow=0,
                    async_creator=self._hot_connection,
                )
            else:
                engine = sqlalchemy_asyncio.create_async_engine(
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

            @event.listens_for(engine.sync_engine, "close")
            def _count(_connection: Any, _record: Any) -> None:
                self._counters.closed += 1

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

    @property
    def opened(self) -> bool:
        """Whether it could ever be opened."""
        return self._counters.opened > 0

    def stats(self) -> PoolStats:
        """Numbers alone; the connection that hot paths share counts as idle."""
        pool = None if self._engine is None else self._engine.sync_engine.pool
        lent = pool.checkedout() if isinstance(pool, QueuePool) else 0
        return PoolStats(
            size=1 if self._memory else 1 + 2 * READERS,
            max_overflow=0,
            idle=self._counters.opened - self._counters.closed - lent,
            lent=lent,
            opening=0,
            closing=0,
            waiting=None,
            counters=dataclasses.replace(self._counters),
        )

    @contextlib.asynccontextmanager
    async def reader(self) -> AsyncIterator[aiosqlite.Connection]:
        """Lend a connection in autocommit, for one SELECT at a time; several callers may share it."""
        if self._memory:
            # The one there is, in turn with whoever writes.
            async with self.writer() as lent:
                yield lent
            return
        reader = await self._least_used()
        reader.users += 1
        try:
            yield reader.connection
        finally:
            reader.users -= 1

    @contextlib.asynccontextmanager
    async def writer(self) -> AsyncIterator[aiosqlite.Connection]:
        """Lend a connection of the caller's own in autocommit: he sees to his transaction."""
        async with self.engine.connect() as turn:
            lent: Any = (await turn.get_raw_connection()).driver_connection
            yield lent

    async def close(self) -> None:
        """Close every connection and end their threads.

        Raises:
            StackstoreError: in a forked child or another event loop, whose connections they aren't.
        """
        if self._loop is not None:
            self._check_process()
        self._closed = True
        await self._close_readers()
        if self._engine is not None:
            await self._engine.dispose()
        if self._hot is not None:
            hot, self._hot = self._hot, None
            await self._drop(hot)

    async def _hot_connection(self) -> aiosqlite.Connection:
        self._check_owner()
        if self._hot is not None and self._hot_file == self._file():
            return self._hot
        async with self._opening:
            if self._hot is not None and self._hot_file != self._file():
                # The file was removed or replaced: what is written to the old one is lost.
                old, self._hot = self._hot, None
                await self._drop(old)
            if self._hot is None:
                self._hot = await self._connect()
                self._hot_file = self._file()
            return self._hot

    async def _drop(self, hot: aiosqlite.Connection) -> None:
        # In memory it is the engine's too, which counts it.
        if not self._memory:
            self._counters.closed += 1
        await hot.close()

    async def _least_used(self) -> _Reader:
        self._check_owner()
        file = self._file()
        found = min(self._readers, key=_users, default=None)
        if found is not None and found.file == file and not found.users:
            return found
        if found is not None and found.file == file and len(self._readers) >= READERS:
            return found
        async with self._opening:
            for stale in [reader for reader in self._readers if reader.file != self._file()]:
                # The file was removed or replaced.
                self._readers.remove(stale)
                await self._drop(stale.connection)
            if len(self._readers) < READERS:
                connection = await self._connect()
                self._readers.append(_Reader(connection, self._file()))
            return min(self._readers, key=_users)

    async def _close_readers(self) -> None:
        while self._readers:
            await self._drop(self._readers.pop().connection)

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
        self._counters.opened += 1
        if self._counters.opened == 1:
            self._on_opened()
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
