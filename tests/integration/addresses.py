"""Pools over addresses, as tests hand them to processes: a file's path, or where a server is."""

from __future__ import annotations

from stackstore.credentials.snapshot import Login, PoolSettings, PostgresBackend, Tls
from stackstore.pools.postgres import PostgresDatabase
from stackstore.pools.sqlite import SqliteDatabase
from stackstore.pools.target import targets


def pool_of(address):
    """A pool over a file, {path}, or over a server as `postgres_pool` has it."""
    if "path" in address:
        return SqliteDatabase("sql_default", address["path"])
    return postgres_pool(address)


def postgres_pool(address, *, backend_only=False):
    """A pool over {host, port, database, username} with the tests' password."""
    place = {"password": "pw", **address}
    settings = PoolSettings(
        size=place.pop("size", 8), max_overflow=place.pop("max_overflow", 2),
        acquire_timeout_seconds=place.pop("acquire_timeout_seconds", 10),
    )  # fmt: skip
    pooler = place.pop("pooler", "None")
    timeout = place.pop("statement_timeout_seconds", 30)
    backend = PostgresBackend(
        type="sql_postgres",
        current=Login(revision="0badcafe", **place),
        previous=(),
        tls=Tls(mode="Disable"),
        pooler=pooler,
        pool=settings,
        statement_timeout_seconds=timeout,
    )
    if backend_only:
        return backend
    pool = PostgresDatabase("sql_default", settings)
    pool.pool.offer(targets(backend, "0123456789ab"))
    return pool
