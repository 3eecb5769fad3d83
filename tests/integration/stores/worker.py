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

from stackstore.access import AuthorizedSqlStore, Tenancy, User, acting_as
from stackstore.sql import ColumnDefinition, ColumnType, SqlStore
from stackstore.stores.queue import TableSink, WriteQueue
from stackstore.stores.tables import StoreTables, TableDefinition
from tests.integration.addresses import pool_of

SCHEMA = {
    "id": ColumnDefinition(ColumnType.STRING, primary_key=True),
    "n": ColumnType.INTEGER,
    "body": ColumnType.JSON,
    "note": ColumnType.TEXT,
    "at": ColumnType.DATETIME,
    "x": ColumnType.FLOAT,
}


OWN = [{"permit": {"actions": ["create", "read", "update", "delete"]}, "when": "user is owner"}]
"""Everybody his own; but what is deleted by whom depends on the policy of the moment."""


def user(name):
    """`name` or `tenant/name`, with roles behind a colon."""
    who, _, roles = name.partition(":")
    tenant, _, principal = who.rpartition("/")
    return User(principal, {"roles": roles.split(",")} if roles else {}, tenant or "one")


def tables_of(sql, policy=OWN, **settings):
    """An authorized store with table t, made when it is first used."""
    settings = {"tenancy": Tenancy("multi"), **settings}
    store = AuthorizedSqlStore(sql, policy, **settings)
    return StoreTables(store, [TableDefinition("t", SCHEMA)])


def say(**what) -> None:
    print(json.dumps(what), flush=True)


async def main(task) -> None:
    pool = pool_of(task["address"])
    tables = tables_of(SqlStore(pool), task.get("policy", OWN))
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, ended.set)
    sink = TableSink(tables, "t")
    await tables.ready()
    journal = Path(task["journal"]) if task.get("journal") else None
    queue = WriteQueue(sink, name="inference", max_rows=50_000, writers=task.get("writers", 4), journal=journal)  # fmt: skip
    await queue.start()
    say(started=queue.stats().replayed)
    first, count, producers = task.get("first", 0), task.get("count", 0), 200
    if count:
        # The test locks the table first.
        sys.stdin.readline()

        async def produce(number) -> None:
            with acting_as(user(f"u{number % 7}")):
                for place in range(number, count, producers):
                    row = {"id": f"{first + place:06d}", "n": place, "body": {"text": "é" * 20}}
                    await queue.put(sink.upsert(row), loop.time() + 60)

        await asyncio.gather(*(produce(number) for number in range(producers)))
        say(acknowledged=queue.stats().acknowledged, written=queue.stats().written)
    for name, key in task.get("deletes", ()):
        with acting_as(user(name)):
            record = await sink.deletion({"id": key})
            await queue.put(record, loop.time() + 60)
    if "deletes" in task:
        say(deleted=len(task["deletes"]))
    if task.get("drain"):
        say(drained=await queue.flush(loop.time() + 60))
    await ended.wait()
    remains = await queue.shutdown(task.get("grace", 20))
    say(
        unwritten=[key for _, key in remains.unwritten],
        unknown=[key for _, key in remains.unknown],
        journaled=remains.journaled,
    )
    await pool.close()


if __name__ == "__main__":
    asyncio.run(main(json.loads(sys.argv[1])))
