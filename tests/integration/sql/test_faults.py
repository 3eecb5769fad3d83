"""The database goes, hangs, refuses; what is told is true, in our words, and holds no value."""

import asyncio
import contextlib
import logging
import sqlite3
import subprocess
import sys
import traceback

import pytest
from sqlalchemy import event

from stackstore.errors import (
    BackendUnavailableError,
    ConflictError,
    InvalidArgumentError,
    NotFoundError,
    StackstoreError,
    StoreError,
)
from stackstore.sql import ColumnDefinition, ColumnType

KEY = ColumnDefinition(ColumnType.STRING, primary_key=True)
SCHEMA = {"id": KEY, "n": ColumnType.INTEGER, "body": ColumnType.JSON, "text": ColumnType.TEXT}
CANARY = "c4n4ry"


def everything(error: BaseException) -> str:
    """All that any log or debugger would show of an error, its contexts included."""
    texts, seen = [], error
    while seen is not None:
        texts += [str(seen), repr(seen), repr(seen.args), repr(vars(seen))]
        texts += traceback.format_exception(type(seen), seen, seen.__traceback__, chain=False)
        seen = seen.__context__ or seen.__cause__
    return "\n".join(texts)


async def test_a19_no_value_in_any_error_or_log(place, store, caplog):
    """Not in the text, not in a cause or context, not in a log at any level."""
    caplog.set_level(logging.DEBUG)
    await store.create_table("t", SCHEMA)
    canary = {"id": CANARY, "body": {"prompt": CANARY}, "text": f"'{CANARY}", "n": 1}
    await store.insert("t", canary)
    await store.insert("t", [{**canary, "id": f"{CANARY}{n}"} for n in range(3)])
    caught: list[BaseException] = []

    async def fails(kind, call):
        try:
            await call
        except kind as error:
            caught.append(error)
        else:
            pytest.fail("it went well")

    await fails(ConflictError, store.insert("t", canary))
    await fails(ConflictError, store.insert("t", [canary, {**canary, "id": "x"}]))
    await fails(ConflictError, store.update("t", {"id": f"{CANARY}1"}, {"id": CANARY}))
    await fails(InvalidArgumentError, store.insert("t", {**canary, "n": CANARY}))
    await fails(InvalidArgumentError, store.insert("t", {**canary, "body": {CANARY}}))
    await fails(InvalidArgumentError, store.insert("t", {**canary, "text": CANARY + "\ud800"}))
    await fails(NotFoundError, store.fetch_all("t", {"text": "x"}, after=CANARY))
    await fails(InvalidArgumentError, store.fetch_all("t", {"text": CANARY}, cursor=CANARY))
    # What the database itself refuses: a constraint that its owner added.
    if place.dialect == "postgresql":
        await place.sql("ALTER TABLE @t ADD CHECK (n < 9)")
        await place.sql("CREATE UNIQUE INDEX owners_own ON @t (text) WHERE n = 5")
        await fails(ConflictError, store.insert("t", {**canary, "id": "y", "n": 9}))
        await store.insert("t", {**canary, "id": "5", "n": 5})
        await fails(ConflictError, store.insert("t", {**canary, "id": "6", "n": 5}))
    else:
        await place.sql(
            "CREATE TRIGGER no BEFORE INSERT ON @t WHEN NEW.n > 8 BEGIN SELECT RAISE(ABORT, 'no'); END"
        )
        await fails(ConflictError, store.insert("t", {**canary, "id": "y", "n": 9}))
    with contextlib.suppress(ConflictError):
        async with store.transaction() as each:
            await fails(
                ConflictError,
                each.insert(
                    "t",
                    {**canary, "id": f"{CANARY}1"}
                    if place.dialect == "sqlite"
                    else {"id": f"{CANARY}1"},
                ),
            )
            raise caught[-1]
    if place.dialect == "postgresql":
        # The driver refuses before the server sees it.
        await place.sql("ALTER TABLE @t ALTER text TYPE integer USING 1")
        await fails(StackstoreError, store.insert("t", {**canary, "id": "z"}))
    # A table that was renamed away: a stock server printed the prompt into its log here.
    await place.sql("DROP TABLE @t")
    if place.dialect == "postgresql":
        await place.server.run(
            "ALTER SCHEMA stackstore OWNER TO postgres", str(place.address["database"])
        )
        await fails(BackendUnavailableError, store.insert("t", canary))
    else:
        await place.sql("CREATE VIEW @t AS SELECT 1 AS id")
        await fails(StackstoreError, store.insert("t", canary))
    assert len(caught) >= 11
    for error in caught:
        assert CANARY not in everything(error).replace("CANARY", ""), everything(error)
    assert CANARY not in caplog.text


async def test_a_conflict_names_columns(place, store):
    await store.create_table(
        "t", {"b": ColumnDefinition(ColumnType.INTEGER, primary_key=True), "a": KEY}
    )
    await store.insert("t", {"a": "x", "b": 1})
    with pytest.raises(
        ConflictError, match=r"backend 'sql_default', table 't': there is a row with the same b, a$"
    ):
        await store.insert("t", {"a": "x", "b": 1})


async def test_the_server_goes_and_comes_back(own_postgres):
    server, place = own_postgres
    store = place.store(acquire_timeout_seconds=1)
    await store.create_table("t", SCHEMA)
    await store.insert("t", {"id": "1"})
    await asyncio.to_thread(server.stop, "immediate", keep=True)
    for call in (
        store.fetch_all("t"), store.insert("t", {"id": "2"}), store.create_table("u", SCHEMA),
        store.table_exists("t"), in_transaction(store),
    ):  # fmt: skip
        with pytest.raises(BackendUnavailableError, match="sql_default"):
            await call
    await asyncio.to_thread(server.start_again)
    assert len((await store.fetch_all("t")).data) == 1
    await store.insert("t", {"id": "2"})


async def in_transaction(store):
    async with store.transaction() as each:
        await each.insert("t", {"id": "3"})


async def busy(place, statement):
    """Wait until our role runs a statement that starts so; returns the sessions."""
    async with asyncio.timeout(10):
        while True:
            found = await place.server.run(
                "SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock' "
                f"AND usename = '{place.address['username']}' AND query LIKE '{statement}%'"
            )
            if found:
                return [row["pid"] for row in found]
            await asyncio.sleep(0.01)


async def test_a_connection_lost_in_the_middle(postgres_place):
    place = postgres_place
    store = place.store()
    await store.create_table("t", SCHEMA)
    await store.insert("t", {"id": "1"})
    holder = await place.server.connect(str(place.address["database"]))
    try:
        transaction = holder.transaction()
        await transaction.start()
        await holder.execute("LOCK TABLE stackstore.t IN ACCESS EXCLUSIVE MODE")
        read = asyncio.create_task(store.fetch_all("t"))
        (pid,) = await busy(place, "SELECT")
        await place.server.run(f"SELECT pg_terminate_backend({pid})")
        (again,) = await busy(place, "SELECT")
        assert again != pid, "a read is tried once more, on another connection"
        write = asyncio.create_task(store.insert("t", {"id": "2"}))
        (pid,) = await busy(place, "INSERT")
        await place.server.run(f"SELECT pg_terminate_backend({pid})")
        with pytest.raises(BackendUnavailableError, match="whether a write happened is unknown"):
            await write
        whole = asyncio.create_task(in_transaction(store))
        (pid,) = await busy(place, "INSERT")
        await place.server.run(f"SELECT pg_terminate_backend({pid})")
        with pytest.raises(BackendUnavailableError, match="unknown"):
            await whole
        await transaction.rollback()
        assert [row["id"] for row in (await read).data] == ["1"]
    finally:
        await holder.close()
    await store.insert("t", {"id": "2"})


async def test_a_read_that_is_lost_twice_fails(postgres_place):
    place = postgres_place
    store = place.store()
    await store.create_table("t", SCHEMA)
    holder = await place.server.connect(str(place.address["database"]))
    try:
        async with holder.transaction():
            await holder.execute("LOCK TABLE stackstore.t IN ACCESS EXCLUSIVE MODE")
            read = asyncio.create_task(store.fetch_all("t"))
            for _ in range(2):
                (pid,) = await busy(place, "SELECT")
                await place.server.run(f"SELECT pg_terminate_backend({pid})")
                async with asyncio.timeout(5):
                    while not read.done() and pid in await busy_or_nothing(place):
                        await asyncio.sleep(0.01)
            with pytest.raises(BackendUnavailableError, match="connection was lost"):
                await read
    finally:
        await holder.close()


async def busy_or_nothing(place):
    rows = await place.server.run("SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock'")
    return [row["pid"] for row in rows]


async def test_a_statement_that_takes_too_long(postgres_place):
    place = postgres_place
    store = place.store(statement_timeout_seconds=1)
    await store.create_table("t", SCHEMA)
    holder = await place.server.connect(str(place.address["database"]))
    try:
        async with holder.transaction():
            await holder.execute("LOCK TABLE stackstore.t IN ACCESS EXCLUSIVE MODE")
            with pytest.raises(
                BackendUnavailableError, match=r"statement timeout.*nothing was written"
            ):
                await store.insert("t", {"id": "1"})
    finally:
        await holder.close()
    assert (await store.fetch_all("t")).data == []


async def test_no_connection_comes_free(postgres_place):
    store = postgres_place.store(size=1, max_overflow=0, acquire_timeout_seconds=1)
    await store.create_table("t", SCHEMA)
    async with store.transaction() as each:
        await each.insert("t", {"id": "1"})
        with pytest.raises(BackendUnavailableError, match="all 1 are in use"):
            await store.fetch_all("t")


async def test_two_transactions_that_lock_each_other_out(postgres_place):
    place = postgres_place
    store = place.store()
    await store.create_table("t", SCHEMA)
    await store.insert("t", [{"id": "a", "n": 0}, {"id": "b", "n": 0}])
    met = asyncio.Barrier(2)

    async def both(first, second):
        async with store.transaction() as each:
            await each.update("t", {"n": 1}, {"id": first})
            await met.wait()
            await each.update("t", {"n": 1}, {"id": second})

    ended = await asyncio.gather(both("a", "b"), both("b", "a"), return_exceptions=True)
    (lost,) = (error for error in ended if error is not None)
    assert isinstance(lost, BackendUnavailableError)
    assert "nothing was written, try again" in str(lost)


async def test_a_single_statement_that_lost_a_deadlock_is_tried_again(postgres_place):
    place = postgres_place
    store = place.store()
    await store.create_table("t", SCHEMA)
    await store.insert("t", [{"id": "a", "n": 0}, {"id": "b", "n": 0}])
    holder = await place.server.connect(str(place.address["database"]))
    try:
        # The other side waits for the deadlock's detection longer than ours, so ours is the victim.
        await holder.execute("SET deadlock_timeout = '60s'")
        transaction = holder.transaction()
        await transaction.start()
        await holder.execute("UPDATE stackstore.t SET n = 5 WHERE id = 'b'")
        ours = asyncio.create_task(store.update("t", {"n": 1}, {"id": ["a", "b"]}))
        await busy(place, "UPDATE")
        await holder.execute("UPDATE stackstore.t SET n = 5 WHERE id = 'a'")
        await transaction.commit()
        assert await ours == 2
    finally:
        await holder.close()
    assert [row["n"] for row in (await store.fetch_all("t")).data] == [1, 1]


HOLD = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN IMMEDIATE")
print("held", flush=True)
sys.stdin.read()
"""


async def test_another_process_keeps_the_file(sqlite_place):
    store = sqlite_place.store()
    pool = sqlite_place.pools[0]

    @event.listens_for(pool.engine.sync_engine, "checkout")
    def impatient(connection, *_):
        connection.run_async(lambda driver: driver.execute("PRAGMA busy_timeout = 100"))

    await store.create_table("t", SCHEMA)
    async with store.transaction() as each:
        await each.insert("t", {"id": "1"})
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(sqlite_place.address["path"])], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:  # fmt: skip
        try:
            assert holder.stdout.readline() == b"held\n"
            for call in (
                store.insert("t", {"id": "2"}),
                in_transaction(store),
                store.create_table("u", SCHEMA),
            ):
                with pytest.raises(
                    BackendUnavailableError, match=r"locked for too long.*nothing was written"
                ):
                    await call
            assert len((await store.fetch_all("t")).data) == 1, "readers go on"
        finally:
            holder.stdin.close()
    await store.insert("t", {"id": "2"})


async def test_a_writer_that_never_ends(sqlite_place, monkeypatch):
    monkeypatch.setattr("stackstore.sql.runner.TURN_SECONDS", 0.1)
    store = sqlite_place.store()
    await store.create_table("t", SCHEMA)
    async with store.transaction() as each:
        await each.insert("t", {"id": "1"})
        with pytest.raises(BackendUnavailableError, match="another transaction of this process"):
            await store.insert("t", {"id": "2"})
    await store.insert("t", {"id": "2"})


async def test_a_file_that_is_no_database(sqlite_place, tmp_path):
    store = sqlite_place.store()
    (tmp_path / "sql.db").write_bytes(b"not a database, " * 100)
    with pytest.raises(BackendUnavailableError):
        await store.create_table("t", SCHEMA)


async def test_a_file_that_breaks(sqlite_place, tmp_path):
    store = sqlite_place.store()
    await store.create_table("t", SCHEMA)
    await store.insert("t", [{"id": str(n), "text": "x" * 5000} for n in range(50)])
    with contextlib.closing(sqlite3.connect(tmp_path / "sql.db")) as past:
        past.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    raw = bytearray((tmp_path / "sql.db").read_bytes())
    raw[4096 * 3 :] = b"\xff" * (len(raw) - 4096 * 3)
    with (tmp_path / "sql.db").open("r+b") as file:
        file.write(raw)
    fresh = sqlite_place.store()
    with pytest.raises(StackstoreError) as caught:
        await fresh.create_table("t", SCHEMA)
        await fresh.fetch_all("t")
    assert not isinstance(caught.value, sqlite3.Error)


async def test_a_closed_pool(place, store):
    await store.create_table("t", SCHEMA)
    await place.pools[0].close()
    for call in (store.fetch_all("t"), store.insert("t", {"id": "1"}), in_transaction(store)):
        with pytest.raises(BackendUnavailableError, match="closed"):
            await call


async def test_a_pool_that_is_replaced_while_it_is_used(postgres_place):
    """As a rotation does it: the handle points elsewhere, then the old pool closes."""
    from stackstore.pools.databases import Handle
    from stackstore.sql import SqlStore

    place = postgres_place
    handle = Handle("sql_default", place.pool())
    store = SqlStore(handle)
    await store.create_table("t", SCHEMA)
    stop = False

    async def use(number):
        count = 0
        while not stop:
            await store.upsert("t", {"id": str(number), "n": count}, ["id"])
            assert (await store.fetch_one("t", {"id": str(number)}))["n"] == count
            count += 1
        return count

    users = [asyncio.create_task(use(number)) for number in range(8)]
    for _ in range(3):
        await asyncio.sleep(0.1)
        old, handle.database = handle.database, place.pool()
        await old.close()
    stop = True
    assert all(count > 0 for count in await asyncio.gather(*users))


async def test_a_role_that_may_not_write(postgres_place):
    place = postgres_place
    store = place.store()
    await store.create_table("t", SCHEMA)
    database = str(place.address["database"])
    await place.server.run("ALTER TABLE stackstore.t OWNER TO postgres", database)
    with pytest.raises(BackendUnavailableError, match=r"the role may not do this.*GRANT"):
        await store.insert("t", {"id": "1"})


async def test_too_much_for_an_index_of_somebody_else(postgres_place):
    import random

    place = postgres_place
    store = place.store()
    await store.create_table("t", SCHEMA)
    await place.sql("CREATE INDEX theirs ON @t (text)")
    noise = "".join(chr(random.Random(1).randrange(0x4E00, 0x9000)) for _ in range(1))
    noise += "".join(map(chr, random.Random(1).choices(range(0x4E00, 0x9000), k=4000)))
    with pytest.raises(InvalidArgumentError, match="too large or malformed"):
        await store.insert("t", {"id": "1", "text": noise})


async def test_a_plan_that_the_table_outgrew(postgres_place):
    """Another process alters the table under statements that this one has prepared."""
    place = postgres_place
    store = place.store(size=1, max_overflow=0)
    await store.create_table("t", SCHEMA)
    for number in range(7):
        await store.insert("t", {"id": str(number), "n": number})
        await store.fetch_all("t")
    await place.sql("ALTER TABLE @t DROP COLUMN n")
    await store.insert("t", {"id": "7", "n": 7})
    await place.sql("DROP TABLE @t")
    await store.insert("t", {"id": "8", "n": 8})
    assert [row["n"] for row in (await store.fetch_all("t")).data] == [8]


async def test_a_store_error_of_no_known_kind(postgres_place):
    place = postgres_place
    store = place.store()
    await store.create_table("t", SCHEMA)
    await place.sql(
        "CREATE FUNCTION @no() RETURNS trigger LANGUAGE plpgsql AS "
        f"$$BEGIN RAISE EXCEPTION '{CANARY} %', NEW.id; END$$"
    )
    await place.sql("CREATE TRIGGER no BEFORE INSERT ON @t FOR EACH ROW EXECUTE FUNCTION @no()")
    with pytest.raises(StoreError, match=r"RaiseError, SQLSTATE P0001|SQLSTATE P0001") as caught:
        await store.insert("t", {"id": "x"})
    assert CANARY not in everything(caught.value).replace("CANARY", "")
