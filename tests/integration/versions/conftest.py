"""The fixture `postgres` of all tests in here is a server of another release than the embedded one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.postgres import PostgresServer, system_binaries


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """Takes the place of the fixture that leads to the embedded server."""
    binaries = system_binaries()
    if binaries is None:
        pytest.skip(
            "this machine has no Postgres below /usr/lib/postgresql (Debian: apt-get install postgresql), "
            "so only the embedded release is tried"
        )
    server = PostgresServer.start(binaries=binaries)
    yield server
    server.stop()
