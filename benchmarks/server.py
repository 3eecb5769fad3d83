"""The Postgres of a benchmark's own."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence

from tests.support.postgres import PostgresServer


@contextlib.asynccontextmanager
async def postgres(
    role: str, password: str, *, settings: Sequence[str] = ()
) -> AsyncIterator[PostgresServer]:
    """A fresh server with a role and a database of its name; it goes with the block.

    Args:
        role: the role.
        password: its password.
        settings: `name=value` of the server; as the tests have it, it does not wait for the disk.
    """
    # Starting waits by a loop of its own, so it needs a thread.
    server = await asyncio.to_thread(PostgresServer.start, settings=settings)
    try:
        await server.create_role(role, password)
        await server.create_database(role, role)
        yield server
    finally:
        await asyncio.to_thread(server.stop)
