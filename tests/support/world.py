"""A pool over a real database whose role and snapshot a test can change in any order."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import asyncpg

from stackstore.credentials.snapshot import (
    Login,
    PoolSettings,
    PostgresBackend,
    PreviousLogin,
    Tls,
)
from stackstore.pools.postgres import PostgresDatabase
from stackstore.pools.target import targets

STACK_ID = "0123456789ab"


def revision(password: str) -> str:
    """Any 8 hex digits that differ when the password does."""
    return f"{abs(hash(password)) % 16**8:08x}"


class World:
    """One backend: what its snapshot says, and what its role accepts."""

    def __init__(self, database, **pool) -> None:
        self.database = database
        self.server = database.server
        self.logins = [self.login(database.password)]
        self.settings = PoolSettings(
            **{"size": 4, "max_overflow": 2, "acquire_timeout_seconds": 5, **pool}
        )
        self.tls = Tls(mode="Disable")
        self.statement_timeout_seconds: int | None = 30
        self.pool = PostgresDatabase("sql_default", self.settings)
        self.peak = 0

    def login(self, password: str, **changes) -> Login:
        place = {"host": self.server.host, "port": self.server.port, "database": self.database.name,
                 "username": self.database.role, **changes}  # fmt: skip
        return Login(revision=revision(password), password=password, **place)

    def offer(self) -> None:
        current, *previous = self.logins
        backend = PostgresBackend(
            type="sql_postgres",
            current=current,
            previous=tuple(PreviousLogin(**dict(login), usable_until=0) for login in previous[:3]),
            tls=self.tls,
            pooler=self.server.pooler,
            pool=self.settings,
            statement_timeout_seconds=self.statement_timeout_seconds,
        )
        self.pool.pool.offer(targets(backend, STACK_ID))

    def rotate_snapshot(self, password: str, **changes) -> None:
        """As the operator does it: the new login is current, the earlier ones are previous."""
        self.logins.insert(0, self.login(password, **changes))
        self.offer()

    async def rotate_role(self, password: str) -> None:
        await self.server.set_password(self.database.role, password)

    async def sessions(self) -> list[str]:
        return await self.server.sessions(self.database.role)

    def proven(self) -> object:
        return self.pool.pool.status()["proven"]

    async def until(self, condition, seconds: float = 10.0) -> None:
        """Wait until `condition` (plain or async) holds."""
        async with asyncio.timeout(seconds):
            while True:
                holds = condition()
                if asyncio.iscoroutine(holds):
                    holds = await holds
                if holds:
                    return
                await asyncio.sleep(0.02)

    async def only_sessions_of(self, password: str) -> bool:
        names = await self.sessions()
        return bool(names) and set(names) == {f"stackstore:{revision(password)}:{STACK_ID}"}


class Load:
    """Tasks that use the pool until told to stop, through both of its doors."""

    def __init__(self, world: World, tasks: int = 16) -> None:
        from sqlalchemy import text

        self.done = 0
        self.failures: list[BaseException] = []
        self.world = world
        self._stop = False
        self._statement = text("SELECT 1")
        self._tasks = tasks

    async def _one(self, through_engine: bool) -> None:
        while not self._stop:
            try:
                if through_engine:
                    async with self.world.pool.engine.connect() as connection:
                        assert (await connection.execute(self._statement)).scalar() == 1
                else:
                    async with self.world.pool.driver() as connection:
                        assert await connection.fetchval("SELECT 1") == 1
                self.done += 1
            except Exception as error:
                self.failures.append(error)
            await asyncio.sleep(0.002)

    async def _watch(self) -> None:
        query = "SELECT count(*) FROM pg_stat_activity WHERE usename = $1"
        while not self._stop:
            # A server that a test ends takes the watcher's connection with it.
            with contextlib.suppress(
                OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError
            ):
                connection = await self.world.server.connect()
                try:
                    while not self._stop:
                        count = await connection.fetchval(query, self.world.database.role)
                        self.world.peak = max(self.world.peak, count)
                        await asyncio.sleep(0.005)
                finally:
                    await connection.close()
            await asyncio.sleep(0.02)

    async def __aenter__(self) -> Load:
        self._running = [asyncio.create_task(self._one(i % 2 == 0)) for i in range(self._tasks)]
        self._running.append(asyncio.create_task(self._watch()))
        await self.more()
        return self

    async def more(self, operations: int = 100) -> None:
        """Go on until this many more operations are done."""
        goal = self.done + operations
        await self.world.until(lambda: self.done >= goal)

    async def __aexit__(self, *_: object) -> None:
        self._stop = True
        await asyncio.gather(*self._running)


@contextlib.asynccontextmanager
async def world_of(database, **pool) -> AsyncIterator[World]:
    world = World(database, **pool)
    world.offer()
    try:
        yield world
    finally:
        await world.pool.close()
