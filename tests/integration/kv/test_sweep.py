"""D17: expired rows are deleted, in small batches, and nobody waits for that."""

from __future__ import annotations

import asyncio
import datetime as dt

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


async def test_d17_a_write_with_an_expiration_has_the_expired_deleted(place, until):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sweeper.Sweeper, "wake", lambda _: None)
        await place.store("other").set_many(
            {f"old{number}": "x" for number in range(1_200)}, LONG_AGO
        )
        await place.store().set("recent", "x", JUST_NOW)
        await place.store().set("forever", "x")
    store = place.store()
    await store.set("plain", "x")
    await asyncio.sleep(0.1)
    assert len(await keys_there(place)) == 1_203
    await store.set("a", "x", LATER)

    async def swept() -> bool:
        # What expired just now is hidden, and kept for the case that the clock is wrong.
        return await keys_there(place) == {"recent", "forever", "plain", "a"}

    await until(swept)
    assert await store.keys_in_range("", "z") == ["a", "forever", "plain"]


async def test_every_kind_of_write_with_an_expiration_wakes_the_sweep(place, until):
    for number in range(2):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sweeper.Sweeper, "wake", lambda _: None)
            await place.store().set("old", "x", LONG_AGO)
        store = place.store()
        if number:
            await store.set_many({"a": "x"}, LATER)
        else:
            assert await store.compare_and_set("b", None, "x", LATER)

        async def swept() -> bool:
            return "old" not in await keys_there(place)

        await until(swept)


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
    for number in range(50):
        await store.set(f"k{number}", "x", LATER)
    assert looks <= 2

    async def again() -> bool:
        await store.set("k", "x", LATER)
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
