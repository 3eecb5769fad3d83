"""A process of its own that uses a SqlStore; run as a script with one JSON argument."""

from __future__ import annotations

import asyncio
import json
import sys

from stackstore.credentials.snapshot import Login, PoolSettings, PostgresBackend, Tls
from stackstore.pools.postgres import PostgresDatabase
from stackstore.pools.sqlite import SqliteDatabase
from stackstore.pools.target import targets
from stackstore.sql import ColumnDefinition, ColumnType, SqlStore

SCHEMA = {
    "id": ColumnDefinition(ColumnType.STRING, primary_key=True),
    "created": ColumnDefinition(ColumnType.INTEGER),
    "body": ColumnDefinition(ColumnType.JSON),
}


def postgres_pool(address, *, backend_only=False):
    """A pool over {host, port, database, username} with the tests' password."""
    place = {"password": "pw", **address}
    settings = PoolSettings(
        size=place.pop("size", 8), max_overflow=place.pop("max_overflow", 2),
        acquire_timeout_seconds=place.pop("acquire_timeout_seconds", 10),
    )  # fmt: skip
    pooler = place.pop("pooler", "None")
    timeout = place.pop("statement_timeout_seconds", 30)
    backend = PostgresBackend(
        type="sql_postgres",
        current=Login(revision="0badcafe", **place),
        previous=(),
        tls=Tls(mode="Disable"),
        pooler=pooler,
        pool=settings,
        statement_timeout_seconds=timeout,
    )
    if backend_only:
        return backend
    pool = PostgresDatabase("sql_default", settings)
    pool.pool.offer(targets(backend, "0123456789ab"))
    return pool


async def main(task) -> None:
    address = task["address"]
    pool = (
        SqliteDatabase("sql_default", address["path"])
        if "path" in address
        else postgres_pool(address)
    )
    store = SqlStore(pool)
    try:
        # All start at one moment, however long their imports took.
        print("ready", flush=True)
        sys.stdin.readline()
        await store.create_table("first", SCHEMA)
        await store.create_index("first_created", "first", ["created"])
        rows = [{"id": f"{task['number']}-{i}", "created": i, "body": [i]} for i in range(20)]
        await store.insert("first", rows)
        page = await store.fetch_all("first", order_by="created", limit=3)
        print(json.dumps(page.next_cursor))
    finally:
        await pool.close()


if __name__ == "__main__":
    asyncio.run(main(json.loads(sys.argv[1])))
