"""Statements that are kept ready give what those give that are built for each page."""

from __future__ import annotations

import itertools

import pytest

from stackstore.access import User, acting_as
from stackstore.access.hot import MAX_KEPT
from stackstore.access.visible import MAX_MERGED

OWNERS = MAX_MERGED + 6
POLICY = [
    {"permit": {"actions": ["create", "update"]}},
    {"permit": {"actions": "read", "resource": "sql_record::t::1*"}, "when": "user in owners projects"},
    {"permit": {"actions": "read"}, "when": "user is owner"},
    {"permit": {"actions": "read"}, "when": "user in owners teams"},
    {"permit": {"actions": "read"}, "when": "user with admin in roles"},
]  # fmt: skip
READERS = {
    "none": User("nobody"),
    "one": User("u3"),
    "few": User("nobody", {"teams": ["small"]}),
    "one more than few": User("u3", {"teams": ["small"]}),
    "many": User("nobody", {"teams": ["large"]}),
    "all": User("nobody", {"roles": ["admin"]}),
    "some ids": User("nobody", {"projects": ["p"]}),
    "some ids and few": User("nobody", {"projects": ["p"], "teams": ["small"]}),
}
WHERES = [
    None, {}, {"created": 3}, {"created": {"=": 4}}, {"created": {">=": 2}}, {"created": {"<": 4}},
    {"created": {"!=": 3}}, {"created": None}, {"created": {"!=": None}}, {"created": 3, "id": "3-1"},
    {"id": "1-1"}, {"created": [3, 4, None]}, {"created": []},
]  # fmt: skip
ORDERS = [None, "created", [("created", "desc")], [("created", "asc"), ("id", "desc")]]


@pytest.fixture
async def both(authorized, place):
    """A store that keeps its statements, and one that builds each; 3 rows of each owner."""
    ready, built = await authorized(POLICY), await authorized(POLICY)
    built._hot = None
    for n in range(OWNERS):
        attributes = {
            "teams": ["large"] if n >= 3 else ["small"],
            "projects": ["p"] if n < 12 else [],
        }
        with acting_as(User(f"u{n}", attributes)):
            await ready.insert(
                "t",
                [
                    {"id": f"{n}-{i}", "created": None if i == 2 else (n + i) % 6, "body": [n, i]}
                    for i in range(3)
                ],
            )
    return ready, built


async def test_whoever_asks_what_by_turns(both):
    ready, built = both
    asked = list(itertools.product(READERS.values(), WHERES, ORDERS[1:], (4,)))
    # Neighbours differ in everything, so what is kept for one of them is wrong for the next.
    for place in range(61):
        for reader, where, order_by, limit in asked[place::61]:
            with acting_as(reader):
                page = await ready.fetch_all("t", where, order_by, limit)
                assert page == await built.fetch_all("t", where, order_by, limit)
                if page.next_cursor:
                    again = [
                        await s.fetch_all("t", where, order_by, limit, page.next_cursor)
                        for s in both
                    ]
                    assert again[0] == again[1]
                    assert not {row["id"] for row in page.data} & {
                        row["id"] for row in again[0].data
                    }


async def test_pages_are_read_by_one_statement_past_sqlalchemy(both, monkeypatch):
    ready, _ = both
    read, texts = ready._store.read_directly, []

    async def read_directly(table, statement, arguments):
        texts.append(statement.text)
        return await read(table, statement, arguments)

    monkeypatch.setattr(ready._store, "read_directly", read_directly)
    for name in ("none", "one", "few", "all", "some ids and few"):
        for where in ({"created": 3}, {"created": 4}):
            with acting_as(READERS[name]):
                await ready.fetch_all("t", where, "created", 4)
        # The same for any value, and a second look at the owners even where there is nothing.
        assert len(texts) == 2 and texts[0] == texts[1], name
        texts.clear()
    with acting_as(READERS["few"]):
        await ready.fetch_all("t", {"created": [3]}, "created", 4)
    assert texts == []


async def test_not_more_statements_are_kept_than_are_of_use(both):
    ready, _ = both
    with acting_as(READERS["few"]):
        for limit in range(1, MAX_KEPT + 5):
            await ready.fetch_all("t", {"created": 3}, "created", limit)
    assert len(ready._hot._ready) == MAX_KEPT
