"""The operator's visits go through a pooler as well, and see who is behind it."""

from __future__ import annotations

import pytest

from stackstore.credentials.snapshot import Login, PostgresBackend, Tls
from stackstore_operator.api.conditions import Reason
from stackstore_operator.probe.visit import visit


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, Reason.CONNECTED),
        ({"password": "wrong"}, Reason.LOGIN_REFUSED),
    ],
    ids=["right", "wrong"],
)
async def test_a_visit_through_it(database, changes, reason):
    server = database.server
    place = {
        "host": server.host, "port": server.port, "database": database.name,
        "username": database.role, "password": database.password, "revision": "0000000a",
    }  # fmt: skip
    login = Login(**{**place, **changes})
    backend = PostgresBackend(
        type="sql_postgres", current=login, tls=Tls(mode="Disable"), pooler=server.pooler,
        statement_timeout_seconds=30,
    )  # fmt: skip
    for _ in range(3):
        finding = await visit(backend)
        assert finding.outcome.reason is reason, finding
        assert finding.server_version.startswith("18.") is (reason is Reason.CONNECTED)
