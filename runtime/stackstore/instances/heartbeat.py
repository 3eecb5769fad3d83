"""One row in one database, written again and again; nobody waits for it, and it harms nobody."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from stackstore.errors import StackstoreError
from stackstore.instances import borrowing, table
from stackstore.instances.borrowing import Borrower, BusyError
from stackstore.pools.database import Database
from stackstore.schema import INSUFFICIENT_PRIVILEGE, SCHEMA, Tables, qualified, sqlstate
from stackstore.sql.errors import CAUGHT, Outcome, fault

logger = logging.getLogger(__name__)

EVERY_SECONDS = 30.0
"""Between two beats, give or take a fifth, so that pods that start together don't beat together."""

BUSY_SECONDS = 5.0
"""Until the next try where no connection came free."""

LONGEST_PAUSE_SECONDS = 300.0
"""Between two beats of a row that the database won't take."""

_CLOSING_SECONDS = 0.5


class Heartbeat:
    """The row of one process and backend. It begins to beat with the first `tell`.

    Args:
        database: where the row is; the row bears its name.
        stack_id: 12 hex digits.
        instance: 32 hex digits.
        started: when the process began to use its backends, in monotonic seconds.
    """

    def __init__(self, database: Database, stack_id: str, instance: str, started: float) -> None:
        self._database = database
        self._key = {"stack_id": stack_id, "backend": database.name, "instance": instance}
        self._borrower = Borrower(database)
        self._tables = Tables(self._borrower, table.INSTANCES)
        self._revision: str | None = None
        self._news = asyncio.Event()
        self._ending = False
        self._started = started
        self._written: float | None = None
        self._task: asyncio.Task[None] | None = None
        self._told = ""

    def tell(self, revision: str) -> None:
        """The backend is reached with this revision; if that is news, it is written at once."""
        if revision == self._revision:
            return
        self._revision = revision
        self._news.set()
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run())

    async def stop(self) -> None:
        """Let a beat that is under way end, and delete the row.

        In another event loop it is not ours: then nothing is done. In a forked child the pool sees to
        that.
        """
        task = self._task
        if task is None or task.get_loop() is not asyncio.get_running_loop():
            return
        self._ending = True
        self._news.set()
        _, pending = await asyncio.wait([task], timeout=_CLOSING_SECONDS)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        # Where it can't be done the row goes later, as that of a process that was killed.
        if pending or self._written is None:
            return
        with contextlib.suppress(BusyError, StackstoreError, TimeoutError, *CAUGHT):
            async with asyncio.timeout(_CLOSING_SECONDS), self._borrower.connect() as connection:
                await connection.execute(text(table.leave(self._database.dialect)), self._key)
                await connection.commit()

    async def _run(self) -> None:
        failures = 0
        while not self._ending:
            self._news.clear()
            try:
                await self._beat()
            except BusyError:
                pause = BUSY_SECONDS
                self._mind_silence()
            except Exception as error:  # noqa: BLE001 - whatever it is, it is nobody else's business
                failures += 1
                pause = min(EVERY_SECONDS * 2**failures, LONGEST_PAUSE_SECONDS)
                self._complain(error)
            else:
                failures, self._told = 0, ""
                pause = EVERY_SECONDS
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause * random.uniform(0.8, 1.2)):  # noqa: S311
                    await self._news.wait()

    async def _beat(self) -> None:
        generation = await self._tables.ensure()
        try:
            await self._write()
        except DBAPIError as error:
            if fault("", (), error).outcome is not Outcome.MISSING:
                raise
        else:
            return
        # A rotation has led to another database, or somebody has removed it.
        await self._tables.repair(generation)
        await self._write()

    async def _write(self) -> None:
        dialect = self._database.dialect
        row = {
            **self._key,
            "revision": self._revision,
            "age": int(time.monotonic() - self._started),
        }
        async with self._borrower.connect() as connection:
            self._written = time.monotonic()
            await connection.execute(text(table.beat(dialect)), row)
            await connection.commit()
            # Apart from the row, so that no lock on it is held meanwhile.
            await connection.execute(text(table.sweep(dialect)))
            await connection.commit()

    def _mind_silence(self) -> None:
        since = self._started if self._written is None else self._written
        if time.monotonic() - since > table.GONE_AFTER_SECONDS:
            self._say(f"{self._where}: no connection came free in {table.GONE_AFTER_SECONDS} s")

    def _complain(self, error: Exception) -> None:
        # Never with a driver's text, which may quote anything.
        where = self._where
        place = qualified(self._database.dialect, table.NAME)
        if isinstance(error, StackstoreError):
            said = str(error)
        elif sqlstate(error) == INSUFFICIENT_PRIVILEGE:
            said = (
                f"{where}: the role may not write {place}; GRANT USAGE ON SCHEMA {SCHEMA} and SELECT, "
                f"INSERT, UPDATE, DELETE ON {place} to it"
            )
        elif isinstance(error, TimeoutError):
            said = f"{where}: {place} could not be written within {borrowing.STATEMENT_SECONDS:g} s"
        elif isinstance(error, CAUGHT):
            said = str(fault(f"{where}, table {place}", (), error).error)
        else:
            said = f"{where}: {type(error).__name__}"
        self._say(said)

    @property
    def _where(self) -> str:
        return f"backend {self._database.name!r}"

    def _say(self, said: str) -> None:
        """Once a trouble."""
        if said != self._told:
            self._told = said
            logger.warning("this process can't be seen as a user of its backend: %s", said)
