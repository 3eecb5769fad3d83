"""How fast the queue is beside a bare batching writer: `python -m tests.integration.stores.speed`.

Both take the same objects by the same call from 50 producers, write them down as JSON into the same
columns, and upsert them with 4 writers (SQLite: its one). They take turns; medians of 7 rounds.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
import statistics
import sys
import tempfile
import time
from pathlib import Path

import asyncpg

from stackstore.pools.sqlite import SqliteDatabase
from stackstore.sql import ColumnDefinition, ColumnType, SqlStore
from stackstore.stores.queue import TableSink, WriteQueue
from tests.integration.addresses import postgres_pool
from tests.support.postgres import PostgresServer

COUNT, PRODUCERS, WRITERS, ROUNDS = 5_000, 50, 4, 7
COLUMNS = ("id", "created", "model", "choices", "input_messages")
SCHEMA = {
    "id": ColumnDefinition(ColumnType.STRING, primary_key=True),
    "created": ColumnType.INTEGER,
    "model": ColumnType.STRING,
    "choices": ColumnType.JSON,
    "input_messages": ColumnType.JSON,
}


def row(number):
    text = f"{number} " + "the quick brown fox jumps over the lazy dog " * 30
    return {
        "id": f"chatcmpl-{number}", "created": 1_700_000_000 + number, "model": "llama",
        "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}],
        "input_messages": [{"role": "system", "content": "be brief"}, {"role": "user", "content": text}],
    }  # fmt: skip


class Bare:
    def __init__(self, write, writers):
        self._write = write
        self._rows = asyncio.Queue(10_000)
        self._tasks = [asyncio.create_task(self._work()) for _ in range(writers)]

    async def put(self, row):
        await self._rows.put(
            (row["id"], row["created"], row["model"], json.dumps(row["choices"]), json.dumps(row["input_messages"]))
        )  # fmt: skip

    async def _work(self):
        while True:
            batch = [await self._rows.get()]
            while len(batch) < 500 and not self._rows.empty():
                batch.append(self._rows.get_nowait())
            await self._write(batch)
            for _ in batch:
                self._rows.task_done()

    async def flush(self):
        await self._rows.join()

    def stop(self):
        for task in self._tasks:
            task.cancel()


class Ours:
    def __init__(self, queue, sink):
        self.queue, self.sink = queue, sink
        self.calls = []

    async def put(self, row):
        begin = time.perf_counter()
        await self.queue.put(self.sink.upsert("u", row), asyncio.get_running_loop().time() + 60)
        self.calls.append(time.perf_counter() - begin)

    async def flush(self):
        assert await self.queue.flush(asyncio.get_running_loop().time() + 120)


async def rate(target, rows):
    begin = time.perf_counter()

    async def produce(first):
        for place in range(first, len(rows), PRODUCERS):
            await target.put(rows[place])

    await asyncio.gather(*(produce(first) for first in range(PRODUCERS)))
    await target.flush()
    return len(rows) / (time.perf_counter() - begin)


async def compare(name, pool, write, journal=None):
    store = SqlStore(pool)
    await store.create_table("t", SCHEMA)
    sink = TableSink(store, "t")
    async with WriteQueue(sink, name="speed", writers=WRITERS, journal=journal) as queue:
        ours, bare = Ours(queue, sink), Bare(write, WRITERS if pool.dialect == "postgresql" else 1)
        rates = {"ours": [], "bare": []}
        for turn in range(ROUNDS):
            rows = [row(turn * COUNT + number) for number in range(COUNT)]
            turns = [("ours", ours), ("bare", bare)]
            for who, target in turns if turn % 2 else turns[::-1]:
                rates[who].append(await rate(target, rows))
        bare.stop()
        middle = {who: statistics.median(each) for who, each in rates.items()}
        slowest = sorted(ours.calls)[int(len(ours.calls) * 0.99)] * 1000
        batch = queue.stats().batch_rows
        print(
            f"{name}: ours {middle['ours']:,.0f}/s, bare {middle['bare']:,.0f}/s, ratio "
            f"{middle['ours'] / middle['bare']:.2f}; call p99 {slowest:.2f} ms; "
            f"{batch.total / batch.count:.0f} rows a batch"
        )
    await pool.close()


async def postgres(server, journal=None):
    address = {"host": server.host, "port": server.port, "database": "app", "username": "app"}
    bare = await asyncpg.create_pool(
        host=server.host, port=server.port, user="app", password="pw", database="app", ssl=False,
        min_size=WRITERS, max_size=WRITERS,
    )  # fmt: skip
    await bare.execute(
        "CREATE TABLE IF NOT EXISTS bare (id text PRIMARY KEY, created bigint, model text, choices json, input_messages json)"
    )
    update = ", ".join(f"{column} = excluded.{column}" for column in COLUMNS[1:])
    statement = (
        "INSERT INTO bare SELECT * FROM unnest($1::text[], $2::bigint[], $3::text[], $4::json[], $5::json[]) "
        f"ON CONFLICT (id) DO UPDATE SET {update}"
    )

    async def write(batch):
        await bare.execute(statement, *map(list, zip(*batch, strict=True)))

    await compare("Postgres" + (" with a journal" if journal else ""), postgres_pool(address), write, journal)  # fmt: skip
    await bare.close()


async def sqlite(directory, journal=None):
    past = sqlite3.connect(directory / "bare.db", isolation_level=None, check_same_thread=False)
    past.execute("PRAGMA journal_mode = WAL")
    past.execute("PRAGMA synchronous = NORMAL")
    past.execute("CREATE TABLE IF NOT EXISTS bare (id TEXT PRIMARY KEY, created, model, choices, input_messages)")  # fmt: skip
    update = ", ".join(f"{column} = excluded.{column}" for column in COLUMNS[1:])

    def on_thread(batch):
        past.execute("BEGIN IMMEDIATE")
        past.executemany(
            f"INSERT INTO bare VALUES (?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET {update}",
            batch,
        )
        past.execute("COMMIT")

    async def write(batch):
        await asyncio.to_thread(on_thread, batch)

    await compare("SQLite" + (" with a journal" if journal else ""), SqliteDatabase("sql_default", str(directory / "ours.db")), write, journal)  # fmt: skip
    past.close()


def main():
    server = PostgresServer.start()
    try:
        asyncio.run(server.create_role("app", "pw"))
        asyncio.run(server.create_database("app", "app"))
        with tempfile.TemporaryDirectory() as directory:
            place = Path(directory)
            asyncio.run(postgres(server))
            asyncio.run(sqlite(place))
            if "--journal" in sys.argv:
                asyncio.run(postgres(server, place / "journal"))
                asyncio.run(sqlite(place, place / "journal"))
    finally:
        server.stop()


if __name__ == "__main__":
    main()
