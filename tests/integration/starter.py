"""A process of its own that opens all there is of a run config; run as a script with one JSON argument."""

from __future__ import annotations

import asyncio
import json
import os
import sys

import stackstore
from stackstore.access import AuthorizedSqlStore, User, acting_as
from stackstore.errors import StackstoreError
from stackstore.sql import ColumnDefinition, ColumnType
from tests.integration import processes

CONFIG = """\
distro_name: starts
storage:
  backends:
    kv_default: {kv}
    sql_default: {sql}
  stores:
    metadata: {{backend: kv_default, namespace: registry}}
    inference: {{backend: sql_default, table_name: completions}}
"""

SCHEMA = {
    "id": ColumnDefinition(ColumnType.STRING, primary_key=True),
    "created": ColumnDefinition(ColumnType.INTEGER),
}


def config_of(address) -> str:
    """The run config of an address as the SQL stores' tests have it."""
    if "path" in address:
        one = f"db_path: {address['path']}"
        kinds = ("kv_sqlite", "sql_sqlite")
    else:
        one = (
            f"host: {address['host']}, port: {address['port']}, db: {address['database']}, "
            f"user: {address['username']}, password: pw, ssl_mode: disable"
        )
        kinds = ("kv_postgres", "sql_postgres")
    kv, sql = (f"{{type: {kind}, {one}}}" for kind in kinds)
    return CONFIG.format(kv=kv, sql=sql)


async def doors(storage):
    """Each way in, as a name and a call."""
    plain = storage.sql("inference")
    own = AuthorizedSqlStore(plain)
    await plain.create_table("things", SCHEMA)
    await own.create_table("completions", SCHEMA, per_owner=True)
    await own.create_index("completions_created", "completions", ["created"])
    return {
        "kv": lambda: storage.kv("metadata").get("a"),
        "rows": lambda: plain.fetch_all("things", limit=3),
        "owned": lambda: own.fetch_all("completions", None, "created", 3),
        "transaction": lambda: counted(own),
    }


async def counted(store):
    async with store.transaction() as transaction:
        return await transaction.count("completions")


async def use(storage, number: int) -> list[str]:
    """Write and read by each; what went wrong."""
    ways = await doors(storage)
    await storage.kv("metadata").set(f"process:{number}", "here")
    await storage.sql("inference").insert("things", {"id": str(number), "created": number})
    own = AuthorizedSqlStore(storage.sql("inference"))
    own.declare("completions", SCHEMA, per_owner=True)
    await own.insert("completions", {"id": "1", "created": number})
    return [error for way in ways.values() if (error := await said(way()))]


async def said(call) -> str:
    """What an operation raises, in words."""
    try:
        await call
    except StackstoreError as error:
        return str(error)
    return ""


async def begin(path: str, number: int) -> None:
    with acting_as(User(f"u{number}", {"teams": ["a"]})):
        async with await stackstore.open(path) as storage:
            print(json.dumps(await use(storage, number)))


async def fork(path: str) -> None:
    """Open and use all, fork, and use it in the child, in a loop of the child's own."""
    with acting_as(User("u", {})):
        storage = await stackstore.open(path)
        assert await use(storage, 0) == []
        ways = await doors(storage)
        child = os.fork()
        if child == 0:
            # As a server's worker would: out of the loop that it was forked in, into one of its own.
            asyncio.events._set_running_loop(None)
            heard = {name: asyncio.run(said(way())) for name, way in ways.items()}
            os.write(1, json.dumps(heard).encode())
            os._exit(0)
        _, status = os.waitpid(child, 0)
        assert status == 0
        print()
        print(json.dumps({name: await said(way()) for name, way in ways.items()}))
        await storage.close()


def loops(path: str) -> None:
    """Use what was opened in a loop that has ended; then open anew."""

    async def first():
        with acting_as(User("u", {})):
            storage = await stackstore.open(path)
            assert await use(storage, 0) == []
            return storage, await doors(storage)

    async def second(ways):
        with acting_as(User("u", {})):
            return {name: await said(way()) for name, way in ways.items()}

    _, ways = asyncio.run(first())
    print(json.dumps(asyncio.run(second(ways))))
    asyncio.run(begin(path, 1))


if __name__ == "__main__":
    task = json.loads(sys.argv[1])
    processes.begin()
    if task["what"] == "begin":
        asyncio.run(begin(task["config"], task["number"]))
    elif task["what"] == "fork":
        asyncio.run(fork(task["config"]))
    else:
        loops(task["config"])
    sys.stdout.flush()
    # What a loop left behind that has ended can't be closed any more.
    os._exit(0)
