"""Many tasks and many processes on one store."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sqlite3
import sys
from typing import Any

from stackstore.errors import InvalidArgumentError
from stackstore.kv import KVStore, postgres, sqlite
from stackstore.pools.sqlite import SqliteDatabase


async def processes(place: Any, works: list[str]) -> list[Any]:
    """What other processes give that begin together; see `tests.integration.kv.process`."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.integration.kv.process", *works,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        out, err = await process.communicate(json.dumps(place.description()).encode())
    finally:
        if process.returncode is None:
            process.terminate()
            await process.wait()
    assert (process.returncode, err.decode()) == (0, "")
    return json.loads(out)


async def test_n3_sixty_first_gets_at_once_give_no_error(place):
    """Every namespace opened a pool of its own and made the table for itself."""
    stores = [place.store(f"namespace-{number % 20}") for number in range(60)]
    assert await asyncio.gather(*(store.get("a") for store in stores)) == [None] * 60
    if place.dialect == "postgresql":
        status = place.database.pool.status()
        assert len(await place.world.sessions()) <= status["capacity"] == 6


async def test_sixty_first_gets_of_one_store(store):
    assert await asyncio.gather(*(store.get("a") for _ in range(60))) == [None] * 60


async def test_ten_processes_begin_at_once_on_an_empty_database(place):
    """Of four servers of 1.5.0 three died of each other's CREATE TABLE."""
    assert await processes(place, ["first_use(store)"] * 10) == [20] * 10


async def test_k11_sixteen_tasks_count_together(store):
    told = await asyncio.gather(*(store.increment("n") for _ in range(16 * 20)))
    assert sorted(told) == list(range(1, 16 * 20 + 1))
    assert await store.get("n") == "320"


async def test_of_sixteen_that_expect_the_same_one_is_told_true(store):
    for expected in (None, "0", "7"):
        if expected is not None:
            await store.set("a", expected)
        won = await asyncio.gather(
            *(store.compare_and_set("a", expected, f"w{who}") for who in range(16))
        )
        assert sum(won) == 1
        assert await store.get("a") == f"w{won.index(True)}"


async def test_several_are_seen_all_or_none(store):
    keys = [f"k{number}" for number in range(20)]
    await store.set_many(dict.fromkeys(keys, "0"))

    async def write(who: int) -> None:
        for number in range(10):
            # Each in an order of its own, as a deadlock needs it.
            some = keys[who:] + keys[:who] if number % 2 else keys[::-1]
            await store.set_many(dict.fromkeys(some, f"{who}.{number}"))

    async def read() -> None:
        for _ in range(40):
            assert len(set((await store.get_many(keys)).values())) == 1
            assert len(set(await store.values_in_range("", "l"))) == 1

    await asyncio.gather(*(write(who) for who in range(8)), read(), read())


async def test_writers_of_the_same_keys_in_other_orders_never_deadlock(on_postgres, monkeypatch):
    # A deadlock would be retried, and be seen by nobody but a stopwatch.
    monkeypatch.setattr(postgres, "_TRIES", 0)
    store = on_postgres.store()
    await store.set_many({"a": "0", "b": "0"})
    await on_postgres.run(
        "CREATE FUNCTION slowly() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN PERFORM pg_sleep(0.1); RETURN new; END $$"
    )
    await on_postgres.run(
        "CREATE TRIGGER slowly AFTER UPDATE ON stackstore.kv FOR EACH ROW EXECUTE FUNCTION slowly()"
    )
    await on_postgres.run(
        "CREATE TRIGGER slowly_before BEFORE INSERT ON stackstore.kv "
        "FOR EACH ROW EXECUTE FUNCTION slowly()"
    )
    await asyncio.gather(store.set_many({"a": "1", "b": "1"}), store.set_many({"b": "2", "a": "2"}))
    assert len(set((await store.get_many(["a", "b"])).values())) == 1


async def test_k11_processes_count_and_append_together(place):
    works = ["count(store, 12)"] * 3 + [f"append(store, {who}, 15)" for who in (3, 4)]
    *counts, first, second = await processes(place, works)
    assert sorted(told for some in counts for told in some) == list(range(1, 3 * 16 * 12 + 1))
    assert first >= 15
    assert second >= 15
    there = (await place.store("shared").get("list")).split()
    assert sorted(there) == sorted(f"{who}.{number}" for who in (3, 4) for number in range(15))
    # Each appended in its own order.
    assert [one for one in there if one[0] == "3"] == [f"3.{number}" for number in range(15)]


async def test_several_are_read_of_one_moment_beside_another_process(on_sqlite):
    store = on_sqlite.store()
    await store.set_many({"a": "old", "b": "old"})
    looks = 0
    with (
        contextlib.closing(sqlite3.connect(on_sqlite.path, isolation_level=None)) as driver,
        contextlib.closing(sqlite3.connect(on_sqlite.path, isolation_level=None)) as other,
    ):

        def between(text: str) -> None:
            nonlocal looks
            looks += text.startswith("SELECT")
            if looks == 2:
                other.execute("UPDATE stackstore_kv SET value = CAST('new' AS BLOB)")

        driver.set_trace_callback(between)
        assert sqlite._get_many(driver, 0, b"registry", [b"a", b"b"]) == [
            (b"a", b"old"),
            (b"b", b"old"),
        ]
        assert not driver.in_transaction
    assert await store.get_many(["a", "b"]) == {"a": "new", "b": "new"}


async def test_stores_in_memory_begin_at_once():
    database = SqliteDatabase("kv_default", ":memory:")
    try:
        stores = [KVStore(database, f"n{number}") for number in range(20)]
        assert await asyncio.gather(*(store.increment("n") for store in stores)) == [1] * 20
    finally:
        await database.close()


async def test_a_role_with_another_isolation_counts_right_too(on_postgres):
    role = on_postgres.world.database.role
    await on_postgres.run(
        f"ALTER ROLE \"{role}\" SET default_transaction_isolation = 'serializable'"
    )
    store = on_postgres.store()
    told = await asyncio.gather(*(store.increment("n") for _ in range(16 * 5)))
    assert sorted(told) == list(range(1, 81))


async def test_one_refused_write_does_not_disturb_the_others(store):
    await store.set("text", "not a number")
    answers = await asyncio.gather(
        *(store.increment("text" if number % 4 == 0 else f"n{number}") for number in range(16)),
        *(store.set(f"s{number}", "x") for number in range(16)),
        return_exceptions=True,
    )
    for number, answer in enumerate(answers[:16]):
        if number % 4 == 0:
            assert isinstance(answer, InvalidArgumentError)
        else:
            assert answer == 1
    assert answers[16:] == [None] * 16
    assert len(await store.keys_in_range("s", "t")) == 16


async def test_a_cancelled_caller_harms_nobody(store):
    tasks = [asyncio.create_task(store.increment("n")) for _ in range(40)]
    await asyncio.sleep(0)
    for task in tasks[::2]:
        task.cancel()
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    told = [answer for answer in answers if isinstance(answer, int)]
    assert len(told) >= 20
    assert len(set(told)) == len(told)
    assert max(told) <= int(await store.get("n")) <= 40
