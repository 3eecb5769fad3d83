"""Whose rows are whose: OGX's defects by their numbers, and what is refused."""

from __future__ import annotations

import asyncio
import json
import logging

import pytest
from sqlalchemy import event

from stackstore.access import (
    AccessDeniedError,
    AuthorizedSqlStore,
    Tenancy,
    User,
    acting_as,
    current_user,
)
from stackstore.errors import ConflictError, InvalidArgumentError, NotFoundError
from stackstore.sql import ColumnDefinition, ColumnType, DeleteOperation
from tests.integration.access.conftest import SCHEMA

ALICE = User("alice", {"roles": ["user"], "teams": ["a"]})
BOB = User("bob", {"roles": ["user"], "teams": ["b"]})
EVE = User("eve", {"roles": ["guest"], "teams": ["c"]})
ALL = ["create", "read", "update", "delete"]
OWN = [{"permit": {"actions": ALL}, "when": "user is owner"}]
READ_ALL = [*OWN, {"permit": {"actions": "read"}}]


def row(row_id, created=1, body=None):
    return {"id": row_id, "created": created, "body": body}


async def ids(store, user, **how):
    with acting_as(user):
        return sorted(found["id"] for found in (await store.fetch_all("t", **how)).data)


async def test_a1_an_upsert_over_anothers_row_is_refused_and_tells_nothing(authorized, place):
    store = await authorized(OWN)
    with acting_as(ALICE):
        await store.upsert("t", row("x", 1, "alice's"), ["id"])
    with acting_as(EVE):
        with pytest.raises(AccessDeniedError) as one:
            await store.upsert("t", row("x", 2, "eve's"), ["id"])
        with pytest.raises(AccessDeniedError) as many:
            await store.upsert("t", [row("y"), row("x", 2)], ["id"])
        # Without columns to set there is still somebody else's row.
        with pytest.raises(AccessDeniedError):
            await store.upsert("t", {"id": "x"}, ["id"])
        assert await store.fetch_all("t") == await store.fetch_all("t", {"id": "nothing"})
        assert str(one.value) == str(many.value)
        assert not any(word in str(one.value) for word in ("alice", "eve", "'x'"))
        assert one.value.__cause__ is None and one.value.__context__ is None
    with acting_as(ALICE):
        assert await store.fetch_one("t", {"id": "x"}) == row("x", 1, "alice's")
        await store.upsert("t", [row("x", 3), row("z")], ["id"])
        assert await ids(store, ALICE) == ["x", "z"]
    # A teammate's update leaves the row its owner's.
    shared = await authorized([{"permit": {"actions": ["read", "update"]}}], table="t")
    with acting_as(EVE):
        await shared.upsert("t", row("x", 4, "eve's"), ["id"])
    with acting_as(ALICE):
        assert (await store.fetch_one("t", {"id": "x"}))["body"] == "eve's"
    with acting_as(EVE):
        assert await store.fetch_one("t", {"id": "x"}) is None


async def test_a5_one_shared_role_opens_all_by_default_and_nothing_by_the_strict_preset(authorized):
    default, strict = await authorized(), await authorized("strict")
    with acting_as(ALICE):
        await default.insert("t", row("x"))
    teammate = User("carol", {"roles": ["admin", "user"], "teams": ["a"]})
    assert await ids(default, BOB) == ["x"]
    assert await ids(strict, BOB) == []
    assert await ids(strict, teammate) == ["x"]
    with acting_as(BOB):
        assert await strict.update("t", {"created": 9}, {"id": "x"}) == 0
        assert await strict.delete("t", {"id": "x"}) == 0
    with acting_as(teammate):
        assert await strict.update("t", {"created": 9}, {"id": "x"}) == 1
    # Who has no attributes shares none.
    with acting_as(User("dave")):
        await default.insert("t", row("y"))
    assert await ids(strict, ALICE) == ["x"]


async def test_a6_nobody_is_refused_and_auth_off_is_said_explicitly(authorized, place):
    store = await authorized(unowned="policy")
    off = await authorized(auth=False)
    with acting_as(ALICE):
        await store.insert("t", row("x"))
    assert current_user() is None
    for call in (
        store.insert("t", row("n")),
        store.insert("t", []),
        store.upsert("t", row("x", 9), ["id"]),
        store.update("t", {"created": 9}, {"id": "x"}),
        store.delete("t", {"id": "x"}),
        store.delete_many([DeleteOperation("t", {"id": "x"})]),
        store.delete_many([]),
        store.fetch_one("t"),
        store.fetch_all("t"),
        store.count("t"),
    ):
        with pytest.raises(AccessDeniedError, match="acting_as"):
            await call
    with pytest.raises(AccessDeniedError):
        async with store.transaction():
            pass
    # Off: public, whoever is set.
    await off.insert("t", row("public"))
    assert await ids(off, None) == await ids(off, EVE) == ["public", "x"]
    with acting_as(EVE):
        await off.upsert("t", row("x", 9), ["id"])
        await off.insert("t", row("eve's"))
    # And what was written then is nobody's, not the user's who happened to be set.
    assert await place.sql("SELECT id FROM @t WHERE owner_id = 0 ORDER BY id") == [
        ("eve's",),
        ("public",),
    ]
    assert await ids(store, EVE) == ["eve's", "public"]
    assert await ids(await authorized(), EVE) == []


@pytest.mark.parametrize("principal", ["", " ", "\t\n", None, 7])
def test_a7_an_empty_principal_is_refused(principal):
    with pytest.raises(InvalidArgumentError, match="principal"):
        User(principal, {"roles": ["user"]})


async def test_a8_create_is_checked(authorized):
    rules = [
        {"forbid": {"actions": "create"}, "unless": "user with writer in roles"},
        {"permit": {"actions": "create", "resource": "sql_record::t::pub::*"}},
        {"permit": {"actions": ["read", "update", "delete"]}},
    ]
    store = await authorized(rules)
    writer = User("w", {"roles": ["writer"]})
    with acting_as(EVE):
        for refused in (row("pub::x"), [row("pub::x"), row("pub::y")]):
            with pytest.raises(AccessDeniedError):
                await store.insert("t", refused)
            with pytest.raises(AccessDeniedError):
                await store.upsert("t", refused, ["id"])
    with acting_as(writer):
        with pytest.raises(AccessDeniedError):
            await store.insert("t", [row("pub::x"), row("x")])
        assert await store.count("t") == 0
        await store.insert("t", row("pub::x"))
    with acting_as(EVE):
        # What is there may be updated by an upsert, by whom an update is permitted.
        await store.upsert("t", row("pub::x", 5), ["id"])
        with pytest.raises(AccessDeniedError):
            await store.upsert("t", [row("pub::x", 6), row("pub::new")], ["id"])
        assert await store.fetch_one("t") == row("pub::x", 5)


@pytest.mark.parametrize("per_owner", [False, True])
async def test_a9_n6_one_id_of_two_users_and_of_two_tenants(authorized, per_owner):
    store = await authorized(OWN, tenancy=Tenancy("multi"), per_owner=per_owner)
    ones = [User("alice", {}, "one"), User("alice", {}, "two"), User("bob", {}, "two")]
    with acting_as(ones[0]):
        await store.insert("t", row("x", 1, "one"))
    for user in ones[1:]:
        with acting_as(user):
            if not per_owner:
                with pytest.raises(AccessDeniedError):
                    await store.upsert("t", row("x", 2), ["id"])
                with pytest.raises(ConflictError, match="the same id"):
                    await store.insert("t", row("x", 2))
                continue
            await store.insert("t", row("x", 2, user.principal))
            with pytest.raises(ConflictError):
                await store.insert("t", row("x", 2))
    if not per_owner:
        return
    # One owner's duplicate is quietly the newest, whatever attributes he has by now.
    with acting_as(User("bob", {"teams": ["new"]}, "two")):
        await store.upsert("t", row("x", 3, "newest"), ["id"])
        assert (await store.fetch_all("t")).data == [row("x", 3, "newest")]
    with acting_as(ones[0]):
        assert (await store.fetch_all("t")).data == [row("x", 1, "one")]
        assert await store.update("t", {"created": 7}, {"id": "x"}) == 1
        assert await store.delete("t", {"id": "x"}) == 1
    with acting_as(ones[1]):
        assert (await store.fetch_all("t")).data == [row("x", 2, "alice")]


async def test_of_several_rows_of_an_id_ones_own_goes_first_then_the_newest(authorized):
    store = await authorized(READ_ALL, per_owner=True)
    for created, user in ((1, BOB), (2, ALICE), (3, EVE)):
        with acting_as(user):
            await store.insert("t", row("x", created, user.principal))
            await store.insert("t", row(user.principal, 0))
    newest = [("created", "desc")]
    for user, first in ((ALICE, "alice"), (BOB, "bob"), (EVE, "eve"), (User("new"), "eve")):
        with acting_as(user):
            assert (await store.fetch_one("t", {"id": "x"}, newest))["body"] == first
            page = await store.fetch_all("t", None, newest, 10, after="x")
            others = {"alice": ["bob"], "bob": [], "eve": ["alice", "bob"]}[first]
            assert [found["body"] for found in page.data if found["id"] == "x"] == others
            assert await store.count("t", {"id": "x"}) == 3
            assert len((await store.fetch_all("t", {"id": "x"})).data) == 3


async def test_a11_pages_are_full_whatever_the_policy_is(authorized):
    store = await authorized(OWN)
    for n in range(20):
        with acting_as(ALICE if n % 4 == 3 else EVE):
            await store.insert("t", row(f"{n:02}", n))
    with acting_as(ALICE):
        page = await store.fetch_all("t", None, [("created", "desc")], 4)
        assert [found["id"] for found in page.data] == ["19", "15", "11", "07"]
        assert page.has_more
        page = await store.fetch_all("t", None, [("created", "desc")], 4, page.next_cursor)
        assert [found["id"] for found in page.data] == ["03"]
        # The others' rows beyond are none of hers.
        assert not page.has_more and page.next_cursor is None
        first = await store.fetch_one("t", None, "created")
        assert first["id"] == "03"


async def test_a12_a_cursor_tells_nothing_of_others(authorized):
    store = await authorized(OWN)
    with acting_as(ALICE):
        await store.insert("t", [row(f"a{n}", n) for n in range(5)])
        cursor = (await store.fetch_all("t", None, "created", 2)).next_cursor
    with acting_as(EVE):
        await store.insert("t", [row(f"e{n}", n) for n in range(5)])
        errors = []
        for after in ("a2", "none", "'; --"):
            with pytest.raises(NotFoundError) as error:
                await store.fetch_all("t", None, "created", 2, after=after)
            errors.append(str(error.value))
        assert len(set(errors)) == 1
        # Somebody else's cursor is refused as a forged one is.
        refused = []
        for other in (cursor, "forged", cursor[:-2]):
            with pytest.raises(InvalidArgumentError) as error:
                await store.fetch_all("t", None, "created", 2, other)
            refused.append(str(error.value))
        assert len(set(refused)) == 1
        page = await store.fetch_all("t", None, "created", 2, after="e1")
        assert [found["id"] for found in page.data] == ["e2", "e3"]
    # Whose attributes change goes on turning pages.
    with acting_as(User("alice", {"teams": ["new"]})):
        page = await store.fetch_all("t", None, "created", 2, cursor)
        assert [found["id"] for found in page.data] == ["a2", "a3"]


async def test_a13_rows_without_an_owner(authorized, place):
    sql = place.store()
    await sql.create_table("t", SCHEMA)
    await sql.insert("t", [row("old", 1), row("older", 0)])
    denied = await authorized(over=sql)
    by_policy = await authorized(over=sql, unowned="policy")
    off = await authorized(over=sql, auth=False)
    await sql.insert("t", row("past"))
    assert await ids(denied, ALICE) == []
    assert await ids(by_policy, ALICE) == await ids(off, None) == ["old", "older", "past"]
    # What is seen and what may be changed agree.
    with acting_as(ALICE):
        assert await denied.update("t", {"created": 5}, {"id": "old"}) == 0
        assert await denied.delete("t", {"id": "old"}) == 0
        with pytest.raises(AccessDeniedError):
            await denied.upsert("t", row("old", 5), ["id"])
        assert await by_policy.update("t", {"created": 5}, {"id": "old"}) == 1
        await by_policy.upsert("t", row("older", 6), ["id"])
        assert await by_policy.delete("t", {"id": "past"}) == 1
    assert await place.sql("SELECT id, created, owner_id FROM @t ORDER BY id") == [
        ("old", 5, 0),
        ("older", 6, 0),
    ]


async def test_a15_each_operation_acts_and_checks_in_one_statement(authorized, place, monkeypatch):
    store = await authorized(OWN)
    with acting_as(ALICE):
        await store.insert("t", [row(str(n), n) for n in range(9)])
        await store.count("t")
    sent = []
    event.listen(
        place.pools[0].engine.sync_engine,
        "before_cursor_execute",
        lambda _c, _u, statement, *_: sent.append(statement),
    )
    read = store._store.read_directly

    async def read_directly(name, ready, arguments):
        sent.append(ready.text)
        return await read(name, ready, arguments)

    monkeypatch.setattr(store._store, "read_directly", read_directly)
    table = '"stackstore_t"' if place.dialect == "sqlite" else 'stackstore."t"'
    with acting_as(ALICE):
        for call in (
            lambda: store.update("t", {"created": 9}, {"id": "1"}),
            lambda: store.delete("t", {"id": "2"}),
            lambda: store.upsert("t", row("3", 9), ["id"]),
            lambda: store.upsert("t", [row("3", 9), row("4", 9)], ["id"]),
            lambda: store.insert("t", row("new")),
            lambda: store.count("t"),
            lambda: store.fetch_one("t", {"id": "3"}),
            lambda: store.fetch_all("t", None, "created", 3),
            lambda: store.delete_many([DeleteOperation("t", {"id": "5"})]),
        ):
            sent.clear()
            await call()
            (only,) = [statement for statement in sent if table in statement]
            owner = "owner_id" in only.partition("WHERE")[2]
            assert owner or only.startswith("INSERT"), only


async def test_a19_an_error_of_the_database_shows_no_value(authorized, place, caplog):
    caplog.set_level(logging.DEBUG)
    store = await authorized(
        [*READ_ALL, {"permit": {"actions": "read", "resource": "regex:.*S3CRET$"}}]
    )
    secret = User("S3CRET-alice", {"teams": ["S3CRET-team"]})
    with acting_as(secret):
        await store.insert("t", row("S3CRET-id", 1, "S3CRET-body"))
    errors = []
    with acting_as(secret):
        for call in (
            lambda: store.insert("t", row("S3CRET-id", 2, "S3CRET-body")),
            lambda: store.insert("t", row("S3CRET\0", 2)),
            lambda: store.update("t", {"created": "S3CRET"}, {"id": "S3CRET-id"}),
            lambda: store.fetch_all("t", after="S3CRET"),
        ):
            with pytest.raises(Exception) as error:
                await call()
            errors.append(error.value)
    with acting_as(User("S3CRET-eve")):
        with pytest.raises(AccessDeniedError) as error:
            await store.upsert("t", row("S3CRET-id", 2, "S3CRET-body"), ["id"])
        errors.append(error.value)
    await place.sql("DROP TABLE @t")
    await place.sql("CREATE TABLE @t (id INTEGER PRIMARY KEY)")
    with acting_as(secret):
        for call in (
            lambda: store.insert("t", row("S3CRET-id")),
            lambda: store.fetch_all("t", {"id": "S3CRET-id"}, limit=2),
            lambda: store.update("t", {"created": 3}, {"id": "S3CRET-id"}),
        ):
            with pytest.raises(Exception) as error:
                await call()
            errors.append(error.value)
    while errors:
        found = errors.pop()
        assert "S3CRET" not in f"{found} {found!r}"
        errors += [more for more in (found.__cause__, found.__context__) if more is not None]
    assert "S3CRET" not in caplog.text


async def test_n4_tenancy_is_turned_on_and_off_and_no_row_is_lost_or_shown(authorized):
    before = await authorized(OWN, per_owner=True)
    with acting_as(ALICE):
        await before.insert("t", [row("x", 1), row("y", 1)])
    alice = User("alice", {}, "acme")
    stranger = User("alice", {}, "other")
    # On: what was written before belongs to one tenant, and to no other.
    multi = await authorized(OWN, tenancy=Tenancy("multi", "acme"), per_owner=True)
    assert await ids(multi, alice) == ["x", "y"]
    assert await ids(multi, stranger) == []
    with acting_as(stranger):
        await multi.insert("t", row("x", 9))
        await multi.insert("t", row("secret", 9))
    with acting_as(alice):
        await multi.insert("t", row("new", 2))
        assert await multi.update("t", {"created": 5}, {"id": "y"}) == 1
    # Without saying so, they are nobody's, and their ids can be written again.
    bare = await authorized(OWN, tenancy=Tenancy("multi"), per_owner=True)
    assert await ids(bare, alice) == ["new"]
    with acting_as(alice):
        await bare.insert("t", row("x", 3))
        assert (await multi.fetch_one("t", {"id": "x"}, [("created", "desc")]))["created"] == 3
    single = await authorized(OWN, tenancy=Tenancy("single", "acme"), per_owner=True)
    assert await ids(single, User("alice")) == ["new", "x", "x", "y"]
    # Off: no tenant's row is shown, but for the one that it is said of.
    assert await ids(before, stranger) == await ids(before, alice) == ["x", "y"]
    again = await authorized(OWN, tenancy=Tenancy("disabled", "acme"), per_owner=True)
    assert await ids(again, User("alice")) == ["new", "x", "x", "y"]
    assert await ids(again, stranger) == ["new", "x", "x", "y"]


async def test_rows_of_no_tenant_are_ones_own_too_where_they_are_the_tenants(authorized):
    before = await authorized(OWN, per_owner=True)
    with acting_as(ALICE):
        await before.insert("t", row("x", 1, "mine"))
    store = await authorized(READ_ALL, tenancy=Tenancy("multi", "acme"), per_owner=True)
    with acting_as(User("bob", {}, "acme")):
        await store.insert("t", row("x", 2, "bob's"))
    with acting_as(User("alice", {}, "acme")):
        assert (await store.fetch_one("t", {"id": "x"}, [("created", "desc")]))["body"] == "mine"


async def test_a_known_owner_costs_no_statement(authorized, place):
    store = await authorized()
    with acting_as(ALICE):
        await store.insert("t", row("x"))
        sent = []
        event.listen(
            place.pools[0].engine.sync_engine,
            "before_cursor_execute",
            lambda _c, _u, statement, *_: sent.append(statement),
        )
        await store.insert("t", row("y"))
    assert len([statement for statement in sent if "BEGIN" not in statement]) == 1, sent


async def test_n5_a_user_without_a_tenant_is_refused(authorized):
    multi = await authorized(tenancy=Tenancy("multi", "acme"))
    with acting_as(ALICE), pytest.raises(AccessDeniedError, match="no tenant"):
        await multi.insert("t", row("x"))
    single = await authorized(tenancy=Tenancy("single", "acme"))
    with acting_as(User("alice", {}, "other")), pytest.raises(AccessDeniedError, match="another"):
        await single.fetch_all("t")
    with acting_as(User("alice", {}, " ACME ")):
        await single.insert("t", row("x"))
    with pytest.raises(InvalidArgumentError, match="needs auth"):
        await authorized(auth=False, tenancy=Tenancy("multi"))


async def test_n16_there_is_no_table_without_owners(authorized, place):
    """Skills and message batches of one user are no other's to list or delete."""
    sql = place.store()
    for table in ("skills", "message_batches"):
        store = await authorized(OWN, table=table, over=sql)
        with acting_as(ALICE):
            await store.insert(table, row("x"))
        with acting_as(EVE):
            assert (await store.fetch_all(table)).data == []
            assert await store.delete(table, {"id": "x"}) == 0
        # A table that the store wasn't told of is not served, be it there or not.
        bare = AuthorizedSqlStore(sql, OWN)
        with acting_as(ALICE), pytest.raises(NotFoundError, match="create_table"):
            await bare.fetch_all(table)


async def test_update_and_delete_touch_only_what_they_may(authorized):
    store = await authorized(READ_ALL)
    for user in (ALICE, BOB):
        with acting_as(user):
            await store.insert("t", [row(f"{user.principal}{n}", n) for n in range(3)])
    with acting_as(ALICE):
        assert await store.count("t") == 6
        assert await store.count("t", {"created": {">": 0}}) == 4
        assert await store.update("t", {"created": 7}, {"created": {"<": 2}}) == 2
        assert (
            await store.delete_many(
                [DeleteOperation("t", {"created": 7}), DeleteOperation("t", {"id": "bob0"})]
            )
            == 2
        )
        left = (await store.fetch_all("t")).data
    assert [found["id"] for found in left] == ["alice2", "bob0", "bob1", "bob2"]


async def test_the_stores_own_columns_are_nobody_elses(authorized):
    store = await authorized(per_owner=True)
    other = await authorized(table="v")
    with acting_as(ALICE):
        await store.insert("t", row("x"))
        for column in ("owner_id", "owner_key"):
            for call in (
                lambda column=column: store.insert("t", {**row("y"), column: 0}),
                lambda column=column: store.upsert("t", {**row("x"), column: 1}, ["id"]),
                lambda column=column: store.upsert("t", row("x"), ["id"], [column]),
                lambda column=column: store.update("t", {column: 0}, {"id": "x"}),
                lambda column=column: store.update("t", {"created": 0}, {column: 1}),
                lambda column=column: store.delete("t", {column: {"!=": None}}),
                lambda column=column: store.fetch_all("t", {column: 1}),
                lambda column=column: store.fetch_all("t", None, column),
                lambda column=column: store.fetch_all("t", None, [("created", "asc"), (column, "desc")]),
                lambda column=column: store.fetch_one("t", None, (column, "desc")),
                lambda column=column: store.count("t", {column: 1}),
                lambda column=column: store.create_index("i", "t", [column]),
                lambda column=column: store.add_column_if_not_exists("t", column, ColumnType.STRING),
                lambda column=column: other.add_column_if_not_exists("v", column.upper(), ColumnType.STRING),
                lambda column=column: store.create_table("u", {**SCHEMA, column.upper(): ColumnType.STRING}),
            ):  # fmt: skip
                with pytest.raises(InvalidArgumentError, match="own"):
                    await call()
        with pytest.raises(InvalidArgumentError, match="is what a row is called"):
            await store.update("t", {"id": "z"}, {"id": "x"})
        with pytest.raises(InvalidArgumentError, match="conflict_columns"):
            await store.upsert("t", row("x"), ["id", "owner_key"])
        assert (await store.fetch_all("t")).data == [row("x")]


async def test_arguments(authorized):
    store = await authorized()
    with acting_as(ALICE):
        await store.insert("t", [])
        await store.upsert("t", [], ["id"])
        assert await store.delete_many([]) == 0
        for call in (
            lambda: store.update("t", {"created": 1}, {}),
            lambda: store.update("t", {}, {"id": "x"}),
            lambda: store.delete("t", {}),
            lambda: store.fetch_all("t", limit=0),
            lambda: store.fetch_all("t", cursor="x", after="y"),
            lambda: store.fetch_all("t", after={"created": 1}),
            lambda: store.fetch_all("t", after=["x", "y"]),
            lambda: store.insert("t", "row"),
            lambda: store.insert("t", ["row"]),
            lambda: store.upsert("t", {"created": 1}, ["id"]),
        ):
            with pytest.raises(InvalidArgumentError):
                await call()
        with pytest.raises(NotFoundError):
            await store.fetch_all("nothing")


async def test_columns_and_indexes_come_later(authorized, place):
    store = await authorized()
    with acting_as(ALICE):
        await store.insert("t", row("x"))
        await store.add_column_if_not_exists("t", "model", ColumnType.STRING, default="m")
        await store.create_index("t_model", "t", [("model", "desc"), "created"])
        await store.create_index("a" * 60, "t", ["model"])
        await store.insert("t", {**row("y"), "model": "n"})
        page = await store.fetch_all("t", None, [("model", "desc")], 1)
        assert page.data == [{**row("y"), "model": "n"}] and page.has_more
    # Another process makes the same again.
    other = AuthorizedSqlStore(place.store())
    await other.create_table(
        "t", {**SCHEMA, "model": ColumnDefinition(ColumnType.STRING, default="m")}
    )
    await other.create_index("t_model", "t", [("model", "desc"), "created"])
    assert await ids(other, ALICE) == ["x", "y"]
    with pytest.raises(InvalidArgumentError):
        await other.create_table("owners", SCHEMA)


async def test_resource_patterns_speak_of_ids_whatever_their_type_is(place):
    sql = place.store()
    rules = [
        {"permit": {"actions": "create"}},
        {"permit": {"actions": ["read", "delete"], "resource": "sql_record::numbers::12"}},
        {"permit": {"actions": "read", "resource": "regex:sql_record::numbers::2[0-9]$"}},
        {"permit": {"actions": "read", "resource": "sql_record::pairs::a::*"}},
        {"permit": {"actions": "read", "resource": "sql_record::times::*"}},
        {"forbid": {"actions": "read", "resource": "sql_record::whole::7"}},
        {"permit": {"actions": "read", "resource": "sql_record::whole::*"}},
    ]
    store = AuthorizedSqlStore(sql, rules)
    key = ColumnDefinition(ColumnType.INTEGER, primary_key=True)
    text = ColumnDefinition(ColumnType.STRING, primary_key=True)
    await store.create_table("numbers", {"n": key})
    await store.create_table("pairs", {"a": text, "b": key})
    await store.create_table("whole", {"n": key, "id": ColumnType.STRING})
    moment = ColumnDefinition(ColumnType.FLOAT, primary_key=True)
    await store.create_table("times", {"at": moment})
    with acting_as(ALICE):
        await store.insert("numbers", [{"n": n} for n in (1, 12, 20, 29, 120)])
        await store.insert("pairs", [{"a": a, "b": b} for a in ("a", "ab", "a::") for b in (1, 2)])
        await store.insert(
            "whole", [{"n": 1, "id": "7"}, {"n": 7, "id": None}, {"n": 8, "id": "8"}]
        )
        await store.insert("times", {"at": 1.5})
        # A row that is called by another column than its key keeps its name.
        with pytest.raises(InvalidArgumentError, match="called"):
            await store.upsert("whole", {"n": 1, "id": "9"}, ["n"])
        found = (await store.fetch_all("numbers")).data
        assert [one["n"] for one in found] == [12, 20, 29]
        assert await store.delete("numbers", {"n": {">": 0}}) == 1
        found = (await store.fetch_all("pairs", limit=5)).data
        assert [(one["a"], one["b"]) for one in found] == [
            ("a", 1),
            ("a", 2),
            ("a::", 1),
            ("a::", 2),
        ]
        assert [one["n"] for one in (await store.fetch_all("whole")).data] == [7, 8]
        assert await store.count("times") == 1


async def test_an_owner_that_another_process_added_a_moment_ago_counts(authorized, place):
    """Another store over a pool of its own knows nothing that this one learned."""
    here, there = await authorized(), await authorized(over=place.store())
    reader = User("reader", {"teams": ["a"]})
    for n in range(4):
        user = User(f"new{n}", {"teams": ["a"]})
        with acting_as(user):
            await there.insert("t", row(f"{n}", n))
        with acting_as(reader):
            # Each is the first to need the new owner.
            if n == 0:
                assert [found["id"] for found in (await here.fetch_all("t", limit=9)).data] == ["0"]
            elif n == 1:
                assert await here.count("t", {"id": "1"}) == 1
            elif n == 2:
                assert await here.update("t", {"created": 9}, {"id": "2"}) == 1
                await here.upsert("t", row("1", 8), ["id"])
            else:
                await here.upsert("t", [row("0", 7), row("3", 7)], ["id"])
    with acting_as(User("last", {"teams": ["a"]})):
        await there.insert("t", row("last"))
    with acting_as(reader):
        assert (
            await here.delete_many(
                [DeleteOperation("t", {"id": "0"}), DeleteOperation("t", {"id": "last"})]
            )
            == 2
        )
    with acting_as(User("gone", {"teams": ["z"]})):
        await there.insert("t", row("z"))
    assert await ids(here, reader) == ["1", "2", "3"]


async def test_a_transaction_is_one_users(authorized):
    store = await authorized(READ_ALL)
    await authorized(READ_ALL, table="u")
    with acting_as(BOB):
        await store.insert("t", row("bob's"))
    with acting_as(ALICE):
        async with store.transaction() as began:
            await began.insert("t", row("x"))
            await began.upsert("t", [row("x", 5), row("y", 5)], ["id"])
            assert await began.update("t", {"created": 6}, {"id": "bob's"}) == 0
            assert (await began.fetch_all("t", None, "created", 2)).has_more
            assert await began.count("t") == 3
            # A refused upsert undoes itself, and no more.
            with pytest.raises(AccessDeniedError):
                await began.upsert("t", [row("z"), row("bob's", 9)], ["id"])
            with pytest.raises(AccessDeniedError):
                await began.upsert("t", row("bob's", 9), ["id"])
            with acting_as(EVE), pytest.raises(Exception, match="the user who began it"):
                await began.insert("t", row("eve's"))
        assert await ids(store, ALICE) == ["bob's", "x", "y"]
        with pytest.raises(ZeroDivisionError):
            async with store.transaction() as began:
                await began.delete("t", {"id": "x"})
                raise ZeroDivisionError
        assert await ids(store, ALICE) == ["bob's", "x", "y"]


async def test_numbers_of_another_database_are_never_taken_for_its_own(authorized, place):
    """The name moves to another database, or it is set back from a copy: the numbers are the same."""
    store = await authorized(OWN)
    for user in (ALICE, BOB):
        with acting_as(user):
            await store.insert("t", row(user.principal))
    # As somebody else's process has it there: the same numbers in another order.
    there = await authorized(OWN, over=place.store())
    await place.sql("DELETE FROM @owners")
    await place.sql("DELETE FROM @t")
    for user in (EVE, ALICE, BOB):
        with acting_as(user):
            await there.insert("t", row(user.principal))
    assert await ids(store, ALICE) == ["alice"]
    assert await ids(store, BOB) == ["bob"]
    assert await ids(store, EVE) == ["eve"]
    await place.sql("DELETE FROM @owners")
    await place.sql("DELETE FROM @t")
    with acting_as(EVE):
        await store.insert("t", row("eve's first"))
    with acting_as(ALICE):
        await there.upsert("t", row("alice's first"), ["id"])
        async with store.transaction() as began:
            await began.insert("t", row("second"))
    assert await place.sql("SELECT id, owner_id FROM @t ORDER BY id") == [
        ("alice's first", 2),
        ("eve's first", 1),
        ("second", 2),
    ]


async def test_the_tables_are_made_again_when_they_are_gone(authorized, place):
    store = await authorized(OWN)
    with acting_as(ALICE):
        await store.insert("t", row("x"))
        for table in ("t", "owners", "schema_versions", "cursor_keys"):
            await place.sql(f"DROP TABLE IF EXISTS @{table}")
        assert (await store.fetch_all("t", limit=3)).data == []
        for table in ("t", "owners", "schema_versions"):
            await place.sql(f"DROP TABLE IF EXISTS @{table}")
        await store.insert("t", row("y"))
        assert await ids(store, ALICE) == ["y"]
    assert await ids(store, BOB) == []


async def test_hostile_values_are_values(authorized):
    store = await authorized()
    many = [f"v{n}" for n in range(300)]
    values = ["%", "_", "'", '"', "\\", "é", "\U0001f600", "a\0b", "\ud800", "', 1); --", '["a"]']
    for n, value in enumerate(values):
        with acting_as(User(value, {"teams": [value, *many[:-1]], "roles": []})):
            await store.insert("t", row(f"{n:02}"))
    for n, value in enumerate(values):
        assert await ids(store, User("reader", {"teams": [value]})) == [f"{n:02}"]
        assert await ids(store, User(value)) == [f"{n:02}"]
    assert len(await ids(store, User("reader", {"teams": many}))) == len(values)
    assert await ids(store, User("reader", {"teams": ["v299", "", "[]", "%%"]})) == []


async def test_users_of_tasks_do_not_mix(authorized):
    store = await authorized(OWN)

    async def write(n):
        with acting_as(User(f"u{n % 7}")):
            await store.insert("t", row(f"{n:03}", n, n % 7))
            await asyncio.sleep(0)
            found = (await store.fetch_all("t")).data
            assert {one["body"] for one in found} == {n % 7}

    await asyncio.gather(*(write(n) for n in range(70)))
    assert await ids(store, User("u3")) == [f"{n:03}" for n in range(3, 70, 7)]


async def test_new_owners_at_once_where_transactions_repeat_their_reads(postgres_place):
    place = postgres_place
    name = place.address["database"]
    await place.server.run(
        f"ALTER DATABASE \"{name}\" SET default_transaction_isolation = 'repeatable read'"
    )
    store = AuthorizedSqlStore(place.store(), OWN)
    await store.create_table("t", SCHEMA)

    async def write(n):
        with acting_as(User(f"u{n // 2}")):
            await store.insert("t", row(f"{n:02}"))

    await asyncio.gather(*(write(n) for n in range(20)))
    assert await place.sql("SELECT count(*), max(owner_id) FROM @owners") == [(10, 10)]


async def test_an_owner_is_one_row_however_it_is_said(authorized, place):
    store = await authorized()
    for n, attributes in enumerate(
        [{"a": ["x", "y"], "b": []}, {"a": ("y", "x", "x")}, {"b": (), "a": {"x", "y"}}]
    ):
        with acting_as(User("alice", attributes)):
            await store.insert("t", row(str(n)))
    ((identity,),) = await place.sql("SELECT identity FROM @owners")
    assert json.loads(identity) == [None, "alice", {"a": ["x", "y"]}]
