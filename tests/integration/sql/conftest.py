"""The same tests on both engines: a place for a database, and stores over pools of their own."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator

import pytest

from stackstore.pools.database import Database
from stackstore.pools.postgres import PostgresDatabase
from stackstore.pools.sqlite import SqliteDatabase
from stackstore.pools.target import targets
from stackstore.sql import SqlStore
from tests.integration.addresses import postgres_pool
from tests.support.postgres import PostgresServer


class Place:
    """One fresh, empty database, and all pools that a test opens on it."""

    def __init__(self, dialect: str, address: dict[str, object]) -> None:
        self.dialect = dialect
        self.address = address
        self.server = None
        self.pools: list[Database] = []

    def pool(self, **changes) -> PostgresDatabase | SqliteDatabase:
        if self.dialect == "sqlite":
            pool = SqliteDatabase("sql_default", str(self.address["path"]))
        else:
            pool = postgres_pool({**self.address, **changes})
        self.pools.append(pool)
        return pool

    def store(self, **changes) -> SqlStore:
        return SqlStore(self.pool(**changes))

    async def sql(self, statement: str) -> list[tuple]:
        """Run a statement past the store; a table is written {name}."""
        prefix = "stackstore_" if self.dialect == "sqlite" else "stackstore."
        async with self.pools[0].engine.begin() as connection:
            result = await connection.exec_driver_sql(statement.replace("@", prefix))
            return [tuple(row) for row in result] if result.returns_rows else []

    def move(self, pool: PostgresDatabase, database: str) -> None:
        """A rotation: the pool's name stands for another database from now on."""
        backend = postgres_pool({**self.address, "database": database}, backend_only=True)
        pool.pool.offer(targets(backend, "0123456789ab"))


@pytest.fixture(params=["sqlite", "postgresql"])
def engine(request):
    """Which engine, and its server; not async, for a server starts in no loop."""
    return request.param, (
        request.getfixturevalue("postgres") if request.param == "postgresql" else None
    )


@pytest.fixture
async def place(engine, tmp_path) -> AsyncIterator[Place]:
    dialect, server = engine
    if dialect == "sqlite":
        place = Place(dialect, {"path": str(tmp_path / "sql.db")})
        yield place
    else:
        async for place in on_postgres(server):
            yield place
    for pool in place.pools:
        await pool.close()


async def on_postgres(server) -> AsyncIterator[Place]:
    """A database and a role that go with the test."""
    name = f"t{secrets.token_hex(6)}"
    await server.create_role(name, "pw")
    await server.create_database(name, name)
    place = Place(
        "postgresql",
        {
            "host": server.host,
            "port": server.port,
            "database": name,
            "username": name,
            "pooler": server.pooler,
        },
    )
    place.server = server
    yield place
    for pool in place.pools:
        await pool.close()
    await server.run(f'DROP DATABASE "{name}" WITH (FORCE)')
    await server.run(f'DROP ROLE "{name}"')


@pytest.fixture
async def postgres_place(postgres) -> AsyncIterator[Place]:
    async for place in on_postgres(postgres):
        yield place


@pytest.fixture
async def sqlite_place(tmp_path) -> AsyncIterator[Place]:
    place = Place("sqlite", {"path": str(tmp_path / "sql.db")})
    yield place
    for pool in place.pools:
        await pool.close()


@pytest.fixture
def store(place) -> SqlStore:
    return place.store()


@pytest.fixture
def own_server():
    """A Postgres that a test may stop; not async, for a server starts in no loop."""
    server = PostgresServer.start()
    yield server
    server.stop()


@pytest.fixture
async def own_postgres(own_server):
    await own_server.create_role("app", "pw")
    await own_server.create_database("app", "app")
    place = Place(
        "postgresql",
        {"host": own_server.host, "port": own_server.port, "database": "app", "username": "app"},
    )
    place.server = own_server
    yield own_server, place
    for pool in place.pools:
        await pool.close()
