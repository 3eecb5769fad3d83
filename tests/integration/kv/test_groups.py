"""Writes that wait while the thread is busy share a transaction, and nothing else."""

from __future__ import annotations

import asyncio
import sqlite3

import pytest

from stackstore.kv.groups import MOST, Groups, perform


@pytest.fixture
def driver(tmp_path):
    connection = sqlite3.connect(tmp_path / "a.db", isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("CREATE TABLE t (x INTEGER PRIMARY KEY)")
    yield connection
    connection.close()


def insert(number):
    return lambda driver, now: driver.execute("INSERT INTO t VALUES (?)", (number,)).rowcount


def count(driver, now):
    return driver.execute("SELECT count(*) FROM t").fetchone()[0]


def test_a_group_is_one_transaction(driver):
    said = []
    driver.set_trace_callback(said.append)
    assert perform(driver, [], [insert(number) for number in range(3)]) == [1, 1, 1]
    assert [text for text in said if text in ("BEGIN IMMEDIATE", "COMMIT")] == [
        "BEGIN IMMEDIATE",
        "COMMIT",
    ]


def test_reads_of_a_group_see_nothing_of_its_writes(driver):
    assert perform(driver, [count], [insert(1), count]) == [0, 1, 1]


def test_each_has_its_own_outcome(driver):
    outcomes = perform(driver, [count], [insert(1), insert(1), insert(2), insert(1)])
    assert outcomes[0] == 0
    assert outcomes[1] == outcomes[3] == 1
    assert [type(outcomes[i]) for i in (2, 4)] == [sqlite3.IntegrityError] * 2
    assert driver.execute("SELECT x FROM t").fetchall() == [(1,), (2,)]
    assert not driver.in_transaction


def test_nothing_runs_inside_a_transaction_of_others(driver):
    driver.execute("BEGIN")
    outcomes = perform(driver, [count], [insert(1)])
    assert [type(outcome).__name__ for outcome in outcomes] == ["_BusyError"] * 2
    driver.execute("ROLLBACK")
    assert perform(driver, [count], [insert(1)]) == [0, 1]


async def test_what_is_asked_for_meanwhile_goes_together(on_sqlite):
    async with on_sqlite.database.driver() as connection:
        await connection.execute_fetchall("CREATE TABLE t (x INTEGER PRIMARY KEY)")
        commits = 0

        def look(text: str) -> None:
            nonlocal commits
            commits += text == "COMMIT"

        await connection.set_trace_callback(look)
        groups = Groups(on_sqlite.database)
        number = MOST * 2 + 10
        await asyncio.gather(*(groups.run(insert(one), write=True) for one in range(number)))
        assert await groups.run(count, write=False) == number
        assert commits == 3


async def test_a_write_is_answered_when_another_connection_sees_it(on_sqlite):
    store = on_sqlite.store()

    async def write(number: int) -> None:
        await store.set(f"k{number}", "x")
        assert await on_sqlite.run(
            f"SELECT 1 FROM stackstore_kv WHERE key = CAST('k{number}' AS BLOB)"
        )

    await asyncio.gather(*(write(number) for number in range(30)))


async def test_who_was_cancelled_while_waiting_writes_nothing(on_sqlite):
    store = on_sqlite.store()
    await store.set("a", "1")
    tasks = [asyncio.create_task(store.set(f"k{number}", "x")) for number in range(4)]
    await asyncio.sleep(0)
    for task in tasks[:2]:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert await store.keys_in_range("k", "l") == ["k2", "k3"]


async def test_work_that_breaks_breaks_for_who_asked_for_it(on_sqlite):
    """A defect of ours must not leave others waiting for ever."""

    def broken(_driver: sqlite3.Connection, _now: int) -> None:
        raise KeyError("a defect")

    groups = Groups(on_sqlite.database)
    for write in (True, False):
        answers = await asyncio.wait_for(
            asyncio.gather(
                groups.run(broken, write=write),
                groups.run(lambda driver, _: driver.execute("SELECT 1").fetchone()[0], write=write),
                return_exceptions=True,
            ),
            5,
        )
        assert isinstance(answers[0], KeyError)
        assert answers[1] == 1
