"""Whatever the policy, the tenants and the values are: what the store gives and takes is what a
plain evaluator says, row by row and page by page.

    ACCESS_CASES=20000 python -m pytest tests/integration/access/test_model.py

runs as many cases on each engine.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stackstore.access import AccessDeniedError, AuthorizedSqlStore, Tenancy, User, acting_as, pages
from stackstore.sql import ColumnDefinition, ColumnType
from tests.integration.access.evaluator import Person, permitted

CASES = int(os.environ.get("ACCESS_CASES", "60"))
ACTIONS = ["create", "read", "update", "delete"]
SCHEMA = {
    "id": ColumnDefinition(ColumnType.STRING, primary_key=True),
    "created": ColumnDefinition(ColumnType.INTEGER),
    "body": ColumnDefinition(ColumnType.JSON, nullable=False),
    "state": ColumnDefinition(ColumnType.INTEGER, nullable=False, default=0),
}

WORDS = [
    "a",
    "b",
    "%",
    "_",
    "'",
    '"',
    "\\",
    "é",
    "ж",
    "a%",
    "%a",
    "a_b",
    "a'b",
    "\\'",
    "\U00010000",
    "A",
]
NAMES = [*WORDS, "alice", "a\0b", "al ice", ";--"]
IDS = [*WORDS, "aa", "ab", "pub::a", "pub::é", "pub::%", "a::b", "a\nb", " a", "1"]
KINDS = ["roles", "teams", "projects", "namespaces", "k'%"]
MANY = [f"v{n}" for n in range(299)]

values = st.lists(st.sampled_from(WORDS), max_size=3) | st.builds(
    lambda word: [*MANY, word], st.sampled_from(WORDS)
)
attributes = st.dictionaries(st.sampled_from(KINDS), values, max_size=3)
people = st.builds(
    Person, st.sampled_from(NAMES), attributes, st.sampled_from([None, None, "t1", "t2"])
)
words = st.one_of(
    st.sampled_from(["user is owner", "user is not owner", "resource is unowned"]),
    st.builds("user with {} in {}".format, st.sampled_from(WORDS), st.sampled_from(KINDS)),
    st.builds("user with {} not in {}".format, st.sampled_from(WORDS), st.sampled_from(KINDS)),
    st.builds("user in owners {}".format, st.sampled_from(KINDS)),
    st.builds("user  not in  owners {}".format, st.sampled_from(KINDS)),
)
resources = st.one_of(
    st.sampled_from([
        "sql_record::*", "sql_record::t::*", "sql_record::other::*", "sql_record::t::pub::*", "model::*",
        "regex:sql_record::(t|o)::[a-z]+.*", "regex:.*%.*", "regex:sql_record::t::(a|é)+$",
        "regex:sql_record::t::[^a]*$", "regex:^sql_record::t::a{1,2}.?$", "regex:model::.*",
        r"regex:sql_record::[t]::\\.*", "regex:sql_record::t::(?:|a|pub::.)$", "regex:s.*::[ab%-]$|x$",
    ]),
    st.builds("sql_record::t::{}".format, st.sampled_from(IDS)),
)  # fmt: skip
scopes = st.fixed_dictionaries(
    {"actions": st.sampled_from(ACTIONS) | st.lists(st.sampled_from(ACTIONS), max_size=4)},
    optional={"principal": st.sampled_from(NAMES), "resource": resources},
)
conditions = words | st.lists(words, max_size=2)


@st.composite
def rules(draw):
    rule: dict[str, Any] = {draw(st.sampled_from(["permit", "permit", "forbid"])): draw(scopes)}
    how = draw(st.sampled_from(["", "when", "unless"]))
    if how:
        rule[how] = draw(conditions)
    return rule


policies = st.lists(rules(), max_size=5) | st.just("strict")


@st.composite
def settings_of(draw):
    auth = draw(st.sampled_from([True, True, True, True, False]))
    mode = draw(
        st.sampled_from(["disabled", "single", "multi"] if auth else ["disabled", "single"])
    )
    tenants = ["t1", "t2"] if mode == "single" else [None, None, "t1"]
    return {
        "auth": auth,
        "mode": mode,
        "default_tenant": draw(st.sampled_from(tenants)),
        "unowned": draw(st.sampled_from(["deny", "policy"])),
    }


@st.composite
def cases(draw):
    writers = draw(st.lists(people, min_size=1, max_size=5))
    rows = draw(
        st.lists(
            st.tuples(
                st.integers(-1, len(writers) - 1),
                st.sampled_from(IDS),
                st.none() | st.integers(0, 3),
            ),
            max_size=14,
        )
    )
    reader = draw(st.sampled_from(writers) | people)
    return {
        "writers": writers,
        "rows": rows,
        "reader": reader,
        "policy": draw(policies),
        "settings": draw(settings_of()),
        "limit": draw(st.integers(1, 5)),
        "order": draw(st.sampled_from([None, "created", [("created", "desc")], [("id", "desc")]])),
        "where": draw(st.sampled_from([None, {"created": {">=": 1}}, {"created": None}])),
        "bounds": draw(st.sampled_from([None, [], [1], [2, 16], [1000]])),
        "new": draw(st.tuples(st.sampled_from(IDS), st.sampled_from(IDS))),
    }


NOBODY = Person(None, {})


class Row:
    def __init__(self, number, owner, row_id, created):
        self.number, self.owner, self.id, self.created, self.state = (
            number,
            owner,
            row_id,
            created,
            0,
        )


async def write(sql, store_of, case, per_owner) -> list[Row]:
    """The rows of a case, each as its writer's."""
    numbers = itertools.count()
    rows, taken = [], set()
    for writer, row_id, created in case["rows"]:
        owner = NOBODY if writer < 0 else case["writers"][writer]
        key = (row_id, *((owner.tenant, owner.principal) if per_owner else ()))
        if key not in taken:
            taken.add(key)
            rows.append(Row(next(numbers), owner, row_id, created))
    for row in rows:
        given = {"id": row.id, "created": row.created, "body": row.number}
        if row.owner is NOBODY:
            # Past the store, as a row that was there before it had owners.
            await sql.insert("t", {**given, "owner_key": 0} if per_owner else given)
            continue
        tenancy = Tenancy() if row.owner.tenant is None else Tenancy("multi")
        store = await store_of([{"permit": {"actions": ACTIONS}}], tenancy=tenancy)
        with acting_as(User(row.owner.principal, row.owner.attributes, row.owner.tenant)):
            await store.insert("t", given)
    return rows


def key(row):
    return (row.created is not None, row.created or 0, row.id)


async def check(sql, case) -> None:
    per_owner = case["per_owner"]
    await sql.delete("t", {"id": {"!=": None}})

    async def store_of(policy, **settings):
        store = AuthorizedSqlStore(sql, policy, **settings)
        await store.create_table("t", SCHEMA, per_owner=per_owner)
        return store

    rows = await write(sql, store_of, case, per_owner)
    config, reader = case["settings"], case["reader"]
    store = await store_of(
        case["policy"],
        auth=config["auth"],
        tenancy=Tenancy(config["mode"], config["default_tenant"]),
        unowned=config["unowned"],
    )
    me = User(reader.principal, reader.attributes, reader.tenant)
    denied = config["auth"] and (
        (config["mode"] == "multi" and reader.tenant is None)
        or (config["mode"] == "single" and reader.tenant not in (None, config["default_tenant"]))
    )

    def may(action, row_id, owner):
        return permitted(
            case["policy"], config, reader, action=action, table="t", row_id=row_id, owner=owner
        )

    with acting_as(me):
        if denied:
            with pytest.raises(AccessDeniedError):
                await store.fetch_all("t")
            with pytest.raises(AccessDeniedError):
                await store.insert("t", {"id": "x", "body": 1})
            return
        await read(store, case, [row for row in rows if may("read", row.id, row.owner)])
        changed = {row.number for row in rows if may("update", row.id, row.owner)}
        assert await store.update("t", {"state": 1}, {"id": {"!=": ""}}) == len(changed)
        await upsert(store, sql, case, rows, may)
        held = await raw(sql)
        assert {number for number, row in held.items() if row["state"] == 1} == changed
        # Of those rows that were there from the beginning.
        doomed = {row.number for row in rows if may("delete", row.id, row.owner)}
        await store.delete("t", {"body": {"!=": None}})
        assert {row.number for row in rows} - set(await raw(sql)) == doomed


async def read(store, case, seen) -> None:
    """Page by page, all at once, and counted."""
    where, order = case["where"], case["order"]
    if where == {"created": {">=": 1}}:
        seen = [row for row in seen if row.created is not None and row.created >= 1]
    elif where == {"created": None}:
        seen = [row for row in seen if row.created is None]
    assert await store.count("t", where) == len(seen)
    by_id = order is None or order[0][0] == "id"
    descending = isinstance(order, list)
    expected = sorted(seen, key=(lambda row: row.id) if by_id else key, reverse=descending)
    for limit in (case["limit"], None):
        found, cursor = [], None
        while True:
            page = await store.fetch_all("t", where, order, limit, cursor)
            assert all(set(row) == set(SCHEMA) for row in page.data)
            assert page.has_more == (len(found) + len(page.data) < len(expected))
            assert limit is None or not page.has_more or len(page.data) == limit
            found += page.data
            cursor = page.next_cursor
            if cursor is None:
                break
        assert [row["id"] for row in found] == [row.id for row in expected]
        assert sorted(row["body"] for row in found) == sorted(row.number for row in expected)
        if not by_id:
            assert [row["created"] for row in found] == [row.created for row in expected]
    one = await store.fetch_one("t", where, order)
    assert (one and one["id"]) == (expected[0].id if expected else None)


async def raw(sql):
    return {row["body"]: row for row in (await sql.fetch_all("t")).data}


async def upsert(store, sql, case, rows, may) -> None:
    """Two keys at once: all or none, and nobody's owner changes."""
    config, reader = case["settings"], case["reader"]
    tenant = reader.tenant if config["mode"] == "multi" else config["default_tenant"]
    mine = (
        Person(reader.principal, reader.attributes, tenant)
        if config["auth"]
        else Person(None, {}, tenant)
    )
    ids = list(dict.fromkeys(case["new"]))
    before = await raw(sql)
    there = {}
    for row_id in ids:
        for row in rows:
            same = (row.owner.tenant, row.owner.principal) == (mine.tenant, mine.principal)
            if row.id == row_id and (same or not case["per_owner"]):
                there[row_id] = row
    allowed = all(
        may("update", row_id, there[row_id].owner)
        if row_id in there
        else may("create", row_id, mine)
        for row_id in ids
    )
    data = [{"id": row_id, "created": 9, "body": f"new {row_id}", "state": 2} for row_id in ids]
    with contextlib.nullcontext() if allowed else pytest.raises(AccessDeniedError):
        await store.upsert("t", data, ["id"], ["created"])
    after = await raw(sql)
    if not allowed:
        assert after == before
        return
    for row_id in ids:
        if row_id in there:
            assert after[there[row_id].number] == {**before[there[row_id].number], "created": 9}
        else:
            assert after[f"new {row_id}"]["state"] == 2
    assert len(after) == len(before) + len([row_id for row_id in ids if row_id not in there])


@pytest.mark.timeout(0 if "ACCESS_CASES" in os.environ else 60)
@pytest.mark.parametrize("per_owner", [False, True])
async def test_it_does_what_a_plain_evaluator_says(place, monkeypatch, per_owner):
    chosen, loop, numbers = pages.bounds, asyncio.get_running_loop(), itertools.count(1)
    sql = place.store()
    store = AuthorizedSqlStore(sql)
    await store.create_table("t", SCHEMA, per_owner=per_owner)
    await store.create_index("t_created", "t", ["created"])

    @settings(max_examples=CASES, deadline=None, suppress_health_check=list(HealthCheck))
    @given(cases())
    def every(case):
        if not next(numbers) % 50:
            # Or thousands of owners would gather; a store that knows them has to notice.
            asyncio.run_coroutine_threadsafe(place.sql("DELETE FROM @owners"), loop).result(60)
        given = case["bounds"]
        monkeypatch.setattr(
            pages, "bounds", chosen if given is None else lambda _view, _limit: given
        )
        asyncio.run_coroutine_threadsafe(check(sql, {**case, "per_owner": per_owner}), loop).result(
            60
        )

    await asyncio.to_thread(every)
