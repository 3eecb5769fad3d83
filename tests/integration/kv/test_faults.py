"""What a store does when the database is in the way, and what it says."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import multiprocessing
import os
import sqlite3
import time

import pytest

from stackstore.errors import BackendUnavailableError, StackstoreError
from stackstore.kv import KVStore, groups
from stackstore.pools.sqlite import SqliteDatabase
from tests.integration.kv.shown import everything_shown
from tests.support.postgres import free_port
from tests.support.world import world_of

CANARY = "c4n4ry-value"


# -- tables


async def test_the_table_is_made_again_where_a_rotation_leads_to_an_empty_database(
    on_postgres, until
):
    world = on_postgres.world
    store = on_postgres.store()
    await store.set("a", "here")
    other = f"{world.database.name}_b"
    await world.server.create_database(other, world.database.role)
    try:
        world.rotate_snapshot("unused", database=other)
        await world.rotate_role("unused")

        async def moved() -> bool:
            return await store.get("a") is None

        await until(moved)
        answers = await asyncio.gather(*(store.increment("n") for _ in range(30)))
        assert sorted(answers) == list(range(1, 31))
        assert [
            row["n"]
            for row in await world.server.run("SELECT count(*) AS n FROM stackstore.kv", other)
        ] == [1]
    finally:
        await world.pool.close()
        await world.server.run(f'DROP DATABASE "{other}" WITH (FORCE)')


async def test_all_of_our_tables_gone_are_made_again(place):
    store = place.store()
    await store.set("a", "1")
    if place.dialect == "postgresql":
        await place.run("DROP SCHEMA stackstore CASCADE")
    else:
        await place.run("DROP TABLE stackstore_kv")
        await place.run("DROP TABLE stackstore_schema_versions")
    assert await asyncio.gather(*(store.get("a") for _ in range(30))) == [None] * 30
    await store.set("a", "2")
    assert await store.get("a") == "2"


async def test_a_table_that_somebody_dropped_is_named_with_the_remedy(place):
    store = place.store()
    await store.set("a", CANARY)
    await place.run(f"DROP TABLE {place.table}")
    for call in (store.get("a"), store.set("a", CANARY), store.increment("n")):
        with pytest.raises(
            BackendUnavailableError, match=r"is gone, yet .*schema_versions.* lists it"
        ) as failure:
            await call
        assert CANARY not in everything_shown(failure.value)
    separator = "." if place.dialect == "postgresql" else "_"
    await place.run(f"DELETE FROM stackstore{separator}schema_versions WHERE component = 'kv'")
    await store.set("a", "1")
    assert await store.get("a") == "1"


async def test_a_role_that_may_not_write_is_told_which_right_it_lacks(on_postgres):
    store = on_postgres.store()
    await store.set("a", CANARY)
    role = on_postgres.world.database.role
    await on_postgres.run("ALTER TABLE stackstore.kv OWNER TO postgres")
    await on_postgres.run(f'GRANT SELECT ON stackstore.kv TO "{role}"')
    assert await store.get("a") == CANARY
    with pytest.raises(BackendUnavailableError, match=r"GRANT USAGE ON SCHEMA .*INSERT") as failure:
        await store.set("a", CANARY)
    assert CANARY not in everything_shown(failure.value)


# -- connections


@contextlib.asynccontextmanager
async def held(place, until):
    """The table locked, so that whatever is asked for waits; gives the waiting sessions' killer."""
    async with place.session() as session:
        transaction = session.transaction()
        await transaction.start()
        await session.execute("LOCK TABLE stackstore.kv IN ACCESS EXCLUSIVE MODE")

        waiting = (
            f"FROM pg_stat_activity WHERE usename = '{place.world.database.role}' "
            "AND wait_event_type = 'Lock'"
        )

        async def cut() -> None:
            # In sessions of their own: a transaction sees the same list of sessions till its end.
            async def there() -> bool:
                return bool(await place.run(f"SELECT 1 {waiting}"))

            await until(there)
            await place.run(f"SELECT pg_terminate_backend(pid, 5000) {waiting}")

        try:
            yield cut
        finally:
            await transaction.rollback()


async def test_a_read_that_loses_its_connection_is_tried_once_more(on_postgres, until):
    store = on_postgres.store()
    await store.set("a", "1")
    async with held(on_postgres, until) as cut:
        reading = asyncio.create_task(store.get("a"))
        await cut()
        await asyncio.sleep(0.05)
        assert not reading.done()
    assert await reading == "1"


async def test_a_read_that_loses_two_connections_says_so(on_postgres, until):
    store = on_postgres.store()
    await store.set("a", "1")
    async with held(on_postgres, until) as cut:
        reading = asyncio.create_task(store.get("a"))
        await cut()
        await cut()
        with pytest.raises(BackendUnavailableError, match="connection was lost") as failure:
            await reading
        assert "whether the write" not in str(failure.value)


async def test_a_write_that_loses_its_connection_is_not_repeated_and_says_that_it_may_have_happened(
    on_postgres, until
):
    store = on_postgres.store()
    await store.set("n", "1")
    async with held(on_postgres, until) as cut:
        writing = asyncio.create_task(store.increment("n", by=10))
        await cut()
        with pytest.raises(
            BackendUnavailableError, match="whether the write happened is not known"
        ):
            await writing
    assert await store.get("n") == "1"
    assert await store.increment("n") == 2


async def test_a_write_that_a_standby_refused_is_tried_again_on_a_new_connection(on_postgres):
    store = on_postgres.store()
    await store.set("n", "1")
    role = on_postgres.world.database.role
    await on_postgres.run(f'ALTER ROLE "{role}" SET default_transaction_read_only = on')
    await on_postgres.run(
        f"SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE usename = '{role}'"
    )
    assert await store.get("n") == "1"
    await on_postgres.run(f'ALTER ROLE "{role}" RESET default_transaction_read_only')
    async with on_postgres.database.driver() as driver:
        assert await driver.fetchval("SHOW transaction_read_only") == "on"
    # The pool keeps connections that it opened less than a second ago, as the news was known then.
    await asyncio.sleep(1.1)
    assert await store.increment("n") == 2


async def test_a_database_that_only_reads_is_named_as_one(on_postgres):
    store = on_postgres.store()
    await store.set("n", "1")
    await on_postgres.run(
        f'ALTER DATABASE "{on_postgres.world.database.name}" SET default_transaction_read_only = on'
    )
    async with on_postgres.database.driver() as driver:
        await driver.execute("SET default_transaction_read_only = on")
    with pytest.raises(BackendUnavailableError, match="ReadOnlySQLTransactionError"):
        await store.increment("n")
    assert await store.get("n") == "1"


async def test_a_server_that_is_not_there(database):
    async with world_of(database, acquire_timeout_seconds=1) as world:
        world.logins = [world.login(database.password, port=free_port())]
        world.offer()
        store = KVStore(world.pool, "registry")
        for call in (store.get("a"), store.set("a", CANARY)):
            with pytest.raises(BackendUnavailableError, match="sql_default") as failure:
                await call
            shown = everything_shown(failure.value)
            assert CANARY not in shown
            assert database.password not in shown
        world.logins = [world.login(database.password)]
        world.offer()
        await store.set("a", "1")
        assert await store.get("a") == "1"


async def test_a_statement_that_takes_too_long(on_postgres):
    store = on_postgres.store()
    await store.set("a", "1")
    role = on_postgres.world.database.role
    async with on_postgres.database.driver() as driver:
        await driver.execute("SET statement_timeout = 100")
    async with on_postgres.session() as session, session.transaction():
        await session.execute("LOCK TABLE stackstore.kv IN ACCESS EXCLUSIVE MODE")
        with pytest.raises(BackendUnavailableError, match="57014"):
            await store.set("a", "2")
    assert await store.get("a") == "1"
    assert role


# -- what is told


async def test_no_error_of_the_database_tells_a_value(place, caplog):
    caplog.set_level(logging.DEBUG)
    store = place.store()
    await store.set("fine", "x")
    if place.dialect == "postgresql":
        # Postgres' own words for it quote the whole failing row.
        await place.run("ALTER TABLE stackstore.kv ADD CHECK (length(value) < 5)")
    else:
        await place.run(
            "CREATE TRIGGER no BEFORE INSERT ON stackstore_kv WHEN length(new.value) >= 5 "
            "BEGIN SELECT RAISE(ABORT, 'no'); END"
        )
    calls = [
        store.set("a", CANARY),
        store.set_many({"b": "1", "c": CANARY}),
        store.compare_and_set("d", None, CANARY),
    ]
    answers = await asyncio.gather(*calls, store.set("other", "1"), return_exceptions=True)
    assert answers.pop() is None
    for error in answers:
        assert type(error) is BackendUnavailableError
        assert error.__cause__ is None
        assert error.__context__ is None
        assert CANARY not in everything_shown(error)
    assert CANARY not in caplog.text
    assert await store.keys_in_range("", "z") == ["fine", "other"]


# -- SQLite


def hold(path, begun, let_go):
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as driver:
        driver.execute("BEGIN IMMEDIATE")
        begun.set()
        let_go.wait(30)
        driver.execute("ROLLBACK")


@contextlib.contextmanager
def locked(path):
    """Another process that keeps a write open; gives the event that ends it."""
    spawn = multiprocessing.get_context("spawn")
    begun, let_go = spawn.Event(), spawn.Event()
    process = spawn.Process(target=hold, args=(path, begun, let_go))
    process.start()
    try:
        assert begun.wait(30)
        yield let_go
    finally:
        let_go.set()
        process.join(30)


async def test_a_write_waits_for_another_process_and_reads_do_not(on_sqlite):
    store = on_sqlite.store()
    await store.set("a", "1")
    with locked(on_sqlite.path) as let_go:
        writes = [asyncio.create_task(store.increment("n")) for _ in range(20)]
        slowest = 0.0
        for _ in range(10):
            begin = time.monotonic()
            assert await store.get("a") == "1"
            slowest = max(slowest, time.monotonic() - begin)
            await asyncio.sleep(0.01)
        assert slowest < 1
        assert not any(write.done() for write in writes)
        let_go.set()
        assert sorted(await asyncio.gather(*writes)) == list(range(1, 21))


async def test_a_write_that_waited_too_long_says_so(on_sqlite, monkeypatch):
    monkeypatch.setattr(groups, "WAIT_SECONDS", 0.3)
    store = on_sqlite.store()
    await store.set("a", "1")
    with locked(on_sqlite.path):
        begin = time.monotonic()
        answers = await asyncio.gather(
            *(store.set("a", CANARY) for _ in range(5)), return_exceptions=True
        )
        assert 0.25 < time.monotonic() - begin < 5
        for error in answers:
            assert type(error) is BackendUnavailableError
            assert "stayed locked for 0.3 s" in str(error)
            assert CANARY not in everything_shown(error)
    await store.set("a", "2")
    assert await store.get("a") == "2"


async def test_the_connection_waits_as_long_as_before(on_sqlite):
    """Others use it too, and count on its patience."""
    async with on_sqlite.database.driver() as driver:
        ((before,),) = await driver.execute_fetchall("PRAGMA busy_timeout")
        await on_sqlite.store().set("a", "1")
        ((after,),) = await driver.execute_fetchall("PRAGMA busy_timeout")
    assert before == after >= 5_000


async def test_a_full_disk_fails_the_writes_and_nothing_else(on_sqlite):
    store = on_sqlite.store()
    await store.set("a", "1")
    async with on_sqlite.database.driver() as driver:
        ((pages,),) = await driver.execute_fetchall("PRAGMA page_count")
        await driver.execute_fetchall(f"PRAGMA max_page_count = {pages}")
        big = f"{CANARY}{'x' * 100_000}"
        answers = await asyncio.gather(
            *(store.set(f"big{number}", big) for number in range(3)),
            store.set("a", "2"),
            store.get("a"),
            return_exceptions=True,
        )
        for error in answers[:3]:
            assert type(error) is BackendUnavailableError
            assert "full" in str(error)
            assert CANARY not in everything_shown(error)
        assert answers[3] is None
        await driver.execute_fetchall("PRAGMA max_page_count = 100000")
    await store.set("big", big)
    assert await store.keys_in_range("", "z") == ["a", "big"]
    assert await store.get("a") == "2"


async def test_a_file_that_is_no_database(tmp_path):
    path = tmp_path / "kv.db"
    path.write_bytes(b"this is no database, whatever its name says" * 100)
    database = SqliteDatabase("kv_default", str(path))
    store = KVStore(database, "registry")
    try:
        for _ in range(2):
            with pytest.raises(BackendUnavailableError, match="kv_default"):
                await store.get("a")
    finally:
        await database.close()
    assert path.read_bytes().startswith(b"this is no database")


@pytest.mark.parametrize("which", ["path", "memory"])
async def test_a_closed_database_says_so_to_all_who_wait(tmp_path, which):
    path = str(tmp_path / "kv.db") if which == "path" else ":memory:"
    database = SqliteDatabase("kv_default", path)
    store = KVStore(database, "registry")
    await store.set("a", "1")
    waiting = [asyncio.create_task(store.get("a")) for _ in range(5)]
    await database.close()
    for answer in await asyncio.gather(*waiting, return_exceptions=True):
        assert answer == "1" or isinstance(answer, BackendUnavailableError)
    with pytest.raises(BackendUnavailableError, match="closed"):
        await store.get("a")


async def test_a_database_in_memory_is_shared_with_whole_transactions_only():
    database = SqliteDatabase("kv_default", ":memory:")
    store = KVStore(database, "registry")
    try:
        await store.set("a", "1")
        async with database.engine.begin() as connection:
            await connection.exec_driver_sql("DELETE FROM stackstore_kv")
            waiting = [
                asyncio.create_task(store.get("a")),
                asyncio.create_task(store.increment("n")),
            ]
            await asyncio.sleep(0.05)
            assert not any(task.done() for task in waiting)
            await connection.rollback()
        assert await asyncio.gather(*waiting) == ["1", 1]
    finally:
        await database.close()


async def test_a_second_event_loop_is_told(on_sqlite):
    store = on_sqlite.store()
    await store.set("a", "1")

    def elsewhere() -> None:
        asyncio.run(store.get("a"))

    with pytest.raises(StackstoreError, match="event loop"):
        await asyncio.to_thread(elsewhere)
    assert await store.get("a") == "1"


async def test_a_forked_child_is_told_even_if_it_forks_in_the_middle(on_sqlite):
    store = on_sqlite.store()
    await store.set("a", "1")
    busy = asyncio.create_task(store.get("a"))
    await asyncio.sleep(0)
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        said = b"nothing"
        try:
            asyncio.events._set_running_loop(None)
            asyncio.run(asyncio.wait_for(store.get("a"), 5))
        except BaseException as error:
            said = f"{type(error).__name__}: {error}".encode()
        finally:
            os.write(writing, said)
            os._exit(0)
    os.close(writing)
    os.waitpid(child, 0)
    with os.fdopen(reading, "rb") as said:
        assert b"StackstoreError: backend 'kv_default': " in said.read()
    assert await busy == "1"
    gc.collect()
