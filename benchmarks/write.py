"""Completions stored a second: the inference store, beside a bare batching writer.

Ours is `InferenceStore.store_chat_completion` under the default policy, each of 50 producers a user of
his own, 4 writers. The limit is what is left when everything but the work is taken away: the same
call, which writes the same objects down by the same function, puts the values into an
`asyncio.Queue` of the same size, and tasks that write what waits, up to 500 rows at once. On
Postgres 4 of them, each with a connection of its own and one prepared statement over `unnest`, the
fastest way of one round trip; on SQLite its one writer, `executemany` in one transaction on a thread.
Its table has the same columns and the same indexes, made by the same code. It knows no users, has no
marks for exactly-once, no bound of bytes, no retries and nothing to wait for but the end.

Both take turns on rows that are new to them, and a round ends when all rows are committed. Objects are
made beforehand. `call` is the slowest of a hundred calls while the queue has room.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import itertools
import json
import random
import sqlite3
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

import asyncpg
from pydantic import BaseModel, ConfigDict
from sqlalchemy.ext.asyncio import AsyncConnection

import stackstore
from benchmarks.report import Row, progress
from benchmarks.server import postgres
from stackstore.access import AuthorizedSqlStore, User, acting_as
from stackstore.schema import qualified
from stackstore.sql import SqlStore
from stackstore.stores.documents import text
from stackstore.stores.inference import InferenceStore

NAME = "write"

PRODUCERS = 50
WRITERS = 4
BATCH_ROWS = 500
QUEUE_ROWS = 10_000
ROUNDS = {5_000: 9, 100_000: 5}
"""How often each number of completions is stored."""

CALLS = 6_000
CALLS_PER_SECOND = 2_000
CALL_SECONDS = 0.005
BAR = 0.9

ROLE = "bench"
PASSWORD = "bench"
COLUMNS = (
    "owner_id",
    "id",
    "created",
    "arrived",
    "model",
    "body",
    "input_messages",
    "owner_key",
)
KEY = ("id", "owner_key")


# -- what a server hands over: models of the shape of the API's, about 3 KB as JSON


class _Model(BaseModel):
    model_config = ConfigDict(extra="allow")


class Function(_Model):
    name: str
    arguments: str


class ToolCall(_Model):
    id: str
    type: Literal["function"] = "function"
    function: Function


class Answer(_Model):
    role: Literal["assistant"] = "assistant"
    content: str | None = None
    refusal: str | None = None
    tool_calls: list[ToolCall] | None = None


class Choice(_Model):
    index: int
    message: Answer
    logprobs: dict[str, Any] | None = None
    finish_reason: str


class PromptDetails(_Model):
    cached_tokens: int | None = None


class CompletionDetails(_Model):
    reasoning_tokens: int | None = None


class Usage(_Model):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptDetails | None = None
    completion_tokens_details: CompletionDetails | None = None


class Completion(_Model):
    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: list[Choice]
    usage: Usage | None = None
    service_tier: str | None = None
    metadata: dict[str, str] | None = None


class Part(_Model):
    type: Literal["text"] = "text"
    text: str


class System(_Model):
    role: Literal["system"] = "system"
    content: str | list[Part]


class Question(_Model):
    role: Literal["user"] = "user"
    content: str | list[Part]


class ToolResult(_Model):
    role: Literal["tool"] = "tool"
    tool_call_id: str
    content: str | list[Part]


Message = System | Question | Answer | ToolResult
Made = tuple[Completion, list[Message]]


class Objects:
    """Completions with their messages; no two have the same id, and 256 have the same words."""

    def __init__(self) -> None:
        self._numbers = itertools.count()
        # As servers make them: they come in no order.
        self._ids = random.Random(11)
        source = random.Random(7)
        words = [
            "".join(source.choices("abcdefghijklmnopqrstuvwxyz", k=source.randrange(2, 10)))
            for _ in range(2_000)
        ]
        self._samples = [self._sample(source, words) for _ in range(256)]

    def make(self, count: int) -> list[Made]:
        made = []
        for number in itertools.islice(self._numbers, count):
            completion, messages = self._samples[number % len(self._samples)]
            changes = {
                "id": f"chatcmpl-{self._ids.getrandbits(128):032x}",
                "created": 1_700_000_000 + number // 100,
            }
            made.append((completion.model_copy(update=changes), messages))
        return made

    def _sample(self, source: random.Random, words: Sequence[str]) -> Made:
        def prose(count: int) -> str:
            return " ".join(source.choices(words, k=count)) + ' "quoted"\n'

        def call(number: int) -> ToolCall:
            return ToolCall(
                id=f"call_{number:024d}",
                function=Function(name="look_up", arguments=json.dumps({"query": prose(6)})),
            )

        completion = Completion(
            id="",
            created=0,
            model=f"vendor/model-{source.randrange(8)}",
            choices=[
                Choice(
                    index=0,
                    message=Answer(content=prose(360), tool_calls=[call(2)]),
                    finish_reason="stop",
                )
            ],
            usage=Usage(
                prompt_tokens=300,
                completion_tokens=280,
                total_tokens=580,
                prompt_tokens_details=PromptDetails(cached_tokens=0),
                completion_tokens_details=CompletionDetails(reasoning_tokens=0),
            ),
            service_tier="default",
            metadata={"session": "abc", "experiment": "b"},
            provider_extra={"region": "somewhere"},
        )
        messages = [
            System(content=prose(25)),
            Question(content=prose(60)),
            Answer(tool_calls=[call(1)]),
            ToolResult(tool_call_id=call(1).id, content=[Part(text=prose(60))]),
            Question(content=[Part(text=prose(40))]),
        ]
        return completion, messages


# -- the two sides


Put = Callable[[Completion, list[Message]], Awaitable[None]]


class Side(Protocol):
    """What is measured."""

    def producer(self, number: int) -> Put:
        """The call of one of the producers."""

    async def flush(self) -> None: ...


class Ours:
    """The inference store."""

    def __init__(self, store: InferenceStore) -> None:
        self._store = store

    def producer(self, number: int) -> Put:
        return self._store.store_chat_completion

    async def flush(self) -> None:
        await self._store.flush(600)


class Limit:
    """The bare writer."""

    def __init__(
        self, write: Callable[[list[tuple[Any, ...]]], Awaitable[None]], writers: int
    ) -> None:
        self._write = write
        self._rows: asyncio.Queue[tuple[Any, ...]] = asyncio.Queue(QUEUE_ROWS)
        self._tasks = [asyncio.create_task(self._work()) for _ in range(writers)]

    def producer(self, number: int) -> Put:
        owner_id, owner_key = number + 1, random.Random(number).getrandbits(62)

        async def put(completion: Completion, messages: list[Message]) -> None:
            await self._rows.put(
                (
                    owner_id,
                    completion.id,
                    completion.created,
                    time.time_ns() // 1000,
                    completion.model,
                    text("a completion", completion),
                    text("messages", messages),
                    owner_key,
                )
            )

        return put

    async def _work(self) -> None:
        while True:
            batch = [await self._rows.get()]
            while len(batch) < BATCH_ROWS and not self._rows.empty():
                batch.append(self._rows.get_nowait())
            await self._write(batch)
            for _ in batch:
                self._rows.task_done()

    async def flush(self) -> None:
        await self._rows.join()

    def stop(self) -> None:
        for task in self._tasks:
            task.cancel()


@contextlib.asynccontextmanager
async def limit_postgres(host: str, port: int, table: str) -> AsyncIterator[Limit]:
    connections = [
        await asyncpg.connect(
            host=host, port=port, user=ROLE, password=PASSWORD, database=ROLE, ssl=False
        )
        for _ in range(WRITERS)
    ]
    kinds = ("bigint", "text", "bigint", "bigint", "text", "json", "json", "bigint")
    arrays = ", ".join(f"unnest(${place}::{kind}[])" for place, kind in enumerate(kinds, 1))
    sets = ", ".join(f"{name} = excluded.{name}" for name in COLUMNS if name not in KEY)
    statement = (
        f"INSERT INTO {table} ({', '.join(COLUMNS)}) SELECT {arrays} "
        f"ON CONFLICT ({', '.join(KEY)}) DO UPDATE SET {sets}"
    )
    # Whoever is free; a statement of each, prepared.
    free: asyncio.Queue[Any] = asyncio.Queue()
    for connection in connections:
        free.put_nowait(await connection.prepare(statement))

    async def write(batch: list[tuple[Any, ...]]) -> None:
        prepared = await free.get()
        await prepared.fetch(*map(list, zip(*batch, strict=True)))
        free.put_nowait(prepared)

    limit = Limit(write, WRITERS)
    try:
        yield limit
    finally:
        limit.stop()
        for connection in connections:
            await connection.close()


@contextlib.asynccontextmanager
async def limit_sqlite(path: Path, table: str) -> AsyncIterator[Limit]:
    driver = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    for pragma in ("journal_mode = WAL", "synchronous = NORMAL", "foreign_keys = ON"):
        driver.execute(f"PRAGMA {pragma}")
    sets = ", ".join(f"{name} = excluded.{name}" for name in COLUMNS if name not in KEY)
    statement = (
        f"INSERT INTO {table} ({', '.join(COLUMNS)}) VALUES ({', '.join('?' * len(COLUMNS))}) "
        f"ON CONFLICT ({', '.join(KEY)}) DO UPDATE SET {sets}"
    )

    def on_thread(batch: list[tuple[Any, ...]]) -> None:
        driver.execute("BEGIN IMMEDIATE")
        driver.executemany(statement, batch)
        driver.execute("COMMIT")

    async def write(batch: list[tuple[Any, ...]]) -> None:
        await asyncio.to_thread(on_thread, batch)

    limit = Limit(write, 1)
    try:
        yield limit
    finally:
        limit.stop()
        driver.close()


# -- the comparison


_CONFIG = """\
distro_name: bench
storage:
  backends:
    kv_default: {{type: kv_sqlite, db_path: {place}/kv.db}}
    sql_file: {{type: sql_sqlite, db_path: {place}/ours.db}}
    sql_bare: {{type: sql_sqlite, db_path: {place}/limit.db}}
    sql_server:
      {{type: sql_postgres, host: {host}, port: {port}, db: {role}, user: {role}, password: {password}}}
  stores:
    metadata: {{backend: kv_default, namespace: registry}}
"""


async def run() -> list[Row]:
    """Both engines and both numbers; about three minutes."""
    rows = []
    # As a database is that is meant to keep what it is given.
    async with postgres(ROLE, PASSWORD, settings=["fsync=on"]) as server:
        with tempfile.TemporaryDirectory(prefix="stackstore-bench-") as directory:
            place = Path(directory)
            config = place / "config.yaml"
            config.write_text(
                _CONFIG.format(
                    place=place, host=server.host, port=server.port, role=ROLE, password=PASSWORD
                )
            )
            async with await stackstore.open(config) as storage:
                sql = storage.sql_backend("sql_server")
                await make_table(sql, "bare")
                async with limit_postgres(server.host, server.port, "stackstore.bare") as limit:
                    rows += await compare(
                        "Postgres", sql, limit, sql, lambda: server.run("CHECKPOINT")
                    )
                other = storage.sql_backend("sql_bare")
                await make_table(other, "bare")
                async with limit_sqlite(place / "limit.db", "stackstore_bare") as limit:
                    rows += await compare(
                        "SQLite",
                        storage.sql_backend("sql_file"),
                        limit,
                        other,
                        lambda: asyncio.to_thread(checkpoint, place),
                    )
    return rows


async def make_table(sql: SqlStore, name: str) -> None:
    """The store's table and its indexes, under a name of its own."""
    store = InferenceStore(AuthorizedSqlStore(sql), name)
    with acting_as(User("nobody in particular")):
        await store.list_chat_completions()
    await store.shutdown()


async def compare(
    engine: str,
    sql: SqlStore,
    limit: Limit,
    limit_sql: SqlStore,
    settle: Callable[[], Awaitable[Any]],
) -> list[Row]:
    """Ours and the limit in turns; `settle` brings the database to rest between turns."""
    rows = []
    objects = Objects()
    store = InferenceStore(
        AuthorizedSqlStore(sql),
        "ours",
        max_write_queue_size=QUEUE_ROWS,
        num_writers=WRITERS,
        enqueue_timeout_seconds=600,
    )
    await store.initialize()
    ours = Ours(store)
    # What is only done once, on both sides.
    for side in (ours, limit):
        await rate(side, objects.make(BATCH_ROWS))
    for count, rounds in ROUNDS.items():
        rates: dict[str, list[float]] = {"ours": [], "limit": []}
        for number in range(rounds):
            turns = [("ours", ours, sql, "ours"), ("limit", limit, limit_sql, "bare")]
            for who, side, where, table in turns if number % 2 else turns[::-1]:
                rates[who].append(await rate(side, objects.make(count)))
                await clear(where, table, count)
                # What one has left to do in the background must not slow the other one.
                await settle()
            progress(
                f"write: {engine}, {count:,}, round {number + 1} of {rounds}: "
                f"ours {rates['ours'][-1]:,.0f}/s, limit {rates['limit'][-1]:,.0f}/s"
            )
        rows.append(
            Row.beside(
                f"{engine}, {count:,} completions",
                statistics.median(rates["ours"]),
                statistics.median(rates["limit"]),
                bar=BAR,
                unit="rows/s",
            )
        )
    rows.append(
        Row.within(
            f"{engine}, p99 of a call while there is room",
            1000 * await slowest_call(store, objects),
            1000 * CALL_SECONDS,
            unit="ms",
        )
    )
    await store.shutdown(60)
    return rows


def checkpoint(place: Path) -> None:
    """Bring what is in the SQLite files' logs into the files."""
    for name in ("ours.db", "limit.db"):
        with contextlib.closing(sqlite3.connect(place / name)) as driver:
            driver.execute("PRAGMA wal_checkpoint(TRUNCATE)")


async def rate(side: Side, made: Sequence[Made]) -> float:
    """Rows a second, from the first call until all are committed."""

    async def produce(first: int) -> None:
        put = side.producer(first)
        with acting_as(User(f"user-{first}", {"teams": [f"team-{first % 5}"]})):
            for place in range(first, len(made), PRODUCERS):
                await put(*made[place])
                # As requests come: one of each, not all of one and then all of the next.
                await asyncio.sleep(0)

    gc.collect()
    # A server has few completions at a time. To walk through all of these again and again would be
    # most of what Python's garbage collector does here, on whichever side its turn comes.
    gc.freeze()
    try:
        begin = time.perf_counter()
        await asyncio.gather(*(produce(first) for first in range(PRODUCERS)))
        await side.flush()
        return len(made) / (time.perf_counter() - begin)
    finally:
        gc.unfreeze()


async def slowest_call(store: InferenceStore, objects: Objects) -> float:
    """The 99th percentile of calls, in seconds, at a load that the writers keep up with."""
    calls: list[float] = []
    made = objects.make(CALLS)

    async def produce(first: int) -> None:
        source = random.Random(first)
        with acting_as(User(f"user-{first}", {"teams": [f"team-{first % 5}"]})):
            for place in range(first, len(made), PRODUCERS):
                await asyncio.sleep(source.uniform(0, 2 * PRODUCERS / CALLS_PER_SECOND))
                begin = time.perf_counter()
                await store.store_chat_completion(*made[place])
                calls.append(time.perf_counter() - begin)

    await asyncio.gather(*(produce(first) for first in range(PRODUCERS)))
    await store.flush(60)
    return sorted(calls)[int(len(calls) * 0.99)]


async def clear(sql: SqlStore, table: str, count: int) -> None:
    """See that all is there, and empty the table, so that both sides begin alike."""
    name = qualified(sql.dialect, table)

    async def work(connection: AsyncConnection) -> None:
        found = (await connection.exec_driver_sql(f"SELECT count(*) FROM {name}")).scalar_one()
        assert found == count or found == count + BATCH_ROWS
        truncate = "TRUNCATE" if sql.dialect == "postgresql" else "DELETE FROM"
        await connection.exec_driver_sql(f"{truncate} {name}")

    await sql.run(table, work, writes=True, atomic=True)
