"""A database to visit, and what leads to it."""

from __future__ import annotations

from typing import Any

import pytest

from stackstore.credentials.snapshot import Login, PostgresBackend, Tls
from stackstore_operator.probe.finding import Finding
from stackstore_operator.probe.visit import visit

SECONDS = 10.0


class Door:
    """One way to a database; `visit()` takes it, with changes.

    Attributes:
        database: where it leads, as the fixture of that name.
    """

    def __init__(self, database: Any) -> None:
        self.database = database

    def backend(self, *, tls: Tls | None = None, pooler: str = "None", **login: Any) -> Any:
        server = self.database.server
        place = {
            "revision": "0000000a", "host": server.host, "port": server.port,
            "database": self.database.name, "username": self.database.role,
            "password": self.database.password,
        }  # fmt: skip
        return PostgresBackend(
            type="sql_postgres",
            current=Login(**{**place, **login}),
            tls=tls or Tls(mode="Disable"),
            pooler=pooler,
            statement_timeout_seconds=30,
        )

    async def visit(self, *, seconds: float = SECONDS, **changes: Any) -> Finding:
        return await visit(self.backend(**changes), seconds)

    async def run(self, sql: str) -> Any:
        """As the superuser, in this database."""
        return await self.database.server.run(sql, self.database.name)


@pytest.fixture
def door(database: Any) -> Door:
    return Door(database)
