"""A process of its own that uses a SqlStore; run as a script with one JSON argument."""

from __future__ import annotations

import asyncio
import json
import sys

from stackstore.sql import ColumnDefinition, ColumnType, SqlStore
from tests.integration.addresses import pool_of
from tests.integration.processes import begin

SCHEMA = {
    "id": ColumnDefinition(ColumnType.STRING, primary_key=True),
    "created": ColumnDefinition(ColumnType.INTEGER),
    "body": ColumnDefinition(ColumnType.JSON),
}


async def main(task) -> None:
    pool = pool_of(task["address"])
    store = SqlStore(pool)
    try:
        begin()
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
