"""The front door: a run config and a snapshot in, stores out."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from stackstore.config import RunConfig, StoreConfig, load
from stackstore.credentials.directory import SnapshotDirectory
from stackstore.credentials.snapshot import PostgresBackend, Snapshot, SqliteBackend
from stackstore.credentials.watcher import Watcher
from stackstore.errors import ConfigError, InvalidArgumentError
from stackstore.instances import Instances
from stackstore.kv import KVStore
from stackstore.pools.databases import Databases, Handle, problems
from stackstore.pools.stats import BackendStats, PoolStats
from stackstore.sql import SqlStore
from stackstore.stores.queue import Remains
from stackstore.stores.stack import GRACE_SECONDS, StackStores

_NO_STACK = "000000000000"


@dataclass(frozen=True)
class Prepared:
    """A run config and a snapshot that fit together.

    Attributes:
        backends: what each backend of the run config is served with at first.
    """

    config: RunConfig
    snapshot: Snapshot | None
    backends: Mapping[str, PostgresBackend | SqliteBackend]


class Storage(StackStores):
    """The stores of one run config. Made by `open()`; close it, or use it as `async with`.

    The higher stores (`inference()`, `responses()`, …) are those of `StackStores`.

    Attributes:
        config: what was loaded.
    """

    def __init__(
        self,
        prepared: Prepared,
        directory: SnapshotDirectory | None = None,
    ) -> None:
        super().__init__(prepared.config, prepared.snapshot)
        self._watcher = None if directory is None else Watcher(directory, self._follow)
        stack_id = _NO_STACK if prepared.snapshot is None else prepared.snapshot.stack_id
        self._databases = Databases(
            stack_id,
            prepared.backends,
            (lambda: None) if self._watcher is None else self._watcher.look_again,
        )
        self._kv: dict[tuple[str, str], KVStore] = {}
        self._sql: dict[str, SqlStore] = {}
        # Whoever asks for instances asks by the stack's id, which only a snapshot has.
        self._instances = (
            None if prepared.snapshot is None else Instances(self._databases, stack_id)
        )
        self.begin_retention()
        if self._watcher is not None:
            self._watcher.start()

    def kv(self, store: str) -> KVStore:
        """The key-value store of that name.

        Raises:
            InvalidArgumentError: the run config has no such store, or it is not a kv store.
        """
        found = self._store(store, "kv")
        return self.kv_backend(found.backend, found.place)

    def sql(self, store: str) -> SqlStore:
        """The SQL store's database; its table's name is `table(store)`.

        Raises:
            InvalidArgumentError: the run config has no such store, or it is not a sql store.
        """
        return self.sql_backend(self._store(store, "sql").backend)

    def table(self, store: str) -> str:
        """The table that the run config gives to a SQL store."""
        return self._store(store, "sql").place

    def kv_backend(self, backend: str, namespace: str) -> KVStore:
        """A namespace of a kv backend, for providers that keep their own."""
        handle = self._handle(backend, "kv")
        key = (backend, namespace)
        if key not in self._kv:
            self._kv[key] = KVStore(handle, namespace)
        return self._kv[key]

    def sql_backend(self, backend: str) -> SqlStore:
        """A sql backend, for providers that keep their own tables."""
        handle = self._handle(backend, "sql")
        if backend not in self._sql:
            self._sql[backend] = SqlStore(handle)
        return self._sql[backend]

    def status(self) -> list[dict[str, object]]:
        """One entry a pool: its backends, connections and revisions; no secrets."""
        return self._databases.status()

    def pools(self) -> Mapping[str, PoolStats]:
        """The numbers of each pool, by the first of its backends."""
        return self._databases.pools()

    def backends(self) -> Sequence[BackendStats]:
        """Where each backend stands; no secrets."""
        return self._databases.backends()

    async def close(self, grace: float = GRACE_SECONDS) -> Mapping[str, Remains]:
        """Write what is queued, stop, and close every connection.

        Connections that are lent out close when they come back.

        Args:
            grace: seconds for what is queued.

        Returns:
            What could not be written, by store; it is in the log as well.
        """
        left = await self.end(grace)
        if self._watcher is not None:
            await self._watcher.stop()
        if self._instances is not None:
            await self._instances.close()
        await asyncio.gather(*(store.close() for store in self._kv.values()))
        await self._databases.close()
        return left

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    def _store(self, name: str, family: str) -> StoreConfig:
        found = self.config.stores.get(name)
        if found is None:
            raise InvalidArgumentError(
                f"there is no store {name!r} in {self.config.file}; "
                f"it has {', '.join(sorted(self.config.stores)) or 'none'}"
            )
        if found.family != family:
            raise InvalidArgumentError(
                f"store {name!r} is a {found.family} store: use storage.{found.family}({name!r})"
            )
        return found

    def _handle(self, backend: str, family: str) -> Handle:
        declared = self.config.types.get(backend)
        if declared is None:
            raise InvalidArgumentError(
                f"there is no backend {backend!r} in {self.config.file}; "
                f"it has {', '.join(sorted(self.config.types))}"
            )
        if not declared.startswith(f"{family}_"):
            raise InvalidArgumentError(f"backend {backend!r} is {declared}, not {family}_…")
        return self._databases[backend]

    def _follow(self, snapshot: Snapshot) -> None:
        # Without those that the snapshot had and has no more: the run config can't stand in for
        # them, so they stay as they were.
        self._databases.apply(
            {
                name: backend
                for name in self.config.types
                if (backend := _backend(self.config, snapshot, name)) is not None
            }
        )
        self.follow_settings(snapshot)


async def open(  # noqa: A001 - stackstore.open() reads as it does in the standard library
    config: str | os.PathLike[str],
    *,
    credentials: str | os.PathLike[str] | None = None,
    environ: Mapping[str, str] | None = None,
) -> Storage:
    """Open the stores of a run config. No connection is made before it is needed.

    Args:
        config: the run config's file.
        credentials: the directory where the stack's Secret is mounted; what its `stackstore.json`
            says of a backend wins over the run config and the environment, and is followed when it
            changes. Without it every connection fact comes from the run config and the environment.
        environ: where `${env.…}` is looked up; the process's environment by default.

    Raises:
        ConfigError: the run config or the snapshot can't be used; the text lists every problem.
    """
    directory = None if credentials is None else SnapshotDirectory(credentials)
    return Storage(prepare(config, directory, environ), directory)


def prepare(
    config: str | os.PathLike[str],
    directory: SnapshotDirectory | None = None,
    environ: Mapping[str, str] | None = None,
) -> Prepared:
    """Read and check everything that `open()` does before a connection is made.

    Args:
        config: the run config's file.
        directory: where the snapshot is.
        environ: where `${env.…}` is looked up; the process's environment by default.

    Raises:
        ConfigError: as `open()`: every problem of the snapshot's shape, or else of the run config, or
            else of the two together.
    """
    snapshot = None if directory is None else directory.read()
    known = frozenset[str]() if snapshot is None else frozenset(snapshot.backends)
    run_config = load(config, os.environ if environ is None else environ, snapshot_backends=known)
    return Prepared(run_config, snapshot, _backends(run_config, snapshot))


def _backends(
    config: RunConfig, snapshot: Snapshot | None
) -> dict[str, PostgresBackend | SqliteBackend]:
    """What to serve at first.

    Raises:
        ConfigError: run config and snapshot don't fit together, or a backend can't be served.
    """
    found: dict[str, PostgresBackend | SqliteBackend] = {}
    wrong: list[str] = []
    for name, declared in config.types.items():
        backend = _backend(config, snapshot, name)
        # The loader has seen to it that each is in one of the two.
        assert backend is not None  # noqa: S101
        if backend.type != declared:
            wrong.append(
                f"backend {name!r}: {declared} in {config.file} but {backend.type} in the snapshot; "
                "they must be of one type"
            )
        found[name] = backend
    wrong += problems(found)
    if wrong:
        raise ConfigError("\n".join(wrong))
    return found


def _backend(
    config: RunConfig, snapshot: Snapshot | None, name: str
) -> PostgresBackend | SqliteBackend | None:
    """The snapshot's word where it has one, the run config's elsewhere."""
    backend = None if snapshot is None else snapshot.backends.get(name)
    return config.backends.get(name) if backend is None else backend
