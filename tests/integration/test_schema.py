"""Our tables on real databases: made once, whoever comes first, and never over somebody else's."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from stackstore.errors import BackendUnavailableError
from stackstore.pools.sqlite import SqliteDatabase
from stackstore.schema import Component, Migration, Tables, migrate, qualified, table_name
from tests.conftest import Database
from tests.support.world import World, world_of

POSTGRES_TABLE, SQLITE_TABLE = qualified("postgresql", "things"), qualified("sqlite", "things")
FIRST = Migration(
    postgresql=(f"CREATE TABLE {POSTGRES_TABLE} (id bigint PRIMARY KEY)",),
    sqlite=(f"CREATE TABLE {SQLITE_TABLE} (id INTEGER PRIMARY KEY)",),
)
SECOND = Migration(
    postgresql=(
        f"ALTER TABLE {POSTGRES_TABLE} ADD COLUMN name text",
        f"INSERT INTO {POSTGRES_TABLE} VALUES (1, 'made by the second')",
    ),
    sqlite=(
        f"ALTER TABLE {SQLITE_TABLE} ADD COLUMN name TEXT",
        f"INSERT INTO {SQLITE_TABLE} VALUES (1, 'made by the second')",
    ),
)
BROKEN = Migration(
    postgresql=(f"INSERT INTO {POSTGRES_TABLE} VALUES (2, 'half')", "SELECT 1/0"),
    sqlite=(f"INSERT INTO {SQLITE_TABLE} VALUES (2, 'half')", "SELECT * FROM nothing_like_it"),
)
OLD, NEW = Component("things", (FIRST,)), Component("things", (FIRST, SECOND))


async def rows(database: Any, sql: str) -> list[tuple[Any, ...]]:
    async with database.engine.connect() as connection:
        found = await connection.exec_driver_sql(sql)
        return [tuple(row) for row in found]


@pytest.fixture(params=["sqlite", "postgres"])
def anywhere(request: pytest.FixtureRequest) -> Any:
    return request.getfixturevalue(f"on_{request.param}")


@pytest.fixture
async def on_sqlite(tmp_path: Path) -> AsyncIterator[SqliteDatabase]:
    database = SqliteDatabase("sql_default", str(tmp_path / "a.db"))
    yield database
    await database.close()


@pytest.fixture
async def on_postgres(database: Database) -> AsyncIterator[Any]:
    async with world_of(database) as world:
        yield world.pool


async def things(database: Any) -> list[tuple[Any, ...]]:
    return await rows(database, f"SELECT * FROM {qualified(database.dialect, 'things')}")


async def version(database: Any) -> int:
    ((found,),) = await rows(
        database,
        f"SELECT version FROM {qualified(database.dialect, 'schema_versions')} WHERE component = 'things'",
    )
    return found


def test_names():
    assert table_name("postgresql", "kv") == ("stackstore", "kv")
    assert table_name("sqlite", "kv") == (None, "stackstore_kv")
    assert qualified("postgresql", 'a"b') == '"stackstore"."a""b"'
    assert qualified("sqlite", "kv") == '"stackstore_kv"'


async def test_it_goes_forward_step_by_step_and_only_once(anywhere):
    await migrate(anywhere, OLD)
    assert await version(anywhere) == 1
    await migrate(anywhere, NEW)
    await migrate(anywhere, NEW)
    assert await version(anywhere) == 2
    assert await things(anywhere) == [(1, "made by the second")]


async def test_all_steps_at_once_on_an_empty_database(anywhere):
    await migrate(anywhere, NEW)
    assert await version(anywhere) == 2
    assert await things(anywhere) == [(1, "made by the second")]


async def test_an_older_release_goes_on_beside_a_newer_one(anywhere):
    await migrate(anywhere, NEW)
    await migrate(anywhere, OLD)
    assert await version(anywhere) == 2


async def test_components_keep_their_own_versions(anywhere):
    await migrate(anywhere, NEW)
    other = Component("others", (Migration(
        postgresql=('CREATE TABLE "stackstore"."others" (id bigint)',),
        sqlite=('CREATE TABLE "stackstore_others" (id INTEGER)',),
    ),))  # fmt: skip
    await migrate(anywhere, other)
    assert await version(anywhere) == 2
    assert await rows(anywhere, f"SELECT * FROM {qualified(anywhere.dialect, 'others')}") == []


async def test_a_step_that_fails_leaves_nothing_of_itself(anywhere):
    await migrate(anywhere, NEW)
    with pytest.raises(
        BackendUnavailableError, match="the tables of things could not be made"
    ) as failure:
        await migrate(anywhere, Component("things", (FIRST, SECOND, BROKEN)))
    assert failure.value.__cause__ is None
    assert failure.value.__context__ is None
    assert "22012" in str(failure.value) or "SQLITE_ERROR" in str(failure.value)
    assert await version(anywhere) == 2
    assert await things(anywhere) == [(1, "made by the second")]


async def test_many_at_once(anywhere):
    await asyncio.gather(*(migrate(anywhere, NEW) for _ in range(20)))
    assert await things(anywhere) == [(1, "made by the second")]


async def test_tables_of_the_same_names_that_are_somebody_elses_stay_theirs(anywhere):
    for name in ("things", "schema_versions"):
        async with anywhere.engine.begin() as connection:
            await connection.exec_driver_sql(f"CREATE TABLE {name} (theirs TEXT)")
    await migrate(anywhere, NEW)
    for name in ("things", "schema_versions"):
        assert await rows(anywhere, f"SELECT theirs FROM {name}") == []


async def test_tables_are_made_sure_of_once_until_they_are_missed(anywhere, monkeypatch):
    tables = Tables(anywhere, NEW)
    assert tables.generation == 0
    assert set(await asyncio.gather(*(tables.ensure() for _ in range(20)))) == {1}
    # Whoever missed them in the same generation is helped by one repair.
    assert set(await asyncio.gather(*(tables.repair(1) for _ in range(20)))) == {2}
    assert await tables.ensure() == 2
    assert await tables.repair(1) == 2


# -- rights


@contextlib.asynccontextmanager
async def foreign(database: Database) -> AsyncIterator[tuple[World, str]]:
    """A database that is not the role's own, and its name."""
    name = f"f{secrets.token_hex(6)}"
    server = database.server
    await server.create_database(name, server.superuser)
    try:
        async with world_of(Database(server, name, database.role, database.password)) as world:
            yield world, name
    finally:
        await server.run(f'DROP DATABASE "{name}" WITH (FORCE)')


async def test_a_role_that_may_make_no_schema_is_told_what_to_grant(database):
    async with foreign(database) as (world, name):
        with pytest.raises(
            BackendUnavailableError, match="CREATE SCHEMA stackstore AUTHORIZATION"
        ) as failure:
            await migrate(world.pool, NEW)
        assert "sql_default" in str(failure.value)
        assert failure.value.__context__ is None
        await world.server.run(f'CREATE SCHEMA stackstore AUTHORIZATION "{database.role}"', name)
        await migrate(world.pool, NEW)
        assert await things(world.pool) == [(1, "made by the second")]


@pytest.mark.parametrize("right", ["nothing", "USAGE"])
async def test_a_role_that_may_make_no_table_is_told_what_to_grant(database, right):
    async with foreign(database) as (world, name):
        await world.server.run("CREATE SCHEMA stackstore", name)
        if right != "nothing":
            await world.server.run(f'GRANT {right} ON SCHEMA stackstore TO "{database.role}"', name)
        with pytest.raises(
            BackendUnavailableError, match="GRANT USAGE, CREATE ON SCHEMA stackstore"
        ) as failure:
            await migrate(world.pool, NEW)
        assert failure.value.__context__ is None
        await world.server.run(
            f'GRANT USAGE, CREATE ON SCHEMA stackstore TO "{database.role}"', name
        )
        await migrate(world.pool, NEW)
        assert await things(world.pool) == [(1, "made by the second")]


async def test_a_role_needs_no_right_to_make_what_is_there(database):
    """A cautious DBA has the tables made by another role and grants the use of them."""
    async with foreign(database) as (world, name):
        maker = Database(world.server, name, world.server.superuser, world.server.password)
        async with world_of(maker) as other:
            await migrate(other.pool, NEW)
        grants = (
            f'GRANT USAGE ON SCHEMA stackstore TO "{database.role}"',
            f'GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA stackstore TO "{database.role}"',
        )
        for grant in grants:
            await world.server.run(grant, name)
        await migrate(world.pool, NEW)
        assert await things(world.pool) == [(1, "made by the second")]


async def test_a_file_that_another_process_keeps_locked_is_waited_for(tmp_path):
    path = tmp_path / "a.db"
    database = SqliteDatabase("sql_default", str(path))
    try:
        await rows(database, "SELECT 1")
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as driver:
            driver.execute("BEGIN IMMEDIATE")
            waiting = asyncio.create_task(migrate(database, NEW))
            await asyncio.sleep(0.2)
            assert not waiting.done()
            driver.execute("ROLLBACK")
        await waiting
        assert await things(database) == [(1, "made by the second")]
    finally:
        await database.close()
