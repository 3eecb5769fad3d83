"""A database, the snapshot that leads to it, and processes (in this one) that use it."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3

import asyncpg

from stackstore.credentials.snapshot import (
    Login,
    PoolSettings,
    PostgresBackend,
    PreviousLogin,
    SqliteBackend,
    Tls,
)
from stackstore.instances import Instances
from stackstore.kv import KVStore
from stackstore.pools.databases import Databases

STACK = "9d2e41b0c7aa"
FIRST, SECOND, THIRD = "00000001", "00000002", "00000003"


class Process:
    """What `stackstore.open()` makes of a snapshot, as far as instances are concerned."""

    def __init__(self, backends, stack=STACK) -> None:
        self.databases = Databases(stack, backends, lambda: None)
        self.instances = Instances(self.databases, stack)
        self.id = self.instances.instance

    async def use(self, name="sql_default"):
        """A request."""
        async with self.databases[name].engine.connect() as connection:
            return (await connection.exec_driver_sql("SELECT 1")).scalar()

    async def write(self, name="sql_default"):
        store = KVStore(self.databases[name], "n")
        await store.set("a", "1")
        await store.close()

    async def close(self) -> None:
        await self.instances.close()
        await self.databases.close()


class Site:
    """One database.

    Attributes:
        backends: the snapshot in force.
    """

    def __init__(self, dialect, database=None, path=None) -> None:
        self.dialect = dialect
        self.database = database
        self.path = path
        self.server = None if database is None else database.server
        self.backends = {"sql_default": self.backend()}
        self.processes: list[Process] = []

    def login(self, revision, **changes) -> Login:
        place = {
            "host": self.server.host, "port": self.server.port, "database": self.database.name,
            "username": self.database.role, "password": self.database.password,
        }  # fmt: skip
        return Login(**{**place, **changes}, revision=revision)

    def backend(self, revision=FIRST, previous=(), *, size=3, kind="sql", **changes):
        if self.dialect == "sqlite":
            return SqliteBackend(type=f"{kind}_sqlite", path=str(self.path))
        return PostgresBackend(
            type=f"{kind}_postgres",
            current=self.login(revision, **changes),
            previous=tuple(PreviousLogin(**dict(one), usable_until=0) for one in previous),
            tls=Tls(mode="Disable"),
            pooler=self.server.pooler,
            pool=PoolSettings(size=size, max_overflow=0, acquire_timeout_seconds=5),
            statement_timeout_seconds=30,
        )

    def process(self, stack=STACK) -> Process:
        process = Process(self.backends, stack)
        self.processes.append(process)
        return process

    async def sql(self, statement, database=None):
        """A statement past the pools; our tables are written @name."""
        if self.dialect == "sqlite":
            # In a thread: whoever holds the file's lock goes on in this loop.
            return await asyncio.to_thread(self._sqlite, statement.replace("@", "stackstore_"))
        found = await self.server.run(
            statement.replace("@", "stackstore."), database or self.database.name
        )
        return [tuple(row) for row in found]

    def _sqlite(self, statement):
        with contextlib.closing(sqlite3.connect(self.path, timeout=5)) as connection:
            found = connection.execute(statement).fetchall()
            connection.commit()
            return found

    async def rows(self, columns="backend, instance, revision", database=None):
        """What the table holds; nothing where there is none."""
        try:
            return await self.sql(
                f"SELECT {columns} FROM @instances ORDER BY stack_id, backend, instance", database
            )
        except (sqlite3.OperationalError, asyncpg.UndefinedTableError) as error:
            if isinstance(error, sqlite3.OperationalError) and "no such table" not in str(error):
                raise
            return []


async def until(condition, seconds=10.0):
    """Wait until `condition` (plain or async) holds, and say what it gave."""
    async with asyncio.timeout(seconds):
        while True:
            holds = condition()
            if asyncio.iscoroutine(holds):
                holds = await holds
            if holds:
                return holds
            await asyncio.sleep(0.02)
