"""A process of its own that writes through a queue; run as a script with one JSON argument.

It prints one JSON line for each thing that a test waits for: how many were acknowledged, and after
SIGTERM what its shutdown reported.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from pathlib import Path

from stackstore.pools.sqlite import SqliteDatabase
from stackstore.sql import ColumnDefinition, ColumnType, SqlStore
from stackstore.stores.queue import TableSink, WriteQueue
from tests.integration.sql.worker import postgres_pool

SCHEMA = {
    "id": ColumnDefinition(ColumnType.STRING, primary_key=True),
    "n": ColumnType.INTEGER,
    "body": ColumnType.JSON,
    "note": ColumnType.TEXT,
    "at": ColumnType.DATETIME,
    "x": ColumnType.FLOAT,
}


def say(**what) -> None:
    print(json.dumps(what), flush=True)


async def main(task) -> None:
    address = task["address"]
    pool = (
        SqliteDatabase("sql_default", address["path"])
        if "path" in address
        else postgres_pool(address)
    )
    store = SqlStore(pool)
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, ended.set)
    await store.create_table("t", SCHEMA)
    sink = TableSink(store, "t")
    await sink.create()
    journal = Path(task["journal"]) if task.get("journal") else None
    queue = WriteQueue(sink, name="inference", max_rows=50_000, writers=task.get("writers", 4), journal=journal)  # fmt: skip
    await queue.start()
    say(started=queue.stats().replayed)
    first, count, producers = task.get("first", 0), task.get("count", 0), 200
    if count:
        # The test locks the table first.
        sys.stdin.readline()

        async def produce(number) -> None:
            for place in range(number, count, producers):
                row = {"id": f"{first + place:06d}", "n": place, "body": {"text": "é" * 20}}
                await queue.put(sink.upsert(f"u{number % 7}", row), loop.time() + 60)

        await asyncio.gather(*(produce(number) for number in range(producers)))
        for place in range(task.get("deletes", 0)):
            await queue.put(sink.delete("u", {"id": f"{first + place:06d}"}), loop.time() + 60)
        say(acknowledged=queue.stats().acknowledged, written=queue.stats().written)
    if task.get("drain"):
        say(drained=await queue.flush(loop.time() + 60))
    await ended.wait()
    remains = await queue.shutdown(task.get("grace", 20))
    say(
        unwritten=[identity[0] for identity in remains.unwritten],
        unknown=[identity[0] for identity in remains.unknown],
        journaled=remains.journaled,
    )
    await pool.close()


if __name__ == "__main__":
    asyncio.run(main(json.loads(sys.argv[1])))
