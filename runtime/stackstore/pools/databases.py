"""All databases of a process: who shares a pool now, and who does after the next snapshot."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Callable, Hashable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any, Literal

from sqlalchemy.ext.asyncio import AsyncEngine

from stackstore.credentials.snapshot import PostgresBackend, SqliteBackend
from stackstore.errors import ConfigError
from stackstore.pools.database import Database
from stackstore.pools.pooling import Group, groups, successors
from stackstore.pools.postgres import PostgresDatabase
from stackstore.pools.sqlite import SqliteDatabase
from stackstore.pools.standing import State, proven_revision, state
from stackstore.pools.stats import BackendStats, PoolStats
from stackstore.pools.target import check, targets

logger = logging.getLogger(__name__)

Backend = PostgresBackend | SqliteBackend
Backends = Mapping[str, Backend]


def problems(backends: Backends) -> list[str]:
    """What stands in the way of serving this state, a line a backend; nothing is connected to."""
    return [
        f"backend {name!r}: {problem}"
        for name, backend in backends.items()
        if (problem := _impossible(backend))
    ]


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
    def trouble(self) -> str:
        """Why no connection can be opened, if none can."""
        return self.database.trouble

    @property
    def engine(self) -> AsyncEngine:
        """The engine over the pool that serves now; ask for it anew for each use."""
        return self.database.engine

    def driver(self) -> AbstractAsyncContextManager[Any]:
        """Lend one of the connections of the pool that serves now."""
        return self.database.driver()

    def reader(self) -> AbstractAsyncContextManager[Any]:
        """The same for SELECTs."""
        return self.database.reader()

    def writer(self) -> AbstractAsyncContextManager[Any]:
        """The same for a transaction."""
        return self.database.writer()

    async def close(self) -> None:
        """Nothing: the pool belongs to all who share it."""


class Databases:
    """The pools of one `stackstore.open()`.

    Args:
        stack_id: 12 hex digits, part of each connection's application_name.
        backends: the state to begin with.
        on_refused: called when a database refuses a login.

    Raises:
        ConfigError: the state can't be served; the text names every backend and why.
    """

    def __init__(self, stack_id: str, backends: Backends, on_refused: Callable[[], None]) -> None:
        self._stack_id = stack_id
        self._on_refused = on_refused
        self._numbers = itertools.count()
        self._served: dict[str, Backend] = {}
        self._pools: dict[int, PostgresDatabase | SqliteDatabase] = {}
        self._groups: dict[int, Group] = {}
        self._of: dict[str, int] = {}
        self._handles: dict[str, Handle] = {}
        self._retired: list[PostgresDatabase] = []
        self._watchers: list[Callable[[], None]] = []
        if found := problems(backends):
            raise ConfigError("\n".join(found))
        self._serve(backends)

    def __getitem__(self, backend: str) -> Handle:
        return self._handles[backend]

    def watch(self, watcher: Callable[[], None]) -> None:
        """Call it, in the event loop, whenever `proven` may answer otherwise than before."""
        self._watchers.append(watcher)

    def names(self) -> list[str]:
        """All backends."""
        return list(self._served)

    def proven(self, name: str) -> str | None:
        """The revision with which a backend was reached, in its own words.

        Returns:
            Empty where its login has no revision; None: it is not known to be reached.
        """
        backend, pool = self._served[name], self._pools[self._of[name]]
        if isinstance(backend, PostgresBackend) and isinstance(pool, PostgresDatabase):
            return proven_revision(backend, pool.pool.machine)
        return "" if isinstance(pool, SqliteDatabase) and pool.opened else None

    def apply(self, backends: Backends) -> None:
        """Serve this state from now on; requests under way are not disturbed.

        A backend whose new state can't be served, or that is gone, stays as it was, and the log
        tells why: the others must not miss a rotation for its sake.
        """
        after: dict[str, Backend] = {}
        for name, served in self._served.items():
            wanted = backends.get(name)
            problem = (
                "it is gone from the snapshot" if wanted is None else self._problem(name, wanted)
            )
            if problem:
                logger.warning("backend %s stays as it was: %s", name, problem)
            after[name] = served if wanted is None or problem else wanted
        self._serve(after)

    def status(self) -> list[dict[str, object]]:
        """One entry a pool: its backends, numbers and revisions; no secrets."""
        return [
            {
                "backends": list(self._groups[number].members),
                "dialect": pool.dialect,
                **(pool.pool.status() if isinstance(pool, PostgresDatabase) else {}),
            }
            for number, pool in sorted(self._pools.items())
        ]

    def pools(self) -> dict[str, PoolStats]:
        """The numbers of each pool, by the first of its backends."""
        return {
            self._groups[number].members[0]: (
                pool.pool.stats() if isinstance(pool, PostgresDatabase) else pool.stats()
            )
            for number, pool in sorted(self._pools.items())
        }

    def backends(self) -> list[BackendStats]:
        """Where each backend stands; no secrets."""
        return [
            BackendStats(
                name=name,
                type=backend.type,
                pool=self._groups[self._of[name]].members[0],
                state=self._state(name),
                revision=self.proven(name),
            )
            for name, backend in self._served.items()
        ]

    async def close(self) -> None:
        """Close every pool."""
        await asyncio.gather(*(pool.close() for pool in [*self._pools.values(), *self._retired]))

    def _state(self, name: str) -> State:
        backend, pool = self._served[name], self._pools[self._of[name]]
        if isinstance(backend, PostgresBackend) and isinstance(pool, PostgresDatabase):
            return state(backend, pool.pool.machine)
        return "unproven" if self.proven(name) is None else "current"

    def _tell(self) -> None:
        for watcher in self._watchers:
            watcher()

    def _problem(self, name: str, backend: Backend) -> str:
        """Why this state of a backend can't be served; empty when it can."""
        served = self._served.get(name)
        if served is not None and served.type != backend.type:
            return f"its type changed from {served.type} to {backend.type}; that needs a restart"
        if (
            isinstance(served, SqliteBackend)
            and isinstance(backend, SqliteBackend)
            and served.path != backend.path
        ):
            return f"its file moved from {served.path} to {backend.path}; that needs a restart"
        return _impossible(backend)

    def _serve(self, backends: Backends) -> None:
        after = groups(backends)
        keys: dict[int, Hashable] = {number: group.key for number, group in self._groups.items()}
        chosen = successors(self._of, keys, after)
        self._served = dict(backends)
        self._groups = {}
        for group in after:
            number = chosen[group.members]
            if number is None:
                number = next(self._numbers)
                self._pools[number] = self._open(group)
            pool = self._pools[number]
            self._offer(pool, group)
            self._groups[number] = group
            for name in group.members:
                self._of[name] = number
                self._handles.setdefault(name, Handle(name, pool)).database = pool
        self._retired = [pool for pool in self._retired if pool.pool.total]
        for number in self._pools.keys() - self._groups.keys():
            pool = self._pools.pop(number)
            # A file never parts from its name, so it is a Postgres pool.
            if isinstance(pool, PostgresDatabase):
                pool.pool.retire()
                self._retired.append(pool)
        self._tell()

    def _open(self, group: Group) -> PostgresDatabase | SqliteDatabase:
        if isinstance(group.backend, SqliteBackend):
            return SqliteDatabase(group.members[0], group.backend.path, on_opened=self._tell)
        return PostgresDatabase(
            group.members[0],
            group.backend.pool,
            on_refused=self._on_refused,
            on_proven=self._tell,
        )

    def _offer(self, pool: PostgresDatabase | SqliteDatabase, group: Group) -> None:
        if isinstance(pool, PostgresDatabase) and isinstance(group.backend, PostgresBackend):
            pool.rename(", ".join(group.members))
            pool.pool.resize(group.backend.pool)
            pool.pool.offer(targets(group.backend, self._stack_id))


def _impossible(backend: Backend) -> str:
    """Why no connection can be opened as this says, whoever listens; empty when it can."""
    if isinstance(backend, PostgresBackend):
        try:
            check(backend)
        except ConfigError as error:
            return str(error)
    return ""
