"""The database goes, hangs, refuses, and comes back: rows acknowledged = rows stored + rows reported."""

import asyncio
import contextlib
import resource
import sqlite3

import pytest

from tests.integration.sql.test_faults import busy
from tests.integration.stores.conftest import locked, until
from tests.support.proxy import Proxy

_DEADLOCKS = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
_WAITING = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"


class Load:
    """Writes and deletes of several producers; knows what was acknowledged."""

    def __init__(self, each, producers=8, keys=40):
        self.each = each
        self.expected: dict[str, int] = {}
        self.acknowledged = 0
        self._stop = False
        self._tasks = [asyncio.create_task(self._produce(n, keys)) for n in range(producers)]

    async def _produce(self, producer, keys):
        number = 0
        while not self._stop:
            name = f"{producer}-{number % keys}"
            if number % 5 == 4:
                await self.each.delete(name)
                self.expected.pop(name, None)
            else:
                await self.each.put(name, number, within=60)
                self.expected[name] = number
            self.acknowledged += 1
            number += 1
            await asyncio.sleep(0.001)

    async def stop(self):
        self._stop = True
        await asyncio.gather(*self._tasks)

    async def ends_well(self):
        """Everything is there, nothing twice, nothing came back."""
        await self.stop()
        await self.each.flush(60)
        assert await self.each.rows() == self.expected
        stats = self.each.stats
        assert stats.acknowledged == stats.written == self.acknowledged
        assert (stats.dead_letters, stats.rows, stats.busy) == (0, 0, 0)


async def test_postgres_is_killed_under_load_and_restarted(own_postgres, use):
    server, place = own_postgres
    each = await use(place, pool={"acquire_timeout_seconds": 1})
    load = Load(each)
    await until(lambda: each.stats.written > 200)
    await asyncio.to_thread(server.kill9)
    before = each.stats.acknowledged
    await until(lambda: each.stats.retries >= 2 and each.stats.acknowledged > before + 100)
    assert each.stats.oldest_seconds > 0
    await asyncio.to_thread(server.start_again)
    await load.ends_well()
    assert each.stats.last_trouble == ""


async def test_postgres_is_stopped_for_a_while(own_postgres, use):
    server, place = own_postgres
    each = await use(place, pool={"acquire_timeout_seconds": 1}, max_rows=300)
    load = Load(each)
    await until(lambda: each.stats.written > 100)
    await asyncio.to_thread(server.stop, "fast", keep=True)
    await until(lambda: each.stats.waiting == 8)
    assert each.stats.rows == 300, "bounded, and callers wait"
    await asyncio.sleep(1.5)
    await asyncio.to_thread(server.start_again)
    await load.ends_well()


async def test_postgres_becomes_read_only(postgres_place, use):
    place = postgres_place
    each = await use(place)
    load = Load(each)
    await until(lambda: each.stats.written > 100)
    name = place.address["database"]
    await place.server.run(f'ALTER DATABASE "{name}" SET default_transaction_read_only = on')
    terminate = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{name}'"
    await place.server.run(terminate)
    await until(lambda: "25006" in each.stats.last_trouble)
    await place.server.run(f'ALTER DATABASE "{name}" RESET default_transaction_read_only')
    await place.server.run(terminate)
    await load.ends_well()


async def test_the_login_is_refused_for_a_while(postgres_place, use):
    place = postgres_place
    each = await use(place, pool={"acquire_timeout_seconds": 1})
    load = Load(each)
    await until(lambda: each.stats.written > 100)
    name = place.address["username"]
    await place.server.run(f'ALTER ROLE "{name}" NOLOGIN')
    await place.server.run(
        f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{name}'"
    )
    await until(lambda: each.stats.retries > 2)
    await place.server.run(f'ALTER ROLE "{name}" LOGIN')
    await load.ends_well()


class Cutting(Proxy):
    """Cuts connections around commits: before the server sees it, or before the client hears of it.

    A batch of writes is one statement, known by the queue's id among its values, that commits by
    itself; deletes are a transaction.
    """

    def __init__(self, target_port):
        super().__init__(target_port)
        self.queue = b""
        self.cut_before = 0
        self.cut_after = 0
        self._deaf = False

    async def _pump(self, reader, writer, most):
        to_server = writer.get_extra_info("peername")[1] == self.target[1]
        began = False
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                if to_server:
                    began = began or b"BEGIN" in data
                    ends = b"COMMIT;" in data or b"ROLLBACK;" in data
                    commits = b"COMMIT;" in data or (self.queue in data and not began)
                    began = began and not ends
                    if commits and self.cut_before:
                        self.cut_before -= 1
                        self.cut()
                        return
                    if commits and self.cut_after:
                        self.cut_after -= 1
                        self._deaf = True
                        writer.write(data)
                        # The server commits meanwhile; its answer goes nowhere.
                        await asyncio.sleep(0.05)
                        self.cut()
                        self._deaf = False
                        return
                if to_server or not self._deaf:
                    writer.write(data)
                    await writer.drain()


@pytest.mark.parametrize("where", ["before", "after"])
async def test_connections_are_cut_at_commit(postgres_place, use, where):
    place = postgres_place
    async with Cutting(place.address["port"]) as proxy:
        each = await use(place, pool={"port": proxy.port})
        await each.put("first")
        await each.flush()
        proxy.queue = each.queue._id.encode()
        setattr(proxy, f"cut_{where}", 8)
        load = Load(each, producers=6)
        await until(lambda: getattr(proxy, f"cut_{where}") == 0, 40)
        load.expected["first"] = 0
        load.acknowledged += 1
        await load.ends_well()
        assert each.stats.retries > 0


async def test_a_commit_whose_answer_is_lost_is_not_repeated(postgres_place, use, caplog):
    """What somebody else did to the row meanwhile stays."""
    place = postgres_place
    caplog.set_level("INFO")
    async with Cutting(place.address["port"]) as proxy:
        each = await use(place, pool={"port": proxy.port}, writers=1)
        await each.put("a", 1)
        await each.flush()
        # What it does besides at the start commits too.
        await each.queue._starting
        proxy.queue = each.queue._id.encode()
        proxy.cut_after = 1
        await each.put("b", 1)
        async with asyncio.timeout(10):
            while not await place.server.run("SELECT 1 FROM stackstore.t WHERE id = 'b'", str(place.address["database"])):  # fmt: skip
                await asyncio.sleep(0.005)
        await place.server.run(
            "DELETE FROM stackstore.t WHERE id = 'b'", str(place.address["database"])
        )
        await each.flush()
        assert await each.rows() == {"a": 1}
        assert each.stats.written == 2
        assert "believed lost had been committed" in caplog.text


async def test_connections_are_cut_mid_statement_again_and_again(postgres_place, use):
    place = postgres_place
    async with Proxy(place.address["port"]) as proxy:
        each = await use(place, pool={"port": proxy.port})
        load = Load(each)
        for _ in range(15):
            await asyncio.sleep(0.06)
            proxy.cut()
        await load.ends_well()


async def test_an_attempt_that_still_goes_on_in_the_server_is_waited_for(postgres_place, use):
    """Its connection is gone, the server has not noticed: the retry must not overtake it."""
    place = postgres_place
    database = str(place.address["database"])
    async with Proxy(place.address["port"]) as proxy:
        each = await use(place, pool={"port": proxy.port}, writers=1)
        await each.put("a", 1)
        await each.flush()
        holder = await place.server.connect(database)
        try:
            transaction = holder.transaction()
            await transaction.start()
            await holder.execute("UPDATE stackstore.t SET n = 5 WHERE id = 'a'")
            await each.put("a", 2)
            (pid,) = await busy(place, "WITH moved")
            proxy.cut()
            await until(lambda: each.stats.retries == 1)
            async with asyncio.timeout(10):
                while len(found := await busy(place, "WITH moved")) < 2:
                    await asyncio.sleep(0.01)
            assert pid in found, "the other one waits for the mark that this one holds"
            await transaction.rollback()
        finally:
            await holder.close()
        await each.flush()
        assert await each.rows() == {"a": 2}


async def test_two_processes_that_write_the_same_rows_in_other_orders(postgres_place, use):
    """Each has a row that the other one needs: the server ends one attempt, and it is made again."""
    place = postgres_place
    one, two = await use(place, writers=1), await use(place, writers=1, name="other")
    for name in "amb":
        await one.put(name)
    await one.flush()
    holder = await place.server.connect(str(place.address["database"]))
    try:
        async with holder.transaction():
            await holder.execute("SELECT FROM stackstore.t WHERE id = 'm' FOR UPDATE")
            for queue, names, waiting in ((one, "amb", 1), (two, "ba", 2)):
                for name in names:
                    await queue.put(name, waiting)
                async with asyncio.timeout(20):
                    while await holder.fetchval(_WAITING) < waiting:
                        await asyncio.sleep(0.01)
        await one.flush()
        await two.flush()
        async with asyncio.timeout(20):
            # It did come to that; the server's statistics come a little later.
            while not await holder.fetchval(_DEADLOCKS):
                await asyncio.sleep(0.05)
    finally:
        await holder.close()
    assert one.stats.dead_letters == two.stats.dead_letters == 0
    rows = await one.rows()
    assert rows["m"] == 1
    assert rows["a"] == rows["b"] in {1, 2}


async def test_a_statement_that_hangs(postgres_place, use):
    place = postgres_place
    each = await use(place, pool={"statement_timeout_seconds": 1}, writers=2)
    await each.put("first")
    await each.flush()
    async with locked(place):
        for number in range(40):
            await each.put(f"{number}", number)
        await until(lambda: each.stats.retries >= 2)
        assert "statement timeout" in each.stats.last_trouble
    await each.flush()
    assert len(await each.rows()) == 41
    assert each.stats.dead_letters == 0


async def test_a_server_that_says_nothing(postgres_place, use):
    place = postgres_place
    async with Proxy(place.address["port"]) as proxy:
        each = await use(
            place,
            pool={
                "port": proxy.port, "statement_timeout_seconds": 1, "acquire_timeout_seconds": 1,
            },
        )  # fmt: skip
        load = Load(each, producers=3)
        await until(lambda: each.stats.written > 30)
        proxy.swallow()
        await until(lambda: each.stats.retries > 0)
        proxy.let_through()
        await load.ends_well()


async def test_the_database_is_not_there_at_the_start(own_postgres, use):
    """Not even its tables: they appear when it does."""
    server, place = own_postgres
    store = place.store(acquire_timeout_seconds=1)
    await asyncio.to_thread(server.stop, "immediate", keep=True)
    each = await use(place, store=store, table=False)
    for number in range(50):
        await each.put(f"{number}", number)
    await until(lambda: each.stats.retries > 0)
    remains = asyncio.create_task(each.queue.shutdown(60))
    await asyncio.to_thread(server.start_again)
    assert (await remains).count == 0
    assert len(await each.rows()) == 50


async def test_the_end_knows_what_became_of_a_write_that_it_cut_off(postgres_place, use):
    """The database answers again before the grace is over, so nothing stays unknown."""
    place = postgres_place
    each = await use(place, writers=2)
    await each.put("first")
    await each.flush()
    async with locked(place):
        for number in range(30):
            await each.put(f"{number:02}", number)
        await busy(place, "WITH moved")
        remains = await each.queue.shutdown(2)
    assert remains.unknown == ()
    assert sorted(key for _, key in remains.unwritten) == [f"{n:02}" for n in range(30)]
    assert await each.rows() == {"first": 0}


# -- SQLite


async def test_the_disk_is_full(sqlite_place, use):
    """By a limit on the size of this process's files: as with a full disk, no write goes through."""
    each = await use(sqlite_place, max_rows=100)
    await each.put("before")
    await each.flush()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, hard))
    try:
        for number in range(80):
            row = {"id": f"{number}", "n": number, "note": "x" * 20_000}
            await each.queue.put(each.record(row), asyncio.get_running_loop().time() + 5)
        await until(lambda: each.stats.retries > 3)
        assert "SQLite can't do it now" in each.stats.last_trouble
        assert each.stats.rows > 0
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    await each.flush()
    assert len(await each.rows()) == 81
    assert each.stats.dead_letters == 0


async def test_the_file_is_locked_by_another_process(sqlite_place, use):
    each = await use(sqlite_place)
    load = Load(each)
    await until(lambda: each.stats.written > 100)
    with contextlib.closing(
        sqlite3.connect(sqlite_place.address["path"], isolation_level=None, check_same_thread=False)
    ) as holder:
        holder.execute("PRAGMA busy_timeout = 5000")
        await asyncio.to_thread(holder.execute, "BEGIN IMMEDIATE")
        await until(lambda: each.stats.retries > 1)
        assert "locked" in each.stats.last_trouble
        assert await each.store.fetch_one("t") is not None, "readers go on"
        holder.rollback()
    await load.ends_well()
