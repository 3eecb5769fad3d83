"""A Postgres database: one pool of asyncpg connections, lent to SQLAlchemy and to hot paths alike."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any, Literal

import asyncpg
from sqlalchemy import URL, event
from sqlalchemy.dialects import plugins
from sqlalchemy.engine import CreateEnginePlugin, Engine
from sqlalchemy.ext import asyncio as sqlalchemy_asyncio
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.pool import ConnectionPoolEntry, Pool
from sqlalchemy.util import await_only

from stackstore.credentials.snapshot import PoolSettings
from stackstore.errors import StackstoreError
from stackstore.pools.connections import ConnectionPool
from stackstore.pools.login import connect
from stackstore.pools.slots import Slot
from stackstore.pools.target import Target

# After these the connection is of no use although it is open.
_FAREWELLS = (
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.IdleSessionTimeoutError,
    asyncpg.InternalClientError,
    asyncio.CancelledError,
    TimeoutError,
)


_PLUGIN = "stackstore"


class PostgresDatabase:
    """`Database` over one `ConnectionPool`; see `stackstore.pools.database`."""

    dialect: Literal["postgresql"] = "postgresql"

    def __init__(
        self,
        name: str,
        settings: PoolSettings,
        *,
        on_refused: Callable[[], None] = lambda: None,
        on_proven: Callable[[], None] = lambda: None,
    ) -> None:
        self.name = name
        self.pool: ConnectionPool[Target] = ConnectionPool(
            name,
            connect,
            describe=lambda target: target.login.revision or "env",
            settings=settings,
            on_refused=on_refused,
            on_proven=on_proven,
        )
        self._engine: AsyncEngine | None = None

    @property
    def trouble(self) -> str:
        """Why no connection can be opened, if none can."""
        return self.pool.trouble

    @property
    def engine(self) -> AsyncEngine:
        """The SQLAlchemy engine over the same connections."""
        if self._engine is None:
            lent = _LentPool(self.pool)
            # Looked up here and not when this module is loaded: tracing replaces the function.
            self._engine = sqlalchemy_asyncio.create_async_engine(
                "postgresql+asyncpg://",
                pool=lent,
                hide_parameters=True,
                plugins=[_PLUGIN],
                stackstore_on_error=self._look_at_error,
            )
            lent.dialect = self._engine.dialect
        return self._engine

    @contextlib.asynccontextmanager
    async def driver(self) -> AsyncIterator[asyncpg.Connection]:
        """Lend an `asyncpg.Connection` in autocommit."""
        slot = await self.pool.acquire()
        try:
            yield slot.connection
        except BaseException as error:
            if self._is_useless_after(error):
                slot.discard = True
            raise
        finally:
            # A transaction that was left open must not reach the next one.
            if slot.connection.is_in_transaction():
                slot.discard = True
            self.pool.release(slot)

    def reader(self) -> contextlib.AbstractAsyncContextManager[asyncpg.Connection]:
        """The same: here reading is no different, nor writing."""
        return self.driver()

    writer = reader

    def rename(self, name: str) -> None:
        """Which backends it serves now, for messages."""
        self.name = self.pool.name = name

    async def close(self) -> None:
        """Close every connection; those lent out close when they come back."""
        await self.pool.close()

    def _look_at_error(self, context: Any) -> None:
        error = context.original_exception
        if self._is_useless_after(getattr(error, "__cause__", None)):
            context.is_disconnect = True
        # Only this connection: the others are looked at when their turn comes.
        context.invalidate_pool_on_disconnect = False
        # Tracing writes a driver's text into its span, and it may quote the row. A cancellation's text
        # belongs to whoever cancelled.
        if isinstance(error, Exception) and not isinstance(error, StackstoreError):
            error.args = (_class_and_state(error),)

    def _is_useless_after(self, error: BaseException | None) -> bool:
        if isinstance(error, asyncpg.ReadOnlySQLTransactionError):
            # A primary that became a standby refuses every write for as long as it is talked to, on
            # this connection and on all the others.
            self.pool.expire()
        return isinstance(error, _FAREWELLS)


class ErrorsFirst(CreateEnginePlugin):
    """Has errors looked at while the engine is made: before tracing, which adds itself afterwards."""

    def __init__(self, url: URL, kwargs: dict[str, Any]) -> None:
        super().__init__(url, kwargs)
        self._look: Callable[[Any], None] = kwargs.pop("stackstore_on_error")

    def update_url(self, url: URL) -> URL:
        """See SQLAlchemy's CreateEnginePlugin; nothing of the URL is for this one."""
        return url

    def engine_created(self, engine: Engine) -> None:
        """See SQLAlchemy's CreateEnginePlugin."""
        event.listen(engine, "handle_error", self._look)


plugins.register(_PLUGIN, __name__, ErrorsFirst.__name__)


class _LentPool(Pool):
    """SQLAlchemy's view of a `ConnectionPool`: it borrows and gives back, and holds nothing."""

    _is_asyncio = True
    dialect: Any

    def __init__(self, connections: ConnectionPool[Target]) -> None:
        super().__init__(self._adapt)
        self._connections = connections
        self._handed: Slot[Target] | None = None

    def _adapt(self) -> Any:
        slot = self._handed
        assert slot is not None  # noqa: S101 - only _do_get makes records, and it has set it

        async def hand() -> Any:
            return slot.connection

        # What has no name can't be kept for later.
        kept = {} if slot.target.names_statements else {"prepared_statement_cache_size": 0}
        return self.dialect.loaded_dbapi.connect(async_creator_fn=hand, **kept)

    def _do_get(self) -> ConnectionPoolEntry:
        slot = await_only(self._connections.acquire())
        try:
            if slot.sqlalchemy is None:
                self._handed = slot
                slot.sqlalchemy = self._create_connection()
                slot.sqlalchemy.record_info["slot"] = slot
        except BaseException:
            slot.discard = True
            self._connections.release(slot)
            raise
        entry: ConnectionPoolEntry = slot.sqlalchemy
        return entry

    def _do_return_conn(self, record: ConnectionPoolEntry) -> None:
        slot: Slot[Target] = record.record_info["slot"]  # type: ignore[index]  # set by _do_get
        if record.dbapi_connection is None or slot.connection.is_in_transaction():
            slot.discard = True
        self._connections.release(slot)

    def status(self) -> str:
        return str(self._connections.status())


def _class_and_state(error: BaseException) -> str:
    cause = error.__cause__ or error
    state = getattr(cause, "sqlstate", None)
    return type(cause).__name__ + (f" (SQLSTATE {state})" if state else "")
