"""The task that sweeps: when, for how long, through faults, and to its end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sqlite3
import time
from dataclasses import replace

from stackstore.stores.retention import leases, pace
from stackstore.stores.retention import retention as module
from stackstore.stores.retention.sweep import Sweep
from tests.integration.stores.conftest import until
from tests.integration.stores.retention.worker import (
    AGEING,
    ITEMS,
    MESSAGES,
    TABLE,
    YEAR,
    Kept,
)

CANARY = "c4n4ry-Zq7"


async def gone(kept, left=0):
    async with asyncio.timeout(20):
        while await kept.count() != left:
            await asyncio.sleep(0.02)


async def test_sweep_after_sweep(kept, quick, sweeping, monkeypatch):
    quick(30)
    starts = []
    real = Sweep.batch

    async def batch(self, seconds, every, most, start):
        starts.append(start)
        return await real(self, seconds, every, most, start)

    monkeypatch.setattr(Sweep, "batch", batch)
    await kept.fill(300, age=YEAR + 100, parts=2)
    await kept.fill(3, age=0, name="young", parts=2)
    retention = sweeping(kept)
    await until(lambda: retention.stats.sweeps >= 1)
    assert retention.stats == replace(
        retention.stats, seconds=YEAR, deleted=300, letters=0, failures=0, trouble=None
    )
    # It goes on where the last batch ended, and at the next sweep begins at the beginning.
    await until(lambda: retention.stats.sweeps >= 2)
    assert starts[0] is None
    assert starts[1] >= int(time.time()) - YEAR - 200
    assert starts[-1] is None
    assert abs(retention.stats.last_sweep / 1e6 - time.time()) < 5
    assert (await kept.count(), await kept.count(ITEMS), await kept.count(MESSAGES)) == (3, 6, 3)
    # A row that was written late, as from a journal, goes at the next one.
    await kept.fill(5, age=YEAR + 100, name="late")
    await gone(kept, 3)
    await until(lambda: retention.stats.deleted == 305)


async def test_rows_grow_old_while_it_runs(kept, quick, sweeping):
    quick(30)
    await kept.fill(3, age=0)
    retention = sweeping(kept, 1)
    await until(lambda: retention.stats.sweeps >= 1)
    assert await kept.count() == 3
    await gone(kept)


async def test_a_changed_setting_counts_at_once(kept, monkeypatch, sweeping):
    monkeypatch.setattr(module, "FIRST_SECONDS", 0.0)
    await kept.fill(10, age=1_000)
    retention = sweeping(kept)
    await until(lambda: retention.stats.sweeps == 1)
    # The next sweep of the year's setting were due in an hour.
    retention.keep(900)
    await gone(kept)
    assert retention.stats.seconds == 900
    await kept.fill(10, age=1_000)
    retention.keep(None)
    retention.keep(None)
    await asyncio.sleep(0.2)
    before = retention.stats
    assert before.seconds is None
    retention.keep(800)
    await gone(kept)
    assert retention.stats.sweeps == before.sweeps + 1


async def test_who_keeps_everything_asks_nothing_of_the_database(place, sweeping, monkeypatch):
    monkeypatch.setattr(module, "FIRST_SECONDS", 0.0)
    kept = Kept(place.store())
    retention = sweeping(kept, None)
    await asyncio.sleep(0.1)
    assert retention.stats == module.RetentionStats()
    assert not kept.sql._required
    retention.begin()
    retention.keep(YEAR)
    await until(lambda: retention.stats.sweeps == 1)
    assert kept.sql._required


async def test_the_sweeps_of_many_processes_are_as_many_as_of_one(
    place, quick, sweeping, monkeypatch
):
    quick(30)
    for name in ("SHORTEST_PERIOD_SECONDS", "LONGEST_PERIOD_SECONDS"):
        monkeypatch.setattr(module, name, 0.3)
    began = time.monotonic()
    several = [sweeping(Kept(place.store())) for _ in range(4)]
    await asyncio.sleep(1.2)
    sweeps = sum(one.stats.sweeps for one in several)
    assert 2 <= sweeps <= 1 + (time.monotonic() - began) / 0.3
    assert not any(one.stats.failures for one in several)


async def test_nobody_waits_for_it_and_it_stays_within_its_time(kept, place, quick, sweeping):
    """20,000 rows go while another process (here: another pool) writes."""
    quick(30)
    await kept.fill(20_000, age=YEAR + 100)
    writer = Kept(place.store())
    await writer.tables.ready()
    retention = sweeping(kept)
    took = []
    number = 0
    async with asyncio.timeout(60):
        while retention.stats.sweeps == 0:
            began = time.perf_counter()
            row = {"id": f"new{number}", "owner_key": 0, "created": int(time.time()), "uid": "n"}
            await writer.sql.insert(TABLE, row)
            took.append(time.perf_counter() - began)
            number += 1
            await asyncio.sleep(0.01)
    assert retention.stats.deleted == 20_000
    assert retention.stats.failures == 0
    assert await kept.count() == number
    took.sort()
    print(
        f"{place.dialect}: {number} writes, ms: p50 {took[number // 2] * 1e3:.1f}, "
        f"p99 {took[int(number * 0.99)] * 1e3:.1f}, most {took[-1] * 1e3:.1f}; size {retention._pace.size}"
    )
    assert number > 50
    assert took[int(number * 0.99)] < 0.5
    assert took[number // 2] < 0.1


async def test_closing_ends_it_in_the_middle(kept, place, quick, sweeping, monkeypatch):
    quick(30)
    monkeypatch.setattr(leases, "LOCK_MILLISECONDS", 60_000)
    monkeypatch.setattr(pace, "MOST", 5)
    monkeypatch.setattr(pace, "FIRST", 5)
    await kept.fill(2_000, age=YEAR + 100, parts=1)
    retention = sweeping(kept)
    await until(lambda: retention.stats.deleted >= 10)
    if place.dialect == "postgresql":
        holder = await place.server.connect(str(place.address["database"]))
        try:
            async with holder.transaction():
                await holder.execute(f"LOCK TABLE stackstore.{ITEMS} IN ACCESS EXCLUSIVE MODE")
                await asyncio.sleep(0.2)
                async with asyncio.timeout(3):
                    await retention.close()
        finally:
            await holder.close()
        assert place.pools[0].pool.status()["lent"] == 0
    else:
        async with asyncio.timeout(3):
            await retention.close()
    left = await kept.count()
    assert 0 < left < 2_000
    await asyncio.sleep(0.2)
    # Rows and parts went together or not at all, and nothing goes any more.
    assert (await kept.count(), await kept.count(ITEMS), await kept.count(MESSAGES)) == (left,) * 3
    await retention.close()


async def test_the_file_is_locked_for_a_while(sqlite_place, quick, sweeping, caplog, monkeypatch):
    quick(30)
    monkeypatch.setattr(module, "LONGEST_REST_SECONDS", 0.05)
    caplog.set_level(logging.INFO, module.__name__)
    kept = Kept(sqlite_place.store())
    await kept.fill(20, age=YEAR + 100, name=CANARY)
    await kept.sql.require(leases.LEASES)
    with contextlib.closing(
        sqlite3.connect(sqlite_place.address["path"], isolation_level=None)
    ) as holder:
        holder.execute("BEGIN IMMEDIATE")
        retention = sweeping(kept)
        await until(lambda: retention.stats.failures >= 4)
        assert "kept the file locked" in retention.stats.trouble
        holder.rollback()
    await gone(kept)
    await until(lambda: retention.stats.trouble is None)
    told = [record for record in caplog.records if record.name == module.__name__]
    assert [record.levelname for record in told] == ["WARNING", "INFO"]
    assert CANARY not in caplog.text
    assert retention.stats.deleted == 20


async def test_the_server_is_killed_in_the_middle_and_comes_back(
    own_postgres, quick, sweeping, monkeypatch
):
    server, place = own_postgres
    quick(30)
    monkeypatch.setattr(module, "LONGEST_REST_SECONDS", 0.1)
    monkeypatch.setattr(pace, "MOST", 10)
    monkeypatch.setattr(pace, "FIRST", 10)
    kept = Kept(place.store(acquire_timeout_seconds=1))
    await kept.fill(600, age=YEAR + 100, parts=1)
    retention = sweeping(kept)
    await until(lambda: retention.stats.deleted >= 50)
    await asyncio.to_thread(server.kill9)
    await until(lambda: retention.stats.failures >= 2)
    assert retention.stats.trouble
    await asyncio.to_thread(server.start_again)
    await gone(kept)
    assert (await kept.count(ITEMS), await kept.count(MESSAGES)) == (0, 0)
    await until(lambda: retention.stats.trouble is None and retention.stats.sweeps >= 1)
    # The answer of one batch may have been lost.
    assert 590 <= retention.stats.deleted <= 600


async def test_a_role_without_the_right_to_delete(
    postgres_place, quick, sweeping, caplog, monkeypatch
):
    quick(30)
    monkeypatch.setattr(module, "LONGEST_REST_SECONDS", 0.05)
    place, role = postgres_place, postgres_place.address["username"]
    kept = Kept(place.store())
    await kept.fill(5, age=YEAR + 100, name=CANARY)
    database = str(place.address["database"])
    await place.server.run(f"ALTER TABLE stackstore.{TABLE} OWNER TO postgres", database)
    await place.server.run(
        f'GRANT SELECT, INSERT, UPDATE ON stackstore.{TABLE} TO "{role}"', database
    )
    retention = sweeping(kept)
    await until(lambda: retention.stats.failures >= 6)
    # Requests don't mind.
    await kept.fill(1, age=0, name="young")
    assert caplog.text.count("old rows are not deleted") == 1
    assert "GRANT" in retention.stats.trouble
    assert CANARY not in caplog.text + str(retention.stats)
    await place.server.run(f'GRANT DELETE ON stackstore.{TABLE} TO "{role}"', database)
    await gone(kept, 1)


async def test_whatever_goes_wrong_it_goes_on(kept, quick, sweeping, caplog, monkeypatch):
    quick(30)
    monkeypatch.setattr(module, "LONGEST_REST_SECONDS", 0.01)

    async def goodbye(_rows, row):
        if len(calls) < 5:
            calls.append(row)
            raise KeyError(row["uid"])
        return False

    calls = []
    await kept.fill(3, age=YEAR + 100, name=CANARY)
    retention = sweeping(kept, ageing=replace(AGEING, goodbye=goodbye))
    await until(lambda: retention.stats.failures == 4)
    assert retention.stats.trouble == "KeyError"
    assert retention._pace.size == pace.FIRST // 2**4
    await gone(kept)
    assert CANARY not in caplog.text


async def test_a_batch_that_never_ends_is_given_up(postgres_place, quick, sweeping, monkeypatch):
    quick(30)
    monkeypatch.setattr(module, "BATCH_SECONDS", 0.3)
    monkeypatch.setattr(leases, "LOCK_MILLISECONDS", 60_000)
    place = postgres_place
    kept = Kept(place.store())
    await kept.fill(3, age=YEAR + 100)
    holder = await place.server.connect(str(place.address["database"]))
    try:
        async with holder.transaction():
            await holder.execute(f"LOCK TABLE stackstore.{TABLE} IN ACCESS EXCLUSIVE MODE")
            retention = sweeping(kept)
            await until(lambda: retention.stats.failures >= 1)
            assert retention.stats.trouble == "it took longer than 0.3 s"
            assert place.pools[0].pool.status()["lent"] == 0
    finally:
        await holder.close()
    await gone(kept)
