"""The same tests on both engines, with users."""

from __future__ import annotations

import pytest

from stackstore.access import AuthorizedSqlStore
from stackstore.sql import ColumnDefinition, ColumnType
from tests.integration.sql.conftest import (  # noqa: F401 - fixtures
    engine,
    place,
    postgres_place,
    sqlite_place,
)

SCHEMA = {
    "id": ColumnDefinition(ColumnType.STRING, primary_key=True),
    "created": ColumnDefinition(ColumnType.INTEGER),
    "body": ColumnDefinition(ColumnType.JSON),
}


@pytest.fixture
def authorized(place):  # noqa: F811 - a fixture, asked for by name
    """Makes authorized stores over the place; by default all over one SqlStore."""
    sql = None

    async def make(policy=None, *, table="t", over=None, per_owner=False, **settings):
        nonlocal sql
        sql = over or sql or place.store()
        store = AuthorizedSqlStore(sql, policy, **settings)
        await store.create_table(table, SCHEMA, per_owner=per_owner)
        await store.create_index(f"{table}_created", table, ["created"])
        return store

    return make
