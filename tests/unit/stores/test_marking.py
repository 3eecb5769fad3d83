"""A mark and what goes with it, on a SQLite file in memory: all of it or nothing."""

import sqlite3

import pytest

from stackstore.access.owners import TABLES
from stackstore.sql import ColumnDefinition, ColumnType
from stackstore.sql.tables import table
from stackstore.stores.queue import marking as module
from stackstore.stores.queue.marking import Marking, OtherDatabaseError
from stackstore.stores.queue.records import Mark
from stackstore.stores.queue.tables import QUEUES

COLUMNS = ("id", "n")
MARKING = Marking("sqlite")
TABLE = table(
    "sqlite",
    "t",
    {"id": ColumnDefinition(ColumnType.STRING, primary_key=True), "n": ColumnType.INTEGER},
)
STEP = MARKING.upsert(TABLE, COLUMNS)


@pytest.fixture
def driver():
    driver = sqlite3.connect(":memory:", isolation_level=None)
    for component in (QUEUES, TABLES):
        for migration in component.migrations:
            for statement in migration.sqlite:
                driver.execute(statement)
    driver.execute("CREATE TABLE stackstore_t (id TEXT NOT NULL PRIMARY KEY, n CHECK (n <> -13))")
    yield driver
    driver.close()


def take(driver, rows, *, sequence=1, previous=0, number=0, owner_mark=""):
    mark = Mark("q", 1, 0, sequence, previous)
    moving = MARKING.moving(mark, number, owner_mark)
    return module._on_thread(driver, MARKING, STEP, moving, rows)


def found(driver):
    return dict(driver.execute("SELECT id, n FROM stackstore_t"))


def reached(driver):
    return [row[0] for row in driver.execute("SELECT sequence FROM stackstore_queue_marks")]


@pytest.mark.parametrize("variables", [32_766, 999, 10])
@pytest.mark.parametrize("count", [0, 1, 19, 20, 21, 119, 121, 499, 500, 777, 1_620])
def test_any_number_of_rows_new_and_known(driver, count, variables):
    """Whatever the library allows; what is there already is replaced."""
    driver.setlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER, variables)
    known = {f"{number:05}": -1 for number in range(7, count, 160)} | {"other": 5}
    driver.executemany("INSERT INTO stackstore_t VALUES (?, ?)", known.items())
    rows = [(f"{number:05}", number) for number in range(count)]
    assert take(driver, rows) is None
    assert found(driver) == {"other": 5} | {name: n for name, n in rows}  # noqa: C416
    assert reached(driver) == [1]
    assert not driver.in_transaction


@pytest.mark.parametrize("place", [0, 250, 599])
def test_a_row_that_is_refused_takes_the_mark_and_the_others_along(driver, place):
    driver.execute("INSERT INTO stackstore_t VALUES ('00001', -1)")
    rows = [(f"{number:05}", -13 if number == place else number + 100) for number in range(600)]
    with pytest.raises(sqlite3.IntegrityError):
        take(driver, rows)
    assert (found(driver), reached(driver)) == ({"00001": -1}, [])
    assert not driver.in_transaction


def test_a_mark_that_was_moved_before_says_so_and_nothing_is_written(driver):
    assert take(driver, [("a", 1)], sequence=4) is None
    assert take(driver, [("a", 2)], sequence=6, previous=3) == 4
    assert (found(driver), reached(driver)) == ({"a": 1}, [4])
    assert take(driver, [("a", 2)], sequence=6, previous=4) is None
    assert (found(driver), reached(driver)) == ({"a": 2}, [6])
    assert not driver.in_transaction


@pytest.mark.parametrize("there", [None, "another"])
def test_owners_of_another_database_stop_everything(driver, there):
    if there:
        driver.execute(
            "INSERT INTO stackstore_owners VALUES (1, 'd', 'p', 5, ?, '[null,\"a\",{}]')", (there,)
        )
    with pytest.raises(OtherDatabaseError):
        take(driver, [("a", 1)], number=1, owner_mark="ours")
    assert (found(driver), reached(driver)) == ({}, [])
    assert not driver.in_transaction
    if there:
        assert take(driver, [("a", 1)], number=1, owner_mark=there) is None
        assert found(driver) == {"a": 1}


def test_other_processes_are_waited_for_shortly_here_and_long_elsewhere(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "HURRIED_MILLISECONDS", 30)
    path = tmp_path / "a.db"
    driver = sqlite3.connect(path, isolation_level=None)
    driver.execute("PRAGMA busy_timeout = 10000")
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(sqlite3.OperationalError, match="locked"):
        take(driver, [("a", 1)])
    assert driver.execute("PRAGMA busy_timeout").fetchone() == (10_000,)
    other.close()
    driver.close()


def test_one_text_numbers_its_values_for_each_engine():
    assert MARKING.all.endswith("WHERE queue = ?")
    postgres = Marking("postgresql")
    assert postgres.all.endswith("WHERE queue = $1::text")
    step = postgres.upsert(table("postgresql", "t", {**TABLE.columns}), COLUMNS)
    words = step.words
    conflict = words[words.rindex(" ON CONFLICT") : words.rindex(") SELECT count")]
    assert conflict.endswith('"n" = excluded."n"') and step.fresh == words.replace(conflict, "")
    assert words.count("$") == 11
    assert "unnest($10::text[]), unnest($11::bigint[]) WHERE EXISTS (SELECT FROM moved)" in words
