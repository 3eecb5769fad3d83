"""Running statements on a database: connections, turns, what is tried again and what never."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar
from weakref import WeakKeyDictionary

from sqlalchemy.ext.asyncio import AsyncConnection

from stackstore.errors import BackendUnavailableError
from stackstore.pools.database import Database
from stackstore.pools.sqlite import BUSY_TIMEOUT_MILLISECONDS
from stackstore.sql.errors import CAUGHT, Fault, Outcome, fault

T = TypeVar("T")

Work = Callable[[AsyncConnection], Awaitable[T]]

Direct = Callable[[Any], Awaitable[T]]
"""Work on the driver's own connection: asyncpg's or aiosqlite's."""

ATTEMPTS = 5
"""How often more a statement is tried that another transaction stood in the way of."""

TURN_SECONDS = 10.0
"""How long a writer waits for its turn on a SQLite file, as long as for other processes."""

HURRIED_MILLISECONDS = 250
"""How long a hurried writer waits for other processes."""

_TURNS: WeakKeyDictionary[object, asyncio.Lock] = WeakKeyDictionary()
"""SQLite has one writer at a time. Here they queue; its own way is to poll, and isn't fair."""


@dataclass(frozen=True, slots=True)
class How:
    """How work is run.

    Attributes:
        writes: a read is repeated when its connection is lost; a write never, for whether it happened
            is unknown.
        atomic: it is several statements that belong together.
        patient: it waits long for other processes' writes on SQLite; False: the caller comes again by
            itself, and rather ends at once when it is cancelled.
        direct: work gets the driver's own connection, in autocommit, for a hot path.
    """

    writes: bool
    atomic: bool = False
    patient: bool = True
    direct: bool = False


READS = How(writes=False)
WRITES = How(writes=True)
ATOMIC = How(writes=True, atomic=True)


@dataclass(frozen=True)
class Done(Generic[T]):
    """What came of a statement that went well."""

    result: T


class Runner:
    """Runs work on connections of a database.

    Work is an async function of a connection. It may run more than once, so it does nothing but
    speak to its connection.
    """

    def __init__(self, database: Database) -> None:
        self.database = database

    async def run(
        self,
        table: str,
        key: tuple[str, ...],
        work: Work[T] | Direct[T],
        how: How,
        *,
        heal: Callable[[], Awaitable[None]] | None = None,
    ) -> T:
        """Do it, and once more where that can't do harm.

        Args:
            table: for messages.
            key: the table's primary key, for messages of conflicts.
            work: what to do.
            how: how.
            heal: makes a missing table again; then the work is repeated once.

        Raises:
            StackstoreError: as `stackstore.sql.errors` says; nothing of the driver's is in it.
        """
        times = {Outcome.AGAIN: ATTEMPTS, Outcome.LOST: 0 if how.writes else 1}
        times[Outcome.MISSING] = 0 if heal is None else 1
        while True:
            ended = await self.attempt(table, key, work, how)
            if isinstance(ended, Done):
                return ended.result
            left = times.get(ended.outcome, 0)
            if not left:
                raise ended.error
            times[ended.outcome] = left - 1
            if ended.outcome is Outcome.MISSING and heal is not None:
                await heal()
            elif ended.outcome is Outcome.AGAIN:
                # Jitter, or the same two would meet again.
                await asyncio.sleep(random.uniform(0, 0.02 * (ATTEMPTS - left + 1)))  # noqa: S311

    async def attempt(
        self, table: str, key: tuple[str, ...], work: Work[T] | Direct[T], how: How
    ) -> Done[T] | Fault:
        """Do it once. What goes wrong in the database is returned, for what to do depends on it."""
        lent: contextlib.AbstractAsyncContextManager[Any]
        if how.direct:
            lent = self._driver() if how.writes else self.database.reader()
        else:
            lent = self._connection(how)
        try:
            async with lent as connection:
                result = await work(connection)
            return Done(result)
        except CAUGHT as error:
            return fault(f"backend {self.database.name!r}, table {table!r}", key, error)

    async def guarded(self, step: Awaitable[Any]) -> None:
        """Await a step of a transaction; its errors in our words."""
        found: Fault | None = None
        try:
            await step
        except CAUGHT as error:
            found = fault(f"backend {self.database.name!r}, a transaction", (), error)
        if found is not None:
            raise found.error

    async def connect(self) -> AsyncConnection:
        """A connection of the pool that serves now."""
        while True:
            engine = self.database.engine
            try:
                return await engine.connect()
            except BackendUnavailableError:
                # Its pool may have been closed by a rotation between the two lines above.
                if self.database.engine is engine:
                    raise

    @contextlib.asynccontextmanager
    async def turn(self, *, writes: bool) -> AsyncIterator[None]:
        """Wait for this caller's turn, where the engine has turns.

        Raises:
            BackendUnavailableError: it did not come in time.
        """
        if self.database.dialect == "postgresql" or not writes:
            yield
            return
        engine = self.database.engine.sync_engine
        turn = _TURNS.setdefault(engine, asyncio.Lock())
        late = False
        try:
            async with asyncio.timeout(TURN_SECONDS):
                await turn.acquire()
        except TimeoutError:
            late = True
        if late:
            raise BackendUnavailableError(
                f"backend {self.database.name!r}: another transaction of this process has been "
                f"writing for {TURN_SECONDS:g} s; nothing was written, try again"
            )
        try:
            yield
        finally:
            turn.release()

    @contextlib.asynccontextmanager
    async def _driver(self) -> AsyncIterator[Any]:
        # Not `driver()`: on SQLite a large write would keep those waiting who share that one.
        async with self.turn(writes=True), self.database.writer() as driver:
            yield driver

    @contextlib.asynccontextmanager
    async def _connection(self, how: How) -> AsyncIterator[AsyncConnection]:
        async with self.turn(writes=how.writes):
            connection = await self.connect()
            try:
                if self.database.dialect == "postgresql" and not how.atomic:
                    # One statement is its own transaction; asking for one takes two round trips more.
                    await connection.execution_options(isolation_level="AUTOCOMMIT")
                    yield connection
                elif not how.writes:
                    await connection.execution_options(stackstore_read_only=True)
                    yield connection
                elif how.patient or self.database.dialect == "postgresql":
                    async with connection.begin():
                        yield connection
                else:
                    async with _hurried(connection), connection.begin():
                        yield connection
            finally:
                await connection.close()


@contextlib.asynccontextmanager
async def _hurried(connection: AsyncConnection) -> AsyncIterator[None]:
    """Wait shortly for a file that another process writes: no cancellation ends such a wait."""
    # Past SQLAlchemy, which would begin a transaction, and so wait, before it passes it on.
    driver: Any = (await connection.get_raw_connection()).driver_connection
    await driver.execute_fetchall(f"PRAGMA busy_timeout = {HURRIED_MILLISECONDS}")
    try:
        yield
    finally:
        # A connection that broke meanwhile is replaced, and its place has the usual patience.
        if not connection.invalidated:
            await driver.execute_fetchall(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MILLISECONDS}")
