"""Fixtures that any test may use: real servers, one a worker and session, fresh databases a test."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass

import pytest

from tests.support.postgres import PostgresServer


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """The embedded Postgres of this worker."""
    server = PostgresServer.start()
    yield server
    server.stop()


@dataclass
class Database:
    """A fresh database with a role of its own."""

    server: PostgresServer
    name: str
    role: str
    password: str

    @property
    def url(self) -> str:
        return f"postgresql://{self.role}:{self.password}@{self.server.host}:{self.server.port}/{self.name}"


@pytest.fixture
async def database(postgres: PostgresServer) -> AsyncIterator[Database]:
    """A database that goes with the test."""
    name = f"t{secrets.token_hex(6)}"
    password = secrets.token_hex(8)
    await postgres.create_role(name, password)
    await postgres.create_database(name, name)
    yield Database(postgres, name, name, password)
    await postgres.run(f'DROP DATABASE "{name}" WITH (FORCE)')
    await postgres.run(f'DROP ROLE "{name}"')
