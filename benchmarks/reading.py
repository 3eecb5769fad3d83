"""Many rows of many owners on both engines, and how long a page of them takes; for `list` and its like.

A reader of the limit has the hand-written statement on the bare driver, with the best index that
there is for exactly this user: one of his rows only, in the order asked for. It is on a copy of the
table, for on the same one it would be of use to ours, or in its way. On Postgres the driver is an
asyncpg pool of the same size with its default reset, on SQLite sqlite3 behind as many threads. A page
is dictionaries with the documents parsed, as a server hands them on.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import queue
import sqlite3
import statistics
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg

from benchmarks.server import postgres
from stackstore.access import AuthorizedSqlStore
from stackstore.access.owners import Owner
from stackstore.credentials.snapshot import Login, PoolSettings, PostgresBackend, Tls
from stackstore.pools.postgres import PostgresDatabase
from stackstore.pools.sqlite import READERS, SqliteDatabase
from stackstore.pools.target import targets
from stackstore.schema import qualified
from stackstore.sql import ColumnDefinition, ColumnType, SqlStore

PAGE = 50
TABLE = "completions"
ORDER = [("created", "desc")]
SCHEMA = {
    "id": ColumnDefinition(ColumnType.STRING, primary_key=True),
    "created": ColumnDefinition(ColumnType.INTEGER, nullable=False),
    "model": ColumnType.STRING,
    "document": ColumnType.JSON,
}
COLUMNS = "id, created, model, document"

ROLE = "bench"
_DOCUMENT = json.dumps(
    {
        "object": "chat.completion",
        "choices": [
            {
                "index": 0,
                "finish_reason": "stop",
                "message": {"role": "assistant", "content": "x" * 120},
            }
        ],
        "usage": {"prompt_tokens": 17, "completion_tokens": 40, "total_tokens": 57},
        "input_messages": [
            {"role": "system", "content": "y" * 60},
            {"role": "user", "content": "z" * 80},
        ],
    }
)
"""The least that a server has of a completion; both sides parse it for each row of a page."""

Call = Callable[[], Awaitable[Any]]


@dataclass(frozen=True)
class Member:
    """An owner of rows.

    Attributes:
        owner: who.
        old: how many of the oldest rows are his; 0: of the others each has his share.
    """

    owner: Owner
    old: int = 0


class Engine:
    """One database with rows in it, as our stores have them and as the limit does."""

    def __init__(
        self, name: str, database: PostgresDatabase | SqliteDatabase, limit: Limit
    ) -> None:
        self.name = name
        self.database = database
        self.sql = SqlStore(database)
        self.limit = limit
        self.table = qualified(database.dialect, TABLE)
        self._indexes = 0

    async def store(self, policy: Any = None) -> AuthorizedSqlStore:
        """The table under a policy."""
        store = AuthorizedSqlStore(self.sql, policy)
        await store.create_table(TABLE, SCHEMA, per_owner=True)
        return store

    async def fill(self, members: Sequence[Member], rows: int) -> None:
        """The owners, and that many rows: the old ones, then each other member's in turn."""
        store = await self.store()
        await self._intern(store, [member.owner for member in members])
        old = [n for n, member in enumerate(members, 1) for _ in range(member.old)]
        usual = [n for n, member in enumerate(members, 1) if not member.old]
        assert usual == list(range(1, len(usual) + 1)), "those with old rows are the last"
        await self.limit.write(self.table, old, len(usual), rows)
        await store.create_index(f"{TABLE}_created", TABLE, ["created"])
        await self.limit.run(f"CREATE TABLE bare AS SELECT * FROM {self.table}")
        await self.limit.run("ANALYZE")

    async def best(self, owners: Iterable[int]) -> Call:
        """The hand-written read of a page of these owners' rows, with an index of its own."""
        listed = ", ".join(map(str, owners)) or "-1"
        self._indexes += 1
        await self.limit.run(
            f"CREATE INDEX best_{self._indexes} ON bare (created, id, owner_key) "
            f"WHERE owner_id IN ({listed})"
        )
        statement = (
            f"SELECT {COLUMNS} FROM bare WHERE owner_id IN ({listed}) "
            f"ORDER BY created DESC, id DESC, owner_key DESC LIMIT {PAGE + 1}"
        )
        return lambda: self.limit.read(statement)

    async def _intern(self, store: AuthorizedSqlStore, owners: list[Owner]) -> None:
        """As `Owners` does it, all in one transaction; a number is the place in the list."""
        made = [
            {"owner_id": n, "digest": owner.digest, "person": f"p{n}", "owner_key": n, "mark": f"m{n}",
             "identity": owner.identity}
            for n, owner in enumerate(owners, 1)
        ]  # fmt: skip
        statement = store._owners._table.core.insert()

        async def write(connection: Any) -> None:
            await connection.execute(statement, made)

        await self.sql.run(TABLE, write, writes=True, atomic=True)


@contextlib.asynccontextmanager
async def on_postgres() -> AsyncIterator[Engine]:
    """A server of its own."""
    async with postgres(ROLE, ROLE) as server:
        backend = PostgresBackend(
            type="sql_postgres",
            current=Login(
                host=server.host, port=server.port, database=ROLE, username=ROLE, password=ROLE
            ),
            tls=Tls(mode="Disable"),
            pool=PoolSettings(),
        )
        database = PostgresDatabase("sql_default", backend.pool)
        database.pool.offer(targets(backend, "0123456789ab"))
        pool = await asyncpg.create_pool(
            host=server.host, port=server.port, user=ROLE, password=ROLE, database=ROLE, ssl=False,
            min_size=10, max_size=10,
        )  # fmt: skip
        try:
            yield Engine("Postgres", database, PostgresLimit(pool))
        finally:
            await pool.close()
            await database.close()


@contextlib.asynccontextmanager
async def on_sqlite() -> AsyncIterator[Engine]:
    """A file of its own."""
    with tempfile.TemporaryDirectory(prefix="stackstore-bench-") as directory:
        path = Path(directory) / "sql.db"
        database = SqliteDatabase("sql_default", str(path))
        async with database.driver():
            pass
        limit = SqliteLimit(path)
        try:
            yield Engine("SQLite", database, limit)
        finally:
            limit.close()
            await database.close()


ENGINES: Sequence[Callable[[], AbstractAsyncContextManager[Engine]]] = (on_postgres, on_sqlite)


# -- the bare drivers


class Limit:
    """The bare driver of an engine."""

    async def run(self, statement: str) -> None:
        raise NotImplementedError

    async def read(self, statement: str) -> list[dict[str, Any]]:
        raise NotImplementedError

    async def write(self, table: str, old: Sequence[int], owners: int, rows: int) -> None:
        raise NotImplementedError


def parsed(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows as a server needs them."""
    for row in rows:
        row["document"] = json.loads(row["document"])
    return rows


def _insert(table: str, old: Sequence[int], numbers: str, owner_of: str, text: str) -> str:
    """One statement for all rows; times have ties of four."""
    return (
        f"INSERT INTO {table} (owner_id, id, created, model, document, owner_key) "
        f"SELECT {owner_of}, {text}, 1700000000 + n / 4, 'model', '{_DOCUMENT}', {owner_of} "
        f"FROM {numbers}"
    )


class PostgresLimit(Limit):
    """asyncpg and its pool."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def run(self, statement: str) -> None:
        await self._pool.execute(statement)

    async def read(self, statement: str) -> list[dict[str, Any]]:
        return parsed([dict(row) for row in await self._pool.fetch(statement)])

    async def write(self, table: str, old: Sequence[int], owners: int, rows: int) -> None:
        listed = ", ".join(map(str, old))
        owner = f"n::bigint * 7919 % {owners} + 1"
        if old:
            owner = (
                f"CASE WHEN n < {len(old)} THEN (ARRAY[{listed}]::bigint[])[n + 1] ELSE {owner} END"
            )
        numbers = f"generate_series(0, {rows - 1}) AS s (n)"
        await self._pool.execute(
            _insert(table, old, numbers, owner, "'chatcmpl-' || lpad(n::text, 9, '0')")
        )


class SqliteLimit(Limit):
    """sqlite3 behind as many threads with a connection each as ours has."""

    def __init__(self, path: Path) -> None:
        self._calls: queue.SimpleQueue[tuple[Callable[..., Any], asyncio.Future[Any]] | None] = (
            queue.SimpleQueue()
        )
        self._threads = [threading.Thread(target=self._work, args=(path,)) for _ in range(READERS)]
        for thread in self._threads:
            thread.start()

    def _work(self, path: Path) -> None:
        driver = sqlite3.connect(path, isolation_level=None)
        driver.execute("PRAGMA synchronous = NORMAL")
        while (call := self._calls.get()) is not None:
            work, answer = call
            answer.get_loop().call_soon_threadsafe(answer.set_result, work(driver))
        driver.close()

    def _do(self, work: Callable[[sqlite3.Connection], Any]) -> Awaitable[Any]:
        answer = asyncio.get_running_loop().create_future()
        self._calls.put((work, answer))
        return answer

    async def run(self, statement: str) -> None:
        await self._do(lambda driver: driver.execute(statement).fetchall())

    async def read(self, statement: str) -> list[dict[str, Any]]:
        def work(driver: sqlite3.Connection) -> list[dict[str, Any]]:
            found = driver.execute(statement)
            names = [column[0] for column in found.description]
            return [dict(zip(names, row, strict=True)) for row in found]

        return parsed(await self._do(work))

    async def write(self, table: str, old: Sequence[int], owners: int, rows: int) -> None:
        owner = f"n * 7919 % {owners} + 1"
        if old:
            cases = " ".join(f"WHEN {n} THEN {number}" for n, number in enumerate(old))
            owner = f"CASE n {cases} ELSE {owner} END"
        numbers = (
            "(WITH RECURSIVE s (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM s "
            f"WHERE n < {rows - 1}) SELECT n FROM s)"
        )
        await self.run(_insert(table, old, numbers, owner, "printf('chatcmpl-%09d', n)"))

    def close(self) -> None:
        for _ in self._threads:
            self._calls.put(None)
        for thread in self._threads:
            thread.join()


# -- measuring


async def p50s(
    calls: Sequence[Call], *, readers: int, seconds: float, rounds: int = 5
) -> list[float]:
    """The median milliseconds of each call by so many readers at once; they take turns in rounds."""
    times: list[list[float]] = [[] for _ in calls]
    for call in calls:
        # Plans, caches and connections, of all readers.
        for _ in range(8):
            await asyncio.gather(*(call() for _ in range(readers)))

    async def read(call: Call, into: list[float], until: float) -> None:
        while time.perf_counter() < until:
            began = time.perf_counter()
            await call()
            into.append(time.perf_counter() - began)

    for _ in range(rounds):
        for call, into in zip(calls, times, strict=True):
            until = time.perf_counter() + seconds / rounds
            await asyncio.gather(*(read(call, into, until) for _ in range(readers)))
    return [statistics.median(found) * 1000 for found in times]
