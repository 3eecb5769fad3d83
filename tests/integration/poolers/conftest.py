"""The fixture `postgres` of all tests in here is a server behind a pgbouncer in transaction mode.

In session mode a session of the pooler is one of the server, so there only what differs is tried.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.pgbouncer import PooledServer, need_pgbouncer, pooled
from tests.support.postgres import PostgresServer


@pytest.fixture(scope="session")
def bare_server() -> Iterator[PostgresServer]:
    """What stands behind; not async, for a server starts in no loop."""
    need_pgbouncer()
    server = PostgresServer.start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def postgres(bare_server: PostgresServer) -> Iterator[PooledServer]:
    """Takes the place of the fixture that leads to the server itself."""
    yield from pooled(bare_server, "Transaction")
