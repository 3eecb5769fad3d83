"""Whose responses are whose: strangers, teammates, tenants, and chains across them."""

from __future__ import annotations

import json

import pytest

from stackstore.access import AccessDeniedError, Tenancy, User, acting_as
from stackstore.errors import NotFoundError
from tests.integration.stores.responses.conftest import (
    ALICE,
    EVE,
    MATE,
    answer,
    chain,
    everything,
    response,
    said,
    stored,
    told,
)

READS_ONLY = [
    {"permit": {"actions": ["create", "read", "update", "delete"]}, "when": "user is owner"},
    {"permit": {"actions": ["read"]}, "when": "user in owners teams"},
]
ALL = ["create", "read", "update", "delete"]


async def test_nobody_sees_or_changes_a_strangers(make):
    store = make()
    with acting_as(ALICE):
        await chain(store, ["a", "b"])
        await store.store_conversation_messages("c", [told("user", "x")])
    with acting_as(EVE):
        said_of = []
        for name in ("b", "never"):
            for act in (
                store.get_response_object(name),
                store.get_response_object(name, reconstruct_input=False),
                store.delete_response_object(name),
                store.update_response_object(response(name)),
                store.update_response_object(response(name), [said("x")]),
                store.list_response_input_items(name),
                store.list_responses(after=name),
            ):
                with pytest.raises(NotFoundError) as caught:
                    await act
                said_of.append(str(caught.value).replace(f"'{name}'", ""))
        assert said_of[:7] == said_of[7:]
        assert (await store.list_responses()).data == []
        assert await store.get_conversation_messages("c") is None
        assert await store.delete_conversation_messages("c") == 0
    with acting_as(ALICE):
        assert len((await store.get_response_object("b"))["input"]) == 3
        assert await store.get_conversation_messages("c") == [told("user", "x")]


async def test_without_a_user_nothing_goes(make):
    store = make()
    for act in (
        store.store_response_object(response("a"), [], []),
        store.upsert_response_object(response("a"), [], []),
        store.get_response_object("a"),
        store.list_responses(),
        store.delete_response_object("a"),
        store.store_conversation_messages("c", []),
        store.claim_default_memory_vector_store("n"),
    ):
        with pytest.raises(AccessDeniedError):
            await act


async def test_without_authorization_everything_is_everybodys(make):
    store = make(auth=False)
    whole, heard = await chain(store, ["a", "b"])
    await store.upsert_response_object(response("b", "a", n=1), [said("b")], heard, True)
    found = await store.get_response_object("b")
    assert (found["n"], found["input"], found["messages"]) == (1, whole, heard)
    assert len((await store.list_responses()).data) == 2
    await store.store_conversation_messages("c", heard)
    assert await store.get_conversation_messages("c") == heard


async def test_a3_an_upsert_never_touches_another_users(make):
    """OGX: a teammate's upsert of the id puts words into the other's response."""
    store = make()
    with acting_as(ALICE):
        await chain(store, ["r"])
        await store.store_conversation_messages("c", [told("user", "alice's")])
    with acting_as(MATE):
        assert (await store.get_response_object("r"))["input"] == [said("r")]
        for write in (store.upsert_response_object, store.store_response_object):
            with acting_as(EVE if write == store.store_response_object else MATE):
                await write(response("r", by="other"), [said("evil")], [told("user", "evil")])
        await store.store_conversation_messages("c", [told("user", "mate's")])
        assert (await store.get_response_object("r"))["by"] == "other"
        assert await store.get_conversation_messages("c") == [told("user", "mate's")]
    with acting_as(ALICE):
        found = await store.get_response_object("r")
        assert (found["input"], "by" in found) == ([said("r")], False)
        assert await store.get_conversation_messages("c") == [told("user", "alice's")]
        # Both are seen, in the list; an id means one's own.
        assert [one["id"] for one in (await store.list_responses()).data] == ["r", "r"]
        await store.delete_response_object("r")
        assert (await store.get_response_object("r"))["by"] == "other"


async def test_a_teammate_whom_the_policy_lets_updates_it_in_place(make, place):
    store = make()
    with acting_as(ALICE):
        await chain(store, ["r"])
    with acting_as(MATE):
        await store.update_response_object(response("r", status="cancelled"), [said("new")])
    for user in (ALICE, MATE):
        with acting_as(user):
            found = await store.get_response_object("r")
            assert (found["status"], found["input"]) == ("cancelled", [said("new")])
    # It is alice's as before, and so is what of it others go on from.
    with acting_as(User("alice")):
        assert (await store.get_response_object("r"))["input"] == [said("new")]
    assert len(await place.sql("SELECT DISTINCT owner_id FROM @responses__parts")) == 1


async def test_who_may_only_read_is_refused_to_change(make):
    store = make(READS_ONLY)
    with acting_as(ALICE):
        await chain(store, ["r"])
    with acting_as(MATE):
        for act in (
            store.delete_response_object("r"),
            store.update_response_object(response("r")),
            store.update_response_object(response("r"), [said("x")]),
        ):
            with pytest.raises(AccessDeniedError):
                await act
        assert await store.delete_conversation_messages("c") == 0
    with acting_as(ALICE):
        assert (await store.get_response_object("r"))["input"] == [said("r")]


async def test_who_may_not_create_stores_nothing(make, place):
    store = make([{"permit": {"actions": ["read"]}}])
    with acting_as(ALICE):
        for write in (store.store_response_object, store.upsert_response_object):
            with pytest.raises(AccessDeniedError):
                await write(response("r"), [said("canary")], [])
        with pytest.raises(AccessDeniedError):
            await store.store_conversation_messages("c", [told("user", "canary")])
    assert await stored(place) == 0


async def test_one_rule_of_the_responses_table_is_enough(make):
    """Nobody has to know of the tables behind it."""
    store = make([{"permit": {"actions": ALL, "resource": "sql_record::responses::*"}}])
    with acting_as(ALICE):
        whole, heard = await chain(store, ["a", "b"])
        await store.upsert_response_object(
            response("b", "a"), [said("b")], [*heard, told("user", "x")], True
        )
        await store.delete_response_object("a")
        assert (await store.get_response_object("b"))["input"] == whole


async def behind_one(make):
    """Alice has a chain `a1`, `a2`; bob may read it, mallory only what is bob's."""
    policy = [
        {"permit": {"actions": ALL}, "when": "user is owner"},
        {"permit": {"actions": ["read"]}, "when": "user in owners teams"},
    ]
    store = make(policy)
    alice = User("alice", {"teams": ["one"]})
    with acting_as(alice):
        await chain(store, ["a1", "a2"])
    return store, alice, User("bob", {"teams": ["one", "two"]}), User("mallory", {"teams": ["two"]})


@pytest.mark.parametrize("incremental", [True, False])
async def test_an_ancestor_that_may_not_be_seen_does_not_leak(make, incremental):
    """Mallory sees bob's responses, and not alice's that bob goes on from."""
    store, alice, bob, mallory = await behind_one(make)
    with acting_as(bob):
        whole, heard = await chain(store, ["b1", "b2"], previous="a2", incremental=incremental)
        found = await store.get_response_object("b2")
        assert (found["input"], found["messages"]) == (whole, heard)
    own = [said("b1"), answer("b1"), said("b2")]
    with acting_as(mallory):
        found = await store.get_response_object("b2")
        assert found["input"] == own
        assert [message["content"] for message in found["messages"]] == ["b1", "b1", "b2", "b2"]
        listed = {one["id"]: one["input"] for one in (await store.list_responses()).data}
        assert listed == {"b1": own[:1], "b2": own}
        items = await store.list_response_input_items("b2", order="asc")
        assert [item["id"] for item in items.data] == [item["id"] for item in own]
        # What goes on from it goes on from what mallory sees.
        await chain(store, ["m"], previous="b2", incremental=incremental)
        assert (await store.get_response_object("m"))["input"] == [*own, answer("b2"), said("m")]
        # Of what goes before this one mallory sees nothing, and can't say how it begins.
        with acting_as(bob):
            await store.store_response_object(response("b3", "a2"), [], [], True)
        given = [said("x")], [told("user", "x")]
        await store.store_response_object(response("n", "b3"), *given)
        with acting_as(bob):
            found = await store.get_response_object("n")
            assert (found["input"], found["messages"]) == given
    with acting_as(alice):
        await store.delete_response_object("a2")
        await store.delete_response_object("a1")
    with acting_as(bob):
        # What was answered on it stays, for whom it was answered.
        found = await store.get_response_object("b2")
        assert (found["input"], found["messages"]) == (whole, heard)
    with acting_as(mallory):
        assert (await store.get_response_object("b2"))["input"] == own


async def test_a_right_guess_at_what_lies_behind_tells_nothing(make, place):
    """Mallory sees bob's response, not alice's behind it, and hands over what might be their input."""
    store, _, bob, mallory = await behind_one(make)
    with acting_as(bob):
        whole, heard = await chain(store, ["b"], previous="a2", incremental=False)
    wrong = [[said("wrong"), *whole[1:]], [told("user", "wrong"), *heard[1:]]]
    with acting_as(mallory):
        for name, (before, messages) in (("right", (whole, heard)), ("wrong", wrong)):
            given = [*before, answer("b"), said("m")], [*messages, told("user", "m")]
            await store.store_response_object(response(name, "b"), *given)
            found = await store.get_response_object(name)
            assert (found["input"], found["messages"]) == given
    with acting_as(bob):
        # Who sees all of it takes no more room than what he adds, whosever it is.
        given = [*whole, answer("b"), said("c")], [*heard, told("user", "c")]
        await store.store_response_object(response("c", "b"), *given)
        found = await store.get_response_object("c")
        assert (found["input"], found["messages"]) == given
        newest = await place.sql("SELECT CAST(input AS TEXT) FROM @responses__parts WHERE id = 'c'")
        assert [json.loads(text) for (text,) in newest] == [[said("c")]]


async def test_a_rule_of_ids_holds_along_a_chain(make):
    policy = [
        {"permit": {"actions": ALL}, "when": "user is owner"},
        {"forbid": {"actions": ["read"], "resource": "sql_record::responses::secret*"}},
        {"permit": {"actions": ["read"]}},
    ]
    # A prefix has to end in `::*` to be one; so a name of its own.
    policy[1]["forbid"]["resource"] = "sql_record::responses::secret"
    store = make(policy)
    with acting_as(ALICE):
        whole, heard = await chain(store, ["a", "secret", "b", "c"])
        assert (await store.get_response_object("c"))["input"] == whole
    with acting_as(EVE):
        with pytest.raises(NotFoundError):
            await store.get_response_object("secret")
        found = await store.get_response_object("c")
        assert found["input"] == [said("b"), answer("b"), said("c")]
        assert "secret" not in repr((found["messages"], found["output"]))
        # All of it is of one owner, and yet a right guess is none that counts.
        given = [*whole, answer("c"), said("e")], [*heard, told("user", "e")]
        await store.store_response_object(response("e", "c"), *given)
        found = await store.get_response_object("e")
        assert (found["input"], found["messages"]) == given


async def test_going_on_from_a_name_means_ones_own_first(make):
    store = make()
    with acting_as(ALICE):
        await chain(store, ["r"])
    with acting_as(MATE):
        await store.store_response_object(response("r"), [said("mate")], [])
        await store.store_response_object(response("n", "r"), [said("n")], [], True)
        assert (await store.get_response_object("n"))["input"][0] == said("mate")
    with acting_as(EVE):
        await store.store_response_object(response("n", "r"), [said("n")], [], True)
        assert (await store.get_response_object("n"))["input"] == [said("n")]


async def test_a_users_attributes_may_change_along_a_chain(make):
    store = make(READS_ONLY)
    for n, teams in enumerate((["red"], [], ["blue"])):
        with acting_as(User("alice", {"teams": teams})):
            previous = f"r{n - 1}" if n else None
            await chain(store, [f"r{n}"], previous=previous)
            await store.upsert_response_object(
                response(f"r{n}", previous), [said(f"r{n}")], [told("user", f"own{n}")], True
            )
            assert len((await store.get_response_object(f"r{n}"))["input"]) == 2 * n + 1
    with acting_as(EVE):
        # Blue: the newest only.
        assert (await store.get_response_object("r2"))["input"] == [said("r2")]
    with acting_as(User("alice", {"teams": ["green"]})):
        await store.upsert_response_object(
            response("r2", "r1"), [said("r2")], [told("u", "x")], True
        )
    with acting_as(EVE):
        found = await store.get_response_object("r2")
        assert (found["input"], found["messages"]) == ([said("r2")], [told("u", "x")])


async def test_tenants_have_each_their_own(make, place):
    store = make([{"permit": {"actions": ALL}}], tenancy=Tenancy("multi"))
    people = [User("u", tenant_id="acme"), User("u", tenant_id="globex")]
    for user in people:
        with acting_as(user):
            await chain(store, ["r", "s"])
            await store.upsert_response_object(
                response("s", "r", of=user.tenant_id), [said(user.tenant_id)], [], True
            )
            await store.store_conversation_messages("c", [told("user", user.tenant_id)])
            await store.upsert_memory_record("o", "c", "v", user.tenant_id, "s")
            assert await store.claim_default_memory_vector_store("n") is True
            assert await store.claim_default_memory_vector_store("n") is False
    for user in people:
        with acting_as(user):
            found = await store.get_response_object("s")
            assert found["of"] == user.tenant_id
            assert found["input"][-1] == said(user.tenant_id)
            assert len((await store.list_responses()).data) == 2
            assert await store.get_conversation_messages("c") == [told("user", user.tenant_id)]
            assert (await store.get_memory_record("o", "c", "v"))["file_id"] == user.tenant_id
    with acting_as(people[0]):
        await store.delete_response_object("s")
        await store.delete_response_object("r")
        await store.delete_conversation_messages("c")
    assert "acme" not in await everything(place)
    with acting_as(people[1]):
        assert len((await store.get_response_object("s"))["input"]) == 3


async def test_many_owners_in_one_chain(make, place):
    """More owners than are told to the database one by one."""
    store = make([{"permit": {"actions": ALL}}])
    previous = None
    for n in range(110):
        with acting_as(User(f"u{n}", {"teams": ["red"] if n != 50 else ["blue"]})):
            await chain(store, [f"r{n}"], previous=previous, messages=False)
            previous = f"r{n}"
    with acting_as(MATE):
        assert len((await store.get_response_object("r109"))["input"]) == 219
        assert len((await make().list_response_input_items("r109", limit=500)).data) == 117
