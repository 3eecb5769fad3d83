"""A process of its own with users; run as a script with one JSON argument."""

from __future__ import annotations

import asyncio
import json
import sys

from stackstore.access import AccessDeniedError, AuthorizedSqlStore, User, acting_as
from stackstore.sql import ColumnDefinition, ColumnType, SqlStore
from tests.integration.addresses import pool_of
from tests.integration.processes import begin

SCHEMA = {
    "id": ColumnDefinition(ColumnType.STRING, primary_key=True),
    "created": ColumnDefinition(ColumnType.INTEGER),
    "body": ColumnDefinition(ColumnType.JSON),
}
OWN = [
    {
        "permit": {"actions": ["create", "read", "update", "delete"]},
        "when": "user is owner",
    }
]


async def rivals(store, task) -> None:
    """Upsert the same new ids as everybody else, several at once; count what is refused."""
    me = f"u{task['number']}"
    refused = 0

    async def write(start) -> None:
        nonlocal refused
        rows = [
            {"id": f"{n:03}", "created": task["number"], "body": me}
            for n in range(start, start + task["rows"])
        ]
        try:
            await store.upsert("t", rows if len(rows) > 1 else rows[0], ["id"])
        except AccessDeniedError:
            refused += 1

    with acting_as(User(me)):
        await asyncio.gather(*(write(n) for n in range(0, 60, task["rows"])))
    print(json.dumps(refused))


async def same(store, task) -> None:
    """Be the same few users as everybody else, for the first time."""
    for n in range(5):
        with acting_as(User(f"new{n}", {"teams": [str(n)]})):
            await store.insert(
                "t", {"id": f"{task['number']}-{n}", "created": n, "body": f"new{n}"}
            )


async def announce(store, task) -> None:
    """A row of a new owner each time, told of as soon as it is there."""
    for n in range(40):
        with acting_as(User(f"late{n}", {"teams": ["a"]})):
            await store.insert("t", {"id": f"{n:02}", "created": n, "body": n})
        print(f"{n:02}", flush=True)
        sys.stdin.readline()


async def main(task) -> None:
    pool = pool_of(task["address"])
    try:
        begin()
        store = AuthorizedSqlStore(SqlStore(pool), None if task["what"] == "announce" else OWN)
        await store.create_table("t", SCHEMA, per_owner=task.get("per_owner", False))
        await store.create_index("t_created", "t", ["created"])
        await {"rivals": rivals, "same": same, "announce": announce}[task["what"]](store, task)
    finally:
        await pool.close()


if __name__ == "__main__":
    asyncio.run(main(json.loads(sys.argv[1])))
