"""What breaks between a pool and its Postgres, and how it heals: each fault with a real server.

Most go through a proxy, so that one server can serve all; those that end a server have their own.
"""

import asyncio
import contextlib
import time

import asyncpg
import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from stackstore.errors import BackendUnavailableError, CredentialsError
from stackstore.pools import connections, login
from tests.conftest import Database
from tests.support.postgres import PostgresServer
from tests.support.proxy import Proxy
from tests.support.world import Load, revision, world_of

pytestmark = pytest.mark.timeout(60)


@contextlib.asynccontextmanager
async def behind_a_proxy(database, **pool):
    async with Proxy(database.server.port) as proxy, world_of(database, **pool) as world:
        world.logins = [world.login(database.password, port=proxy.port)]
        world.offer()
        yield world, proxy


@pytest.fixture
async def own_server():
    """A server that a test may end."""
    server = await asyncio.to_thread(PostgresServer.start)
    await server.create_role("app", "first")
    await server.create_database("app", "app")
    yield Database(server, "app", "app", "first")
    await asyncio.to_thread(server.stop)


async def one(world) -> None:
    async with world.pool.driver() as connection:
        assert await connection.fetchval("SELECT 1") == 1


async def nothing_leaked(world) -> None:
    """What the pool counts is what the server has, within the bound, and nothing is held."""
    pool = world.pool.pool

    async def settled() -> bool:
        status = pool.status()
        quiet = status["opening"] == status["closing"] == status["lent"] == 0
        return quiet and len(await world.sessions()) == pool.total

    await world.until(settled)
    assert pool.total <= pool.capacity


async def test_down_at_the_start_and_coming_later(database):
    async with behind_a_proxy(database, acquire_timeout_seconds=1) as (world, proxy):
        await proxy.down()
        with pytest.raises(BackendUnavailableError, match=r"'sql_default'.*ConnectionRefused") as e:
            await one(world)
        assert not isinstance(e.value, CredentialsError)
        waiting = asyncio.create_task(one(world))
        await asyncio.sleep(0.2)
        await proxy.let_in()
        await waiting
        await nothing_leaked(world)


async def test_down_in_the_middle_and_back(database):
    async with behind_a_proxy(database, acquire_timeout_seconds=10) as (world, proxy):
        async with Load(world) as load:
            await proxy.down()
            await asyncio.sleep(0.5)
            before = load.done
            lost = len(load.failures)
            await proxy.let_in()
            await load.more(200)
        assert load.done > before
        # Only what was under way when it was cut; everybody else waited.
        assert lost <= 16
        assert len(load.failures) == lost
        assert world.peak <= world.pool.pool.capacity
        await nothing_leaked(world)


async def test_a_server_that_is_down_is_asked_once_a_second_however_many_wait(database):
    async with behind_a_proxy(database) as (world, proxy):
        await one(world)
        # The proxy accepts and ends each connection: nobody is behind it.
        proxy.target = ("127.0.0.1", 1)
        proxy.cut()
        await asyncio.sleep(0.05)
        before = proxy.accepted
        waiting = [asyncio.create_task(one(world)) for _ in range(30)]
        await asyncio.sleep(2)
        # All that may be opened at once, then some quick ones, then one a second.
        assert 3 <= proxy.accepted - before <= world.pool.pool.capacity + 8
        proxy.target = ("127.0.0.1", database.server.port)
        await asyncio.gather(*waiting)
        await nothing_leaked(world)


async def test_cut_again_and_again(database):
    async with behind_a_proxy(database, acquire_timeout_seconds=10) as (world, proxy):
        async with Load(world) as load:
            for _ in range(10):
                proxy.cut()
                await load.more(20)
            failures = len(load.failures)
            await load.more(200)
            assert len(load.failures) == failures
        assert world.peak <= world.pool.pool.capacity
        await nothing_leaked(world)


async def test_cut_in_the_middle_of_the_login_and_of_an_answer(database):
    async with behind_a_proxy(database, acquire_timeout_seconds=1) as (world, proxy):
        for most in (1, 20, 100, 300):
            proxy.cut_after_bytes = most
            with pytest.raises(BackendUnavailableError):
                await one(world)
        proxy.cut_after_bytes = 5_000
        with pytest.raises((OSError, asyncpg.PostgresError, asyncpg.InterfaceError)):
            async with world.pool.driver() as connection:
                await connection.fetchval("SELECT repeat('x', 100000)")
        proxy.cut_after_bytes = None
        await one(world)
        await nothing_leaked(world)


async def test_slow_is_slow_and_no_error(database):
    async with behind_a_proxy(database) as (world, proxy):
        proxy.delay_seconds = 0.05
        await asyncio.gather(*(one(world) for _ in range(12)))
        assert world.pool.pool.status()["trouble"] is None
        proxy.delay_seconds = 0
        await nothing_leaked(world)


async def test_too_slow_says_so(database):
    async with behind_a_proxy(database, acquire_timeout_seconds=1) as (world, proxy):
        await one(world)
        async with world.pool.driver():
            proxy.delay_seconds = 1.0
            with pytest.raises(BackendUnavailableError, match="takes too long to answer"):
                await one(world)
        proxy.delay_seconds = 0
        # The attempt went on without its caller and serves the next one.
        await world.until(lambda: world.pool.pool.status()["opening"] == 0)
        await nothing_leaked(world)


async def test_a_black_hole_ends_each_wait_in_time(database, monkeypatch):
    monkeypatch.setattr(login, "CONNECT_TIMEOUT_SECONDS", 0.5)
    async with behind_a_proxy(database, acquire_timeout_seconds=1) as (world, proxy):
        proxy.swallow()
        began = time.monotonic()
        answers = await asyncio.gather(*(one(world) for _ in range(30)), return_exceptions=True)
        assert time.monotonic() - began < 2
        assert all(isinstance(answer, BackendUnavailableError) for answer in answers)
        assert "TimeoutError" in str(answers[0])
        proxy.let_through()
        await one(world)
        await nothing_leaked(world)


async def test_a_black_hole_starves_no_other_backend(database):
    async with behind_a_proxy(database, acquire_timeout_seconds=2) as (world, proxy):
        proxy.swallow()
        hanging = [asyncio.create_task(one(world)) for _ in range(30)]
        async with world_of(database) as other, Load(other) as load:
            began = time.monotonic()
            await load.more(300)
            assert time.monotonic() - began < 2
            assert load.failures == []
        proxy.let_through()
        await asyncio.gather(*hanging)


async def test_an_idle_connection_into_a_black_hole_is_found_in_time(database, monkeypatch):
    """Ten idle ones that all lead nowhere cost one question, not ten."""
    monkeypatch.setattr(connections, "PING_AFTER_SECONDS", 0.05)
    monkeypatch.setattr(connections, "_GOODBYE_SECONDS", 0.2)
    async with behind_a_proxy(database, size=10, acquire_timeout_seconds=3) as (world, proxy):
        slots = [await world.pool.pool.acquire() for _ in range(10)]
        for slot in slots:
            world.pool.pool.release(slot)
        await asyncio.sleep(0.1)
        proxy.swallow()
        began = time.monotonic()
        asking = asyncio.create_task(one(world))
        await asyncio.sleep(1.2)
        assert world.pool.pool.status()["idle"] == 0
        # The old ones stay lost; a new one goes through.
        proxy.cut()
        proxy.let_through()
        await asking
        assert time.monotonic() - began < 3
        await nothing_leaked(world)


async def test_an_answer_that_never_comes_ends_after_the_statement_timeout(database, monkeypatch):
    monkeypatch.setattr(login, "ANSWER_GRACE_SECONDS", 0.2)
    monkeypatch.setattr(connections, "_GOODBYE_SECONDS", 0.2)
    async with behind_a_proxy(database) as (world, proxy):
        world.statement_timeout_seconds = 1
        world.offer()
        async with world.pool.driver():
            pass
        began = time.monotonic()
        with pytest.raises(TimeoutError):
            async with world.pool.driver() as connection:
                proxy.swallow()
                await connection.fetchval("SELECT 1")
        assert time.monotonic() - began < 3
        proxy.cut()
        proxy.let_through()
        await one(world)
        await nothing_leaked(world)


async def test_a_full_server_is_waited_for_and_named(database):
    await database.server.run(f'ALTER ROLE "{database.role}" CONNECTION LIMIT 2')
    async with world_of(database, size=4, acquire_timeout_seconds=1) as world:
        slots = [await world.pool.pool.acquire() for _ in range(2)]
        with pytest.raises(BackendUnavailableError, match=r"'sql_default'.*SQLSTATE 53300"):
            await world.pool.pool.acquire()
        # Those there are go round.
        waiting = asyncio.create_task(one(world))
        await asyncio.sleep(0.05)
        world.pool.pool.release(slots.pop())
        await waiting
        await database.server.run(f'ALTER ROLE "{database.role}" CONNECTION LIMIT -1')
        slots += [await world.pool.pool.acquire() for _ in range(3)]
        for slot in slots:
            world.pool.pool.release(slot)
        await nothing_leaked(world)


async def test_it_becomes_a_standby(database):
    """A failed-over primary refuses writes: every older connection is replaced, on both doors."""
    async with world_of(database, size=4) as world:
        async with world.pool.driver() as connection:
            await connection.execute("CREATE TABLE t (a int)")
        pool = world.pool.pool
        for door in ("driver", "engine"):
            slots = [await pool.acquire() for _ in range(4)]
            for slot in slots:
                await slot.connection.execute("SET default_transaction_read_only = on")
                slot.opened -= 2
                pool.release(slot)
            if door == "driver":
                with pytest.raises(asyncpg.ReadOnlySQLTransactionError):
                    async with world.pool.driver() as connection:
                        await connection.execute("INSERT INTO t VALUES (1)")
            else:
                with pytest.raises(DBAPIError):
                    async with world.pool.engine.begin() as connection:
                        await connection.execute(text("INSERT INTO t VALUES (1)"))
            # The new primary, and no second failure.
            for _ in range(8):
                async with world.pool.driver() as connection:
                    await connection.execute("INSERT INTO t VALUES (1)")
            assert all(slot.connection.is_closed() for slot in slots)
        await nothing_leaked(world)


async def test_a_database_that_stays_read_only_is_not_reconnected_to_all_the_time(database):
    await database.server.run(
        f'ALTER ROLE "{database.role}" SET default_transaction_read_only = on'
    )
    async with behind_a_proxy(database, size=2, max_overflow=0) as (world, proxy):
        for _ in range(50):
            with pytest.raises(asyncpg.ReadOnlySQLTransactionError):
                async with world.pool.driver() as connection:
                    await connection.execute("CREATE TABLE t (a int)")
            await one(world)
        assert proxy.accepted <= 4
        await nothing_leaked(world)


async def test_restarted(own_server):
    async with world_of(own_server, acquire_timeout_seconds=10) as world:
        server = own_server.server
        async with Load(world) as load:
            await asyncio.to_thread(server.stop, "fast", keep=True)
            lost = len(load.failures)
            await asyncio.to_thread(server.start_again)
            await load.more(200)
        assert len(load.failures) <= 16
        assert lost <= 16
        await nothing_leaked(world)


async def test_kill_9_of_postgres(own_server):
    async with world_of(own_server, acquire_timeout_seconds=10) as world:
        server = own_server.server
        async with world.pool.driver() as connection:
            await asyncio.to_thread(server.kill9)
            with pytest.raises((OSError, asyncpg.PostgresError, asyncpg.InterfaceError)):
                await connection.fetchval("SELECT 1")
        waiting = [asyncio.create_task(one(world)) for _ in range(10)]
        await asyncio.sleep(0.1)
        await asyncio.to_thread(server.start_again)
        await asyncio.gather(*waiting)
        await nothing_leaked(world)


@pytest.mark.parametrize("order", ["secret first", "role first"])
async def test_the_password_changes_while_the_database_is_down(database, order):
    async with behind_a_proxy(database, acquire_timeout_seconds=10) as (world, proxy):
        await one(world)
        await proxy.down()
        waiting = [asyncio.create_task(one(world)) for _ in range(4)]
        if order == "secret first":
            world.rotate_snapshot("second", port=proxy.port)
            await proxy.let_in()
            await asyncio.gather(*waiting)
            await world.rotate_role("second")
        else:
            await world.rotate_role("second")
            await proxy.let_in()
            await asyncio.sleep(0.2)
            world.rotate_snapshot("second", port=proxy.port)
            await asyncio.gather(*waiting)
        await world.until(lambda: world.only_sessions_of("second"))
        await nothing_leaked(world)


async def test_a_secret_with_a_wrong_host_costs_no_request(database):
    async with world_of(database, size=1, max_overflow=0) as world:
        async with Load(world, tasks=4) as load:
            # Nobody listens there.
            world.rotate_snapshot("second", port=1)
            await load.more(200)
            assert world.proven() == revision(database.password)
            assert "ConnectionRefused" in str(world.pool.pool.status()["trouble"])
            await world.rotate_role("second")
            world.rotate_snapshot("second")
            await world.until(lambda: world.only_sessions_of("second"))
        assert load.failures == []


async def test_a_wrong_host_is_not_asked_all_the_time(database):
    async with Proxy(1) as nowhere, world_of(database) as world, Load(world):
        world.rotate_snapshot("second", port=nowhere.port)
        await asyncio.sleep(1.0)
        assert 2 <= nowhere.accepted <= 6


async def test_a_pod_that_starts_with_a_wrong_host_uses_the_previous_login(database):
    async with world_of(database) as world:
        world.logins.insert(0, world.login("second", port=1))
        world.offer()
        await one(world)
        assert world.proven() == revision(database.password)
        assert "ConnectionRefused" in str(world.pool.pool.status()["trouble"])


@pytest.mark.parametrize(
    "host", ["no-such-host.invalid", "a..b", "x" * 70, "h\0st", "-", "::1%nowhere", "é.invalid"]
)
async def test_a_host_that_is_none_is_an_error_by_name(database, host):
    async with world_of(database, acquire_timeout_seconds=1) as world:
        world.logins = [world.login("x", host=host)]
        world.offer()
        with pytest.raises(BackendUnavailableError, match=r"'sql_default'.*unreachable"):
            await one(world)


async def test_it_moves_to_another_server(database, own_server):
    """Host, database, user and password change at once, under load."""
    async with world_of(database) as world:
        async with Load(world) as load:
            world.rotate_snapshot(
                "first", host="127.0.0.1", port=own_server.server.port, database="app", username="app"
            )  # fmt: skip
            await world.until(lambda: own_server.server.sessions("app"))
            await load.more()
        assert load.failures == []

        async def left() -> bool:
            return await world.sessions() == []

        await world.until(left)


async def test_changed_twice_while_the_database_was_down(database):
    async with behind_a_proxy(database, acquire_timeout_seconds=10) as (world, proxy):
        await one(world)
        await proxy.down()
        world.rotate_snapshot("second", port=proxy.port)
        waiting = asyncio.create_task(one(world))
        await asyncio.sleep(0.1)
        world.rotate_snapshot("third", port=proxy.port)
        await world.rotate_role("third")
        await proxy.let_in()
        await waiting
        await world.until(lambda: world.only_sessions_of("third"))
        await nothing_leaked(world)


async def test_forty_give_up_on_a_server_that_is_down(database):
    async with behind_a_proxy(database) as (world, proxy):
        await proxy.down()
        waiting = [asyncio.create_task(one(world)) for _ in range(40)]
        await asyncio.sleep(0.2)
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        await world.until(lambda: world.pool.pool.total == 0)
        assert world.pool.pool.status()["waiting"] == 0
        seen = proxy.accepted
        await proxy.let_in()
        await asyncio.sleep(0.3)
        # Nobody waits, so nobody asks.
        assert proxy.accepted <= seen + 1
        await one(world)
        await nothing_leaked(world)
