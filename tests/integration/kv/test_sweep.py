"""Expired rows are deleted, in small batches, and nobody waits for that."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import time
from collections.abc import Iterator

import pytest

from stackstore.kv import sweeper

NOW = dt.datetime.now(dt.UTC)
LONG_AGO = NOW - dt.timedelta(hours=2)
JUST_NOW = NOW - dt.timedelta(minutes=30)
LATER = NOW + dt.timedelta(hours=1)


@pytest.fixture
def patient(monkeypatch):
    """No sweep by itself."""
    monkeypatch.setattr(sweeper.Sweeper, "wake", lambda _: None)


async def keys_there(place) -> set[str]:
    return {bytes(row[0]).decode() for row in await place.run(f"SELECT key FROM {place.table}")}


@contextlib.contextmanager
def nobody_sweeps() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sweeper.Sweeper, "wake", lambda _: None)
        yield


async def test_expired_rows_are_deleted_an_hour_later_and_others_are_not(place, until):
    with nobody_sweeps():
        await place.store("other").set_many(
            {f"old{number}": "x" for number in range(1_200)}, LONG_AGO
        )
        await place.store().set("recent", "x", JUST_NOW)
        await place.store().set("forever", "x")
    assert len(await keys_there(place)) == 1_202
    store = place.store()
    await store.set("a", "x", LATER)

    async def swept() -> bool:
        # What expired just now is hidden, and kept for the case that the clock is wrong.
        return await keys_there(place) == {"recent", "forever", "a"}

    await until(swept)
    assert await store.keys_in_range("", "z") == ["a", "forever"]


USES = {
    "set": lambda store: store.set("a", "x"),
    "set for a while": lambda store: store.set("a", "x", LATER),
    "set_many": lambda store: store.set_many({"a": "x"}),
    "delete": lambda store: store.delete("a"),
    "increment": lambda store: store.increment("n"),
    "compare_and_set": lambda store: store.compare_and_set("a", None, "x"),
    "get": lambda store: store.get("a"),
    "get_many": lambda store: store.get_many(["a"]),
    "keys_in_range": lambda store: store.keys_in_range("a", "z"),
    "values_in_range": lambda store: store.values_in_range("a", "z"),
}
READS = ("get", "get_many", "keys_in_range", "values_in_range")


@pytest.mark.parametrize("use", USES)
async def test_whoever_wrote_them_may_be_gone_the_first_use_of_a_store_looks(place, until, use):
    with nobody_sweeps():
        await place.store().set("old", "x", LONG_AGO)
    await USES[use](place.store("other"))

    async def swept() -> bool:
        return "old" not in await keys_there(place)

    await until(swept)


@pytest.mark.parametrize("use", USES)
async def test_later_every_write_looks_when_it_is_time_and_reads_never(place, use, monkeypatch):
    monkeypatch.setattr(sweeper, "EVERY_SECONDS", 0.0)
    store = place.store()
    await store.get("a")
    first = store._sweeper._task
    await first
    await USES[use](store)
    assert (store._sweeper._task is first) is (use in READS)


async def test_a_store_looks_once_in_a_while_and_not_at_every_write(place, until, monkeypatch):
    monkeypatch.setattr(sweeper, "EVERY_SECONDS", 0.3)
    store = place.store()
    looks = 0
    real = store._sweeper._rows.sweep

    async def counted(*args):
        nonlocal looks
        looks += 1
        return await real(*args)

    monkeypatch.setattr(store._sweeper._rows, "sweep", counted)
    began = time.monotonic()
    for number in range(50):
        await store.set(f"k{number}", "x")
    assert looks <= 1 + (time.monotonic() - began) / 0.3

    async def again() -> bool:
        await store.set("k", "x")
        return looks >= 3

    await until(again)


async def test_batches_are_of_the_size_asked_for_oldest_first(place, patient):
    store = place.store()
    for number in range(5):
        await store.set(f"k{number}", "x", LONG_AGO - dt.timedelta(minutes=number))
    assert await store._rows.sweep(sweeper.GRACE_MICROSECONDS, 2) == 2
    assert await keys_there(place) == {"k0", "k1", "k2"}
    assert await store._rows.sweep(sweeper.GRACE_MICROSECONDS, 10) == 3
    assert await store._rows.sweep(sweeper.GRACE_MICROSECONDS, 10) == 0


async def test_a_row_that_is_being_written_anew_is_left_and_its_writer_not_kept(
    on_postgres, patient
):
    store = on_postgres.store()
    await store.set_many({"a": "x", "b": "x"}, LONG_AGO)
    async with on_postgres.session() as session, session.transaction():
        await session.execute(
            "UPDATE stackstore.kv SET expires_at = NULL, value = 'new' WHERE key = 'a'"
        )
        async with asyncio.timeout(3):
            assert await store._rows.sweep(sweeper.GRACE_MICROSECONDS, 10) == 1
    assert await store.get("a") == "new"
    assert await keys_there(on_postgres) == {"a"}


async def test_one_process_sweeps_at_a_time(on_postgres, patient):
    store = on_postgres.store()
    await store.set("a", "x", LONG_AGO)
    async with on_postgres.session() as session, session.transaction():
        assert await session.fetchval("SELECT pg_try_advisory_xact_lock($1)", 0x535441434B535750)
        async with asyncio.timeout(3):
            assert await store._rows.sweep(sweeper.GRACE_MICROSECONDS, 10) == 0
            await store.set("a", "x", LONG_AGO)
    assert await store._rows.sweep(sweeper.GRACE_MICROSECONDS, 10) == 1


async def test_a_sweep_that_fails_fails_no_write(on_postgres, patient, caplog, monkeypatch):
    store = on_postgres.store()
    await store.set("a", "x", LONG_AGO)
    role = on_postgres.world.database.role
    await on_postgres.run("ALTER TABLE stackstore.kv OWNER TO postgres")
    await on_postgres.run(f'GRANT SELECT, INSERT, UPDATE ON stackstore.kv TO "{role}"')
    monkeypatch.undo()
    await store.set("b", "x", LATER)
    await store._sweeper._task
    assert "expired rows are left for the next sweep" in caplog.text
    assert await store.get("b") == "x"


async def test_closing_ends_a_sweep_and_gives_its_connection_back(on_postgres, until):
    store = on_postgres.store()
    with nobody_sweeps():
        await store.set("a", "x", LONG_AGO)
    async with on_postgres.session() as session, session.transaction():
        await session.execute("LOCK TABLE stackstore.kv IN EXCLUSIVE MODE")
        await store.get("a")

        async def sweeping() -> bool:
            return on_postgres.world.pool.pool.status()["lent"] == 1

        await until(sweeping)
        async with asyncio.timeout(3):
            await store.close()
        assert on_postgres.world.pool.pool.status()["lent"] == 0
    assert await keys_there(on_postgres) == {"a"}
