"""The pool's promises: a bound, fairness, nothing leaked, one process and one loop."""

import asyncio
import os
import socket
import time
from dataclasses import replace

import asyncpg
import pytest
from sqlalchemy import text

from stackstore.credentials.snapshot import Tls
from stackstore.errors import BackendUnavailableError, StackstoreError
from stackstore.pools import connections
from stackstore.pools.login import connect
from stackstore.pools.slots import LoginRefusedError
from tests.support.world import STACK_ID, revision, world_of


async def counted(world) -> None:
    """Pool and server agree, within the bound."""
    pool = world.pool.pool
    await world.until(lambda: pool.status()["closing"] == pool.status()["opening"] == 0)

    async def agree() -> bool:
        return len(await world.sessions()) == pool.total

    await world.until(agree)
    assert pool.total <= pool.capacity


async def test_nothing_is_opened_before_it_is_needed(database):
    async with world_of(database) as world:
        world.rotate_snapshot("second")
        await asyncio.sleep(0.05)
        assert await world.sessions() == []


async def test_a_hundred_at_once_keep_to_the_bound_and_are_served_in_order(database):
    async with world_of(database, size=2, max_overflow=1) as world:
        served = []

        async def one(number: int) -> None:
            async with world.pool.driver() as connection:
                served.append(number)
                assert world.pool.pool.total <= 3
                await connection.fetchval("SELECT pg_sleep(0.005)")

        await asyncio.gather(*(one(number) for number in range(100)))
        assert served == sorted(served)
        await counted(world)


async def test_a_full_pool_says_so_in_time(database):
    async with world_of(database, size=1, max_overflow=1, acquire_timeout_seconds=1) as world:
        slots = [await world.pool.pool.acquire() for _ in range(2)]
        began = time.monotonic()
        with pytest.raises(BackendUnavailableError, match=r"sql_default.*all 2 are in use"):
            await world.pool.pool.acquire()
        # Less than the default; how much less than that is the machine's business.
        assert 0.9 < time.monotonic() - began < 4
        for slot in slots:
            world.pool.pool.release(slot)
        await counted(world)


async def test_forty_who_give_up_leave_nothing_behind(database):
    async with world_of(database, size=2, max_overflow=2) as world:
        async with world.pool.driver() as one, world.pool.driver() as other:
            assert one is not other
            waiting = [asyncio.create_task(world.pool.pool.acquire()) for _ in range(40)]
            await asyncio.sleep(0.01)
            for task in waiting[2:]:
                task.cancel()
            done = await asyncio.gather(*waiting, return_exceptions=True)
            assert sum(isinstance(slot, asyncio.CancelledError) for slot in done) == 38
            for slot in done[:2]:
                world.pool.pool.release(slot)
        await counted(world)
        assert world.pool.pool.status()["lent"] == 0


async def test_given_up_in_the_moment_of_being_given(database):
    async with world_of(database, size=1, max_overflow=0) as world:
        for _ in range(30):
            slot = await world.pool.pool.acquire()
            waiting = asyncio.create_task(world.pool.pool.acquire())
            await asyncio.sleep(0)
            world.pool.pool.release(slot)
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)
            assert world.pool.pool.status()["lent"] == 0
        await counted(world)


async def test_cancelled_in_the_middle_of_a_statement(database):
    """The connection is replaced, and the server is rid of the statement before its place is free."""
    async with world_of(database, size=1, max_overflow=1) as world:

        async def slow() -> None:
            async with world.pool.driver() as connection:
                await connection.execute("SELECT pg_sleep(30)")

        for _ in range(3):
            tasks = [asyncio.create_task(slow()) for _ in range(2)]
            await asyncio.sleep(0.1)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            async with world.pool.driver() as connection:
                assert await connection.fetchval("SELECT 1") == 1
                assert len(await world.sessions()) <= 2
        await counted(world)


async def test_a_transaction_left_open_reaches_nobody_else(database):
    async with world_of(database, size=1, max_overflow=0) as world:
        async with world.pool.driver() as connection:
            await connection.execute("BEGIN")
        async with world.pool.driver() as connection:
            assert not connection.is_in_transaction()
        with pytest.raises(RuntimeError):
            async with world.pool.engine.begin() as connection:
                await connection.execute(text("CREATE TABLE t (a int)"))
                raise RuntimeError
        async with world.pool.driver() as connection:
            assert await connection.fetchval("SELECT to_regclass('t')") is None


async def test_it_shrinks_when_its_bounds_do(database):
    async with world_of(database, size=6, max_overflow=0) as world:
        pool = world.pool.pool
        slots = [await pool.acquire() for _ in range(6)]
        pool.release(slots.pop())
        pool.release(slots.pop())
        pool.resize(world.settings.model_copy(update={"size": 3}))
        await world.until(lambda: pool.total == 4, seconds=1)
        for slot in slots:
            pool.release(slot)
        # At once, not when overflow goes: `size` is no more than the bound here.
        await world.until(lambda: pool.total == 3, seconds=1)
        await counted(world)


async def test_what_became_overflow_goes_after_a_while(database, monkeypatch):
    monkeypatch.setattr(connections, "OVERFLOW_LINGER_SECONDS", 0.2)
    async with world_of(database, size=4, max_overflow=0) as world:
        pool = world.pool.pool
        slots = [await pool.acquire() for _ in range(4)]
        for slot in slots:
            pool.release(slot)
        pool.resize(world.settings.model_copy(update={"size": 1, "max_overflow": 3}))
        assert pool.total == 4
        await world.until(lambda: pool.total == 1, seconds=2)


async def test_it_grows_for_those_who_wait(database):
    async with world_of(database, size=1, max_overflow=0) as world:
        pool = world.pool.pool
        first = await pool.acquire()
        waiting = asyncio.create_task(pool.acquire())
        await asyncio.sleep(0.01)
        pool.resize(world.settings.model_copy(update={"size": 2}))
        second = await asyncio.wait_for(waiting, 2)
        pool.release(first)
        pool.release(second)


async def test_overflow_goes_after_a_while(database, monkeypatch):
    monkeypatch.setattr(connections, "OVERFLOW_LINGER_SECONDS", 0.2)
    async with world_of(database, size=1, max_overflow=3) as world:
        pool = world.pool.pool
        slots = [await pool.acquire() for _ in range(4)]
        for slot in slots:
            pool.release(slot)
        assert pool.total == 4
        await world.until(lambda: pool.total == 1)
        await counted(world)


async def test_an_old_connection_is_replaced_when_it_is_wanted(database):
    async with world_of(database, recycle_seconds=1) as world:
        slot = await world.pool.pool.acquire()
        world.pool.pool.release(slot)
        slot.expires = time.monotonic() - 0.1
        again = await world.pool.pool.acquire()
        assert again is not slot
        world.pool.pool.release(again)
        await counted(world)


async def test_an_old_connection_is_kept_while_no_login_is_proven(database):
    async with world_of(database, size=2, max_overflow=0) as world:
        slot = await world.pool.pool.acquire()
        await world.rotate_role("second")
        other = asyncio.create_task(world.pool.pool.acquire())
        await world.until(lambda: world.proven() is None)
        slot.expires = time.monotonic() - 0.1
        world.pool.pool.release(slot)
        assert await asyncio.wait_for(other, 2) is slot
        world.pool.pool.release(slot)
        # Idle now: who comes next finds it.
        assert await world.pool.pool.acquire() is slot
        world.pool.pool.release(slot)


async def test_who_idled_is_asked_before_it_is_lent_and_only_then(database, monkeypatch):
    async with world_of(database, size=3, max_overflow=0) as world:
        pool = world.pool.pool
        slots = [await pool.acquire() for _ in range(3)]
        pids = {slot.connection.get_server_pid() for slot in slots}
        for slot in slots:
            pool.release(slot)
        # Its last statement was the pool's own question, or it has had none.
        probe = "SELECT query FROM pg_stat_activity WHERE usename = '{}' AND query = 'SELECT 1'"
        slot = await pool.acquire()
        assert await world.server.run(probe.format(database.role)) == []
        pool.release(slot)
        monkeypatch.setattr(connections, "PING_AFTER_SECONDS", -1.0)
        slot = await pool.acquire()
        assert len(await world.server.run(probe.format(database.role))) == 1
        monkeypatch.undo()
        pool.release(slot)
        assert pids >= {slot.connection.get_server_pid() for slot in slots}


async def test_the_name_that_the_server_shows(database):
    async with world_of(database) as world:
        async with world.pool.driver():
            (name,) = await world.sessions()
        assert name == f"stackstore:{revision(database.password)}:{STACK_ID}"
        assert len(name.encode()) == 32


async def test_the_statement_timeout(database):
    async with world_of(database) as world:
        world.statement_timeout_seconds = 1
        world.offer()
        async with world.pool.driver() as connection:
            assert await connection.fetchval("SHOW statement_timeout") == "1s"
            began = time.monotonic()
            with pytest.raises(asyncpg.QueryCanceledError):
                await connection.execute("SELECT pg_sleep(20)")
            assert time.monotonic() - began < 3
        await counted(world)


async def test_a_vanished_peer_is_noticed_by_the_kernel(database):
    async with world_of(database) as world, world.pool.driver() as connection:
        found = connection._transport.get_extra_info("socket")
        assert found.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        assert found.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 30_000


async def test_a_connection_is_opened_with_nothing_from_the_environment(
    database, monkeypatch, tmp_path
):
    home = tmp_path / ".postgresql"
    home.mkdir()
    for name in ("root.crt", "root.crl", "postgresql.crt", "postgresql.key"):
        (home / name).write_text("broken")
    (tmp_path / ".pgpass").write_text("*:*:*:*:wrong\n")
    (tmp_path / ".pgpass").chmod(0o600)
    (tmp_path / ".pg_service.conf").write_text("[s]\nhost=192.0.2.1\n")
    environment = {
        "HOME": str(tmp_path), "PGHOST": "192.0.2.1", "PGPORT": "1", "PGUSER": "nobody",
        "PGDATABASE": "nowhere", "PGPASSWORD": "wrong", "PGPASSFILE": str(tmp_path / ".pgpass"),
        "PGSSLMODE": "verify-full", "PGSSLROOTCERT": str(home / "root.crt"),
        "PGSSLCERT": str(home / "postgresql.crt"), "PGSSLKEY": str(home / "postgresql.key"),
        "PGSSLCRL": str(home / "root.crl"), "PGSSLNEGOTIATION": "direct",
        "PGSSLMINPROTOCOLVERSION": "TLSv9", "PGTARGETSESSIONATTRS": "standby", "PGSERVICE": "s",
        "PGSERVICEFILE": str(tmp_path / ".pg_service.conf"), "PGGSSLIB": "nonsense",
        "PGKRBSRVNAME": "nonsense", "PGOPTIONS": "-c statement_timeout=1",
        "PGAPPNAME": "nonsense", "PGTZ": "Asia/Tokyo",
    }  # fmt: skip
    async with world_of(database) as world:
        for mode in ("Disable", "Prefer", "Allow"):
            world.tls = Tls(mode=mode)
            world.offer()
            target = world.pool.pool.machine.targets[0]
            with monkeypatch.context() as patch:
                for name, value in environment.items():
                    patch.setenv(name, value)
                connection = await connect(target)
            assert await connection.fetchval("SELECT current_user") == database.role
            assert await connection.fetchval("SHOW statement_timeout") == "30s"
            assert await connection.fetchval("SHOW timezone") != "Asia/Tokyo"
            await connection.close()
        # Without a password none is looked for elsewhere: this one is in PGPASSWORD and ~/.pgpass.
        await world.rotate_role("wrong")
        login = target.login.model_copy(update={"password": None})
        target = replace(target, login=login, tls=Tls(mode="Disable"))
        with monkeypatch.context() as patch, pytest.raises(LoginRefusedError, match="Password"):
            for name, value in environment.items():
                patch.setenv(name, value)
            await connect(target)


async def test_a_second_loop_is_told(database):
    async with world_of(database) as world:
        async with world.pool.driver():
            pass

        def elsewhere() -> str:
            async def use() -> None:
                async with world.pool.driver():
                    pass

            try:
                asyncio.run(use())
            except StackstoreError as error:
                return str(error)
            return ""

        assert "another event loop" in await asyncio.to_thread(elsewhere)

        def close() -> str:
            try:
                asyncio.run(world.pool.close())
            except StackstoreError as error:
                return str(error)
            return ""

        assert "another event loop" in await asyncio.to_thread(close)
        async with world.pool.driver() as connection:
            assert await connection.fetchval("SELECT 1") == 1


@pytest.mark.filterwarnings("ignore:This process.*is multi-threaded:DeprecationWarning")
async def test_a_forked_child_is_told_and_corrupts_nothing(database):
    async with world_of(database, size=1, max_overflow=0) as world:
        async with world.pool.driver() as connection:
            pid = connection.get_server_pid()
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            # No loop may run within a running one, and none is needed to be told.
            said = []
            for call in (world.pool.pool.acquire(), world.pool.close()):
                try:
                    call.send(None)
                except StackstoreError as error:
                    said.append(str(error))
            os.write(writing, "\n".join(said).encode())
            os._exit(0)
        os.waitpid(child, 0)
        os.close(writing)
        said = os.read(reading, 4096).decode()
        os.close(reading)
        assert said.count("forked after stackstore.open()") == 2
        async with world.pool.driver() as connection:
            assert connection.get_server_pid() == pid
            assert await connection.fetchval("SELECT 1") == 1


async def test_closed_while_requests_run(database):
    async with world_of(database, size=1, max_overflow=0) as world:
        async with world.pool.driver() as connection:
            waiting = asyncio.create_task(world.pool.pool.acquire())
            await asyncio.sleep(0.01)
            await world.pool.close()
            with pytest.raises(BackendUnavailableError, match="closed"):
                await waiting
            assert await connection.fetchval("SELECT 1") == 1
        await world.until(lambda: world.pool.pool.total == 0)
        assert await world.sessions() == []
        with pytest.raises(BackendUnavailableError, match="closed"):
            await world.pool.pool.acquire()
        await world.pool.close()


async def test_closed_in_the_moment_of_being_given(database):
    async with world_of(database, size=1, max_overflow=0) as world:
        pool = world.pool.pool
        slot = await pool.acquire()
        waiting = asyncio.create_task(pool.acquire())
        await asyncio.sleep(0.01)
        pool.release(slot)
        await world.pool.close()
        with pytest.raises(BackendUnavailableError, match="closed"):
            await waiting
        await world.until(lambda: pool.total == 0)
        assert await world.sessions() == []


async def test_closed_before_opening_began(database):
    async with world_of(database) as world:
        pool = world.pool.pool
        await pool.acquire()
        waiting = asyncio.create_task(pool.acquire())
        # The waiter has asked for a second one, whose task has not had its turn yet.
        await asyncio.sleep(0)
        assert pool.status()["opening"] == 1
        await world.pool.close()
        await asyncio.gather(waiting, return_exceptions=True)
        assert (pool.status()["opening"], pool.total) == (0, 1)


async def test_closed_while_a_connection_is_being_opened(database):
    async with world_of(database) as world:
        opening = asyncio.create_task(world.pool.pool.acquire())
        await asyncio.sleep(0.001)
        await world.pool.close()
        with pytest.raises(BackendUnavailableError, match="closed"):
            await opening
        assert world.pool.pool.total == 0
        assert await world.sessions() == []


async def test_retired_it_serves_who_is_here_and_keeps_nothing(database):
    async with world_of(database, size=1, max_overflow=0) as world:
        pool = world.pool.pool
        slot = await pool.acquire()
        waiting = asyncio.create_task(pool.acquire())
        await asyncio.sleep(0.01)
        pool.retire()
        pool.release(slot)
        assert await waiting is slot
        pool.release(slot)
        await world.until(lambda: pool.total == 0)
        # Someone who asked for the engine before still gets a connection.
        async with world.pool.driver() as connection:
            assert await connection.fetchval("SELECT 1") == 1
        await world.until(lambda: pool.total == 0)
