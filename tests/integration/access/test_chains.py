"""Chains of parts: as far as a user may see, each part once, circles included."""

from __future__ import annotations

import pytest

from stackstore.access import AccessDeniedError, AuthorizedSqlStore, User, acting_as
from stackstore.access.chains import Links
from stackstore.sql import ColumnDefinition, ColumnType
from tests.integration.access.conftest import SCHEMA

LINKS = Links("parts", "previous")
PARTS = {
    "part": ColumnDefinition(ColumnType.STRING, primary_key=True),
    "id": ColumnDefinition(ColumnType.STRING),
    "owner_id": ColumnDefinition(ColumnType.INTEGER),
    "previous": ColumnDefinition(ColumnType.STRING),
    "body": ColumnDefinition(ColumnType.JSON),
}
COLUMNS = ["part", "body"]
POLICY = [
    {"permit": {"actions": ["create", "read"]}, "when": "user is owner"},
    {"permit": {"actions": ["read"]}, "when": "user with auditor in roles"},
]


@pytest.fixture
async def chains(authorized):
    """A table of rows, and one of their parts: alice's a1-a3 and bob's b1, b2 that go on from a2."""
    store = await authorized(POLICY, per_owner=True)
    await store.unguarded.create_table("parts", PARTS)
    for name, links in (
        ("alice", [("a1", None), ("a2", "a1"), ("a3", "a2")]),
        ("bob", [("b1", "a2"), ("b2", "b1")]),
    ):
        with acting_as(User(name)):
            async with store.transaction() as rows:
                await rows.insert("t", {"id": name, "created": 1})
                for part, previous in links:
                    await rows.unguarded.insert(
                        "parts",
                        {
                            "part": part,
                            "id": name,
                            "owner_id": rows.owner_id,
                            "previous": previous,
                            "body": {"of": part},
                        },
                    )
    return store


async def reached(store, user, *starts):
    with acting_as(user):
        rows = await store.fetch_chain("t", LINKS, starts, COLUMNS)
    assert all(row == {"part": row["part"], "body": {"of": row["part"]}} for row in rows)
    return sorted(row["part"] for row in rows)


async def test_nothing_lies_behind_what_may_not_be_seen(chains):
    everybody, bob = User("x", {"roles": ["auditor"]}), User("bob")
    assert await reached(chains, everybody, "b2") == ["a1", "a2", "b1", "b2"]
    assert await reached(chains, bob, "b2") == ["b1", "b2"]
    assert await reached(chains, bob, "a3") == []
    assert await reached(chains, User("alice"), "b2") == []
    assert await reached(chains, User("nobody"), "b2", "a1") == []
    with pytest.raises(AccessDeniedError):
        await chains.fetch_chain("t", LINKS, ["b2"], COLUMNS)


async def test_what_several_lead_to_comes_once(chains):
    everybody = User("x", {"roles": ["auditor"]})
    assert await reached(chains, everybody, "b2", "a3", "a1", "never") == [
        "a1", "a2", "a3", "b1", "b2",
    ]  # fmt: skip
    assert await reached(chains, everybody) == []


async def test_a_circle_comes_once(chains):
    await chains.unguarded.update("parts", {"previous": "a3"}, {"part": "a1"})
    assert await reached(chains, User("alice"), "a2") == ["a1", "a2", "a3"]


async def test_an_owner_that_another_process_added_counts(chains, place):
    late = AuthorizedSqlStore(place.store(), [{"permit": {"actions": ["create", "read"]}}])
    await late.create_table("t", SCHEMA, per_owner=True)
    await late.unguarded.create_table("parts", PARTS)
    everybody = User("x", {"roles": ["auditor"]})
    assert await reached(chains, everybody, "c1") == []
    with acting_as(User("carol")):
        async with late.transaction() as rows:
            await rows.unguarded.insert(
                "parts",
                {"part": "c1", "id": "c", "owner_id": rows.owner_id, "body": {"of": "c1"}},
            )
    assert await reached(chains, everybody, "c1") == ["c1"]
