"""What is kept beside responses: messages of conversations, and memory."""

from __future__ import annotations

import asyncio

import pytest

from stackstore.access import acting_as
from stackstore.errors import InvalidArgumentError
from tests.integration.stores.responses.conftest import (
    ALICE,
    MATE,
    Statements,
    everything,
    stored,
    told,
)

MESSAGES = "responses__conversation_messages"


async def test_messages_come_back_and_only_new_ones_are_written(store, place):
    assert await store.get_conversation_messages("c") is None
    heard = []
    await store.store_conversation_messages("c", heard)
    assert await store.get_conversation_messages("c") == []
    seen = Statements(place.pools[-1])
    for n in range(20):
        heard = [*heard, told("user", f"q{n}"), told("assistant", f"a{n}")]
        await store.store_conversation_messages("c", heard)
        await store.store_conversation_messages("c", heard)
        assert await store.get_conversation_messages("c") == heard
    assert sum("q3" in repr(one) for one in seen.of("INSERT", "responses__parts")) == 1
    assert await store.get_conversation_messages("d") is None


async def test_messages_may_be_replaced(store, place):
    await store.store_conversation_messages("c", [told("user", "one"), told("user", "two")])
    await store.store_conversation_messages("c", [told("user", "summary")])
    assert await store.get_conversation_messages("c") == [told("user", "summary")]
    assert '"two"' not in await everything(place)
    await store.store_conversation_messages("c", [])
    assert await store.get_conversation_messages("c") == []
    assert "summary" not in await everything(place)
    assert await stored(place) == 1
    with pytest.raises(InvalidArgumentError):
        await store.store_conversation_messages("c", "text")


async def test_a21_a_deleted_conversation_leaves_no_messages(store, place):
    for n in range(1, 4):
        await store.store_conversation_messages("c", [told("user", f"m{i}") for i in range(n)])
    await store.store_conversation_messages("d", [told("user", "other")])
    assert await store.delete_conversation_messages("c") == 1
    assert await store.get_conversation_messages("c") is None
    assert await store.delete_conversation_messages("c") == 0
    assert await store.get_conversation_messages("d") == [told("user", "other")]
    assert await stored(place) == 1
    assert "m1" not in await everything(place)


async def test_those_of_teammates_go_with_the_conversation_where_they_may_be_deleted(make, place):
    own = make(
        [{"permit": {"actions": ["create", "read", "update", "delete"]}, "when": "user is owner"}]
    )
    store = make()
    for user in (ALICE, MATE):
        with acting_as(user):
            await store.store_conversation_messages("c", [told("user", user.principal)])
    with acting_as(ALICE):
        assert await own.delete_conversation_messages("c") == 1
        # What is left of the team's is seen by the other policy.
        assert await store.get_conversation_messages("c") == [told("user", "mate")]
        await store.store_conversation_messages("c", [told("user", "alice")])
        assert await store.delete_conversation_messages("c") == 2
    assert await stored(place) == 0


async def test_concurrent_messages_of_one_conversation_are_one_of_them(store, place):
    lists = [[told("user", f"x{n}")] * (n + 1) for n in range(8)]
    await asyncio.gather(*(store.store_conversation_messages("c", one) for one in lists))
    assert await store.get_conversation_messages("c") in lists
    assert await stored(place, table=MESSAGES) == 1
    await store.delete_conversation_messages("c")
    assert await stored(place) == 0


async def test_a_memory_record_is_one_per_owner_conversation_and_vector_store(store, place):
    await store.upsert_memory_record("o", "c", "v", "file1", "r1")
    await place.sql(
        "UPDATE @responses__memory_records SET created_at = created_at - 5, updated_at = updated_at - 5"
    )
    first = await store.get_memory_record("o", "c", "v")
    await store.upsert_memory_record("o", "c", "v", "file2", "r2")
    found = await store.get_memory_record("o", "c", "v")
    assert found == {
        "owner_id": "o", "conversation_id": "c", "vector_store_id": "v", "file_id": "file2",
        "response_id": "r2", "created_at": first["created_at"], "updated_at": found["updated_at"],
    }  # fmt: skip
    assert found["updated_at"] > first["updated_at"]
    for other in (("O", "c", "v"), ("o", "", "cv"), ("oc", "", "v")):
        assert await store.get_memory_record(*other) is None
    with pytest.raises(InvalidArgumentError):
        await store.upsert_memory_record("o", "c", "v", None, "r")


async def test_memory_of_two_users_is_kept_apart(make):
    store = make()
    for user in (ALICE, MATE):
        with acting_as(user):
            await store.upsert_memory_record("o", "c", "v", user.principal, "r")
    for user in (ALICE, MATE):
        with acting_as(user):
            assert (await store.get_memory_record("o", "c", "v"))["file_id"] == user.principal


async def test_one_of_many_gets_the_claim(store):
    assert await store.get_default_memory_vector_store("n") is None
    claims = [store.claim_default_memory_vector_store("n") for _ in range(8)]
    assert sorted(await asyncio.gather(*claims)) == [False] * 7 + [True]
    found = await store.get_default_memory_vector_store("n")
    assert set(found) == {"namespace", "vector_store_id", "provider_id", "created_at", "updated_at"}
    assert (found["namespace"], found["vector_store_id"], found["provider_id"]) == ("n", None, None)
    await store.delete_default_memory_vector_store_claim("n")
    await store.delete_default_memory_vector_store_claim("n")
    assert await store.get_default_memory_vector_store("n") is None
    assert await store.claim_default_memory_vector_store("n") is True
    await store.upsert_default_memory_vector_store("n", "vs", "p")
    # It is made: there is no claim to give up any more.
    await store.delete_default_memory_vector_store_claim("n")
    found = await store.get_default_memory_vector_store("n")
    assert (found["vector_store_id"], found["provider_id"]) == ("vs", "p")
    assert await store.claim_default_memory_vector_store("n") is False
    await store.upsert_default_memory_vector_store("n", "vs2", None)
    found = await store.get_default_memory_vector_store("n")
    assert (found["vector_store_id"], found["provider_id"]) == ("vs2", None)


async def test_a_claim_is_ones_own(make):
    store = make()
    with acting_as(ALICE):
        await store.claim_default_memory_vector_store("n")
    with acting_as(MATE):
        # A teammate may delete alice's rows, and doesn't by giving up what isn't his.
        await store.delete_default_memory_vector_store_claim("n")
        await store.upsert_default_memory_vector_store("n", "mate's", None)
    with acting_as(ALICE):
        assert (await store.get_default_memory_vector_store("n"))["vector_store_id"] is None
        assert await store.claim_default_memory_vector_store("n") is False
