"""A chain of 200 responses, one after the other: what the last one costs, and how much room all take.

Each response is stored as the server does it: with all messages so far, once with its input as what
is new and once with all of it. The limit of the last append is 1.5 times the first that goes on from
something, by turns, so that both meet the same load; of the room, 1.1 times what the responses' own
items take.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import stackstore
from benchmarks.mount import Mount
from benchmarks.report import Row, progress
from benchmarks.server import postgres
from stackstore.access import AuthorizedSqlStore, User, acting_as
from stackstore.pools.database import Database
from stackstore.pools.sqlite import SqliteDatabase
from stackstore.sql import SqlStore
from stackstore.stores.responses import ResponsesStore

LENGTH = 200
ROUNDS = 60
"""How often each is measured; the median counts."""

_ROLE = "bench"
_PASSWORD = "bench-chain"


async def rows() -> list[Row]:
    """On both engines, with both ways to hand over the input."""
    found = []
    with tempfile.TemporaryDirectory() as directory:
        pool = SqliteDatabase("sql_default", str(Path(directory) / "chain.db"))
        try:
            found += await _of("SQLite", SqlStore(pool), pool)
        finally:
            await pool.close()
        async with postgres(_ROLE, _PASSWORD) as server:
            mount = Mount(Path(directory), server, _ROLE, _PASSWORD)
            async with await stackstore.open(mount.config, credentials=mount.path) as storage:
                sql = storage.sql("inference")
                found += await _of("Postgres", sql, sql._database)
    return found


async def _of(engine: str, sql: SqlStore, pool: Database) -> list[Row]:
    found = []
    for incremental, words in ((True, "new input only"), (False, "all input each time")):
        table = f"chain_{'new' if incremental else 'all'}"
        chain = _Chain(ResponsesStore(AuthorizedSqlStore(sql), table), incremental=incremental)
        with acting_as(User("u1", {"teams": ["a"]})):
            for n in range(LENGTH):
                await chain.append(f"r{n}", n)
            stored = await _stored(pool, table)
            first, last = await chain.both_ends()
            whole = await chain.store.get_response_object(f"r{LENGTH - 1}")
            assert len(whole["input"]) == 2 * LENGTH - 1
        progress(
            f"chain: {engine}, {words}: {first * 1e3:.2f} ms at first, {last * 1e3:.2f} ms at last"
        )
        about = f"{engine}, a chain of {LENGTH}, {words}"
        found += [
            Row.within(
                f"{about}: the last append; limit: 1.5 times the first",
                last * 1e3,
                1.5 * first * 1e3,
                unit="ms",
            ),
            Row.within(
                f"{about}: stored; limit: 1.1 times what was new",
                stored / 1e6,
                1.1 * chain.new / 1e6,
                unit="MB",
            ),
        ]
    return found


class _Chain:
    """A chain, and what the server hands over for each response of it."""

    def __init__(self, store: ResponsesStore, *, incremental: bool) -> None:
        self.store = store
        self.new = 0
        """Bytes of what was new in each of the chain."""
        self._incremental = incremental
        self._said: list[Any] = []
        self._heard: list[Any] = []
        for n in range(LENGTH):
            self._said += [_item("user", n), _item("assistant", n)]
            self._heard += [_message("user", n), _message("assistant", n)]

    async def append(self, name: str, n: int) -> float:
        """Store the response number n of the chain under a name; returns the seconds it took."""
        question, answer = self._said[2 * n : 2 * n + 2]
        heard = self._heard[: 2 * n + 2]
        # The output is kept with the response, and with what was answered on it.
        self.new += sum(len(str(one)) for one in (question, answer, answer, *heard[-2:]))
        said = [question] if self._incremental else self._said[: 2 * n + 1]
        response = _response(name, f"r{n - 1}" if n else None, answer)
        begun = time.perf_counter()
        await self.store.store_response_object(
            response, said, heard, incremental_input=self._incremental
        )
        return time.perf_counter() - begun

    async def both_ends(self) -> tuple[float, float]:
        """Seconds that another second and another last response take, by turns."""
        new = self.new
        taken = [
            (await self.append(f"a{n}", 1), await self.append(f"z{n}", LENGTH - 1))
            for n in range(ROUNDS)
        ]
        self.new = new
        first, last = zip(*taken, strict=True)
        return statistics.median(first), statistics.median(last)


async def _stored(pool: Database, table: str) -> int:
    place = "stackstore_" if pool.dialect == "sqlite" else "stackstore."
    total = 0
    wanted = {
        table: ["response_object"],
        f"{table}__parts": ["inherited", "input", "messages"],
    }
    async with pool.engine.connect() as connection:
        for name, columns in wanted.items():
            size = " + ".join(f"sum(length(CAST({column} AS TEXT)))" for column in columns)
            result = await connection.exec_driver_sql(f"SELECT {size} FROM {place}{name}")
            total += int(result.scalar_one())
    return total


def _item(role: str, n: int) -> dict[str, Any]:
    kind = "output_text" if role == "assistant" else "input_text"
    content = [{"type": kind, "text": _words(role, n)}]
    return {"type": "message", "id": f"msg_{role}_{n}", "role": role, "content": content}


def _message(role: str, n: int) -> dict[str, Any]:
    return {"role": role, "content": _words(role, n)}


def _words(role: str, n: int) -> str:
    return f"{role} {n}: " + "the quick brown fox jumps over the lazy dog. " * 6


def _response(name: str, previous: str | None, answer: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": name,
        "object": "response",
        "created_at": 1_700_000_000,
        "model": "m",
        "status": "completed",
        "output": [answer],
        "previous_response_id": previous,
    }
