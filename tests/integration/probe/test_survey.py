"""Who uses a database, as a visit sees it: the runtime's own rows, and sessions."""

from __future__ import annotations

import asyncio
import contextlib

import asyncpg

from stackstore import schema
from stackstore.credentials.snapshot import PreviousLogin
from stackstore.instances import Instances, table
from stackstore.kv import KVStore
from stackstore.pools.databases import Databases
from stackstore_operator.probe import survey
from stackstore_operator.probe.finding import Processes, Sessions, Sight

STACK = "9d2e41b0c7aa"


class Process:
    """What `stackstore.open()` makes of a backend, as far as this matters."""

    def __init__(self, backend, name="sql_default", stack=STACK) -> None:
        self.name = name
        self.databases = Databases(stack, {name: backend}, lambda: None)
        self.instances = Instances(self.databases, stack)

    async def __aenter__(self):
        store = KVStore(self.databases[self.name], "n")
        await store.set("a", "1")
        await store.close()
        return self

    async def __aexit__(self, *_):
        await self.instances.close()
        await self.databases.close()


async def until(door, holds):
    async with asyncio.timeout(20):
        while not holds(finding := await door.visit()):
            await asyncio.sleep(0.05)
    return finding


def test_the_tables_name_and_patience_are_the_runtimes():
    assert (survey.SCHEMA, survey.TABLE) == (schema.SCHEMA, table.NAME)
    assert survey.GONE_AFTER_SECONDS == table.GONE_AFTER_SECONDS


async def test_processes_and_sessions_by_stack_and_revision(door):
    first, second = door.backend(), door.backend(revision="0000000b")
    async with contextlib.AsyncExitStack() as processes:
        for backend, name, stack in (
            (first, "sql_default", STACK),
            (first, "sql_default", STACK),
            (second, "sql_default", STACK),
            (second, "other", "000000000000"),
        ):
            await processes.enter_async_context(Process(backend, name, stack))
        finding = await until(
            door, lambda f: sum(p.count for s in f.sights.values() for p in s.processes) == 4
        )
        assert finding.rows == "read"
        assert finding.sights[STACK].processes == (
            Processes("sql_default", "0000000a", 2),
            Processes("sql_default", "0000000b", 1),
        )
        by_revision = {s.revision: s.count for s in finding.sights[STACK].sessions}
        assert by_revision.keys() == {"0000000a", "0000000b"}
        assert by_revision["0000000a"] >= 2
        assert finding.sights["000000000000"].processes == (Processes("other", "0000000b", 1),)
    # Who goes says goodbye.
    await until(door, lambda f: not f.sights)


async def test_who_was_not_heard_of_for_long_is_gone(door):
    async with Process(door.backend()):
        await until(door, lambda f: f.sights and f.sights[STACK].processes)
        await door.run(
            "INSERT INTO stackstore.instances SELECT stack_id, backend, 'killed', 'ffffffff', started, "
            f"seen - {table.GONE_AFTER_SECONDS + 30} FROM stackstore.instances"
        )
        assert (await door.visit()).sights[STACK].processes == (
            Processes("sql_default", "0000000a", 1),
        )


async def test_a_stock_server_is_seen_by_its_sessions_also_another_users(door):
    """The user was replaced: what the earlier one's sessions are called can be seen all the same."""
    server = door.database.server
    connection = await asyncpg.connect(
        host=server.host, port=server.port, user=server.superuser, password=server.password,
        database=door.database.name, ssl=False,
        server_settings={"application_name": f"stackstore:0000000c:{STACK}"},
    )  # fmt: skip
    elsewhere = await asyncpg.connect(
        host=server.host, port=server.port, user=server.superuser, password=server.password,
        database="postgres", ssl=False,
        server_settings={"application_name": f"stackstore:0000000d:{STACK}"},
    )  # fmt: skip
    try:
        finding = await door.visit()
    finally:
        await connection.close()
        await elsewhere.close()
    assert finding.rows == "missing"
    assert finding.sights == {STACK: Sight((), (Sessions("0000000c", 1),))}


async def test_a_table_that_may_not_be_read(door):
    await door.run("CREATE SCHEMA stackstore")
    await door.run("CREATE TABLE stackstore.instances (a int)")
    assert (await door.visit()).rows == "unreadable"
    await door.run(f'GRANT USAGE ON SCHEMA stackstore TO "{door.database.role}"')
    assert (await door.visit()).rows == "unreadable"
    # And one that is none of ours.
    await door.run(f'GRANT SELECT ON stackstore.instances TO "{door.database.role}"')
    finding = await door.visit()
    assert (finding.rows, finding.outcome.status) == ("unreadable", "True")


async def test_a_table_that_somebody_locks_does_not_make_the_login_unknown(door, monkeypatch):
    monkeypatch.setattr(survey, "_STATEMENT_MILLISECONDS", 200)
    async with Process(door.backend()):
        await until(door, lambda f: f.rows == "read")
        lock = await door.database.server.connect(door.database.name)
        try:
            await lock.execute("BEGIN; LOCK TABLE stackstore.instances IN ACCESS EXCLUSIVE MODE")
            finding = await door.visit()
        finally:
            await lock.close()
    assert (finding.rows, finding.outcome.status) == ("unreadable", "True")


async def test_a_process_that_goes_on_with_an_earlier_login_says_so(door):
    wrong = door.backend(revision="0000000b", password="not yet")
    earlier = PreviousLogin(**dict(door.backend().current), usable_until=0)
    async with Process(wrong.model_copy(update={"previous": (earlier,)})):
        finding = await until(door, lambda f: f.sights and f.sights[STACK].processes)
        assert finding.sights[STACK].processes == (Processes("sql_default", "0000000a", 1),)


def test_what_is_no_group_is_left_out():
    """Whatever calls itself a Postgres may answer with other types than those asked for."""
    good = ("9d2e41b0c7aa", "sql_default", "0000000a", 1)
    assert survey._is_group(good)
    assert not survey._is_group((*good[:3], "1"))
    assert not survey._is_group((None, *good[1:]))


async def test_long_texts_in_the_table_are_cut(door):
    """It is its owner's, who may have put anything there."""
    async with Process(door.backend(), "sql_default", STACK):
        await until(door, lambda f: STACK in f.sights)
        await door.run(
            "ALTER TABLE stackstore.instances DROP CONSTRAINT instances_pkey, "
            "ALTER stack_id TYPE text, ALTER backend TYPE text, ALTER revision TYPE text"
        )
        await door.run(
            "UPDATE stackstore.instances SET stack_id = repeat('s', 1000000), "
            "backend = repeat('b', 1000000), revision = repeat('r', 1000000)"
        )
        finding = await until(door, lambda f: "s" * 12 in f.sights)
    assert finding.sights["s" * 12].processes == (Processes("b" * 253, "r" * 8, 1),)
