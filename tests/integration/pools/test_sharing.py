"""Backends share one pool, part when their snapshots do, and share again, under load."""

import asyncio
import re

import pytest
from sqlalchemy import text

from stackstore.credentials.snapshot import Login, PoolSettings, PostgresBackend, SqliteBackend, Tls
from stackstore.errors import ConfigError
from stackstore.pools.databases import Databases

STACK_ID = "0123456789ab"


def backend(database, kind="sql_postgres", *, size=3, **changes):
    place = {
        "host": database.server.host, "port": database.server.port, "database": database.name,
        "username": database.role, "password": database.password, "revision": "00000001",
    }  # fmt: skip
    return PostgresBackend(
        type=kind,
        current=Login(**{**place, **changes}),
        tls=Tls(mode="Disable"),
        pool=PoolSettings(size=size, max_overflow=0, acquire_timeout_seconds=5),
    )


def both(database, **kv):
    return {"kv": backend(database, "kv_postgres", **kv), "sql": backend(database)}


@pytest.fixture
async def databases(database):
    made = Databases(STACK_ID, both(database), lambda: None)
    yield made
    await made.close()


async def use(handle, seconds=0.0):
    async with handle.driver() as connection:
        return await connection.fetchval("SELECT pg_backend_pid() FROM pg_sleep($1)", seconds)


async def test_two_backends_are_one_pool(database, databases):
    await asyncio.gather(*(use(databases[name], 0.02) for name in ["kv", "sql"] * 20))
    assert len(await database.server.sessions(database.role)) <= 3
    (status,) = databases.status()
    assert status["backends"] == ["kv", "sql"]
    assert status["proven"] == "00000001"


async def test_they_part_and_share_again_and_no_request_notices(database, databases):
    failures, done, stop = [], 0, False

    async def load(name):
        nonlocal done
        while not stop:
            try:
                await use(databases[name], 0.001)
                done += 1
            except Exception as error:
                failures.append(error)

    async def more():
        goal = done + 60
        async with asyncio.timeout(10):
            while done < goal:
                await asyncio.sleep(0.01)

    tasks = [asyncio.create_task(load(name)) for name in ["kv", "sql"] * 6]
    await more()
    pids = f"SELECT pid FROM pg_stat_activity WHERE usename = '{database.role}'"
    before = await database.server.run(pids)
    # Another name of the same server is enough to part them.
    for _ in range(3):
        databases.apply(both(database, host="localhost"))
        assert [status["backends"] for status in databases.status()] == [["sql"], ["kv"]]
        await more()
        assert databases["kv"].database is not databases["sql"].database
        databases.apply(both(database))
        assert [status["backends"] for status in databases.status()] == [["kv", "sql"]]
        await more()
    stop = True
    await asyncio.gather(*tasks)
    assert failures == []
    assert set(await database.server.run(pids)) >= set(before), "who stayed kept its connections"

    async def settled():
        return len(await database.server.sessions(database.role)) <= 3

    async with asyncio.timeout(5):
        while not await settled():
            await asyncio.sleep(0.05)


async def test_an_engine_asked_for_before_goes_on(database, databases):
    kv, sql = databases["kv"], databases["sql"]
    databases.apply(both(database, host="localhost"))
    old = kv.engine
    databases.apply(both(database))
    assert kv.engine is sql.engine is not old
    async with old.connect() as connection:
        assert (await connection.execute(text("SELECT 1"))).scalar() == 1
    assert len(await database.server.sessions(database.role)) <= 1


async def test_the_larger_size_counts(database, databases):
    databases.apply({**both(database), "kv": backend(database, "kv_postgres", size=7)})
    (status,) = databases.status()
    assert status["capacity"] == 7


async def test_messages_name_those_who_are_there(database, databases):
    databases.apply(both(database, host="localhost"))
    assert databases["kv"].database.name == "kv"
    assert databases["sql"].database.name == "sql"
    databases.apply(both(database))
    assert databases["sql"].database.name == "kv, sql"


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda database: backend(database, "sql_postgres"), "its type changed"),
        (lambda database: SqliteBackend(type="kv_sqlite", path="/x"), "its type changed"),
        (lambda database: None, "gone from the snapshot"),
        (
            lambda database: backend(database, "kv_postgres").model_copy(
                update={"tls": Tls(mode="VerifyFull", ca="none")}
            ),
            r"tls\.ca: not a PEM",
        ),
    ],
    ids=["family", "engine", "gone", "ca"],
)
async def test_one_that_cannot_follow_stays_and_the_others_follow(
    database, databases, caplog, change, told
):
    await use(databases["kv"])
    after = {
        "kv": change(database),
        "sql": backend(database, revision="00000002", host="localhost"),
    }
    databases.apply({name: value for name, value in after.items() if value is not None})
    assert caplog.text.count("backend kv stays as it was") == 1
    assert re.search(told, caplog.text)
    await use(databases["kv"])
    await use(databases["sql"])
    found = {tuple(status["backends"]): status["proven"] for status in databases.status()}
    assert found == {("kv",): "00000001", ("sql",): "00000002"}


async def test_a_file_that_moves_stays_until_a_restart(tmp_path, caplog):
    def at(path):
        return {"kv": SqliteBackend(type="kv_sqlite", path=str(tmp_path / path))}

    databases = Databases(STACK_ID, at("a.db"), lambda: None)
    async with databases["kv"].driver() as connection:
        await connection.execute("CREATE TABLE t (a)")
    databases.apply(at("b.db"))
    assert "that needs a restart" in caplog.text
    async with databases["kv"].driver() as connection:
        await connection.execute("INSERT INTO t VALUES (1)")
    await databases.close()
    assert not (tmp_path / "b.db").exists()


def test_what_cannot_be_served_at_the_start_is_all_told(database):
    bad = {
        name: backend(database).model_copy(update={"tls": Tls(mode="VerifyCA", ca="none")})
        for name in ("a", "b")
    }
    with pytest.raises(ConfigError) as failure:
        Databases(STACK_ID, bad, lambda: None)
    assert [line[:11] for line in str(failure.value).splitlines()] == ["backend 'a'", "backend 'b'"]


async def test_two_opens_are_two_pools_with_a_bound_each(database, databases):
    other = Databases("ba9876543210", both(database), lambda: None)
    names = ["kv", "sql"] * 10
    await asyncio.gather(
        *(use(databases[name], 0.01) for name in names), *(use(other[name], 0.01) for name in names)
    )
    sessions = await database.server.sessions(database.role)
    assert len(sessions) <= 6
    assert {name[-12:] for name in sessions} == {STACK_ID, "ba9876543210"}
    await other.close()
    assert await use(databases["kv"])
