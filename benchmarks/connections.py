"""Connections of one process: a kv and a sql backend on one database, beside one engine a backend.

50 operations at a time, half through `KVStore` and half through `SqlStore`, on the default pool, with
a rotation of the password in the middle. What the server shows of the role in pg_stat_activity is
sampled all along; the peak counts. It is held against the pool's size + overflow, and against the
same operations on an engine each, as OGX 1.5.0 opens them (an asyncpg pool of 5 + 10, and a
SQLAlchemy engine of 10 + 20).
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import asyncpg
from sqlalchemy import URL, text
from sqlalchemy.ext.asyncio import create_async_engine

import stackstore
from benchmarks.mount import Mount
from benchmarks.report import Row, progress
from benchmarks.server import postgres
from stackstore.sql import ColumnDefinition, ColumnType
from tests.support.postgres import PostgresServer

NAME = "connections"

AT_ONCE = 50
SECONDS = 3.0
ROLE = "bench"


class Peak:
    """The most sessions of the role that the server showed at one time."""

    def __init__(self) -> None:
        self.sessions = 0
        self.samples = 0

    @contextlib.asynccontextmanager
    async def watch(self, server: PostgresServer) -> AsyncIterator[None]:
        """Sample every few milliseconds."""
        connection = await server.connect()
        query = "SELECT count(*) FROM pg_stat_activity WHERE usename = $1"

        async def sample() -> None:
            while True:
                self.sessions = max(self.sessions, await connection.fetchval(query, ROLE))
                self.samples += 1
                await asyncio.sleep(0.002)

        task = asyncio.create_task(sample())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await connection.close()


class Load:
    """`AT_ONCE` tasks that take turns at two operations until told to stop."""

    def __init__(self, *operations: Callable[[str], Awaitable[object]]) -> None:
        self.done = 0
        self.failed = 0
        self._operations = operations
        self._stop = False

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run them for as long as the block takes."""
        tasks = [asyncio.create_task(self._one(number)) for number in range(AT_ONCE)]
        try:
            yield
        finally:
            self._stop = True
            await asyncio.gather(*tasks)

    async def _one(self, number: int) -> None:
        operation = self._operations[number % len(self._operations)]
        while not self._stop:
            try:
                await operation(f"{number}-{self.done}")
                self.done += 1
            except Exception:
                self.failed += 1


async def run() -> list[Row]:
    """Ours with a rotation, then an engine each."""
    password = secrets.token_hex(8)
    with tempfile.TemporaryDirectory() as directory:
        async with postgres(ROLE, password) as server:
            peak, load, capacity = await _ours(server, Path(directory), password)
            progress(f"connections: ours {peak.sessions} of {capacity}, {load.done} operations")
            await server.set_password(ROLE, password)
            engines = await _an_engine_each(server, password)
    return [
        Row.within(
            f"peak of kv + sql on one database, {AT_ONCE} at once, a rotation in between; "
            "limit: size + overflow",
            peak.sessions,
            capacity,
            unit="connections",
        ),
        Row.within(
            "the same beside one engine a backend", peak.sessions, engines, unit="connections"
        ),
        Row.within("failed operations", load.failed, 0, unit="operations"),
    ]


async def _ours(server: PostgresServer, directory: Path, password: str) -> tuple[Peak, Load, int]:
    mount = Mount(directory, server, ROLE, password)
    peak = Peak()
    async with await stackstore.open(mount.config, credentials=mount.path) as storage:
        registry, sql = storage.kv("metadata"), storage.sql("inference")
        await sql.create_table(
            "bench", {"id": ColumnDefinition(ColumnType.STRING, primary_key=True)}
        )
        load = Load(
            lambda key: registry.set(key, "x" * 100), lambda key: sql.insert("bench", {"id": key})
        )
        async with peak.watch(server), load.running():
            await asyncio.sleep(SECONDS / 2)
            following = secrets.token_hex(8)
            mount.rotate(following)
            await asyncio.sleep(0.2)
            await server.set_password(ROLE, following)
            await asyncio.sleep(SECONDS / 2)
        (status,) = storage.status()
        assert status["proven"] == mount.revision, status
    return peak, load, int(str(status["capacity"]))


async def _an_engine_each(server: PostgresServer, password: str) -> int:
    peak = Peak()
    pool = await asyncpg.create_pool(
        host=server.host, port=server.port, user=ROLE, password=password, database=ROLE, ssl=False,
        min_size=5, max_size=15,
    )  # fmt: skip
    url = URL.create("postgresql+asyncpg", ROLE, password, server.host, server.port, ROLE)
    engine = create_async_engine(
        url, pool_size=10, max_overflow=20, connect_args={"ssl": False}, hide_parameters=True
    )
    await pool.execute("CREATE TABLE IF NOT EXISTS bench_kv (key text PRIMARY KEY)")
    await pool.execute("CREATE TABLE IF NOT EXISTS bench_sql (key text PRIMARY KEY)")
    insert = text("INSERT INTO bench_sql VALUES (:key)")

    async def through_engine(key: str) -> None:
        async with engine.begin() as connection:
            await connection.execute(insert, {"key": key})

    load = Load(lambda key: pool.execute("INSERT INTO bench_kv VALUES ($1)", key), through_engine)
    async with peak.watch(server), load.running():
        await asyncio.sleep(SECONDS / 2)
    await engine.dispose()
    await pool.close()
    return peak.sessions
