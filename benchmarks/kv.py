"""KVStore: get and set by 16 tasks, beside the bare driver on a bare table.

Ours goes through `stackstore.open()` with the defaults of the run config. The limit on Postgres is
an asyncpg pool of the same size with its default reset, on SQLite sqlite3 in WAL behind one worker
thread; both on a table of two columns, key and value, which is less than ours does. Ours and the
limit take turns in short rounds on the same server and disk; the medians count.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import random
import sqlite3
import statistics
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import asyncpg

import stackstore
from benchmarks.report import Row, progress
from benchmarks.server import postgres
from tests.support.postgres import PostgresServer

NAME = "kv"

TASKS = 16
KEYS = 5_000
VALUE_CHARACTERS = 1_000
ROUNDS = 9
ROUND_SECONDS = 0.8

ROLE = "bench"
PASSWORD = "bench"

_CONFIG = """\
distro_name: bench
storage:
  backends:
    kv_file: {{type: kv_sqlite, db_path: {path}}}
    kv_server:
      {{type: kv_postgres, host: {host}, port: {port}, db: {role}, user: {role}, password: {password},
       ssl_mode: disable}}
  stores:
    metadata: {{backend: kv_server, namespace: registry}}
"""


class Store(Protocol):
    """What is measured."""

    async def get(self, key: str) -> str | None: ...

    async def set(self, key: str, value: str) -> None: ...


async def run() -> list[Row]:
    """Both engines; about a minute."""
    rows = []
    async with postgres(ROLE, PASSWORD) as server:
        with tempfile.TemporaryDirectory(prefix="stackstore-bench-") as directory:
            place = Path(directory)
            config = place / "config.yaml"
            config.write_text(
                _CONFIG.format(
                    path=place / "ours.db",
                    host=server.host,
                    port=server.port,
                    role=ROLE,
                    password=PASSWORD,
                )
            )
            async with await stackstore.open(config) as storage:
                ours: Store = storage.kv_backend("kv_server", "bench")
                await ours.get("")  # opens the pool, so that its size can be read
                (capacity,) = (
                    int(str(pool["capacity"]))
                    for pool in storage.status()
                    if pool["dialect"] == "postgresql"
                )
                async with bare_postgres(server, capacity) as limit:
                    rows += await compare("Postgres", ours, limit, get_bar=0.9, set_bar=0.9)
                ours = storage.kv_backend("kv_file", "bench")
                async with bare_sqlite(place / "limit.db") as limit:
                    rows += await compare("SQLite", ours, limit, get_bar=0.9, set_bar=0.8)
    return rows


async def compare(
    engine: str, ours: Store, limit: Store, *, get_bar: float, set_bar: float
) -> list[Row]:
    """Ours and the limit in turns."""
    source = random.Random(7)
    alphabet = "abcdefghijklmnopqrstuvwxyz0123456789 {}:,\"'"
    values = ["".join(source.choices(alphabet, k=VALUE_CHARACTERS)) for _ in range(64)]
    for number in range(KEYS):
        for store in (ours, limit):
            await store.set(f"model:{number}", values[number % len(values)])
    rows = []
    for what, bar in (("get", get_bar), ("set", set_bar)):
        rates: dict[str, list[float]] = {"ours": [], "limit": []}
        for number in range(ROUNDS):
            turns = [("ours", ours), ("limit", limit)]
            for who, store in turns if number % 2 else turns[::-1]:
                rates[who].append(await rate(store, what, values, source))
            progress(
                f"kv: {engine} {what}, round {number + 1} of {ROUNDS}: "
                f"ours {rates['ours'][-1]:,.0f}/s, limit {rates['limit'][-1]:,.0f}/s"
            )
        rows.append(
            Row.beside(
                f"{engine} {what}, {TASKS} tasks",
                statistics.median(rates["ours"]),
                statistics.median(rates["limit"]),
                bar=bar,
                unit="op/s",
            )
        )
    return rows


async def rate(store: Store, what: str, values: list[str], source: random.Random) -> float:
    """Operations a second of one round."""
    # Chosen beforehand: the choice is no part of what is measured.
    keys = [f"model:{source.randrange(KEYS)}" for _ in range(1 << 16)]
    numbers = iter(range(1 << 62))
    begin = time.perf_counter()
    end = begin + ROUND_SECONDS

    async def get() -> None:
        while time.perf_counter() < end:
            assert await store.get(keys[next(numbers) & 0xFFFF]) is not None

    async def put() -> None:
        while time.perf_counter() < end:
            number = next(numbers)
            await store.set(keys[number & 0xFFFF], values[number % len(values)])

    await asyncio.gather(*((get if what == "get" else put)() for _ in range(TASKS)))
    return next(numbers) / (time.perf_counter() - begin)


# -- the limits


@dataclass
class BarePostgres:
    """An asyncpg pool and nothing else."""

    pool: asyncpg.Pool

    async def get(self, key: str) -> str | None:
        return await self.pool.fetchval("SELECT value FROM bare WHERE key = $1", key)

    async def set(self, key: str, value: str) -> None:
        await self.pool.execute(
            "INSERT INTO bare (key, value) VALUES ($1, $2) "
            "ON CONFLICT (key) DO UPDATE SET value = excluded.value",
            key,
            value,
        )


@contextlib.asynccontextmanager
async def bare_postgres(server: PostgresServer, size: int) -> AsyncIterator[BarePostgres]:
    """A pool whose connections are all open, on a fresh table."""
    pool = await asyncpg.create_pool(
        host=server.host,
        port=server.port,
        user=ROLE,
        password=PASSWORD,
        database=ROLE,
        ssl=False,
        min_size=size,
        max_size=size,
    )
    try:
        await pool.execute("CREATE TABLE bare (key text PRIMARY KEY, value text NOT NULL)")
        yield BarePostgres(pool)
    finally:
        await pool.close()


class BareSqlite:
    """One thread with one connection; each call goes there and back, each write commits."""

    def __init__(self, path: Path) -> None:
        self._calls: queue.SimpleQueue[tuple[Callable[[], Any], asyncio.Future[Any]] | None] = (
            queue.SimpleQueue()
        )
        self._thread = threading.Thread(target=self._work, args=(path,))
        self._thread.start()

    def _work(self, path: Path) -> None:
        self._driver = sqlite3.connect(path, isolation_level=None)
        for pragma in ("journal_mode = WAL", "synchronous = NORMAL", "foreign_keys = ON"):
            self._driver.execute(f"PRAGMA {pragma}")
        self._driver.execute("CREATE TABLE bare (key TEXT PRIMARY KEY, value TEXT NOT NULL)")
        while (call := self._calls.get()) is not None:
            work, answer = call
            answer.get_loop().call_soon_threadsafe(answer.set_result, work())
        self._driver.close()

    def _run(self, work: Callable[[], Any]) -> Awaitable[Any]:
        answer = asyncio.get_running_loop().create_future()
        self._calls.put((work, answer))
        return answer

    def _get(self, key: str) -> str | None:
        row = self._driver.execute("SELECT value FROM bare WHERE key = ?", (key,)).fetchone()
        return None if row is None else row[0]

    def _set(self, key: str, value: str) -> None:
        self._driver.execute(
            "INSERT INTO bare (key, value) VALUES (?, ?) "
            "ON CONFLICT (key) DO UPDATE SET value = excluded.value",
            (key, value),
        )

    async def get(self, key: str) -> str | None:
        return await self._run(lambda: self._get(key))

    async def set(self, key: str, value: str) -> None:
        await self._run(lambda: self._set(key, value))

    def close(self) -> None:
        self._calls.put(None)
        self._thread.join()


@contextlib.asynccontextmanager
async def bare_sqlite(path: Path) -> AsyncIterator[BareSqlite]:
    """A fresh file."""
    bare = BareSqlite(path)
    try:
        yield bare
    finally:
        bare.close()
