"""Rotations under load, in each order: failures, and the time to the first new connection.

16 tasks read and write through `stackstore.open()` while the password changes 20 times in each
order: the mounted file first and the role 0.1 s later, or the role first and the file 0.1 s later.
The file is swapped as the kubelet swaps it. The time runs from the swap to the first session that
the server shows in pg_stat_activity under the new revision's application_name, looked for every
5 ms; with the file first, it holds the 0.1 s in which no new connection can be.
"""

from __future__ import annotations

import asyncio
import secrets
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import asyncpg

import stackstore
from benchmarks.mount import Mount
from benchmarks.report import Row, progress
from benchmarks.server import postgres
from stackstore.storage import Storage
from tests.support.postgres import PostgresServer

NAME = "rotation"

TASKS = 16
ROTATIONS = 20
APART_SECONDS = 0.1
REST_SECONDS = 0.1
BAR_SECONDS = 1.0
ROLE = "bench"


class Load:
    """Tasks that set and get until told to stop."""

    def __init__(self, storage: Storage) -> None:
        self.done = 0
        self.failed = 0
        self._store = storage.kv("metadata")
        self._stop = False
        self._tasks = [asyncio.create_task(self._one(f"key-{n}")) for n in range(TASKS)]

    async def _one(self, key: str) -> None:
        while not self._stop:
            try:
                await self._store.set(key, str(self.done))
                await self._store.get(key)
                self.done += 2
            except Exception:
                self.failed += 1

    async def stop(self) -> None:
        """End after the operations under way."""
        self._stop = True
        await asyncio.gather(*self._tasks)


async def run() -> list[Row]:
    """All rotations of one process, one order after the other."""
    password = secrets.token_hex(8)
    times: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as directory:
        async with postgres(ROLE, password) as server:
            mount = Mount(Path(directory), server, ROLE, password)
            async with await stackstore.open(mount.config, credentials=mount.path) as storage:
                load = Load(storage)
                watching = await server.connect()
                await _first_session(watching, mount)
                for order in ("file first", "role first"):
                    times[order] = [
                        await _rotate(server, watching, mount, order) for _ in range(ROTATIONS)
                    ]
                    progress(f"rotation: {order}: median {statistics.median(times[order]):.3f} s")
                await load.stop()
                await watching.close()
    return [
        Row.within(
            f"failed of {load.done + load.failed:,} operations by {TASKS} tasks, "
            f"{2 * ROTATIONS} rotations",
            load.failed,
            0,
            unit="operations",
        ),
        *(
            Row.within(
                f"{order}: swap to first new connection in pg_stat_activity, p95 of {ROTATIONS}",
                _p95(found),
                BAR_SECONDS,
                unit="s",
            )
            for order, found in times.items()
        ),
    ]


async def _rotate(
    server: PostgresServer, watching: asyncpg.Connection, mount: Mount, order: str
) -> float:
    password = secrets.token_hex(8)
    if order == "role first":
        await server.set_password(ROLE, password)
        await asyncio.sleep(APART_SECONDS)
    swapped = time.monotonic()
    mount.rotate(password)
    if order == "file first":
        await asyncio.sleep(APART_SECONDS)
        await server.set_password(ROLE, password)
    await _first_session(watching, mount)
    took = time.monotonic() - swapped
    # At different moments of the runtime's own looks at the file.
    await asyncio.sleep(REST_SECONDS + secrets.randbelow(250) / 1000)
    return took


async def _first_session(watching: asyncpg.Connection, mount: Mount) -> None:
    query = "SELECT count(*) FROM pg_stat_activity WHERE application_name = $1"
    async with asyncio.timeout(30):
        while not await watching.fetchval(query, mount.application_name):
            await asyncio.sleep(0.005)


def _p95(times: Sequence[float]) -> float:
    return sorted(times)[max(0, round(0.95 * len(times)) - 1)]
