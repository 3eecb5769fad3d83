"""The seam between the pools and the stores: one database, however many names point at it."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import Any, Literal, Protocol

from sqlalchemy.ext.asyncio import AsyncEngine


class Database(Protocol):
    """One database of this process, with its one pool.

    Both ways in draw on the same connections: `engine` for statements that SQLAlchemy builds and
    runs, `driver()` for hot paths that can't afford its layer.
    """

    @property
    def name(self) -> str:
        """The backend's name in the run config, for messages."""
        ...

    @property
    def dialect(self) -> Literal["postgresql", "sqlite"]:
        """Which SQL is spoken."""
        ...

    @property
    def trouble(self) -> str:
        """Why no connection can be opened, without secrets; empty: one can, or it isn't known."""
        ...

    @property
    def engine(self) -> AsyncEngine:
        """The SQLAlchemy engine over the one pool; `hide_parameters` is on."""
        ...

    def driver(self) -> AbstractAsyncContextManager[Any]:
        """Lend one of the pool's connections as the driver has it, in autocommit.

        Yields:
            `asyncpg.Connection` on Postgres, `aiosqlite.Connection` on SQLite.

        Raises:
            BackendUnavailableError: none came free, or none could be opened, in time.
        """
        ...

    def reader(self) -> AbstractAsyncContextManager[Any]:
        """Lend a connection as `driver` does, for one SELECT at a time.

        Raises:
            BackendUnavailableError: none came free, or none could be opened, in time.
        """
        ...

    def writer(self) -> AbstractAsyncContextManager[Any]:
        """Lend a connection that nobody else has meanwhile, for a transaction of the caller's.

        Raises:
            BackendUnavailableError: none came free, or none could be opened, in time.
        """
        ...

    async def close(self) -> None:
        """Close every connection; those lent out close when they come back."""
        ...
