"""The operator process visits real databases: what it says of them, and what that leads to."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.support.operator import DEFAULTS, Api, binding, kv, postgres_backend, sql, sqlite_backend
from tests.support.postgres import PostgresServer, quote

SECONDS = 60


@dataclass
class Base:
    """A database with a role of its own on the worker's Postgres."""

    server: PostgresServer
    name: str

    def password(self, password: str) -> None:
        self.server.execute(f'ALTER ROLE "{self.name}" LOGIN PASSWORD {quote(password)}')

    def backend(self, name: str = "sql-default", **spec: Any) -> dict[str, Any]:
        """The manifest, of which the login comes from the Secret `pg-app`."""
        place = {"host": self.server.host, "port": self.server.port, "database": self.name}
        postgres = {**place, "tls": {"mode": "Disable"}, **spec.pop("postgres", {})}
        verification = {"mode": "Connect", "periodSeconds": 10}
        return postgres_backend(name, postgres=postgres, verification=verification, **spec)

    def login(self, api: Api, password: str, **more: str) -> None:
        api.secret("pg-app", **{"username": self.name, "password": password, **more})


@pytest.fixture
def base(postgres: PostgresServer) -> Iterator[Base]:
    made = Base(postgres, f"t{secrets.token_hex(6)}")
    postgres.execute(f'CREATE ROLE "{made.name}" LOGIN PASSWORD {quote("first")}')
    postgres.execute(f'CREATE DATABASE "{made.name}" OWNER "{made.name}"')
    yield made
    postgres.execute(f'DROP DATABASE "{made.name}" WITH (FORCE)')
    postgres.execute(f'DROP ROLE IF EXISTS "{made.name}"')


def verified(api: Api, status: str, reason: str, name: str = "sql-default") -> str:
    return api.wait("StorageBackend", name, "Verified", status, reason, seconds=SECONDS)


def quickstart(api: Api, base: Base) -> None:
    base.login(api, "first")
    api.apply(
        base.backend(),
        sqlite_backend(),
        binding(stores=[kv("metadata"), sql("inference")], defaults=DEFAULTS),
    )
    api.ready("chat")


def test_a_wrong_password_is_told_and_heals(api: Api, base: Base) -> None:
    base.login(api, "wrong-canary")
    api.apply(base.backend())
    message = verified(api, "False", "LoginRefused")
    assert f"{base.server.host}:{base.server.port}" in message
    assert "canary" not in message
    api.wait("StorageBackend", "sql-default", "Ready", "False", "LoginRefused", seconds=SECONDS)
    base.login(api, "first")
    message = verified(api, "True", "Connected")
    assert "PostgreSQL 18." in message
    api.wait("StorageBackend", "sql-default", "Ready", "True", "Ready", seconds=SECONDS)
    status = (api.get("StorageBackend", "sql-default") or {})["status"]
    assert status["serverVersion"] == message.rpartition(" ")[2]
