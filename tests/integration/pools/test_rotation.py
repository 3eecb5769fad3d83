"""A password changes while requests flow, in either order, more than once, or wrongly."""

import asyncio
import time

import pytest

from stackstore.errors import BackendUnavailableError, CredentialsError
from tests.support import ipv6
from tests.support.world import Load, revision, world_of


async def test_the_secret_first(database):
    async with world_of(database) as world:
        async with Load(world) as load:
            world.rotate_snapshot("second")
            await load.more()
            assert await world.only_sessions_of(database.password), (
                "nothing changes before it is proven"
            )
            await world.rotate_role("second")
            await world.until(lambda: world.only_sessions_of("second"))
            await load.more()
        assert load.failures == []
        assert world.peak <= world.pool.pool.capacity


async def test_the_role_first(database):
    async with world_of(database) as world:
        async with Load(world) as load:
            await world.rotate_role("second")
            await load.more()
            assert await world.sessions(), "working connections are kept"
            world.rotate_snapshot("second")
            await world.until(lambda: world.only_sessions_of("second"))
            await load.more()
        assert load.failures == []
        assert world.peak <= world.pool.pool.capacity


async def test_the_role_first_when_a_new_connection_is_needed_meanwhile(database):
    """The gap: requests wait for a login that works, and then go on."""
    async with world_of(database, size=1, max_overflow=3) as world, world.pool.driver() as held:
        await world.rotate_role("second")
        waiting = [asyncio.create_task(world.pool.pool.acquire()) for _ in range(3)]
        await world.until(lambda: world.proven() is None)
        world.rotate_snapshot("second")
        slots = await asyncio.gather(*waiting)
        assert await held.fetchval("SELECT 1") == 1
        for slot in slots:
            world.pool.pool.release(slot)


async def test_a_pool_that_nobody_uses_follows_by_itself(database):
    async with world_of(database) as world:
        async with world.pool.driver():
            pass
        await world.rotate_role("second")
        world.rotate_snapshot("second")
        await world.until(lambda: world.only_sessions_of("second"))


async def test_after_all_logins_failed_a_new_one_is_proven_though_nobody_waits(database):
    async with world_of(database, acquire_timeout_seconds=1) as world:
        await world.rotate_role("second")
        with pytest.raises(CredentialsError):
            await world.pool.pool.acquire()
        await world.until(lambda: world.pool.pool.total == 0)
        world.rotate_snapshot("third")
        await world.until(lambda: len(world.pool.pool.machine.refusals) == 2)
        await asyncio.sleep(0.5)
        # Once each, since nobody waits.
        assert set(world.pool.pool.machine.refusals.values()) == {1}
        world.rotate_snapshot("second")
        await world.until(lambda: world.proven() == revision("second"))


async def test_a_changed_snapshot_is_tried_at_once_however_long_the_pause_was(database):
    async with world_of(database) as world:
        async with world.pool.driver():
            pass
        world.rotate_snapshot("second")
        await world.until(lambda: world.pool.pool.machine.refusals)
        opener = world.pool.pool._opener
        opener._due = dict.fromkeys(opener.machine.targets, time.monotonic() + 60)
        await world.rotate_role("second")
        # The same login once more; only what stands behind it differs.
        world.logins.append(world.login("older"))
        world.offer()
        await world.until(lambda: world.proven() == revision("second"), seconds=3)


async def test_a_retired_pool_tries_nothing_for_nobody(database):
    async with world_of(database) as world:
        async with world.pool.driver():
            pass
        world.rotate_snapshot("mistyped")
        await world.until(lambda: world.pool.pool.machine.refusals)
        world.pool.pool.retire()
        await asyncio.sleep(0.3)
        before = dict(world.pool.pool.machine.refusals)
        await asyncio.sleep(0.6)
        assert world.pool.pool.machine.refusals == before
        async with world.pool.driver() as connection:
            assert await connection.fetchval("SELECT 1") == 1


async def test_an_old_connection_is_not_handed_on_when_the_new_login_is_proven(database):
    async with world_of(database, size=1, max_overflow=1) as world:
        old = await world.pool.pool.acquire()
        world.rotate_snapshot("second")
        await world.rotate_role("second")
        await world.until(lambda: world.proven() == revision("second"))
        new = await world.pool.pool.acquire()
        waiting = asyncio.create_task(world.pool.pool.acquire())
        await asyncio.sleep(0.01)
        world.pool.pool.release(old)
        third = await waiting
        assert third is not old
        assert third.target == new.target != old.target
        for slot in (new, third):
            world.pool.pool.release(slot)


async def test_changed_twice_before_anyone_looked(database):
    async with world_of(database) as world:
        async with Load(world) as load:
            world.rotate_snapshot("second")
            world.rotate_snapshot("third")
            await load.more()
            await world.rotate_role("second")
            await load.more()
            await world.rotate_role("third")
            await world.until(lambda: world.only_sessions_of("third"))
        assert load.failures == []


async def test_changed_back(database):
    async with world_of(database) as world:
        async with Load(world) as load:
            world.rotate_snapshot("second")
            await load.more()
            world.rotate_snapshot(database.password)
            await load.more()
            assert await world.only_sessions_of(database.password)
        assert load.failures == []
        assert world.pool.pool.machine.to_prove() is None


async def test_a_wrong_password_costs_no_request_and_heals(database):
    async with world_of(database) as world:
        async with Load(world) as load:
            world.rotate_snapshot("mistyped")
            await load.more(300)
            assert await world.only_sessions_of(database.password)
            await world.rotate_role("right")
            world.rotate_snapshot("right")
            await world.until(lambda: world.only_sessions_of("right"))
        assert load.failures == []


@pytest.mark.parametrize("order", ["secret first", "role first"])
async def test_a_pod_that_starts_in_the_middle(database, order):
    world_kept = world_of(database)
    async with world_kept as world:
        world.logins.insert(0, world.login("second"))
        if order == "role first":
            await world.rotate_role("second")
        world.offer()
        async with world.pool.driver() as connection:
            assert await connection.fetchval("SELECT 1") == 1
        if order == "secret first":
            await world.rotate_role("second")
        await world.until(lambda: world.only_sessions_of("second"))


async def test_another_user(database):
    server = database.server
    await server.create_role(f"{database.role}_b", "b")
    await server.run(f'GRANT "{database.role}" TO "{database.role}_b"')
    try:
        async with world_of(database) as world:
            async with Load(world) as load:
                world.rotate_snapshot("b", username=f"{database.role}_b")
                await world.until(lambda: server.sessions(f"{database.role}_b"))
                await load.more()
            assert load.failures == []
            assert await world.sessions() == []
    finally:
        await server.run(f'DROP ROLE "{database.role}_b"')


async def test_without_any_login_that_works_requests_fail_by_name_and_tell_no_secret(
    database, caplog
):
    canary = "c4n4ry-pässword"
    async with world_of(database, acquire_timeout_seconds=1) as world:
        world.logins = [world.login(canary)]
        world.offer()
        with pytest.raises(CredentialsError) as failure:
            async with world.pool.driver():
                pass
        shown = f"{failure.value!s} {failure.value!r} {failure.value.__cause__} {failure.value.__context__!r}"
        assert "sql_default" in shown
        assert "refused" in shown
        for text in (shown, caplog.text, str(world.pool.pool.status()), repr(world.logins)):
            assert canary not in text
        await world.rotate_role(canary)
        async with world.pool.driver() as connection:
            assert await connection.fetchval("SELECT 1") == 1


@pytest.mark.parametrize(
    "password", ["0123456789", "p@ss/w:rd#1?%", "zażółć 'gęślą\" jaźń\\", "x" * 100, " ", "{}%s$1"]
)
async def test_passwords_of_any_characters(database, password):
    await database.server.set_password(database.role, password)
    async with world_of(database) as world:
        world.logins = [world.login(password)]
        world.offer()
        async with world.pool.driver() as connection:
            assert await connection.fetchval("SELECT 1") == 1


@ipv6.needed
async def test_an_ipv6_host(database):
    async with world_of(database) as world:
        world.logins = [world.login(database.password, host="::1")]
        world.offer()
        async with world.pool.driver() as connection:
            assert await connection.fetchval("SELECT host(inet_server_addr())") == "::1"


async def test_a_pool_of_one_rotates(database):
    async with world_of(database, size=1, max_overflow=0) as world:
        async with Load(world, tasks=4) as load:
            world.rotate_snapshot("second")
            await world.rotate_role("second")
            await world.until(lambda: world.only_sessions_of("second"))
            await load.more()
        assert load.failures == []
        assert world.peak <= 1


async def test_a_database_that_is_not_there_yet(database):
    async with world_of(database, acquire_timeout_seconds=1) as world:
        right = world.logins
        world.logins = [world.login(database.password, database="not_there")]
        world.offer()
        with pytest.raises(BackendUnavailableError, match="InvalidCatalogNameError"):
            async with world.pool.driver():
                pass
        world.logins = right
        world.offer()
        async with world.pool.driver() as connection:
            assert await connection.fetchval("SELECT 1") == 1
