"""A process of its own that goes on from one response, deletes, and updates; run as a script."""

from __future__ import annotations

import asyncio
import json
import sys

from stackstore.access import AuthorizedSqlStore, acting_as
from stackstore.errors import ConflictError
from stackstore.pools.sqlite import SqliteDatabase
from stackstore.sql import SqlStore
from stackstore.stores.responses import ResponsesStore
from tests.integration.sql.worker import postgres_pool
from tests.integration.stores.responses.conftest import ALICE, response, said


async def work(store, number, turns) -> None:
    for turn in range(turns):
        mine = f"r{number}_{turn}"
        await store.store_response_object(
            response(mine, "b"), [said(mine)], [], incremental_input=True
        )
        while True:
            found = await store.get_response_object("shared")
            found[f"p{number}_{turn}"] = True
            try:
                await store.update_response_object(found)
            except ConflictError:
                continue
            break
        if turn % 2:
            await store.delete_response_object(mine)
        if turn == turns // 2 and number == 0:
            await store.delete_response_object("a")
            await store.delete_response_object("r0_0")


async def main(task) -> None:
    address = task["address"]
    pool = (
        SqliteDatabase("sql_default", address["path"])
        if "path" in address
        else postgres_pool(address)
    )
    try:
        print("ready", flush=True)
        sys.stdin.readline()
        store = ResponsesStore(AuthorizedSqlStore(SqlStore(pool)), "responses")
        with acting_as(ALICE):
            await work(store, task["number"], task["turns"])
    finally:
        await pool.close()


if __name__ == "__main__":
    asyncio.run(main(json.loads(sys.argv[1])))
