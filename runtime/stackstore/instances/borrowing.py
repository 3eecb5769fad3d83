"""Connections for work that nobody waits for: requests go before, and nothing takes long."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Literal, cast

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from stackstore.errors import BackendUnavailableError
from stackstore.pools.database import Database

PATIENCE_SECONDS = 1.0
"""How long a connection is waited for."""

STATEMENT_SECONDS = 5.0
"""How long a connection to Postgres may be kept."""


class BusyError(Exception):
    """No connection came free soon; that is no trouble, as long as it doesn't last."""


class Borrower:
    """A database whose connections are neither waited for nor kept for long.

    As a `Database` it is fit for `schema.Tables`, which asks for `engine.connect()` and
    `engine.begin()` alone.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    @property
    def name(self) -> str:
        """The backend's name."""
        return self._database.name

    @property
    def dialect(self) -> Literal["postgresql", "sqlite"]:
        """Which SQL is spoken."""
        return self._database.dialect

    @property
    def trouble(self) -> str:
        """As the database has it."""
        return self._database.trouble

    @property
    def engine(self) -> AsyncEngine:
        """Itself."""
        return cast("AsyncEngine", self)

    def driver(self) -> contextlib.AbstractAsyncContextManager[object]:
        """As the database lends it."""
        return self._database.driver()

    def reader(self) -> contextlib.AbstractAsyncContextManager[object]:
        """As the database lends it."""
        return self._database.reader()

    def writer(self) -> contextlib.AbstractAsyncContextManager[object]:
        """As the database lends it."""
        return self._database.writer()

    async def close(self) -> None:
        """Nothing: it belongs to others."""

    @contextlib.asynccontextmanager
    async def connect(self) -> AsyncIterator[AsyncConnection]:
        """Borrow a connection.

        Raises:
            BusyError: none came free soon.
            TimeoutError: it was kept for too long.
        """
        loop, lent = asyncio.get_running_loop(), False
        try:
            async with asyncio.timeout(PATIENCE_SECONDS) as patience:
                async with self._database.engine.connect() as connection:
                    lent = True
                    # A file's own timeout ends what waits for its lock; its thread can't be
                    # interrupted.
                    patience.reschedule(
                        loop.time() + STATEMENT_SECONDS if self.dialect == "postgresql" else None
                    )
                    yield connection
        except (TimeoutError, BackendUnavailableError):
            # The pool may be the less patient one.
            if lent:
                raise
        else:
            return
        raise BusyError

    @contextlib.asynccontextmanager
    async def begin(self) -> AsyncIterator[AsyncConnection]:
        """Borrow one and begin a transaction, which is committed at the end.

        Raises:
            BusyError: as `connect`.
            TimeoutError: likewise.
        """
        async with self.connect() as connection, connection.begin():
            yield connection
