"""Connections over time, as the database itself shows them."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Self

import asyncpg

from tests.support.postgres import PostgresServer

INTERVAL_SECONDS = 0.025


@dataclass(frozen=True, slots=True)
class Sample:
    """How many connections there were of each revision at a time (`time.monotonic()`)."""

    at: float
    revisions: dict[str, int]

    @property
    def total(self) -> int:
        """All of them."""
        return sum(self.revisions.values())


@dataclass
class Samples:
    """A run's samples, and what they say. Pure."""

    all: list[Sample] = field(default_factory=list)

    @property
    def last(self) -> Sample:
        """The newest."""
        return self.all[-1]

    def revisions(self) -> set[str]:
        """Every revision that was ever seen."""
        return {revision for sample in self.all for revision in sample.revisions}

    def first(self, revision: str) -> float:
        """When a revision was first seen."""
        return next(sample.at for sample in self.all if revision in sample.revisions)

    def most(self, since: float, until: float) -> int:
        """The most connections between two times."""
        return max((s.total for s in self.all if since <= s.at <= until), default=0)


class Sampler:
    """Asks a server every 25 ms who is connected as a user, on one connection of its superuser.

    The revision is the middle of the runtime's `application_name`, `stackstore:<revision>:<stack>`.
    """

    def __init__(self, server: PostgresServer, user: str) -> None:
        self.samples = Samples()
        self._server = server
        self._user = user
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        connection = await self._server.connect()
        await self._sample(connection)
        self._task = asyncio.create_task(self._run(connection))
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def until(self, holds: Callable[[Samples], bool], seconds: float) -> bool:
        """Wait until the samples say so; False when they don't in time."""
        deadline = time.monotonic() + seconds
        while not holds(self.samples):
            if time.monotonic() > deadline or self._task is None or self._task.done():
                return False
            await asyncio.sleep(INTERVAL_SECONDS)
        return True

    async def _run(self, connection: asyncpg.Connection) -> None:
        try:
            while True:
                await asyncio.sleep(INTERVAL_SECONDS)
                await self._sample(connection)
        finally:
            connection.terminate()

    async def _sample(self, connection: asyncpg.Connection) -> None:
        rows = await connection.fetch(
            "SELECT application_name FROM pg_stat_activity WHERE usename = $1 "
            # The operator's own visits are of a moment, and no stack's.
            "AND application_name NOT LIKE 'stackstore-operator:%'",
            self._user,
        )
        names = Counter(_revision(row["application_name"]) for row in rows)
        # Timed after: what was seen had happened by then.
        self.samples.all.append(Sample(time.monotonic(), dict(names)))


def _revision(application_name: str) -> str:
    parts = application_name.split(":")
    return parts[1] if len(parts) == 3 and parts[0] == "stackstore" else application_name
