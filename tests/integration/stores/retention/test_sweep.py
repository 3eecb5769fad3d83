"""What goes, what stays, and what goes with it."""

from __future__ import annotations

import asyncio
import re
import time
from dataclasses import replace
from pathlib import Path

import pytest

from stackstore.errors import BackendUnavailableError, ConflictError, StackstoreError
from stackstore.stores.retention import MICROSECONDS, leases
from stackstore.stores.retention.clock import CautiousClock
from stackstore.stores.retention.sweep import LETTERS, Sweep, deletion, oldest
from tests.integration.stores.retention.worker import (
    AGEING,
    ITEMS,
    MESSAGES,
    TABLE,
    YEAR,
    Kept,
)

HOUR = 3_600


async def batch(
    kept, most=1_000, *, seconds=YEAR, ageing=AGEING, clock=None, holder="me", start=None
):
    await kept.sql.require(leases.LEASES)
    sweep = Sweep(kept.sql, ageing, holder, clock or CautiousClock())
    return await sweep.batch(seconds, 60.0, most, start)


async def again(kept):
    """The next sweep is due."""
    await kept.tables.ready()
    await kept.sql.require(leases.LEASES)
    async with kept.sql._database.engine.begin() as connection:
        prefix = "stackstore_" if kept.sql.dialect == "sqlite" else "stackstore."
        await connection.exec_driver_sql(f"UPDATE {prefix}leases SET until = 0, due = 0")


async def test_old_rows_go_with_all_that_is_theirs_and_others_stay(kept):
    await kept.fill(30, age=YEAR + 100, parts=3)
    await kept.fill(12, age=YEAR - 100, name="young", parts=3)
    assert await kept.count(ITEMS) == 42 * 3
    swept = await batch(kept)
    assert (swept.rows, swept.is_full) == (30, False)
    young = sorted(f"young-{n}" for n in range(12))
    assert await kept.ids() == young
    assert await kept.ids(MESSAGES) == young
    assert sorted(set(await kept.ids(ITEMS))) == [f"young{n}" for n in range(4)]
    assert await kept.count(ITEMS) == 12 * 3


async def test_parts_of_others_rows_of_the_same_id_stay(kept):
    await kept.fill(1, age=YEAR + 100, parts=2)
    await kept.fill(3, age=0, name="x", parts=2)
    # Two owners' rows of one id, one old and one young.
    await kept.sql.update(TABLE, {"created": int(time.time()) - YEAR - 100}, {"uid": "x-1"})
    assert (await batch(kept)).rows == 2
    assert await kept.ids() == ["x-0", "x-2"]
    page = await kept.sql.fetch_all(ITEMS)
    assert {row["chat_owner"] for row in page.data} == {0, 2}
    assert len(page.data) == 4


async def test_what_is_from_the_future_or_has_no_time_stays(kept):
    await kept.fill(3, age=-10 * YEAR)
    await kept.fill(3, age=YEAR + 100, name="none")
    await kept.sql.update(TABLE, {"created": None}, {"owner_key": 1})
    assert (await batch(kept)).rows == 2
    assert await kept.ids() == ["none-1", "old-0", "old-1", "old-2"]


@pytest.mark.parametrize("late", [True, False])
async def test_the_edge_is_exact(kept, late):
    """A row of whole seconds goes when its whole second is old enough."""
    await kept.tables.ready()
    now = 1_700_000_000
    clock = CautiousClock(lambda: (now * 1_000_000 + 999_999) * 1_000, lambda: 0)
    row = {"id": "a", "owner_key": 0, "created": now - HOUR - late, "uid": "a"}
    await kept.sql.insert(TABLE, row)
    assert (await batch(kept, seconds=HOUR, clock=clock)).rows == late


async def test_a_column_of_microseconds(kept):
    await kept.tables.ready()
    now = time.time_ns() // 1_000
    for number, age in enumerate((0, HOUR - 5, HOUR + 5)):
        row = {
            "id": f"r{number}",
            "owner_key": 0,
            "created": now - age * 1_000_000,
            "uid": f"{number}",
        }
        await kept.sql.insert(TABLE, row)
    ageing = replace(AGEING, per_second=MICROSECONDS)
    assert (await batch(kept, seconds=HOUR, ageing=ageing)).rows == 1
    assert await kept.ids() == ["0", "1"]


async def test_a_batch_is_of_the_oldest_and_no_larger_than_asked_for(kept):
    await kept.fill(10, age=YEAR + 1_000, parts=1)
    await kept.fill(10, age=YEAR + 100, name="newer", parts=1)
    first = await batch(kept, 7)
    assert (first.rows, first.is_full) == (7, True)
    assert await kept.count(MESSAGES) == 13
    assert (await batch(kept, 7, start=first.last)).rows == 7
    left = await kept.ids()
    assert all(name.startswith("newer") for name in left)
    assert len(left) == 6
    assert (await batch(kept, 7)).rows == 6


async def test_nothing_is_looked_for_before_what_was_deleted_just_now(kept):
    await kept.fill(10, age=YEAR + 1_000)
    made = int(time.time()) - YEAR - 1_000
    assert (await batch(kept, 100, start=made + 4)).rows == 6
    await again(kept)
    assert (await batch(kept, 100)).rows == 4


async def test_it_is_ones_turn_until_the_sweep_is_over_and_then_nobodys_for_a_while(kept):
    await kept.fill(10, age=YEAR + 100)
    assert (await batch(kept, 4, holder="a")).rows == 4
    other = await batch(kept, 4, holder="b")
    assert (other.is_mine, other.rows) == (False, 0)
    assert 29 < other.wait <= 30
    assert (await batch(kept, 4, holder="a")).rows == 4
    assert (await batch(kept, 4, holder="a")).rows == 2
    for holder in ("a", "b"):
        later = await batch(kept, 4, holder=holder)
        assert (later.is_mine, later.rows) == (False, 0)
        assert 59 < later.wait <= 60
    await again(kept)
    assert (await batch(kept, 4, holder="b")).is_mine


async def test_what_failed_is_undone_as_a_whole_and_says_nothing_of_rows(kept):
    seen = []

    async def goodbye(rows, row):
        seen.append(row)
        await rows.delete(MESSAGES, {"chat_uid": "kept-elsewhere"})
        if len(seen) == 3:
            raise ConflictError("not now")
        return False

    await kept.fill(5, age=YEAR + 100, parts=2)
    await kept.sql.insert(MESSAGES, {"chat_uid": "kept-elsewhere", "text": "x"})
    ageing = replace(AGEING, goodbye=goodbye, reads=("uid", "body"))
    with pytest.raises(ConflictError, match="not now"):
        await batch(kept, ageing=ageing)
    assert (await kept.count(), await kept.count(ITEMS), await kept.count(MESSAGES)) == (5, 10, 6)
    # What it gets: the key, what was asked for, and what leads to parts.
    assert seen[0].keys() == {"id", "owner_key", "uid", "created", "body"}
    assert seen[0]["body"] == {"text": "x" * 200}
    assert (await batch(kept, ageing=ageing)).rows == 5
    assert await kept.count(MESSAGES) == 0


async def test_dead_letters_go_at_that_age_too(kept, place):
    await kept.tables.ready()
    now = time.time_ns() // 1_000
    old, young = now - (YEAR + 100) * 1_000_000, now - (YEAR - 100) * 1_000_000
    values = ", ".join(
        f"('q{n}', {n}, '{name}', 'i', 'o', 'r', {('FALSE', '0')[place.dialect == 'sqlite']}, NULL, {made})"
        for n, (name, made) in enumerate([(TABLE, old)] * (LETTERS + 3) + [(TABLE, young), ("other", old)])
    )  # fmt: skip
    await place.sql(
        "INSERT INTO @dead_letters (queue, sequence, name, identity, owner, reason, deletes, payload, created) "
        f"VALUES {values}"
    )
    first = await batch(kept)
    assert (first.letters, first.is_full) == (LETTERS, True)
    assert (await batch(kept)).letters == 3
    assert len(await place.sql("SELECT 1 FROM @dead_letters")) == 2
    await again(kept)
    assert (await batch(kept, ageing=replace(AGEING, has_letters=False), seconds=1)).letters == 0


async def test_a_row_that_is_being_changed_is_left_and_its_writer_not_kept(postgres_place):
    kept = Kept(postgres_place.store())
    await kept.fill(5, age=YEAR + 100, parts=1)
    other = Kept(postgres_place.store())
    await other.tables.ready()
    async with other.sql.transaction() as writer:
        assert await writer.update(TABLE, {"body": {"new": 1}}, {"uid": "old-2"}) == 1
        async with asyncio.timeout(3):
            assert (await batch(kept)).rows == 4
        await writer.insert(
            ITEMS, {"chat": "old0", "chat_owner": 2, "item": "another", "text": "x"}
        )
    assert await kept.ids() == ["old-2"]
    await again(kept)
    assert (await batch(kept)).rows == 1
    assert await kept.count(ITEMS) == 0


async def test_of_two_that_wait_for_each_other_it_gives_way(postgres_place):
    kept = Kept(postgres_place.store())
    await kept.fill(1, age=YEAR + 100, parts=1)
    other = Kept(postgres_place.store())
    await other.tables.ready()
    async with other.sql.transaction() as writer:
        await writer.update(ITEMS, {"text": "y"}, {"chat": "old0"})
        with pytest.raises(StackstoreError, match="55P03"):
            await batch(kept)
        # It has let go of the row itself.
        async with asyncio.timeout(3):
            await writer.update(TABLE, {"body": None}, {"uid": "old-0"})


async def test_the_lock_is_the_transactions_and_of_one_table(postgres_place):
    kept = Kept(postgres_place.store())
    await kept.fill(1, age=YEAR + 100)
    await kept.sql.require(leases.LEASES)
    mine, others = leases.Turns("postgresql", TABLE), leases.Turns("postgresql", "another")
    async with postgres_place.pools[0].engine.connect() as connection:
        async with connection.begin():
            assert await others.lock(connection, 0)
            assert (await batch(kept, 0)).is_mine
            await again(kept)
            assert await mine.lock(connection, 0)
            busy = await batch(kept)
            assert (busy.is_mine, busy.rows, busy.wait) == (False, 0, 30.0)
        # The session keeps nothing of it.
        assert (await batch(kept)).rows == 1
        (wait,) = (await connection.exec_driver_sql("SHOW lock_timeout")).one()
        assert wait == "0"


@pytest.mark.parametrize("leap", [-10 * YEAR, 10 * YEAR])
async def test_rows_go_by_the_clock_that_is_behind(postgres_place, leap):
    """The process's clock is wrong from the start; the database's is right."""
    kept = Kept(postgres_place.store())
    await kept.fill(2, age=YEAR + 100)
    await kept.fill(2, age=YEAR - 100, name="young")
    wrong = CautiousClock(lambda: time.time_ns() + leap * 1_000_000_000)
    assert (await batch(kept, clock=wrong)).rows == (2 if leap > 0 else 0)
    assert "young-0" in await kept.ids()


async def test_a_clock_that_leaps_ahead_takes_no_young_rows(kept):
    await kept.fill(2, age=YEAR + 100)
    await kept.fill(2, age=YEAR - 100, name="young")
    leap = 0
    clock = CautiousClock(lambda: time.time_ns() + leap)
    leap = 10 * YEAR * 1_000_000_000
    assert (await batch(kept, clock=clock)).rows == 2
    assert await kept.ids() == ["young-0", "young-1"]
    # What such a clock wrote down keeps nobody away when it is right again. Postgres has its own.
    other = await batch(kept, clock=CautiousClock(), holder="other")
    assert other.is_mine is (kept.sql.dialect == "sqlite")


async def test_the_index_gives_the_old_rows_and_the_keys_their_parts(kept, place):
    await kept.fill(5_000, age=0, parts=2)
    await kept.fill(5_000, age=YEAR + 100, name="x", parts=2)
    edge = int(time.time()) - YEAR
    statements = [
        oldest(kept.sql.table(TABLE), AGEING, edge, 100, None),
        oldest(kept.sql.table(TABLE), AGEING, edge, 100, edge - 100),
        *(deletion(kept.sql.table(part.table), tuple(part.columns)) for part in AGEING.parts[:1]),
        deletion(kept.sql.table(TABLE), kept.sql.table(TABLE).primary_key),
    ]
    words = "EXPLAIN QUERY PLAN " if place.dialect == "sqlite" else "EXPLAIN "
    async with place.pools[0].engine.begin() as connection:
        if place.dialect == "postgresql":
            await connection.exec_driver_sql("ANALYZE")
        for statement in statements:
            keys = [name for name in statement.compile().params if name.startswith("k_")]
            if keys:
                text = re.sub(r":k_\w*owner\w*", "1", str(statement))
                text = re.sub(r":k_\w+", "'x'", text)
            else:
                text = str(
                    statement.compile(
                        dialect=connection.dialect, compile_kwargs={"literal_binds": True}
                    )
                )
            plan = await connection.exec_driver_sql(f"{words}{text}")
            found = "\n".join(str(tuple(row)) for row in plan)
            assert not re.search("Seq Scan|SCAN|Sort|TEMP B-TREE", found), found


async def test_a_database_that_became_another_one(kept, place):
    """A rotation moved the name to an empty one, or the file was taken away."""
    await kept.fill(2, age=YEAR + 100)
    await batch(kept, 1)
    if place.dialect == "sqlite":
        for file in Path(place.address["path"]).parent.glob("sql.db*"):
            file.unlink()
    else:
        name = f"{place.address['database']}b"
        await place.server.create_database(name, str(place.address["username"]))
        place.move(place.pools[0], name)
        while (await place.sql("SELECT current_database()")) != [(name,)]:
            await asyncio.sleep(0.01)
    assert (await batch(kept)).rows == 0
    assert await kept.ids() == []
    await kept.fill(2, age=YEAR + 100)
    await again(kept)
    with pytest.raises(BackendUnavailableError):
        await batch(kept)
    assert (await batch(kept)).rows == 2
    if place.dialect == "postgresql":
        await place.pools[0].close()
        await place.server.run(f'DROP DATABASE "{name}" WITH (FORCE)')
