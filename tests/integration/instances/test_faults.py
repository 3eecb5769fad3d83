"""What goes wrong with the rows is nobody else's business, and is said once."""

import asyncio
import contextlib
import logging
import pickle
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from stackstore.instances import borrowing, heartbeat, living
from stackstore.pools import sqlite
from tests.conftest import Database
from tests.integration.instances.site import FIRST, SECOND, STACK, Site, until
from tests.support.pgbouncer import pooled
from tests.support.postgres import PostgresServer
from tests.support.proxy import Proxy

LOGGER = "stackstore.instances"
ROOT = Path(__file__).resolve().parents[3]


def said(caplog):
    return [record for record in caplog.records if record.name.startswith(LOGGER)]


@pytest.fixture
def own_database():
    """A database on a server that the test may stop."""
    server = PostgresServer.start()
    asyncio.run(server.create_role("app", "pw"))
    asyncio.run(server.create_database("app", "app"))
    yield Database(server, "app", "app", "pw")
    server.stop()


@contextlib.asynccontextmanager
async def all_connections_held(process):
    """Others have the whole pool, and only then instances learn that the backend is reached."""
    engine = process.databases["sql_default"].engine
    pool = process.databases.pools()["sql_default"]
    most = pool.size if engine.name == "postgresql" else engine.sync_engine.pool.size()
    process.databases._watchers.clear()
    async with contextlib.AsyncExitStack() as held:
        for _ in range(most):
            await held.enter_async_context(engine.connect())
        process.databases.watch(process.instances._look)
        process.instances._look()
        yield most


async def test_a_pool_that_is_busy_is_left_to_the_requests(site, monkeypatch, caplog):
    monkeypatch.setattr(heartbeat, "BUSY_SECONDS", 0.1)
    monkeypatch.setattr(borrowing, "PATIENCE_SECONDS", 0.1)
    process = site.process()
    async with all_connections_held(process) as most:
        # Long enough for several tries; each gives its place among those who wait up again.
        waiting = []
        for _ in range(50):
            await asyncio.sleep(0.02)
            waiting.append(process.databases.pools()["sql_default"].waiting)
        assert await site.rows() == []
        if site.dialect == "postgresql":
            assert set(waiting) == {0, 1}
            assert len(await site.server.sessions(site.database.role)) <= most
    began = time.monotonic()
    await process.use()
    assert time.monotonic() - began < 1
    await until(site.rows)
    assert said(caplog) == []


async def test_a_pool_that_is_less_patient_is_no_trouble_either(postgres_site, monkeypatch, caplog):
    monkeypatch.setattr(borrowing, "PATIENCE_SECONDS", 3.0)
    short = postgres_site.backends["sql_default"]
    postgres_site.backends["sql_default"] = short.model_copy(
        update={"pool": short.pool.model_copy(update={"acquire_timeout_seconds": 1})}
    )
    process = postgres_site.process()
    async with all_connections_held(process):
        await asyncio.sleep(1.3)
    assert said(caplog) == []


async def test_who_is_kept_waiting_for_long_says_so_once(site, monkeypatch, caplog):
    monkeypatch.setattr(heartbeat, "BUSY_SECONDS", 0.05)
    monkeypatch.setattr(borrowing, "PATIENCE_SECONDS", 0.05)
    monkeypatch.setattr(heartbeat.table, "GONE_AFTER_SECONDS", 0.3)
    process = site.process()
    async with all_connections_held(process):
        await until(lambda: said(caplog))
        await asyncio.sleep(0.3)
    (record,) = said(caplog)
    assert "no connection came free" in record.getMessage()


async def test_no_right_to_make_the_table(postgres_site, monkeypatch, caplog):
    monkeypatch.setattr(heartbeat, "EVERY_SECONDS", 0.02)
    monkeypatch.setattr(heartbeat, "LONGEST_PAUSE_SECONDS", 0.1)
    site, role = postgres_site, postgres_site.database.role
    await site.server.run(f'ALTER DATABASE "{site.database.name}" OWNER TO postgres')
    process = site.process()
    assert await process.use() == 1
    await until(lambda: said(caplog))
    await asyncio.sleep(0.5)
    assert await process.use() == 1
    (record,) = said(caplog)
    assert record.levelno == logging.WARNING
    assert f"CREATE SCHEMA {'stackstore'} AUTHORIZATION" in record.getMessage()
    await site.server.run(f'CREATE SCHEMA stackstore AUTHORIZATION "{role}"', site.database.name)
    assert await until(site.rows) == [("sql_default", process.id, FIRST)]


async def test_no_right_to_write_the_table(postgres_site, monkeypatch, caplog):
    monkeypatch.setattr(heartbeat, "EVERY_SECONDS", 0.02)
    monkeypatch.setattr(heartbeat, "LONGEST_PAUSE_SECONDS", 0.1)
    site, role = postgres_site, postgres_site.database.role
    # Somebody else has made the tables.
    earlier = site.process()
    await earlier.use()
    await until(site.rows)
    await earlier.close()
    await site.sql("ALTER TABLE @instances OWNER TO postgres")
    await site.sql("GRANT CREATE, USAGE ON SCHEMA stackstore TO PUBLIC")
    process = site.process()
    await process.use()
    await until(lambda: said(caplog))
    await asyncio.sleep(0.5)
    assert await process.use() == 1
    (record,) = said(caplog)
    grants = (
        "GRANT USAGE ON SCHEMA stackstore and SELECT, INSERT, UPDATE, DELETE ON "
        '"stackstore"."instances" to it'
    )
    assert grants in record.getMessage()
    await site.sql(f'GRANT SELECT, INSERT, UPDATE, DELETE ON @instances TO "{role}"')
    assert await until(site.rows) == [("sql_default", process.id, FIRST)]


async def test_a_trouble_that_comes_again_is_said_again(postgres_site, monkeypatch, caplog):
    monkeypatch.setattr(heartbeat, "EVERY_SECONDS", 0.02)
    monkeypatch.setattr(heartbeat, "LONGEST_PAUSE_SECONDS", 0.1)
    site = postgres_site
    process = site.process()
    await process.use()
    for count in (1, 2):
        await until(site.rows)
        await site.sql("ALTER TABLE @instances OWNER TO postgres")
        await until(lambda count=count: len(said(caplog)) == count)
        await site.sql(f'ALTER TABLE @instances OWNER TO "{site.database.role}"')
        await site.sql("UPDATE @instances SET seen = 0")
        await until(lambda: recent(site))
    assert len(said(caplog)) == 2


async def recent(site):
    rows = await site.rows("seen")
    return rows and rows[0][0] > 0


async def test_after_troubles_it_is_tried_more_and_more_seldom(postgres_site, monkeypatch):
    monkeypatch.setattr(heartbeat, "EVERY_SECONDS", 0.02)
    monkeypatch.setattr(heartbeat, "LONGEST_PAUSE_SECONDS", 0.25)
    process = postgres_site.process()
    await process.use()
    await until(postgres_site.rows)
    (beating,) = process.instances._heartbeats.values()
    tries = 0

    async def fail():
        nonlocal tries
        tries += 1
        raise OSError

    monkeypatch.setattr(beating, "_write", fail)
    await asyncio.sleep(1)
    assert 4 <= tries <= 10


async def test_the_table_vanishes(site, monkeypatch, caplog):
    monkeypatch.setattr(heartbeat, "EVERY_SECONDS", 0.1)
    process = site.process()
    await process.use()
    await until(site.rows)
    await site.sql("DROP TABLE @instances")
    await site.sql("DELETE FROM @schema_versions WHERE component = 'instances'")
    await until(site.rows)
    assert said(caplog) == []


async def test_a_rotation_to_another_database(postgres_site):
    site = postgres_site
    process = site.process()
    await process.use()
    await until(site.rows)
    there = f"{site.database.name}b"
    await site.server.create_database(there, site.database.role)
    try:
        site.backends["sql_default"] = site.backend(SECOND, database=there)
        process.databases.apply(site.backends)
        await process.use()
        found = await until(lambda: site.rows(database=there))
        assert found == [("sql_default", process.id, SECOND)]
        await process.close()
    finally:
        await site.server.run(f'DROP DATABASE "{there}" WITH (FORCE)')


async def test_the_database_is_killed_and_comes_back(own_database, monkeypatch, caplog):
    monkeypatch.setattr(heartbeat, "EVERY_SECONDS", 0.1)
    monkeypatch.setattr(heartbeat, "BUSY_SECONDS", 0.1)
    monkeypatch.setattr(borrowing, "PATIENCE_SECONDS", 0.2)
    site = Site("postgresql", own_database)
    process = site.process()
    await process.use()
    await until(site.rows)
    await asyncio.to_thread(own_database.server.kill9)
    await asyncio.sleep(1)
    await asyncio.to_thread(own_database.server.start_again)
    await site.sql("UPDATE @instances SET seen = 0")
    await until(lambda: recent(site), 15)
    assert await process.use() == 1
    assert len(said(caplog)) <= 1
    assert "pw" not in "".join(record.getMessage() for record in said(caplog))
    await process.close()


async def test_a_lock_on_the_table_keeps_nobody_but_the_row(postgres_site, monkeypatch, caplog):
    monkeypatch.setattr(heartbeat, "EVERY_SECONDS", 0.05)
    monkeypatch.setattr(borrowing, "STATEMENT_SECONDS", 0.3)
    site = postgres_site
    process = site.process()
    await process.use()
    await until(site.rows)
    locker = await site.server.connect(site.database.name)
    try:
        async with locker.transaction():
            await locker.execute("LOCK TABLE stackstore.instances IN EXCLUSIVE MODE")
            await until(lambda: said(caplog))
            began = time.monotonic()
            assert await asyncio.gather(*(process.use() for _ in range(20))) == [1] * 20
            assert time.monotonic() - began < 2
            await asyncio.sleep(1)
            began = time.monotonic()
            await process.close()
            assert time.monotonic() - began < 3
    finally:
        await locker.close()
    (record,) = said(caplog)
    assert "could not be written within 0.3 s" in record.getMessage()


async def test_a_file_that_another_process_keeps_locked(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(heartbeat, "EVERY_SECONDS", 0.05)
    monkeypatch.setattr(sqlite, "_PRAGMAS", ("PRAGMA busy_timeout = 300", *sqlite._PRAGMAS[1:]))
    site = Site("sqlite", path=tmp_path / "a.db")
    process = site.process()
    await process.use()
    await until(site.rows)
    locker = sqlite3.connect(site.path, isolation_level=None)
    locker.execute("BEGIN IMMEDIATE")
    await until(lambda: said(caplog))
    # Reads go on.
    async with process.databases["sql_default"].driver() as driver:
        assert await driver.execute_fetchall("SELECT 1")
    locker.execute("ROLLBACK")
    locker.close()
    await site.sql("UPDATE @instances SET seen = 0")
    await until(lambda: recent(site))
    await process.close()
    assert len(said(caplog)) == 1


async def test_closing_behind_a_network_that_says_nothing(database):
    async with Proxy(database.server.port) as proxy:
        site = Site("postgresql", database)
        site.backends["sql_default"] = site.backend(port=proxy.port)
        process = site.process()
        await process.use()
        await until(site.rows)
        proxy.swallow()
        began = time.monotonic()
        await process.instances.close()
        # SQLAlchemy gives a connection that was cut off two seconds for a farewell.
        assert time.monotonic() - began < 3.5
        await process.databases.close()
    # Its row goes as that of a process that was killed.
    assert len(await site.rows()) == 1


async def start(script, site):
    """A process of its own; it is told the backends on its standard input."""
    pipe, command = subprocess.PIPE, [sys.executable, "-W", "ignore", "-c", script]
    process = await asyncio.to_thread(
        subprocess.Popen, command, stdin=pipe, stdout=pipe, text=True, cwd=ROOT
    )
    process.stdin.write(pickle.dumps(site.backends).hex() + "\n")
    process.stdin.flush()
    return process


KILLED = """
import asyncio, pickle, sys
from tests.integration.instances.site import Process, until

async def main():
    process = Process(pickle.loads(bytes.fromhex(sys.stdin.readline())))
    await process.use()
    print(process.id, flush=True)
    await asyncio.sleep(60)

asyncio.run(main())
"""


async def test_a_process_that_is_killed_leaves_a_row_that_goes_later(site):
    killed = await start(KILLED, site)
    try:
        name = (await asyncio.to_thread(killed.stdout.readline)).strip()
        await until(site.rows)
    finally:
        killed.send_signal(signal.SIGKILL)
        await asyncio.to_thread(killed.communicate)
    process = site.process()
    await process.use()
    await until(lambda: count(site, 2))
    reader = process.databases["sql_default"]
    assert {one.instance for one in await living(reader, STACK)} == {name, process.id}
    await site.sql(f"UPDATE @instances SET seen = seen - 151 WHERE instance = '{name}'")
    assert {one.instance for one in await living(reader, STACK)} == {process.id}
    other = site.process()
    await other.use()
    await until(lambda: swept(site, {process.id, other.id}))


async def swept(site, left):
    return {row[1] for row in await site.rows()} == left


async def count(site, number):
    return len(await site.rows()) == number


FORKED = """
import asyncio, os, pickle, sys
from tests.integration.instances.site import Process

async def main():
    process = Process(pickle.loads(bytes.fromhex(sys.stdin.readline())))
    await process.use()
    await asyncio.sleep(1)
    return process

loop = asyncio.new_event_loop()
process = loop.run_until_complete(main())
child = os.fork()
if child == 0:
    try:
        loop.run_until_complete(process.instances.close())
    finally:
        os._exit(0)
os.waitpid(child, 0)
print(process.id, flush=True)
sys.stdin.readline()
asyncio.run(process.instances.close())
print("other loop", flush=True)
sys.stdin.readline()
os._exit(0)
"""


async def test_neither_a_forked_child_nor_another_loop_takes_the_row_away(postgres_site):
    site = postgres_site
    process = await start(FORKED, site)
    try:
        name = (await asyncio.to_thread(process.stdout.readline)).strip()
        assert await site.rows() == [("sql_default", name, FIRST)]
        process.stdin.write("\n")
        process.stdin.flush()
        assert await asyncio.to_thread(process.stdout.readline) == "other loop\n"
        assert await site.rows() == [("sql_default", name, FIRST)]
    finally:
        process.kill()
        await asyncio.to_thread(process.communicate)


@pytest.fixture(scope="module")
def pooler(postgres):
    yield from pooled(postgres, "Transaction")


async def test_through_a_pooler_in_transaction_mode(pooler, database, monkeypatch, caplog):
    monkeypatch.setattr(heartbeat, "EVERY_SECONDS", 0.05)
    site = Site("postgresql", Database(pooler, database.name, database.role, database.password))
    processes = [site.process() for _ in range(3)]
    await asyncio.gather(*(process.use() for process in processes))
    await until(lambda: count(site, 3))
    await site.sql("UPDATE @instances SET seen = 0")
    await until(lambda: all_recent(site))
    reader = processes[0].databases["sql_default"]
    assert len(await living(reader, STACK)) == 3
    for process in processes:
        await process.close()
    assert await site.rows() == []
    assert said(caplog) == []


async def all_recent(site):
    rows = await site.rows("seen")
    return len(rows) == 3 and all(seen > 0 for (seen,) in rows)
