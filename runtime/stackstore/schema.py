"""Our tables: where they are, and how they come to the newest version.

On Postgres they live in a schema of their own, on SQLite they share a prefix, so that tables of the
same names that a stock server made in the same database are never touched. Versions are kept in a
table; migrations only go forward. A process that finds a newer version than it knows goes on: pods
of two releases run side by side during a rollout, so a migration must leave the older one working.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from stackstore.errors import BackendUnavailableError
from stackstore.pools.database import Database

Dialect = Literal["postgresql", "sqlite"]

SCHEMA = "stackstore"
_LOCK = 0x5354_4143_4B53_544F
"""Key of the transaction-level advisory lock under which all DDL of ours runs ("STACKSTO")."""

INSUFFICIENT_PRIVILEGE = "42501"


def table_name(dialect: Dialect, table: str) -> tuple[str | None, str]:
    """(schema, name) of one of our tables, for SQLAlchemy's `Table`."""
    return (SCHEMA, table) if dialect == "postgresql" else (None, f"{SCHEMA}_{table}")


def qualified(dialect: Dialect, table: str) -> str:
    """The quoted name of one of our tables, for statements that are text."""
    schema, name = table_name(dialect, table)
    quoted = '"' + name.replace('"', '""') + '"'
    return quoted if schema is None else f'"{schema}".{quoted}'


@dataclass(frozen=True)
class Migration:
    """One step; its statements are run in order in one transaction."""

    postgresql: Sequence[str]
    sqlite: Sequence[str]

    def statements(self, dialect: Dialect) -> Sequence[str]:
        """Those of one engine."""
        return self.postgresql if dialect == "postgresql" else self.sqlite


@dataclass(frozen=True)
class Component:
    """A group of tables that are migrated together; the n-th migration leads to version n."""

    name: str
    migrations: Sequence[Migration] = field(default=())


class Tables:
    """A component's tables in one database: made before they are first used, and again when missing.

    Attributes:
        generation: 0 until they are known to be there; goes up each time they were made sure of.
    """

    def __init__(self, database: Database, component: Component) -> None:
        self.generation = 0
        self._database = database
        self._component = component
        self._turns = asyncio.Lock()

    async def ensure(self) -> int:
        """Make sure of them once; whoever comes meanwhile waits. Returns the generation.

        Raises:
            BackendUnavailableError: as `migrate`.
        """
        return self.generation or await self.repair(0)

    async def repair(self, generation: int) -> int:
        """Make sure of them anew, unless somebody has since the caller saw this generation.

        Tables go missing when a rotation moves the pool to another, empty database.

        Raises:
            BackendUnavailableError: as `migrate`.
        """
        async with self._turns:
            if self.generation == generation:
                await migrate(self._database, self._component)
                self.generation += 1
            return self.generation


async def migrate(database: Database, component: Component) -> None:
    """Bring a component's tables to the newest version; processes that start together take turns.

    Where they are there already this only reads, so that a role may do without the right to make
    tables once somebody has made them.

    Raises:
        BackendUnavailableError: the database can't be reached, or the role may not make tables.
    """
    newest = len(component.migrations)
    try:
        if await _version(database, component) < newest:
            await _migrate(database, component)
    except (DBAPIError, OSError) as error:
        failure = _failure(database, component, error)
    else:
        return
    # Raised out here, so that the driver's error isn't its context.
    raise failure


async def _version(database: Database, component: Component) -> int:
    """The version of a component's tables; 0: there are none."""
    there = (
        "SELECT to_regclass(:table)"
        if database.dialect == "postgresql"
        else "SELECT 1 FROM sqlite_master WHERE type = 'table' AND '\"' || name || '\"' = :table"
    )
    versions = qualified(database.dialect, "schema_versions")
    async with database.engine.connect() as connection:
        await connection.execution_options(stackstore_read_only=True)
        if (await connection.execute(text(there), {"table": versions})).scalar() is None:
            return 0
        return await _recorded(connection, versions, component)


async def _recorded(connection: AsyncConnection, versions: str, component: Component) -> int:
    found = await connection.execute(
        text(f"SELECT version FROM {versions} WHERE component = :component"),  # noqa: S608 - our own name
        {"component": component.name},
    )
    return int(found.scalar() or 0)


async def _migrate(database: Database, component: Component) -> None:
    dialect = database.dialect
    newest = len(component.migrations)
    versions = qualified(dialect, "schema_versions")
    async with database.engine.begin() as connection:
        await lock_ddl(database, connection)
        await connection.execute(
            text(
                f"CREATE TABLE IF NOT EXISTS {versions} "
                "(component TEXT PRIMARY KEY, version INTEGER NOT NULL)"
            )
        )
        # Read again: another process may have done it while this one waited.
        version = await _recorded(connection, versions, component)
        if version >= newest:
            return
        for step in component.migrations[version:]:
            for statement in step.statements(dialect):
                await connection.exec_driver_sql(statement)
        await connection.execute(
            text(
                f"INSERT INTO {versions} (component, version) VALUES (:component, :version) "  # noqa: S608 - likewise
                "ON CONFLICT (component) DO UPDATE SET version = excluded.version"
            ),
            {"component": component.name, "version": newest},
        )


async def lock_ddl(database: Database, connection: AsyncConnection) -> None:
    """Let this transaction alone change our tables, and see that there is a place for them.

    `CREATE … IF NOT EXISTS` of two transactions at once still fails in Postgres' own catalogue
    (unique violation on pg_namespace or pg_type), hence the lock. SQLite's transactions begin
    IMMEDIATE, which is one.

    Raises:
        BackendUnavailableError: the schema is missing and the role may not make it.
    """
    if database.dialect == "sqlite":
        return
    await connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
    # Asked first: CREATE SCHEMA needs the privilege even where IF NOT EXISTS has nothing to do.
    there = await connection.execute(
        text("SELECT 1 FROM pg_namespace WHERE nspname = :name"), {"name": SCHEMA}
    )
    if there.scalar() is not None:
        return
    try:
        await connection.exec_driver_sql(f'CREATE SCHEMA "{SCHEMA}"')
    except DBAPIError as error:
        if sqlstate(error) != INSUFFICIENT_PRIVILEGE:
            raise
    else:
        return
    raise BackendUnavailableError(
        f"backend {database.name!r}: the database has no schema {SCHEMA!r} and the role "
        f"may not make it; GRANT CREATE ON DATABASE to it, or CREATE SCHEMA {SCHEMA} "
        "AUTHORIZATION the role"
    )


def _failure(
    database: Database, component: Component, error: DBAPIError | OSError
) -> BackendUnavailableError:
    where = f"backend {database.name!r}: the tables of {component.name}"
    if sqlstate(error) == INSUFFICIENT_PRIVILEGE:
        return BackendUnavailableError(
            f"{where} can't be looked at or made: the role lacks a right in schema {SCHEMA!r}; "
            f"GRANT USAGE, CREATE ON SCHEMA {SCHEMA} to it (or, where its owner has made them, "
            f"GRANT USAGE ON SCHEMA {SCHEMA} and SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN "
            f"SCHEMA {SCHEMA})"
        )
    if isinstance(error, DBAPIError):
        original = error.orig
        cause = getattr(original, "__cause__", None) or original
        reason = type(cause).__name__
        name = sqlstate(error) or getattr(cause, "sqlite_errorname", None)
        reason += f" ({name})" if name else ""
    else:
        reason = type(error).__name__
    return BackendUnavailableError(f"{where} could not be made: {reason}")


def sqlstate(error: BaseException) -> str | None:
    """Postgres' code of what went wrong; None: it has none."""
    return getattr(getattr(error, "orig", None), "sqlstate", None)
