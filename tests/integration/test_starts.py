"""How processes begin, and what they hand on that can't be: all stores of a run config at once."""

from __future__ import annotations

import asyncio

import pytest

import stackstore
from stackstore.access import AuthorizedSqlStore, User, acting_as
from stackstore.errors import BackendUnavailableError
from stackstore.kv import KVStore
from stackstore.sql import SqlStore
from tests.integration.processes import answers, running
from tests.integration.sql.conftest import (  # noqa: F401 - fixtures
    engine,
    own_postgres,
    own_server,
    place,
)
from tests.integration.starter import SCHEMA, config_of

READER = User("reader", {"teams": ["a"]})


async def processes(tmp_path, address, what, count=1):
    """What each of some processes says that begin at once."""
    config = tmp_path / "run-config.yaml"
    config.write_text(config_of(address))
    tasks = [{"what": what, "config": str(config)}] * count
    async with running("tests.integration.starter", address, tasks) as started:
        return await answers(started)


async def test_ten_processes_open_everything_on_an_empty_database(place, tmp_path):  # noqa: F811
    """All of them make the same tables, indexes and owners, of every kind of store, at one moment."""
    place.pool()
    said = await processes(tmp_path, place.address, "begin", 10)
    assert said == [[[]]] * 10
    config = tmp_path / "run-config.yaml"
    with acting_as(READER):
        async with await stackstore.open(config) as storage:
            keys = await storage.kv("metadata").keys_in_range("process:", "process;")
            assert len(keys) == 10
            store = AuthorizedSqlStore(storage.sql("inference"))
            store.declare("completions", SCHEMA, per_owner=True)
            assert await store.count("completions") == 10


async def test_tables_appear_when_the_database_does(own_postgres):  # noqa: F811
    server, place = own_postgres  # noqa: F811
    server.stop("fast", keep=True)
    pool = place.pool(acquire_timeout_seconds=1)
    kv, sql = KVStore(pool, "registry"), SqlStore(pool)
    own = AuthorizedSqlStore(sql)
    own.declare("completions", SCHEMA, per_owner=True)
    sql.declare("things", SCHEMA)
    with acting_as(READER):
        for call in (
            lambda: kv.set("a", "1"),
            lambda: sql.insert("things", {"id": "1"}),
            lambda: own.insert("completions", {"id": "1"}),
            lambda: own.fetch_all("completions", limit=3),
            lambda: own.create_table("more", SCHEMA),
        ):
            with pytest.raises(BackendUnavailableError, match="'sql_default'"):
                await call()
        await asyncio.to_thread(server.start_again)
        await kv.set("a", "1")
        await sql.insert("things", {"id": "1"})
        await own.create_table("more", SCHEMA)
        await own.create_table("completions", SCHEMA, per_owner=True)
        await own.insert("completions", {"id": "1"})
        assert [row["id"] for row in (await own.fetch_all("completions", limit=3)).data] == ["1"]
        assert await kv.get("a") == "1"
    await kv.close()


async def test_four_hundred_at_once_share_ten_connections(place):  # noqa: F811
    pool = place.pool(**({"size": 10, "max_overflow": 0} if place.dialect == "postgresql" else {}))
    kv, sql = KVStore(pool, "registry"), SqlStore(pool)
    own = AuthorizedSqlStore(sql)
    await sql.create_table("things", SCHEMA)
    await own.create_table("completions", SCHEMA, per_owner=True)
    with acting_as(READER):
        await kv.set("a", "1")
        await sql.insert("things", {"id": "1", "created": 1})
        await own.insert("completions", {"id": "1", "created": 1})
        for call, shown in (
            (lambda: kv.get("a"), "1"),
            (lambda: sql.fetch_one("things", {"id": "1"}), {"id": "1", "created": 1}),
            (lambda: own.fetch_one("completions", {"id": "1"}), {"id": "1", "created": 1}),
        ):
            assert await asyncio.gather(*(call() for _ in range(400))) == [shown] * 400
        pages = await asyncio.gather(*(own.fetch_all("completions", limit=2) for _ in range(400)))
        assert {len(page.data) for page in pages} == {1}
    if place.dialect == "postgresql":
        assert pool.pool.total <= 10
        assert len(await place.server.sessions(str(place.address["username"]))) <= 10
    await kv.close()


async def test_a_process_that_was_forked_is_told_and_its_parent_goes_on(place, tmp_path):  # noqa: F811
    place.pool()
    ((child, parent),) = await processes(tmp_path, place.address, "fork")
    assert set(child) == set(parent) == {"kv", "rows", "owned", "transaction"}
    for name, error in child.items():
        assert "this process was forked after stackstore.open()" in error, name
    assert set(parent.values()) == {""}


async def test_a_loop_that_ended_is_told_and_another_one_opens_anew(place, tmp_path):  # noqa: F811
    place.pool()
    ((second, anew),) = await processes(tmp_path, place.address, "loops")
    for name, error in second.items():
        assert "opened in another event loop" in error, name
    assert anew == []
