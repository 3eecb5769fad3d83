"""Other processes that use a store: `python -m tests.integration.kv.process WORK…`.

Stdin says where, as JSON. Each WORK is an expression over `store`; each runs in a process of its own,
forked from this one before anything is opened, and all begin at once. What they give is printed as a
JSON list.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import sys
from typing import Any

from stackstore.credentials.snapshot import Login, PoolSettings, PostgresBackend, Tls
from stackstore.errors import StackstoreError
from stackstore.kv import KVStore
from stackstore.pools.postgres import PostgresDatabase
from stackstore.pools.sqlite import SqliteDatabase
from stackstore.pools.target import targets


def open_database(place: dict[str, Any]) -> Any:
    if place.pop("dialect") == "sqlite":
        return SqliteDatabase("kv_default", place["path"])
    settings = PoolSettings(size=2, max_overflow=1, acquire_timeout_seconds=20)
    database = PostgresDatabase("kv_default", settings)
    pooler = place.pop("pooler")
    backend = PostgresBackend(
        type="kv_postgres",
        current=Login(revision="00000000", **place),
        tls=Tls(mode="Disable"),
        pooler=pooler,
        pool=settings,
    )
    database.pool.offer(targets(backend, "0123456789ab"))
    return database


async def first_use(store: KVStore) -> int:
    """What every pod of a new stack does at the same moment."""
    return len(await asyncio.gather(*(store.get("a") for _ in range(20))))


async def count(store: KVStore, times: int) -> list[int]:
    """16 tasks that count together; what each was told."""

    async def one() -> list[int]:
        return [await store.increment("counter") for _ in range(times)]

    return [told for some in await asyncio.gather(*(one() for _ in range(16))) for told in some]


async def append(store: KVStore, who: int, times: int) -> int:
    """Add to a list under one key by compare-and-set; how many tries it took."""
    tries = 0
    for number in range(times):
        while True:
            tries += 1
            now = await store.get("list")
            mine = f"{who}.{number}"
            if await store.compare_and_set("list", now, mine if now is None else f"{now} {mine}"):
                break
    return tries


async def use(place: dict[str, Any], work: str) -> Any:
    database = open_database(dict(place))
    store = KVStore(database, "shared")
    try:
        return await eval(work, {**globals(), "store": store})
    except StackstoreError as error:
        return f"{type(error).__name__}: {error}"
    finally:
        await store.close()
        await database.close()


def run(work: str) -> Any:
    BARRIER.wait(30)
    return asyncio.run(use(PLACE, work))


if __name__ == "__main__":
    PLACE = json.load(sys.stdin)
    WORKS = sys.argv[1:]
    FORK = multiprocessing.get_context("fork")
    # Every one waits for all, so each has a process to itself.
    BARRIER = FORK.Barrier(len(WORKS))
    with FORK.Pool(len(WORKS)) as pool:
        print(json.dumps(pool.map(run, WORKS, chunksize=1)))
