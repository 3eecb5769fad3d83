"""The database goes, hangs, refuses, and comes back under an inference store's load.

After each: what was acknowledged is stored, each user's own, seen from outside.
"""

import asyncio
import contextlib
import json
import resource
import sqlite3

import pytest

from stackstore.access import User, acting_as
from tests.integration.stores.conftest import until
from tests.integration.stores.inference.conftest import (
    ALICE,
    asked,
    completion,
    ids,
    keep,
    letters,
    locked,
    rows,
)
from tests.integration.stores.test_faults import Cutting
from tests.support.proxy import Proxy

OWNERS = "SELECT t.id, o.identity, t.created FROM @inference t JOIN @owners o ON o.owner_id = t.owner_id"  # fmt: skip


class Load:
    """Users who each store, replace and now and then delete; knows what was acknowledged."""

    def __init__(self, place, store, users=6, keys=30):
        self.place = place
        self.store = store
        self.expected: dict[tuple[str, str], int] = {}
        self.acknowledged = 0
        self._stop = False
        self._tasks = [asyncio.create_task(self._live(f"u{n}", keys)) for n in range(users)]

    async def _live(self, principal, keys):
        # All of them use the same ids.
        with acting_as(User(principal)):
            number = 0
            while not self._stop:
                name = f"{number % keys:02}"
                await self.store.store_chat_completion(completion(name, number), asked())
                self.expected[principal, name] = number
                self.acknowledged += 1
                number += 1
                await asyncio.sleep(0.001)

    async def ends_well(self):
        self._stop = True
        await asyncio.gather(*self._tasks)
        assert await self.store.flush(60)
        found = await self.place.sql(OWNERS)
        stored = {(json.loads(owner)[1], name): created for name, owner, created in found}
        assert len(found) == len(stored)
        assert stored == self.expected
        stats = self.store.stats()
        assert stats.acknowledged == stats.written == self.acknowledged
        assert (stats.dead_letters, stats.rows, stats.busy) == (0, 0, 0)
        assert await letters(self.place) == []


def written(store, count):
    return until(lambda: store.stats().written > count)


async def test_postgres_is_killed_under_load_and_restarted(own_postgres, make):
    server, place = own_postgres
    store = make(place, pool={"acquire_timeout_seconds": 1})
    load = Load(place, store)
    await written(store, 200)
    await asyncio.to_thread(server.kill9)
    before = store.stats().acknowledged
    await until(lambda: store.stats().retries >= 2 and store.stats().acknowledged > before + 100)
    await asyncio.to_thread(server.start_again)
    await load.ends_well()


async def test_postgres_is_stopped_for_a_while(own_postgres, make):
    server, place = own_postgres
    store = make(place, pool={"acquire_timeout_seconds": 1}, max_write_queue_size=200)
    load = Load(place, store)
    await written(store, 100)
    await asyncio.to_thread(server.stop, "fast", keep=True)
    await until(lambda: store.stats().waiting == 6)
    assert store.stats().rows == 200, "bounded, and callers wait"
    await asyncio.sleep(1)
    await asyncio.to_thread(server.start_again)
    await load.ends_well()


async def test_postgres_becomes_read_only(postgres_place, make):
    place = postgres_place
    store = make(place)
    load = Load(place, store)
    await written(store, 100)
    name = place.address["database"]
    terminate = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{name}'"
    await place.server.run(f'ALTER DATABASE "{name}" SET default_transaction_read_only = on')
    await place.server.run(terminate)
    await until(lambda: "25006" in store.stats().last_trouble)
    await place.server.run(f'ALTER DATABASE "{name}" RESET default_transaction_read_only')
    await place.server.run(terminate)
    await load.ends_well()


@pytest.mark.parametrize("where", ["before", "after"])
async def test_connections_are_cut_at_commit(postgres_place, make, where):
    place = postgres_place
    async with Cutting(place.address["port"]) as proxy:
        store = make(place, pool={"port": proxy.port})
        await store.initialize()
        load = Load(place, store)
        await written(store, 50)
        setattr(proxy, f"cut_{where}", 6)
        await until(lambda: getattr(proxy, f"cut_{where}") == 0, 40)
        await load.ends_well()
        assert store.stats().retries > 0


async def test_connections_are_cut_mid_statement_again_and_again(postgres_place, make):
    place = postgres_place
    async with Proxy(place.address["port"]) as proxy:
        store = make(place, pool={"port": proxy.port})
        load = Load(place, store)
        await written(store, 50)
        for _ in range(12):
            await asyncio.sleep(0.06)
            proxy.cut()
        await load.ends_well()


async def test_a_delete_whose_answer_is_lost_brings_nothing_back(postgres_place, make):
    """Deleted, and stored again by the same user meanwhile: the later one counts."""
    place = postgres_place
    async with Cutting(place.address["port"]) as proxy:
        store = make(place, pool={"port": proxy.port}, num_writers=1)
        await keep(store, ALICE, "a", "b")
        await ids(store, ALICE)
        await store._queue._starting
        proxy.cut_after = 1
        with acting_as(ALICE):
            await store.delete_chat_completion("a")
            await keep(store, ALICE, "c")
            await store.delete_chat_completion("b")
        assert await store.flush()
        assert proxy.cut_after == 0
        assert await ids(store, ALICE) == ["c"]
        assert await rows(place) == [("c",)]


async def test_a_statement_that_hangs(postgres_place, make):
    place = postgres_place
    store = make(place, pool={"statement_timeout_seconds": 1}, num_writers=2)
    await keep(store, ALICE, "first")
    await store.flush()
    async with locked(place):
        await keep(store, ALICE, *(f"{number}" for number in range(40)))
        await until(lambda: store.stats().retries >= 2)
        assert "statement timeout" in store.stats().last_trouble
    assert len(await ids(store, ALICE, limit=100)) == 41
    assert store.stats().dead_letters == 0


# -- SQLite


async def test_the_disk_is_full(sqlite_place, make):
    """By a limit on the size of this process's files."""
    store = make(sqlite_place, max_write_queue_size=100, read_timeout_seconds=0.2)
    await keep(store, ALICE, "before")
    await store.flush()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, hard))
    try:
        await keep(store, ALICE, *(f"{number}" for number in range(80)), said="x" * 20_000)
        await until(lambda: store.stats().retries > 3)
        assert "SQLite can't do it now" in store.stats().last_trouble
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert await store.flush()
    assert len(await rows(sqlite_place)) == 81
    assert store.stats().dead_letters == 0


async def test_the_file_is_locked_by_another_process(sqlite_place, make):
    store = make(sqlite_place)
    load = Load(sqlite_place, store)
    await written(store, 100)
    path = sqlite_place.address["path"]
    with contextlib.closing(
        sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    ) as holder:
        holder.execute("PRAGMA busy_timeout = 5000")
        await asyncio.to_thread(holder.execute, "BEGIN IMMEDIATE")
        await until(lambda: store.stats().retries > 1)
        assert "locked" in store.stats().last_trouble
        holder.rollback()
    await load.ends_well()
