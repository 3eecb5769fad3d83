"""Moving a lane's mark and writing with it: one statement on Postgres, one hop to the thread on SQLite.

In the statements here each value stands as `{type}`, once, in its order. So one text serves both
engines: `$1::type`, `$2::type` … on Postgres, `?` on SQLite. They are run on the drivers' own
connections, for this is the hot path of all queues.
"""

from __future__ import annotations

import re
import sqlite3
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

from asyncpg import UniqueViolationError

from stackstore.access.owners import NAME as OWNERS
from stackstore.errors import BackendUnavailableError
from stackstore.pools.sqlite import BUSY_TIMEOUT_MILLISECONDS
from stackstore.schema import Dialect, qualified
from stackstore.sql.columns import declared
from stackstore.sql.names import quoted
from stackstore.sql.runner import HURRIED_MILLISECONDS
from stackstore.sql.tables import Table
from stackstore.stores.queue.records import Mark
from stackstore.stores.queue.tables import DEAD_LETTERS, MARKS

MANY_ROWS = (500, 100, 20)
"""How many rows SQLite takes in one statement, where there are so many.

After each statement its thread needs Python's lock again, and while the event loop is busy it waits
for that longer than a hundred rows take.
"""

WARY_WRITES = 100
"""After a row was there already, so many writes expect more of them.

Each that hoped in vain costs its rows' place in the table until the next vacuum, and an error in the
server's log, with the row's key.
"""

_VALUE = re.compile(r"\{([^}]+)\}")


class OtherDatabaseError(BackendUnavailableError):
    """The database doesn't know the owners' numbers as ours; nothing was written."""


@dataclass(frozen=True, slots=True)
class Step:
    """A statement that goes with a mark.

    Attributes:
        words: on Postgres with the move in it; on SQLite for one row.
        fresh: Postgres only: the same where no row is there yet; otherwise it fails, and nothing of it is
            written. It takes the server about an eighth less.
        many: SQLite only: the same for several rows, by how many, the most first, where none is there
            yet; otherwise it fails, and any number of them may be written.
    """

    words: str
    fresh: str = ""
    many: tuple[tuple[int, str], ...] = ()


class Marking:
    """The statements of one engine.

    Attributes:
        move: moves a mark, if it is where it was thought to be and the owners are as they were.
        look: where a mark is, and whether the owners are as they were.
        all: where all marks of a queue are.
        forget: removes those.
        tidy: removes marks without a journal that nobody has touched since a moment.
        alone: a step that writes nothing.
        letter: a step that writes a dead letter.
    """

    def __init__(self, dialect: Dialect) -> None:
        self.dialect = dialect
        self._wary = 0
        marks = qualified(dialect, MARKS)
        # 0 is nobody's, in every database.
        there = (
            f"coalesce((SELECT mark FROM {qualified(dialect, OWNERS)} "  # noqa: S608 - our own names, here and below
            "WHERE owner_id = {bigint}), '') = {text}"
        )
        self._move = (
            f"INSERT INTO {marks} AS held (queue, writers, lane, sequence, durable, touched) "
            "SELECT {text}, {bigint}, {bigint}, {bigint}, {boolean}, {bigint} "
            f"WHERE {there} ON CONFLICT (queue, writers, lane) DO UPDATE "
            "SET sequence = excluded.sequence, touched = excluded.touched "
            "WHERE held.sequence = {bigint}"
        )
        self.move = self._numbered(self._move)
        self.look = self._numbered(
            f"SELECT (SELECT sequence FROM {marks} "  # noqa: S608
            "WHERE queue = {text} AND writers = {bigint} AND lane = {bigint}), " + there
        )
        self.all = self._numbered(
            f"SELECT writers, lane, sequence FROM {marks} WHERE queue = {{text}}"  # noqa: S608
        )
        self.forget = self._numbered(f"DELETE FROM {marks} WHERE queue = {{text}}")  # noqa: S608
        self.tidy = self._numbered(
            f"DELETE FROM {marks} WHERE NOT durable AND touched < {{bigint}}"  # noqa: S608
        )
        self.alone = Step(self._whole(None))
        self.letter = self._step(
            f"INSERT INTO {qualified(dialect, DEAD_LETTERS)} (queue, sequence, name, identity, owner, "
            "reason, deletes, payload, created)",
            "{text}, {bigint}, {text}, {text}, {text}, {text}, {boolean}, {bytea}, {bigint}",
        )

    def upsert(self, table: Table, columns: Sequence[str]) -> Step:
        """A step that writes rows: on Postgres a list of values a column, on SQLite rows of values."""
        key = [quoted(name) for name in table.primary_key]
        others = [quoted(name) for name in columns if name not in table.primary_key]
        kinds = [declared(self.dialect, table.columns[name].type) for name in columns]
        return self._step(
            f"INSERT INTO {qualified(self.dialect, table.name)} ({', '.join(map(quoted, columns))})",
            ", ".join(
                f"unnest({{{kind}[]}})" if self.dialect == "postgresql" else "{?}" for kind in kinds
            ),
            f" ON CONFLICT ({', '.join(key)}) DO UPDATE SET "
            + ", ".join(f"{name} = excluded.{name}" for name in others),
        )

    def hopes(self) -> bool:
        """Whether to write as if none of the rows were there; asked once before each write."""
        self._wary = max(0, self._wary - 1)
        return not self._wary

    def met(self) -> None:
        """One was there."""
        self._wary = WARY_WRITES

    def moving(self, mark: Mark, number: int = 0, owner_mark: str = "") -> tuple[Any, ...]:
        """The values of `move`.

        Args:
            mark: from where to where.
            number: an owner that has to be there; 0: nobody, who is everywhere.
            owner_mark: that owner's mark.
        """
        return (
            mark.queue, mark.writers, mark.lane, mark.sequence, mark.durable, int(time.time()),
            number, owner_mark, mark.previous,
        )  # fmt: skip

    def looking(self, mark: Mark, number: int = 0, owner_mark: str = "") -> tuple[Any, ...]:
        """The values of `look`; likewise."""
        return (mark.queue, mark.writers, mark.lane, number, owner_mark)

    def _step(self, insert: str, values: str, conflict: str = "") -> Step:
        if self.dialect == "sqlite":
            # FAIL: what it wrote before a conflict is not noted, to be undone. The transaction is.
            several = insert.replace("INSERT", "INSERT OR FAIL", 1)
            many = (
                (rows, self._numbered(f"{several} VALUES {', '.join([f'({values})'] * rows)}"))
                for rows in MANY_ROWS
            )
            return Step(self._numbered(f"{insert} VALUES ({values}){conflict}"), many=tuple(many))
        rows = f"{insert} SELECT {values} WHERE EXISTS (SELECT FROM moved)"  # noqa: S608
        return Step(self._whole(rows + conflict), fresh=self._whole(rows) if conflict else "")

    def _whole(self, step: str | None) -> str:
        if self.dialect == "sqlite":
            return ""
        done = "" if step is None else f", done AS ({step})"
        # A row that another attempt holds is waited for in `moved`, so before anything is written.
        return self._numbered(
            f"WITH moved AS ({self._move} RETURNING 1){done} SELECT count(*) FROM moved"  # noqa: S608
        )

    def _numbered(self, words: str) -> str:
        if self.dialect == "sqlite":
            return _VALUE.sub("?", words)
        numbers = iter(range(1, 1 << 15))
        return _VALUE.sub(lambda found: f"${next(numbers)}::{found[1]}", words)


async def on_postgres(
    driver: Any, marking: Marking, step: Step, moving: tuple[Any, ...], values: Sequence[Any]
) -> int | None:
    """Move a mark and take the step, or find where the mark is and do nothing.

    Args:
        driver: asyncpg's connection.
        marking: the statements.
        step: what to write.
        moving: the values of the move, see `Marking.moving`.
        values: the step's.

    Returns:
        None: done. Otherwise where the mark is.

    Raises:
        OtherDatabaseError: the owners are others there.
    """
    if await _moved(driver, marking, step, (*moving, *values)):
        return None
    # A statement of its own: the one before saw the mark as it was before it waited for it.
    return _found(await driver.fetchrow(marking.look, *moving[:3], *moving[6:8]))


async def _moved(driver: Any, marking: Marking, step: Step, values: tuple[Any, ...]) -> bool:
    if step.fresh and marking.hopes():
        try:
            return bool(await driver.fetchval(step.fresh, *values))
        except UniqueViolationError:
            marking.met()
    return bool(await driver.fetchval(step.words, *values))


async def on_sqlite(
    driver: Any, marking: Marking, step: Step, moving: tuple[Any, ...], values: Sequence[Any]
) -> int | None:
    """The same; `driver` is aiosqlite's connection, and `values` are rows of values."""
    # aiosqlite's own way to its thread, as SQLAlchemy takes it too: its public methods carry one
    # statement each.
    carry, connection = driver._execute, driver._conn  # noqa: SLF001
    found: int | None = await carry(_on_thread, connection, marking, step, moving, values)
    return found


def _on_thread(
    driver: sqlite3.Connection,
    marking: Marking,
    step: Step,
    moving: tuple[Any, ...],
    values: Sequence[Any],
) -> int | None:
    # Not long for another process: no cancellation ends such a wait.
    driver.execute(f"PRAGMA busy_timeout = {HURRIED_MILLISECONDS}")
    try:
        driver.execute("BEGIN IMMEDIATE")
    finally:
        driver.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MILLISECONDS}")
    try:
        if not driver.execute(marking.move, moving).rowcount:
            return _found(driver.execute(marking.look, (*moving[:3], *moving[6:8])).fetchone())
        _write(driver, step, values)
        driver.execute("COMMIT")
        return None
    finally:
        # Some errors have ended the transaction already.
        driver.rollback()


def _write(driver: sqlite3.Connection, step: Step, rows: Sequence[Sequence[Any]]) -> None:
    done, count = 0, len(rows)
    # Old libraries allow less than a thousand.
    most = driver.getlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER)
    for size, words in step.many:
        while count - done >= size and size * len(rows[0]) <= most:
            some = rows[done : done + size]
            try:
                driver.execute(words, list(chain.from_iterable(some)))
            except sqlite3.IntegrityError:
                # One is there already, which is rare; or something is wrong with one.
                driver.executemany(step.words, some)
            done += size
    if done < count:
        driver.executemany(step.words, rows[done:])


def _found(row: Sequence[Any]) -> int | None:
    sequence, same_owners = row
    if not same_owners or sequence is None:
        raise OtherDatabaseError("the database is another one than a moment ago")
    return int(sequence)
