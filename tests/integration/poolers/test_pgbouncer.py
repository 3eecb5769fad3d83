"""What is different behind a pooler: sessions that are nobody's, its own refusals, its own rotation."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import create_async_engine

from stackstore.access import AuthorizedSqlStore, User, acting_as
from stackstore.credentials.snapshot import Login, PostgresBackend, Tls
from stackstore.errors import BackendUnavailableError, CredentialsError
from stackstore.kv import KVStore
from stackstore.pools.login import connect
from stackstore.pools.slots import LoginRefusedError, UnreachableError
from stackstore.pools.target import Target
from stackstore.sql import ColumnDefinition, ColumnType, SqlStore
from stackstore_operator.render import secret
from tests.conftest import Database
from tests.support.pgbouncer import Pgbouncer, PooledServer, pooled
from tests.support.postgres import PostgresServer
from tests.support.world import STACK_ID, Load, World, revision, world_of

SCHEMA = {
    "id": ColumnDefinition(ColumnType.STRING, primary_key=True),
    "created": ColumnDefinition(ColumnType.INTEGER),
    "body": ColumnDefinition(ColumnType.JSON),
}


@pytest.fixture(scope="session", params=["Session", "Transaction"])
def postgres(request: pytest.FixtureRequest, bare_server: PostgresServer) -> Iterator[PooledServer]:
    """Both modes, for the tests of this module."""
    yield from pooled(bare_server, request.param)


def target_of(database: Database, pooler: str, login: dict[str, str] | None = None) -> Target:
    place = {"host": database.server.host, "port": database.server.port, "database": database.name,
             "username": database.role, "password": database.password, **(login or {})}  # fmt: skip
    return Target(Login(**place), Tls(mode="Disable"), pooler, 30, STACK_ID)


async def everything(world: World) -> None:
    """Every kind of statement that there is, many at once: KV, rows, pages, owners, transactions."""
    kv = KVStore(world.pool, "registry")
    store = AuthorizedSqlStore(SqlStore(world.pool))
    await store.create_table("t", SCHEMA)
    await store.create_index("t_created", "t", ["created"])

    async def one(n: int) -> None:
        await kv.set_many({f"a{n}": str(n), f"b{n}": str(n)})
        assert await kv.compare_and_set(f"a{n}", str(n), "new")
        assert await kv.keys_in_range(f"a{n}", f"a{n}\0") == [f"a{n}"]
        await kv.increment("n")
        with acting_as(User(f"u{n % 5}")):
            await store.insert(
                "t", [{"id": f"{n}.{i}", "created": i, "body": [i]} for i in range(5)]
            )
            async with store.transaction() as transaction:
                await transaction.upsert("t", {"id": f"{n}.0", "body": "new"}, ["id"])
                assert await transaction.update("t", {"created": 7}, {"id": f"{n}.1"}) == 1
            page = await store.fetch_all("t", None, [("created", "desc")], 3)
            assert page.has_more
            page = await store.fetch_all("t", None, [("created", "desc")], 3, page.next_cursor)
            assert len(page.data) >= 2
            assert await store.delete("t", {"id": f"{n}.4"}) == 1
            assert (await store.fetch_one("t", {"id": f"{n}.0"}))["body"] == "new"

    await asyncio.gather(*(one(n) for n in range(20)))
    assert await kv.get("n") == "20"
    with acting_as(User("u3")):
        assert await store.count("t") == 4 * 4
    await kv.close()


async def left_behind(world: World) -> set[tuple[int, str]]:
    """(statements, settings) of each of the server's sessions that can be got hold of."""
    query = (
        "SELECT pg_backend_pid(), (SELECT count(*) FROM pg_prepared_statements), "
        "(SELECT coalesce(string_agg(name || '=' || setting, ' '), '') FROM pg_settings "
        "WHERE source = 'session' AND NOT name = ANY ('{application_name,client_encoding,transaction_isolation}')), "
        "pg_sleep(0.05)"
    )

    async def one() -> tuple[int, int, str]:
        async with world.pool.engine.connect() as connection:
            row = (await connection.execute(text(query))).one()
            return row[0], row[1], row[2]

    found = await asyncio.gather(*(one() for _ in range(world.pool.pool.capacity)))
    # All of them at the same time, so each had one of its own.
    assert len({pid for pid, *_ in found}) == world.pool.pool.capacity
    return {(statements, settings) for _, statements, settings in found}


async def test_everything_works_and_in_transaction_mode_no_session_is_left_changed(database):
    async with world_of(database) as world:
        await everything(world)
        if world.server.pooler == "Transaction":
            assert await left_behind(world) == {(0, "")}
        names = set(await world.sessions())
        assert names == {f"stackstore:{revision(database.password)}:{STACK_ID}"}


async def test_a_transaction_is_done_by_any_session(database):
    """What the other tests rely on: that there is something to get wrong."""
    async with world_of(database) as world:
        async with world.pool.driver() as first, world.pool.driver() as second:
            pids = {await first.fetchval("SELECT pg_backend_pid()")}
            held = asyncio.create_task(second.fetchval("SELECT pg_sleep(0.1)"))
            await asyncio.sleep(0.05)
            # In transaction mode the other one has it now, or gave it back last.
            for _ in range(3):
                pids.add(await first.fetchval("SELECT pg_backend_pid()"))
            await held
            for _ in range(3):
                pids.add(await first.fetchval("SELECT pg_backend_pid()"))
        assert (len(pids) > 1) == (world.server.pooler == "Transaction")


async def test_a_statement_ends_at_its_timeout_and_the_server_stops_it(database):
    async with world_of(database) as world:
        world.statement_timeout_seconds = 1
        world.offer()
        store = SqlStore(world.pool)
        await store.create_table("t", SCHEMA)
        blocker = await world.server.connect(database.name)
        try:
            async with blocker.transaction():
                await blocker.execute("LOCK TABLE stackstore.t")
                began = time.monotonic()
                with pytest.raises(BackendUnavailableError):
                    await store.insert("t", {"id": "1"})
                assert 0.9 < time.monotonic() - began < 3

                async def stopped() -> bool:
                    return not await world.server.run(
                        "SELECT 1 FROM pg_stat_activity WHERE state = 'active' AND query LIKE 'INSERT%' "
                        f"AND usename = '{database.role}'"
                    )

                await world.until(stopped)
        finally:
            await blocker.close()
        await store.insert("t", {"id": "1"})


async def test_a_pooler_that_was_not_told_of_is_named(database):
    with pytest.raises(LoginRefusedError, match="say so in pooler: Session or Transaction"):
        await connect(target_of(database, "None"))


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"password": "canary-1"}, "the pooler refused the login"),
        ({"username": "canary-2"}, "the pooler refused the login"),
    ],
    ids=["password", "user"],
)
async def test_a_login_that_it_refuses_is_refused_and_not_quoted(database, wrong, says):
    with pytest.raises(LoginRefusedError, match=says) as failure:
        await connect(target_of(database, database.server.pooler, wrong))
    assert "canary" not in str(failure.value)
    assert failure.value.__cause__ is None and failure.value.__context__ is None


async def test_a_database_that_is_not_there(bare_server):
    pgbouncer = Pgbouncer.start(bare_server, "transaction", {"auth_user": ""})
    superuser = Database(PooledServer(pgbouncer, "Transaction"), "none", bare_server.superuser, bare_server.password)  # fmt: skip
    try:
        with pytest.raises(LoginRefusedError, match="no such database"):
            await connect(target_of(superuser, "Transaction"))
    finally:
        pgbouncer.stop()


async def test_a_server_that_is_gone_behind_it_is_unreachable(bare_server):
    """Refused would count against the login, which is the right one."""
    own = await asyncio.to_thread(PostgresServer.start)
    await own.create_role("app", "pw")
    await own.create_database("app", "app")
    pgbouncer = Pgbouncer.start(own, "transaction", {"server_login_retry": "1"})
    database = Database(PooledServer(pgbouncer, "Transaction"), "app", "app", "pw")
    try:
        async with world_of(database, acquire_timeout_seconds=10) as world, Load(world) as load:
            own.stop("fast", keep=True)
            await world.until(lambda: len(load.failures) > 0)
            with pytest.raises(UnreachableError):
                await connect(target_of(database, "Transaction"))
            await asyncio.to_thread(own.start_again)
            await load.more()
            assert world.pool.pool.machine.refusals == {}
            # The pooler itself goes and comes back.
            pgbouncer.stop_process()
            await asyncio.sleep(0.2)
            pgbouncer.start_process()
            await load.more()
        assert all(isinstance(error, Exception) for error in load.failures)
    finally:
        pgbouncer.stop()
        await asyncio.to_thread(own.stop)


@pytest.mark.parametrize("order", ["secret first", "role first"])
async def test_a_password_rotates_where_it_asks_the_database(database, order):
    """`auth_query`: the pooler need not be told."""
    async with world_of(database) as world, Load(world) as load:
        if order == "secret first":
            world.rotate_snapshot("new")
            await load.more()
            await world.rotate_role("new")
        else:
            await world.rotate_role("new")
            await load.more()
            world.rotate_snapshot("new")
        await world.until(lambda: world.proven() == revision("new"))
        await load.more()
        await world.until(lambda: world.only_sessions_of("new"))
    assert load.failures == []


async def test_a_password_rotates_where_it_has_a_list(bare_server, postgres):
    """The list is changed and read again (RELOAD, or SIGHUP) beside the role, in either order."""
    await bare_server.create_role("listed", "old")
    await bare_server.create_database("listed", "listed")
    mode = postgres.pooler
    # After a login that the server refused it tries no other one for so many seconds; 15 by default.
    pgbouncer = Pgbouncer.start(
        bare_server, mode.lower(), {"auth_user": "", "server_login_retry": "1"}
    )
    database = Database(PooledServer(pgbouncer, mode), "listed", "listed", "old")
    try:
        pgbouncer.users["listed"] = "old"
        await pgbouncer.reload()
        async with world_of(database) as world, Load(world) as load:
            await world.rotate_role("new")
            await load.more()
            pgbouncer.users["listed"] = "new"
            await pgbouncer.reload()
            await load.more()
            world.rotate_snapshot("new")
            await world.until(lambda: world.proven() == revision("new"))
            await load.more()
            await world.until(lambda: world.only_sessions_of("new"))
        assert load.failures == []
    finally:
        pgbouncer.stop()
        await bare_server.run("DROP DATABASE listed WITH (FORCE)")
        await bare_server.run("DROP ROLE listed")


async def test_a_wrong_password_costs_no_request(database):
    async with world_of(database) as world, Load(world) as load:
        world.rotate_snapshot("wrong")
        await world.until(lambda: world.pool.pool.machine.refusals)
        await load.more()
        assert world.proven() == revision(database.password)
    assert load.failures == []
    async with world_of(database, acquire_timeout_seconds=1) as world:
        world.logins = [world.login("wrong")]
        world.offer()
        with pytest.raises(CredentialsError, match="the pooler refused the login"):
            async with world.pool.driver():
                pass


async def test_four_hundred_share_ten_and_those_share_five(bare_server, postgres):
    """A pooler may have fewer places than its clients have connections; transactions wait for one."""
    if postgres.pooler == "Session":
        return
    await bare_server.create_role("few", "pw")
    await bare_server.create_database("few", "few")
    pgbouncer = Pgbouncer.start(bare_server, "transaction", {"default_pool_size": "5"})
    database = Database(PooledServer(pgbouncer, "Transaction"), "few", "few", "pw")
    try:
        async with world_of(database, size=10, max_overflow=0) as world:
            kv = KVStore(world.pool, "registry")
            await kv.set("a", "1")
            assert set(await asyncio.gather(*(kv.get("a") for _ in range(400)))) == {"1"}
            assert len(await world.sessions()) <= 5
            await kv.close()
    finally:
        pgbouncer.stop()
        await bare_server.run("DROP DATABASE few WITH (FORCE)")
        await bare_server.run("DROP ROLE few")


async def test_a_stock_server_needs_a_pooler_that_keeps_track_of_statements(database):
    """Its engine is made this way; it names what it prepares, and no option of the URI stops it."""
    mode = database.server.pooler
    target = target_of(database, mode)
    backend = PostgresBackend(
        type="sql_postgres",
        current=target.login.model_copy(update={"revision": "3f9c2a1b"}),
        tls=target.tls,
        pooler=mode,
    )
    engine = create_async_engine(
        "postgresql+asyncpg://", connect_args={"dsn": secret.url("sql", backend, STACK_ID)}
    )
    refused = []

    async def one() -> None:
        for number in range(20):
            try:
                async with engine.connect() as connection:
                    await connection.execute(text(f"SELECT {number % 3}"))
            except DBAPIError as error:
                refused.append(error)

    await asyncio.gather(*(one() for _ in range(8)))
    await engine.dispose()
    if mode == "Session":
        assert refused == []
    elif Pgbouncer.version() < (1, 21):
        assert refused
        # A statement that isn't there, or one that already is.
        assert {error.orig.sqlstate for error in refused} <= {"26000", "42P05", "08P01"}
