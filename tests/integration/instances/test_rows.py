"""A row a process and backend: there when it is reached, true, and gone when the process is."""

import asyncio
import re
import time

import pytest

from stackstore.errors import BackendUnavailableError
from stackstore.instances import heartbeat, living, table
from stackstore.pools.postgres import PostgresDatabase
from tests.integration.instances.site import FIRST, SECOND, STACK, THIRD, until

NOW = {
    "sqlite": "CAST(strftime('%s', 'now') AS INTEGER)",
    "postgresql": "extract(epoch FROM clock_timestamp())::bigint",
}


def first(site):
    """What a backend's row says at first: files have no revision."""
    return FIRST if site.dialect == "postgresql" else ""


async def test_a_row_comes_with_the_first_use_and_goes_with_the_end(site):
    process = site.process()
    await asyncio.sleep(0.1)
    # Nobody wanted anything, so it connected nowhere.
    if site.dialect == "postgresql":
        assert await site.server.sessions(site.database.role) == []
    else:
        assert not site.path.exists()
    assert await process.use() == 1
    rows = await until(site.rows)
    assert rows == [("sql_default", process.id, first(site))]
    assert re.fullmatch("[0-9a-f]{32}", process.id)
    other = site.process()
    await other.use()
    await until(lambda: two(site))
    await process.close()
    assert [row[1] for row in await site.rows()] == [other.id]
    await other.close()
    assert await site.rows() == []


async def test_what_is_used_while_it_ends_gets_none(site):
    process = site.process()
    await process.instances.close()
    await process.use()
    await asyncio.sleep(0.3)
    assert await site.rows() == []


async def test_a_backend_that_nobody_uses_has_none(postgres_site):
    postgres_site.backends["other"] = postgres_site.backend(database="no_such_database")
    process = postgres_site.process()
    await process.use()
    await until(postgres_site.rows)
    assert [row[0] for row in await postgres_site.rows()] == ["sql_default"]


async def test_its_times_are_those_of_the_database(site):
    process = site.process()
    await asyncio.sleep(1.1)
    await process.use()
    await until(site.rows)
    ((started, seen, now),) = await site.rows(f"started, seen, {NOW[site.dialect]}")
    assert seen <= now <= seen + 2
    # Since when the process is there, not since when it uses this backend.
    assert 1 <= seen - started <= 3


async def test_it_is_written_again_and_again(site, monkeypatch):
    monkeypatch.setattr(heartbeat, "EVERY_SECONDS", 0.2)
    process = site.process()
    await process.use()
    await until(site.rows)
    ((started, seen),) = await site.rows("started, seen")
    await site.sql("UPDATE @instances SET seen = seen - 100")
    await until(lambda: seen_since(site, seen))
    assert await site.rows("started") == [(started,)]


async def seen_since(site, moment):
    rows = await site.rows("seen")
    return rows and rows[0][0] >= moment


async def test_another_login_is_told_at_once_and_only_when_it_is_proven(postgres_site):
    site = postgres_site
    process = site.process()
    await process.use()
    await until(site.rows)
    old = site.login(FIRST)
    site.backends["sql_default"] = site.backend(SECOND, [old], password="second")
    process.databases.apply(site.backends)
    await until(lambda: process.databases.pools()["sql_default"].counters.refused)
    await asyncio.sleep(0.1)
    assert await site.rows("revision") == [(FIRST,)]
    await site.server.set_password(site.database.role, "second")
    began = time.monotonic()
    while await site.rows("revision") != [(SECOND,)]:
        assert time.monotonic() - began < 3
        await asyncio.sleep(0.02)


async def test_while_no_login_works_the_last_one_stays(postgres_site, monkeypatch):
    monkeypatch.setattr(heartbeat, "EVERY_SECONDS", 0.1)
    site = postgres_site
    process = site.process()
    await process.use()
    await until(site.rows)
    # The session stays, the login is refused for every other one.
    await site.server.set_password(site.database.role, "elsewhere")
    await asyncio.gather(
        *(process.use() for _ in range(4)),
        return_exceptions=True,
    )
    await until(lambda: process.databases.backends()[0].state == "refused")
    await site.sql("UPDATE @instances SET seen = seen - 100")
    ((seen,),) = await site.rows("seen")
    await until(lambda: seen_since(site, seen + 90))
    assert await site.rows("revision") == [(FIRST,)]


async def test_backends_that_share_a_pool_have_a_row_each_in_their_own_words(postgres_site):
    site = postgres_site
    site.backends["kv_default"] = site.backend(SECOND, kind="kv")
    process = site.process()
    await process.use("sql_default")
    assert len(process.databases.pools()) == 1
    await until(lambda: two(site))
    assert await site.rows("backend, revision") == [("kv_default", SECOND), ("sql_default", FIRST)]
    # One whose own password is another: that one was never tried.
    site.backends["third"] = site.backend(THIRD, password="another")
    third = site.process()
    await third.use("third")
    await until(lambda: three(site))
    mine = [row for row in await site.rows() if row[1] == third.id]
    assert [(name, revision) for name, _, revision in mine] == [
        ("kv_default", SECOND),
        ("sql_default", FIRST),
    ]


async def two(site):
    return len(await site.rows()) == 2


async def three(site):
    return len(await site.rows()) >= 4


async def test_a_backend_that_joins_another_ones_pool_tells_its_revision(postgres_site):
    site = postgres_site
    await site.server.create_role(f"{site.database.role}b", "pw")
    await site.server.run(
        f'GRANT "{site.database.role}" TO "{site.database.role}b"', site.database.name
    )
    try:
        site.backends["the_other"] = site.backend(
            SECOND, username=f"{site.database.role}b", password="pw"
        )
        process = site.process()
        await process.use("sql_default")
        await until(site.rows)
        site.backends["the_other"] = site.backend(THIRD)
        process.databases.apply(site.backends)
        await until(lambda: two(site))
        assert await site.rows("backend, revision") == [
            ("sql_default", FIRST),
            ("the_other", THIRD),
        ]
    finally:
        await site.server.run(f'DROP ROLE "{site.database.role}b"')


async def test_rows_of_those_that_are_gone_are_swept_by_whoever_writes(site):
    process = site.process()
    await process.use()
    await until(site.rows)
    now = NOW[site.dialect]
    edge = table.GONE_AFTER_SECONDS
    for name, seen in [("gone", -edge - 5), ("alive", -edge + 60), ("ahead", 3600)]:
        await site.sql(
            "INSERT INTO @instances (stack_id, backend, instance, revision, started, seen) "
            f"VALUES ('ffffffffffff', 'b', '{name}', '', 0, {now} + {seen})"
        )
    other = site.process()
    await other.use()
    await until(lambda: three_names(site, {"alive", process.id, other.id}))


async def three_names(site, wanted):
    return {row[0] for row in await site.rows("instance")} == wanted


async def test_many_that_are_gone_are_swept_too(postgres_site, monkeypatch):
    monkeypatch.setattr(heartbeat, "EVERY_SECONDS", 0.05)
    process = postgres_site.process()
    await process.use()
    await until(postgres_site.rows)
    await postgres_site.sql(
        "INSERT INTO @instances SELECT 'ffffffffffff', 'b', number::text, '', 0, 0 "
        "FROM generate_series(1, 1200) AS number"
    )
    await until(lambda: only(postgres_site, process.id))


async def only(site, name):
    return await site.rows("instance") == [(name,)]


async def test_reading_them(site):
    first_one, second_one, stranger = site.process(), site.process(), site.process("ffffffffffff")
    reader = first_one.databases["sql_default"]
    assert await living(reader, STACK) == []
    for process in (first_one, second_one, stranger):
        await process.use()
    await until(lambda: three_rows(site))
    found = await until(lambda: full(reader, 2))
    assert [one.instance for one in found] == sorted([first_one.id, second_one.id])
    assert {one.backend for one in found} == {"sql_default"}
    assert {one.revision for one in found} == {first(site)}
    assert all(0 <= one.age_seconds <= 2 and one.started <= one.seen for one in found)
    # Killed: it is there for a while, then not, though nobody has swept it.
    gone = "instance = '" + second_one.id + "'"
    await site.sql(f"UPDATE @instances SET seen = seen - 140 WHERE {gone}")
    ages = {one.instance: one.age_seconds for one in await living(reader, STACK)}
    assert 140 <= ages[second_one.id] <= 145
    await site.sql(f"UPDATE @instances SET seen = seen - 20 WHERE {gone}")
    assert [one.instance for one in await living(reader, STACK)] == [first_one.id]
    assert len(await site.rows()) == 3


async def three_rows(site):
    return len(await site.rows()) == 3


async def full(reader, count):
    found = await living(reader, STACK)
    return found if len(found) == count else None


async def test_who_may_not_read_them_is_told(postgres_site):
    site = postgres_site
    process = site.process()
    await process.use()
    await until(site.rows)
    role = f"{site.database.role}r"
    await site.server.create_role(role, "pw")
    stranger = site.backend(username=role, password="pw")
    pool = PostgresDatabase("reader", stranger.pool)
    try:
        from stackstore.pools.target import targets

        pool.pool.offer(targets(stranger, STACK))
        with pytest.raises(BackendUnavailableError, match="GRANT") as failure:
            await living(pool, STACK)
        assert failure.value.__context__ is None
    finally:
        await pool.close()
        await site.server.run(f'DROP ROLE "{role}"')
