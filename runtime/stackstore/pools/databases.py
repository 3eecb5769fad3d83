"""All databases of a process: who shares a pool now, and who does after the next snapshot."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any, Literal

from sqlalchemy.ext.asyncio import AsyncEngine

from stackstore.credentials.snapshot import PostgresBackend, SqliteBackend
from stackstore.errors import ConfigError
from stackstore.pools.database import Database
from stackstore.pools.pooling import Group, groups, successors
from stackstore.pools.postgres import PostgresDatabase, targets
from stackstore.pools.sqlite import SqliteDatabase

Backends = Mapping[str, PostgresBackend | SqliteBackend]


class Handle:
    """A backend's name for whatever pool serves it now; it stays valid when pools part or join."""

    def __init__(self, name: str, database: Database) -> None:
        self.name = name
        self.database = database

    @property
    def dialect(self) -> Literal["postgresql", "sqlite"]:
        """Which SQL is spoken; it never changes."""
        return self.database.dialect

    @property
    def engine(self) -> AsyncEngine:
        """The engine over the pool that serves now; ask for it anew for each use."""
        return self.database.engine

    def driver(self) -> AbstractAsyncContextManager[Any]:
        """Lend one of the connections of the pool that serves now."""
        return self.database.driver()

    async def close(self) -> None:
        """Nothing: the pool belongs to all who share it."""


class Databases:
    """The pools of one `stackstore.open()`.

    Args:
        stack_id: 12 hex digits, part of each connection's application_name.
        on_refused: called when a database refuses a login.
    """

    def __init__(self, stack_id: str, on_refused: Callable[[], None]) -> None:
        self._stack_id = stack_id
        self._on_refused = on_refused
        self._numbers = itertools.count()
        self._pools: dict[int, PostgresDatabase | SqliteDatabase] = {}
        self._members: dict[int, tuple[str, ...]] = {}
        self._of: dict[str, int] = {}
        self._handles: dict[str, Handle] = {}
        self._retiring: set[asyncio.Task[None]] = set()

    def __getitem__(self, backend: str) -> Handle:
        return self._handles[backend]

    def apply(self, backends: Backends) -> None:
        """Serve this state of the backends from now on; requests under way are not disturbed.

        Raises:
            ConfigError: the new state can't be served; the one before stays in force.
        """
        after = groups(backends)
        for group in after:
            self._check(group)
        chosen = successors(self._of, after)
        self._members = {}
        for group in after:
            number = chosen[group.members]
            if number is None:
                number = next(self._numbers)
                self._pools[number] = self._open(group)
            self._offer(self._pools[number], group)
            self._members[number] = group.members
            for name in group.members:
                self._of[name] = number
                if name in self._handles:
                    self._handles[name].database = self._pools[number]
                else:
                    self._handles[name] = Handle(name, self._pools[number])
        for number in [number for number in self._pools if number not in self._members]:
            task = asyncio.get_running_loop().create_task(self._pools.pop(number).close())
            self._retiring.add(task)
            task.add_done_callback(self._retiring.discard)
        for name in [name for name in self._of if name not in backends]:
            del self._of[name]
            del self._handles[name]

    def status(self) -> list[dict[str, object]]:
        """One entry a pool: its backends, numbers and revisions; no secrets."""
        return [
            {
                "backends": list(self._members[number]),
                "dialect": pool.dialect,
                **(pool.pool.status() if isinstance(pool, PostgresDatabase) else {}),
            }
            for number, pool in sorted(self._pools.items())
        ]

    async def close(self) -> None:
        """Close every pool."""
        await asyncio.gather(*(pool.close() for pool in self._pools.values()), *self._retiring)

    def _check(self, group: Group) -> None:
        backend = group.backend
        if isinstance(backend, PostgresBackend):
            targets(backend, self._stack_id)
        for name in group.members:
            if name in self._handles:
                dialect = "postgresql" if isinstance(backend, PostgresBackend) else "sqlite"
                if self._handles[name].dialect != dialect:
                    raise ConfigError(f"backend {name!r} changed its type; that needs a restart")

    def _open(self, group: Group) -> PostgresDatabase | SqliteDatabase:
        if isinstance(group.backend, SqliteBackend):
            return SqliteDatabase(group.members[0], group.backend.path)
        return PostgresDatabase(group.members[0], group.backend.pool, on_refused=self._on_refused)

    def _offer(self, pool: PostgresDatabase | SqliteDatabase, group: Group) -> None:
        if isinstance(pool, PostgresDatabase) and isinstance(group.backend, PostgresBackend):
            pool.pool.resize(group.backend.pool)
            pool.pool.offer(targets(group.backend, self._stack_id))
