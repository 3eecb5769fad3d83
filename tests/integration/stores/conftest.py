"""The write queue over real databases: the places of the SQL stores' tests, and a queue on them."""

from __future__ import annotations

import asyncio
import contextlib
import json
from pathlib import Path

import pytest

from stackstore.access import acting_as
from stackstore.sql import SqlStore
from stackstore.stores.queue import TableSink, WriteQueue
from tests.integration.sql.conftest import (
    Place,
    engine,
    own_postgres,
    own_server,
    place,
    postgres_place,
    sqlite_place,
)
from tests.integration.stores.worker import OWN, tables_of, user

__all__ = [
    "engine",
    "own_postgres",
    "own_server",
    "place",
    "postgres_place",
    "sqlite_place",
    "use",
]


as_user = user


def deleting(record):
    """The record that deletes what this one writes, as its user."""
    return record._replace(payload=record.payload[0], deletes=True)


class Queue:
    """A queue, its sink, its store, and what a test asks of them."""

    def __init__(self, store: SqlStore, queue: WriteQueue, sink: TableSink, place: Place) -> None:
        self.store = store
        self.queue = queue
        self.sink = sink
        self.place = place

    @property
    def stats(self):
        return self.queue.stats()

    def record(self, row, *, user="u", **options):
        with acting_as(as_user(user)):
            return self.sink.upsert(row, **options)

    def person(self, user="u"):
        with acting_as(as_user(user)):
            return self.sink.person()

    async def put(self, name, value=0, *, user="u", within=10.0, size=None):
        record = self.record({"id": name, "n": value, "body": {"text": name}}, user=user)
        if size is not None:
            record = record._replace(size=size)
        await self.queue.put(record, asyncio.get_running_loop().time() + within)

    async def deletion(self, name, *, user="u"):
        with acting_as(as_user(user)):
            return await self.sink.deletion({"id": name})

    async def delete(self, name, *, user="u"):
        """Delete one's own row, be it written yet or not."""
        record = deleting(self.record({"id": name}, user=user))
        await self.queue.put(record, asyncio.get_running_loop().time() + 10)

    async def flush(self, within=30.0):
        assert await self.queue.flush(asyncio.get_running_loop().time() + within)

    async def rows(self):
        page = await self.store.fetch_all("t", order_by="id")
        return {row["id"]: row["n"] for row in page.data}

    async def owned(self):
        """Each row's person and id, and its n, past everything."""
        found = await self.place.sql(
            "SELECT o.identity, t.id, t.n FROM @t t JOIN @owners o ON o.owner_id = t.owner_id"
        )
        return {(*json.loads(identity)[:2], key): n for identity, key, n in found}

    async def letters(self):
        return await self.place.sql(
            "SELECT identity, owner, reason, deletes, payload FROM @dead_letters ORDER BY sequence"
        )

    async def marks(self):
        return await self.place.sql("SELECT queue, writers, lane, sequence FROM @queue_marks")


@pytest.fixture
async def use():
    """Make queues that end with the test: `await use(place, **options)`."""
    made = []

    async def make(
        place: Place, *, store=None, table=True, pool=None, policy=OWN, access=None, **options
    ) -> Queue:
        store = store or place.store(**(pool or {}))
        tables = tables_of(store, policy, **(access or {}))
        if table:
            await tables.ready()
        sink = TableSink(tables, "t")
        if isinstance(options.get("journal"), str):
            options["journal"] = Path(options["journal"])
        queue = WriteQueue(sink, **{"name": "inference", **options})
        await queue.start()
        made.append(queue)
        return Queue(store, queue, sink, place)

    yield make
    for queue in made:
        with contextlib.suppress(Exception):
            await queue.shutdown(0.2)


@contextlib.asynccontextmanager
async def locked(place, table="t", mode="EXCLUSIVE"):
    """Nobody can write to a table meanwhile; reads go on."""
    if place.dialect == "sqlite":
        import sqlite3

        with contextlib.closing(
            sqlite3.connect(place.address["path"], isolation_level=None)
        ) as holder:
            holder.execute("BEGIN IMMEDIATE")
            yield
            holder.rollback()
    else:
        holder = await place.server.connect(str(place.address["database"]))
        try:
            async with holder.transaction():
                await holder.execute(f"LOCK TABLE stackstore.{table} IN {mode} MODE")
                yield
        finally:
            await holder.close()


async def until(condition, seconds=20.0):
    """Wait until it holds."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.005)
