"""A Postgres database: one pool of asyncpg connections, lent to SQLAlchemy and to hot paths alike."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any, Literal

import asyncpg
from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry, Pool
from sqlalchemy.util import await_only

from stackstore.credentials.snapshot import Login, Pooler, PoolSettings, PostgresBackend, Tls
from stackstore.errors import ConfigError
from stackstore.pools.connections import (
    ConnectionPool,
    LoginRefusedError,
    Slot,
    UnreachableError,
)
from stackstore.pools.tls import ssl_argument

CONNECT_TIMEOUT_SECONDS = 10.0

_REFUSALS = (
    asyncpg.InvalidPasswordError,
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
    asyncpg.InsufficientPrivilegeError,
    ssl.SSLError,
    ConfigError,
)

# After these the connection is of no use although it is open: the server is going away, or it has
# become a standby (a failed-over primary would refuse every write for as long as it is kept).
_FAREWELLS = (
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.IdleSessionTimeoutError,
    asyncpg.ReadOnlySQLTransactionError,
    asyncpg.InternalClientError,
    asyncio.CancelledError,
    TimeoutError,
)


@dataclass(frozen=True, slots=True)
class Target:
    """Everything that opening a connection depends on; a change of any of it is a rotation."""

    login: Login
    tls: Tls
    pooler: Pooler
    statement_timeout_seconds: int | None
    stack_id: str

    @property
    def application_name(self) -> str:
        """How the server shows the connection (it cuts at 63 bytes)."""
        return f"stackstore:{self.login.revision or 'env'}:{self.stack_id}"


def targets(backend: PostgresBackend, stack_id: str) -> tuple[Target, ...]:
    """What a backend of a snapshot offers, most preferred first."""
    if backend.pooler == "Transaction":
        raise ConfigError(
            "pooler 'Transaction' is not supported yet: statements are prepared and sessions have "
            "settings; use 'Session' or connect to the database itself"
        )
    logins = (backend.current, *(previous.as_login() for previous in backend.previous))
    return tuple(
        Target(login, backend.tls, backend.pooler, backend.statement_timeout_seconds, stack_id)
        for login in logins
    )


async def connect(target: Target) -> asyncpg.Connection:
    """Open one connection.

    Raises:
        LoginRefusedError: the server said no, or TLS can't be had as asked.
        UnreachableError: anything else.
    """
    login = target.login
    settings = {"application_name": target.application_name}
    timeout = target.statement_timeout_seconds
    # A pooler refuses start-up parameters that it doesn't track; there it is set afterwards.
    if timeout is not None and target.pooler == "None":
        settings["statement_timeout"] = str(timeout * 1000)
    where = f"{login.host}:{login.port}"
    try:
        connection = await asyncpg.connect(
            host=login.host,
            port=login.port,
            database=login.database,
            user=login.username,
            # An empty one instead of None, which would send asyncpg to PGPASSWORD and ~/.pgpass.
            password=login.password.get_secret_value() if login.password else "",
            ssl=ssl_argument(target.tls),
            timeout=CONNECT_TIMEOUT_SECONDS,
            server_settings=settings,
        )
        if timeout is not None and target.pooler == "Session":
            await connection.execute(f"SET statement_timeout = {timeout * 1000}")
    except _REFUSALS as error:
        # `from None`, here and below: a driver's error may quote what it was given.
        raise LoginRefusedError(f"{where}: {_reason(error)}") from None
    except ConnectionError as error:
        if "rejected SSL upgrade" in str(error):
            raise LoginRefusedError(f"{where}: the server offers no TLS") from None
        raise UnreachableError(f"{where}: {_reason(error)}") from None
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise UnreachableError(f"{where}: {_reason(error)}") from None
    return connection


def _reason(error: BaseException) -> str:
    if isinstance(error, asyncpg.PostgresError):
        return f"{type(error).__name__} (SQLSTATE {error.sqlstate})"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the server's certificate was not accepted: {error.verify_message}"
    if isinstance(error, OSError) and error.strerror:
        return f"{type(error).__name__}: {error.strerror}"
    if isinstance(error, ConfigError):
        return str(error)
    return type(error).__name__


class PostgresDatabase:
    """`Database` over one `ConnectionPool`; see `stackstore.pools.database`."""

    dialect: Literal["postgresql"] = "postgresql"

    def __init__(
        self, name: str, settings: PoolSettings, *, on_refused: Callable[[], None] = lambda: None
    ) -> None:
        self.name = name
        self.pool: ConnectionPool[Target] = ConnectionPool(
            name,
            connect,
            describe=lambda target: target.login.revision or "env",
            settings=settings,
            on_refused=on_refused,
        )
        self._engine: AsyncEngine | None = None

    @property
    def engine(self) -> AsyncEngine:
        """The SQLAlchemy engine over the same connections."""
        if self._engine is None:
            lent = _LentPool(self.pool)
            self._engine = create_async_engine(
                "postgresql+asyncpg://", pool=lent, hide_parameters=True
            )
            lent.dialect = self._engine.dialect
            event.listen(self._engine.sync_engine, "handle_error", lent.look_at_error)
        return self._engine

    @contextlib.asynccontextmanager
    async def driver(self) -> AsyncIterator[asyncpg.Connection]:
        """Lend an `asyncpg.Connection` in autocommit."""
        slot = await self.pool.acquire()
        try:
            yield slot.connection
        except _FAREWELLS:
            slot.discard = True
            raise
        finally:
            # A transaction that was left open must not reach the next one.
            if slot.connection.is_in_transaction():
                slot.discard = True
            self.pool.release(slot)

    async def close(self) -> None:
        """Close every connection; those lent out close when they come back."""
        await self.pool.close()


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

        return self.dialect.loaded_dbapi.connect(async_creator_fn=hand)

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

    def look_at_error(self, context: Any) -> None:
        original = getattr(context.original_exception, "__cause__", None)
        if isinstance(original, _FAREWELLS):
            context.is_disconnect = True
        # Only this connection: the others are looked at when their turn comes.
        context.invalidate_pool_on_disconnect = False

    def status(self) -> str:
        return str(self._connections.status())
