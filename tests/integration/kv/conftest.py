"""Both engines behind one fixture: a store's tests run on a SQLite file and on Postgres alike."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from stackstore.kv import KVStore
from stackstore.pools.sqlite import SqliteDatabase
from tests.conftest import Database
from tests.support.postgres import PostgresServer, system_binaries
from tests.support.world import World, world_of


@dataclass
class SqlitePlace:
    """A file, and a database of this process over it."""

    path: Path
    database: SqliteDatabase
    stores: list[KVStore] = field(default_factory=list)
    dialect = "sqlite"
    table = "stackstore_kv"

    def store(self, namespace: str = "registry") -> KVStore:
        self.stores.append(KVStore(self.database, namespace))
        return self.stores[-1]

    async def run(self, sql: str) -> list[Any]:
        """Run one statement on a connection of its own."""
        with contextlib.closing(sqlite3.connect(self.path, isolation_level=None)) as driver:
            return driver.execute(sql).fetchall()

    def description(self) -> dict[str, Any]:
        """What another process needs to open it."""
        return {"dialect": "sqlite", "path": str(self.path)}


@dataclass
class PostgresPlace:
    """A Postgres database with a role of its own, and a pool over it."""

    world: World
    stores: list[KVStore] = field(default_factory=list)
    dialect = "postgresql"
    table = "stackstore.kv"

    @property
    def database(self) -> Any:
        return self.world.pool

    def store(self, namespace: str = "registry") -> KVStore:
        self.stores.append(KVStore(self.world.pool, namespace))
        return self.stores[-1]

    async def run(self, sql: str) -> list[Any]:
        return await self.world.server.run(sql, self.world.database.name)

    @contextlib.asynccontextmanager
    async def session(self) -> AsyncIterator[asyncpg.Connection]:
        """A session of the superuser."""
        connection = await self.world.server.connect(self.world.database.name)
        try:
            yield connection
        finally:
            await connection.close()

    def description(self) -> dict[str, Any]:
        database = self.world.database
        return {
            "dialect": "postgresql",
            "host": database.server.host,
            "port": database.server.port,
            "database": database.name,
            "username": database.role,
            "password": database.password,
            "pooler": database.server.pooler,
        }


Place = SqlitePlace | PostgresPlace


@contextlib.asynccontextmanager
async def closing(place: Place) -> AsyncIterator[Place]:
    """A place whose stores do nothing any more when it goes."""
    try:
        yield place
    finally:
        await asyncio.gather(*(store.close() for store in place.stores))


@pytest.fixture
async def on_sqlite(tmp_path: Path) -> AsyncIterator[SqlitePlace]:
    path = tmp_path / "kv.db"
    database = SqliteDatabase("kv_default", str(path))
    async with closing(SqlitePlace(path, database)) as place:
        yield place
    await database.close()


@pytest.fixture
async def on_postgres(database: Database) -> AsyncIterator[PostgresPlace]:
    async with world_of(database) as world, closing(PostgresPlace(world)) as place:
        yield place


SYSTEM_POSTGRES = system_binaries()


@pytest.fixture(scope="session")
def icu_server() -> Iterator[PostgresServer]:
    """The machine's own Postgres: the embedded one has no ICU."""
    server = PostgresServer.start(binaries=SYSTEM_POSTGRES)
    yield server
    server.stop()


@pytest.fixture
async def on_icu(icu_server: PostgresServer) -> AsyncIterator[PostgresPlace]:
    """A database whose collation sorts as a dictionary does."""
    name, password = f"t{secrets.token_hex(6)}", secrets.token_hex(8)
    await icu_server.create_role(name, password)
    await icu_server.create_database(name, name, icu_locale="en-US")
    async with (
        world_of(Database(icu_server, name, name, password)) as world,
        closing(PostgresPlace(world)) as place,
    ):
        (row,) = await icu_server.run("SELECT 'a' < 'B' AS dictionary", name)
        assert row["dictionary"]
        yield place


@pytest.fixture(params=["sqlite", "postgres"])
def place(request: pytest.FixtureRequest) -> Place:
    """Each engine in turn, with nothing in it."""
    return request.getfixturevalue(f"on_{request.param}")


@pytest.fixture(params=["sqlite", "postgres", *(["icu"] if SYSTEM_POSTGRES else [])])
def any_collation(request: pytest.FixtureRequest) -> Place:
    """The same, and the database that sorts as a dictionary."""
    return request.getfixturevalue(f"on_{request.param}")


@pytest.fixture
def store(place: Place) -> KVStore:
    """A store of a namespace of its own."""
    return place.store(f"registry-{secrets.token_hex(3)}")


@pytest.fixture
def until() -> Callable[..., Awaitable[None]]:
    """Wait until an async condition holds."""

    async def wait(condition: Callable[[], Awaitable[bool]], seconds: float = 10.0) -> None:
        async with asyncio.timeout(seconds):
            while not await condition():
                await asyncio.sleep(0.02)

    return wait
