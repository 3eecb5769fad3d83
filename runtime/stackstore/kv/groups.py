"""Operations on one SQLite file, carried to its connection's thread in groups.

A hop to the thread and back costs more than most operations, and a commit more than most writes. So
whatever is asked for while the thread is busy goes there together: reads first, then all writes in
one transaction. A write is answered when that is committed, and with its own result or error.
"""

from __future__ import annotations

import asyncio
import copy
import sqlite3
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from stackstore.errors import BackendUnavailableError, StackstoreError
from stackstore.pools.database import Database

T = TypeVar("T")
Work = Callable[[sqlite3.Connection, int], Any]
"""What to do with the connection, and the time: in microseconds since 1970."""

MOST = 256
"""How many writes one transaction holds."""

TURN_MILLISECONDS = 50
"""How long the thread waits for another process's write at a stretch; reads wait as long."""

WAIT_SECONDS = 10.0
"""How long a write waits for other processes' writes in all."""


class _BusyError(Exception):
    """The file is another's to write at the moment."""


class _Operation:
    """One piece of work, the future of who waits for it, and when to give up once it was busy."""

    __slots__ = ("answer", "deadline", "work")

    def __init__(self, work: Work, answer: asyncio.Future[Any]) -> None:
        self.work = work
        self.answer = answer
        self.deadline: float | None = None


class Groups:
    """The way to the hot connection of a `Database` on SQLite."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._loop: asyncio.AbstractEventLoop | None = None
        self._reads: list[_Operation] = []
        self._writes: list[_Operation] = []
        self._carrier: asyncio.Task[None] | None = None

    def run(
        self, work: Callable[[sqlite3.Connection, int], T], *, write: bool
    ) -> asyncio.Future[T]:
        """Run `work` on the connection's thread; a write in a transaction, which it shares.

        Work that raises a StackstoreError must not have written anything before.

        Returns:
            What will hold the work's result, or the exception that it raised: what it wrote is undone
            then. Or BackendUnavailableError: another process kept the file locked, or it can't be
            opened.
        """
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            # After a fork or in a second loop: what the first left unfinished is not this one's. The
            # database then says what is wrong.
            self._loop, self._reads, self._writes, self._carrier = loop, [], [], None
        answer: asyncio.Future[T] = loop.create_future()
        (self._writes if write else self._reads).append(_Operation(work, answer))
        if self._carrier is None:
            self._carrier = loop.create_task(self._carry(loop))
        return answer

    async def _carry(self, loop: asyncio.AbstractEventLoop) -> None:
        """Take one group after another to the thread and back, until nobody waits.

        One at a time: with two under way each would be half as large, and thread and loop would
        fight over the interpreter's lock (seen: fewer reads a second, not more).
        """
        taken: list[_Operation] = []
        try:
            while self._reads or self._writes:
                # Who was cancelled while waiting gets no write.
                reads = [one for one in self._reads if not one.answer.done()]
                writes = [one for one in self._writes[:MOST] if not one.answer.done()]
                self._reads, self._writes = [], self._writes[MOST:]
                taken = reads + writes
                outcomes = await self._on_thread(
                    [one.work for one in reads], [one.work for one in writes]
                )
                busy: list[_Operation] = []
                for one, outcome in zip(taken, outcomes, strict=True):
                    if isinstance(outcome, _BusyError) and self._may_wait(one, loop.time()):
                        busy.append(one)
                    elif one.answer.done():
                        # Who was cancelled on the way is not told.
                        continue
                    elif isinstance(outcome, Exception):
                        one.answer.set_exception(self._for_people(outcome))
                    else:
                        one.answer.set_result(outcome)
                taken = busy
                if busy:
                    await asyncio.sleep(0.001)
                    self._reads[:0] = [one for one in busy if one in reads]
                    self._writes[:0] = [one for one in busy if one in writes]
        except asyncio.CancelledError:
            # The loop is ending.
            for one in [*taken, *self._reads, *self._writes]:
                one.answer.cancel()
            raise
        finally:
            if self._loop is loop:
                self._carrier = None

    async def _on_thread(self, reads: Sequence[Work], writes: Sequence[Work]) -> Sequence[Any]:
        """The outcome of each, in order; an exception stands for itself."""
        error: Exception
        try:
            async with self._database.driver() as connection:
                # aiosqlite's own way to its thread, as SQLAlchemy takes it too: its public methods
                # carry one statement each.
                carry, driver = connection._execute, connection._conn  # noqa: SLF001
                outcomes: Sequence[Any] = await carry(perform, driver, reads, writes)
                return outcomes
        except ValueError:
            # What aiosqlite says when the connection was closed meanwhile.
            error = BackendUnavailableError(f"backend {self._database.name!r}: it is closed")
        except Exception as caught:  # noqa: BLE001 - nobody must wait for ever, whatever it is
            error = caught
        # One exception each: raised in several tasks, one would collect all their traces.
        return [copy.copy(error) for _ in (*reads, *writes)]

    def _may_wait(self, one: _Operation, now: float) -> bool:
        if one.deadline is None:
            one.deadline = now + WAIT_SECONDS
        return now < one.deadline

    def _for_people(self, error: Exception) -> Exception:
        if not isinstance(error, _BusyError):
            return error
        return BackendUnavailableError(
            f"backend {self._database.name!r}: the file stayed locked for {WAIT_SECONDS:g} s; look for "
            "a process that keeps a transaction open"
        )


# -- on the connection's thread


def perform(driver: sqlite3.Connection, reads: Sequence[Work], writes: Sequence[Work]) -> list[Any]:
    """Run a group; the outcomes in order, an exception standing for itself.

    Reads come first, so that none sees a write that is not committed.
    """
    if driver.in_transaction:
        # Only a database in memory is shared with transactions of others; they end soon.
        return [_BusyError() for _ in (*reads, *writes)]
    outcomes: list[Any] = []
    now = _now()
    for work in reads:
        try:
            outcomes.append(work(driver, now))
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the asker's
            outcomes.append(error)
    if writes:
        outcomes += _write(driver, writes)
    return outcomes


def _write(driver: sqlite3.Connection, writes: Sequence[Work]) -> list[Any]:
    try:
        _begin(driver)
    except sqlite3.OperationalError as error:
        return [_BusyError() if _is_busy(error) else error for _ in writes]
    outcomes: list[Any] = []
    # Read when the file is ours: that may have taken a while.
    now = _now()
    try:
        for work in writes:
            try:
                outcomes.append(work(driver, now))
            except StackstoreError as error:
                outcomes.append(error)
        driver.execute("COMMIT")
    except Exception as error:  # noqa: BLE001 - likewise
        # Some errors have ended the transaction already.
        driver.rollback()
        if len(writes) == 1:
            return [error]
    else:
        return outcomes
    # One of them spoilt it for all: each by itself then, so that each gets its own outcome.
    return [_write(driver, [work])[0] for work in writes]


def _begin(driver: sqlite3.Connection) -> None:
    (before,) = driver.execute("PRAGMA busy_timeout").fetchone()
    driver.execute(f"PRAGMA busy_timeout = {TURN_MILLISECONDS}")
    try:
        driver.execute("BEGIN IMMEDIATE")
    finally:
        driver.execute(f"PRAGMA busy_timeout = {before}")


def _now() -> int:
    return time.time_ns() // 1000


def _is_busy(error: sqlite3.OperationalError) -> bool:
    return error.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
