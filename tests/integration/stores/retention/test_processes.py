"""Several processes: one sweeps at a time, each row goes once, and who is killed is replaced."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import sys
import time

import pytest

from stackstore.errors import BackendUnavailableError
from stackstore.stores.retention.clock import CautiousClock
from stackstore.stores.retention.sweep import Sweep
from tests.integration.stores.retention import worker
from tests.integration.stores.retention.worker import AGEING, ITEMS, MESSAGES, YEAR, Kept


class Process:
    """A sweeper of its own; `stats` is the last that it told."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.stats = {"deleted": 0, "sweeps": 0, "failures": 0, "trouble": None}
        self._reading: asyncio.Task[None] | None = None

    @classmethod
    async def start(cls, place, **task) -> Process:
        address = {**place.address, "size": 2} if place.dialect == "postgresql" else place.address
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", worker.__name__,
            json.dumps({"address": address, "period": 0.2, "lease": 30.0, **task}),
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        assert await process.stdout.readline() == b"ready\n"
        return cls(process)

    def begin(self) -> None:
        self.process.stdin.write(b"\n")
        self._reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        async for line in self.process.stdout:
            self.stats = json.loads(line)

    async def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGKILL)
        await self.process.wait()
        if self._reading is not None:
            await self._reading


@pytest.fixture
async def start(place):
    """Start processes that end with the test."""
    started = []

    async def begin(count=1, **task):
        some = await asyncio.gather(*(Process.start(place, **task) for _ in range(count)))
        started.extend(some)
        return some

    yield begin
    for process in started:
        await process.kill()


async def test_each_row_goes_once(kept, start):
    await kept.fill(1_500, age=YEAR + 100, parts=1)
    await kept.fill(3, age=0, name="young", parts=1)
    # Turns so short that they fight for each batch.
    several = await start(3, lease=0.0, most=50)
    for process in several:
        process.begin()
    async with asyncio.timeout(30):
        while any(process.stats["sweeps"] == 0 for process in several):
            await asyncio.sleep(0.02)
    assert await kept.ids() == ["young-0", "young-1", "young-2"]
    assert (await kept.count(ITEMS), await kept.count(MESSAGES)) == (3, 3)
    deleted = [process.stats["deleted"] for process in several]
    assert sum(deleted) == 1_500
    assert sum(count > 0 for count in deleted) >= 2, deleted


async def test_one_sweeps_and_is_replaced_when_it_is_killed(kept, start):
    await kept.fill(500, age=YEAR + 100, parts=1)
    several = await start(2, lease=1.0, most=10)
    for process in several:
        process.begin()
    async with asyncio.timeout(20):
        while max(process.stats["deleted"] for process in several) < 50:
            await asyncio.sleep(0.01)
    first, second = sorted(several, key=lambda process: -process.stats["deleted"])
    assert second.stats["deleted"] == 0
    assert second.stats["failures"] == 0
    await first.kill()
    killed = time.monotonic()
    assert await kept.count() > 200
    async with asyncio.timeout(20):
        while second.stats["deleted"] == 0:
            await asyncio.sleep(0.01)
    assert time.monotonic() - killed < 3
    async with asyncio.timeout(20):
        while second.stats["sweeps"] == 0:
            await asyncio.sleep(0.02)
    assert (await kept.count(), await kept.count(ITEMS), await kept.count(MESSAGES)) == (0, 0, 0)


async def test_batches_at_the_same_time_take_no_row_twice(place, kept, quick):
    """Two whose turn it is: the transaction's own lock decides."""
    quick(0)
    await kept.fill(600, age=YEAR + 100, parts=1)
    other = Kept(place.store())
    await other.tables.ready()
    for one in (kept, other):
        await one.sql.require(worker.leases.LEASES)

    async def sweep(one, holder):
        deleted, mine = 0, Sweep(one.sql, AGEING, holder, CautiousClock())
        while await one.count():
            # On a busy machine SQLite's file may be locked for too long; it is tried again.
            with contextlib.suppress(BackendUnavailableError):
                deleted += (await mine.batch(YEAR, 0.0, 10, None)).rows
        return deleted

    async with asyncio.timeout(30):
        some = await asyncio.gather(sweep(kept, "a"), sweep(other, "b"))
    assert sum(some) == 600
    assert await kept.count() == 0
