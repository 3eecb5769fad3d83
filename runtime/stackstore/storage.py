"""The front door: a run config and a snapshot in, stores out."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import Mapping
from types import TracebackType

from stackstore.config import RunConfig, StoreConfig, load
from stackstore.credentials.directory import SnapshotDirectory
from stackstore.credentials.snapshot import PostgresBackend, Snapshot, SqliteBackend
from stackstore.errors import ConfigError, InvalidArgumentError
from stackstore.kv import KVStore
from stackstore.pools.databases import Databases, Handle
from stackstore.sql import SqlStore

logger = logging.getLogger(__name__)

POLL_SECONDS = 0.25
"""How often the snapshot's file is looked at; a look is one `stat`."""

_NO_STACK = "000000000000"


class Storage:
    """The stores of one run config. Made by `open()`; close it, or use it as `async with`.

    Attributes:
        config: what was loaded.
    """

    def __init__(
        self, config: RunConfig, databases: Databases, directory: SnapshotDirectory | None
    ) -> None:
        self.config = config
        self._databases = databases
        self._directory = directory
        self._refused = asyncio.Event()
        self._watcher: asyncio.Task[None] | None = None
        self._kv: dict[tuple[str, str], KVStore] = {}
        self._sql: dict[str, SqlStore] = {}

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

    async def close(self) -> None:
        """Stop watching and close every connection; those lent out close when they come back."""
        if self._watcher is not None:
            self._watcher.cancel()
            await asyncio.gather(self._watcher, return_exceptions=True)
        await self._databases.close()

    async def __aenter__(self) -> Storage:
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

    # -- the snapshot

    def _look_again(self) -> None:
        self._refused.set()

    async def _watch(self, directory: SnapshotDirectory) -> None:
        while True:
            force = self._refused.is_set()
            self._refused.clear()
            try:
                snapshot = directory.read_if_changed(force=force)
                if snapshot is not None:
                    self._databases.apply(_backends(self.config, snapshot))
                    logger.info("snapshot of revision %s is in force", snapshot.revision)
            except ConfigError as error:
                logger.warning("keeping the last good snapshot: %s", error)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(POLL_SECONDS):
                    await self._refused.wait()
            if self._refused.is_set():
                # A refused login may be tried many times a second; the file is not.
                await asyncio.sleep(POLL_SECONDS / 5)


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
    snapshot = None if directory is None else directory.read()
    known = frozenset[str]() if snapshot is None else frozenset(snapshot.backends)
    run_config = load(
        config, os.environ if environ is None else environ, snapshot_backends=known
    )
    storage: Storage

    def look_again() -> None:
        storage._look_again()  # noqa: SLF001 - the two are made together here

    databases = Databases(_NO_STACK if snapshot is None else snapshot.stack_id, look_again)
    storage = Storage(run_config, databases, directory)
    databases.apply(_backends(run_config, snapshot))
    if directory is not None:
        storage._watcher = asyncio.create_task(storage._watch(directory))  # noqa: SLF001
    return storage


def _backends(
    config: RunConfig, snapshot: Snapshot | None
) -> dict[str, PostgresBackend | SqliteBackend]:
    """What to serve: the snapshot's word where it has one, the run config's elsewhere.

    Raises:
        ConfigError: the two don't fit together, or a CA can't be read.
    """
    found: dict[str, PostgresBackend | SqliteBackend] = {}
    for name, declared in config.types.items():
        backend = None if snapshot is None else snapshot.backends.get(name)
        if backend is None:
            backend = config.backends.get(name)
        if backend is None:
            raise ConfigError(
                f"backend {name!r} is gone from the snapshot, and {config.file} needs it"
            )
        if backend.type != declared:
            raise ConfigError(
                f"backend {name!r} is {declared} in {config.file} but {backend.type} in the snapshot"
            )
        found[name] = backend
    return found
