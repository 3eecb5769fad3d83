"""Our tables: where they are, and how they come to the newest version.

On Postgres they live in a schema of their own, on SQLite they share a prefix, so that tables of the
same names that a stock server made in the same database are never touched. Versions are kept in a
table; migrations only go forward. A process that finds a newer version than it knows goes on: pods
of two releases run side by side during a rollout, so a migration must leave the older one working.
"""

from __future__ import annotations

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


async def migrate(database: Database, component: Component) -> None:
    """Bring a component's tables to the newest version; processes that start together take turns.

    Raises:
        BackendUnavailableError: the database can't be reached, or the role may not make tables.
    """
    dialect = database.dialect
    versions = qualified(dialect, "schema_versions")
    async with database.engine.begin() as connection:
        await lock_ddl(database, connection)
        await connection.execute(
            text(
                f"CREATE TABLE IF NOT EXISTS {versions} "
                "(component TEXT PRIMARY KEY, version INTEGER NOT NULL)"
            )
        )
        found = await connection.execute(
            text(f"SELECT version FROM {versions} WHERE component = :component"),  # noqa: S608 - our own name
            {"component": component.name},
        )
        version = int(found.scalar() or 0)
        for step in component.migrations[version:]:
            for statement in step.statements(dialect):
                await connection.exec_driver_sql(statement)
        if version < len(component.migrations):
            await connection.execute(
                text(
                    f"INSERT INTO {versions} (component, version) VALUES (:component, :version) "  # noqa: S608 - likewise
                    "ON CONFLICT (component) DO UPDATE SET version = excluded.version"
                ),
                {"component": component.name, "version": len(component.migrations)},
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
    if there.scalar() is None:
        try:
            await connection.exec_driver_sql(f'CREATE SCHEMA "{SCHEMA}"')
        except DBAPIError as error:
            if getattr(error.orig, "sqlstate", None) == "42501":
                raise BackendUnavailableError(
                    f"backend {database.name!r}: the database has no schema {SCHEMA!r} and the role "
                    f"may not make it; GRANT CREATE ON DATABASE to it, or CREATE SCHEMA {SCHEMA} "
                    "AUTHORIZATION the role"
                ) from None
            raise
