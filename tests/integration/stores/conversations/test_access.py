"""Whose conversations are whose: items go with them, and no id leads around the policy."""

from __future__ import annotations

import pytest

from stackstore.access import AccessDeniedError, Tenancy, User, acting_as
from stackstore.errors import NotFoundError
from tests.integration.stores.conversations.conftest import ALICE, every, said, texts

TEAMMATE = User("tom", {"teams": ["a"]})
SISTER = User("sue", {"roles": ["r"]})
STRANGER = User("eve", {"teams": ["e"]})

READERS = [
    {"permit": {"actions": ["create", "read", "update", "delete"]}, "when": "user is owner"},
    {"permit": {"actions": ["read"]}, "when": "user in owners teams"},
]
ADDERS = [
    {"permit": {"actions": ["create", "read", "update", "delete"]}, "when": "user is owner"},
    {"permit": {"actions": ["read", "update"]}, "when": "user in owners teams"},
]


async def uses(store, conversation, item):
    """Everything that can be done with a conversation."""
    yield store.get_conversation(conversation["id"])
    yield store.list_items(conversation["id"])
    yield store.list_items(conversation["id"], after=item["id"])
    yield store.retrieve_item(conversation["id"], item["id"])
    async for use in changes(store, conversation, item):
        yield use


async def changes(store, conversation, item):
    yield store.add_items(conversation["id"], [said("x")])
    yield store.sync_items(conversation["id"], [said("x", id="msg_x")])
    yield store.update_conversation(conversation["id"], metadata={"x": "x"})
    yield store.delete_item(conversation["id"], item["id"])
    yield store.delete_conversation(conversation["id"])


@pytest.fixture
async def talk(conversations):
    """Alice's conversation, its only item, and the store."""

    async def make(policy=None, **settings):
        store = conversations(policy, **settings)
        with acting_as(ALICE):
            made = await store.create_conversation(metadata={"a": "b"}, items=[said("secret")])
            (item,) = await every(store, made["id"])
        return store, made, item

    return make


async def unchanged(store, made, item):
    with acting_as(ALICE):
        assert await store.get_conversation(made["id"]) == made
        assert await every(store, made["id"]) == [item]


@pytest.mark.parametrize("policy", [None, READERS])
async def test_a_stranger_gets_the_words_of_a_missing_one(talk, policy):
    store, made, item = await talk(policy)
    missing = "conv_" + "f" * 48
    with acting_as(STRANGER):
        async for use in uses(store, made, item):
            with pytest.raises(NotFoundError) as seen:
                await use
            assert str(seen.value) == f"there is no conversation '{made['id']}'"
        async for use in uses(store, {"id": missing}, item):
            with pytest.raises(NotFoundError) as seen:
                await use
            assert str(seen.value) == f"there is no conversation '{missing}'"
    await unchanged(store, made, item)


async def test_a2_a_strangers_item_can_be_neither_taken_nor_read_by_its_id(talk, place):
    """OGX's first release: posting a victim's item id took it from the victim."""
    store, made, item = await talk()
    with acting_as(STRANGER):
        own = await store.create_conversation(items=[said("mine", id=item["id"])])
        (found,) = await every(store, own["id"])
        assert found["id"] != item["id"] and found["content"] == "mine"
        await store.sync_items(own["id"], [said("false", id=item["id"])])
        assert await texts(store, own["id"]) == ["mine", "false"]
        # His own by now, so it is copied; alice's isn't.
        other = await store.create_conversation(items=[said("x", id=item["id"])])
        assert await texts(store, other["id"]) == ["false"]
    await unchanged(store, made, item)


async def test_who_may_only_read_changes_nothing(talk):
    store, made, item = await talk(READERS)
    with acting_as(TEAMMATE):
        assert await store.get_conversation(made["id"]) == made
        assert await every(store, made["id"]) == [item]
        assert await store.retrieve_item(made["id"], item["id"]) == item
        async for use in changes(store, made, item):
            with pytest.raises(AccessDeniedError):
                await use
        # A copy in his own conversation is his.
        own = await store.create_conversation(items=[said("x", id=item["id"])])
        assert await every(store, own["id"]) == [item]
        await store.delete_item(own["id"], item["id"])
    await unchanged(store, made, item)


async def test_who_may_update_adds_and_deletes_items_but_not_the_conversation(talk):
    store, made, item = await talk(ADDERS)
    with acting_as(TEAMMATE):
        (added,) = (await store.add_items(made["id"], [said("tom's")])).data
        await store.sync_items(made["id"], [said("synced", id="msg_1")])
        await store.delete_item(made["id"], item["id"])
        with pytest.raises(AccessDeniedError):
            await store.delete_conversation(made["id"])
    with acting_as(ALICE):
        assert await texts(store, made["id"]) == ["tom's", "synced"]
        # What he added is a part of her conversation.
        await store.delete_item(made["id"], added["id"])
        await store.delete_conversation(made["id"])
    with acting_as(TEAMMATE), pytest.raises(NotFoundError):
        await store.retrieve_item(made["id"], "msg_1")


async def test_who_reads_a_conversation_reads_all_of_it(conversations):
    """OGX: an item belongs to who adds it, so others read a history with gaps."""
    store = conversations()
    with acting_as(User("alice", {"teams": ["a"], "roles": ["r"]})):
        made = await store.create_conversation(items=[said("one")])
    with acting_as(TEAMMATE):
        await store.add_items(made["id"], [said("two")])
    with acting_as(SISTER):
        assert await texts(store, made["id"]) == ["one", "two"]
        await store.delete_conversation(made["id"])


async def test_a_known_item_is_ones_own_then_the_oldest(conversations):
    """A teammate who stores another text under the id of one's item does not come before it."""
    store = conversations()
    with acting_as(TEAMMATE):
        false = await store.create_conversation()
        await store.sync_items(
            false["id"], [said("tom's", id="msg_own"), said("original", id="msg_old")]
        )
    with acting_as(User("third", {"teams": ["a"]})):
        later = await store.create_conversation()
        await store.sync_items(later["id"], [said("forged", id="msg_old")])
    with acting_as(ALICE):
        own = await store.create_conversation()
        await store.sync_items(own["id"], [said("alice's", id="msg_own")])
        target = await store.create_conversation(
            items=[said("x", id="msg_own"), said("x", id="msg_old")]
        )
        assert await texts(store, target["id"]) == ["alice's", "original"]


async def test_a_copy_is_as_old_as_its_original(conversations):
    store = conversations()
    with acting_as(ALICE):
        source = await store.create_conversation()
        await store.sync_items(source["id"], [said("original", id="msg_1")])
    with acting_as(TEAMMATE):
        forged = await store.create_conversation()
        await store.sync_items(forged["id"], [said("forged", id="msg_1")])
    with acting_as(ALICE):
        await store.create_conversation(items=[said("x", id="msg_1")])
        await store.delete_conversation(source["id"])
    with acting_as(User("third", {"teams": ["a"]})):
        target = await store.create_conversation(items=[said("x", id="msg_1")])
        assert await texts(store, target["id"]) == ["original"]


async def test_a_known_item_is_found_behind_many_of_others(conversations):
    store = conversations(
        [{"permit": {"actions": ["create", "read", "update"]}, "when": "user is owner"}]
    )
    with acting_as(STRANGER):
        for _ in range(105):
            made = await store.create_conversation()
            await store.sync_items(made["id"], [said("eve's", id="msg_1")])
    with acting_as(ALICE):
        own = await store.create_conversation()
        await store.sync_items(own["id"], [said("alice's", id="msg_1")])
        target = await store.create_conversation(items=[said("x", id="msg_1")])
        assert await texts(store, target["id"]) == ["alice's"]


async def test_a_policy_may_name_conversations(talk, conversations):
    store, made, item = await talk()
    named = f"sql_record::talks::{made['id']}"
    rules = [
        {"forbid": {"actions": ["read"], "resource": named}},
        {"permit": {"actions": ["create", "read", "update", "delete"]}, "when": "user is owner"},
    ]
    with acting_as(ALICE):
        hidden = conversations(rules)
        async for use in uses(hidden, made, item):
            with pytest.raises(NotFoundError):
                await use
        # Not by a copy either.
        other = await hidden.create_conversation(items=[said("x", id=item["id"])])
        assert await texts(hidden, other["id"]) == ["x"]
    await unchanged(store, made, item)


async def test_a8_creating_is_checked(conversations):
    """OGX: a policy that forbids to create does not stop an insert."""
    store = conversations([{"permit": {"actions": ["read", "update"]}, "when": "user is owner"}])
    with acting_as(ALICE):
        for items in (None, [said("x")]):
            with pytest.raises(AccessDeniedError):
                await store.create_conversation(items=items)


async def test_tenants_are_apart(conversations):
    store = conversations(tenancy=Tenancy("multi"))
    with acting_as(User("alice", tenant_id="one")):
        made = await store.create_conversation(items=[said("secret")])
        (item,) = await every(store, made["id"])
    with acting_as(User("alice", tenant_id="two")):
        async for use in uses(store, made, item):
            with pytest.raises(NotFoundError):
                await use
        other = await store.create_conversation(items=[said("x", id=item["id"])])
        assert await texts(store, other["id"]) == ["x"]
    with acting_as(User("alice", tenant_id="one")):
        assert await every(store, made["id"]) == [item]


async def test_a6_without_a_user_there_is_nothing(talk):
    """OGX: no user at all may write any row."""
    store, made, item = await talk()
    async for use in uses(store, made, item):
        with pytest.raises(AccessDeniedError):
            await use
    for items in (None, [said("x")]):
        with pytest.raises(AccessDeniedError):
            await store.create_conversation(items=items)
    await unchanged(store, made, item)


async def test_with_authorization_off_all_is_everybodys(conversations):
    store = conversations(auth=False)
    made = await store.create_conversation(items=[said("x")])
    (item,) = await every(store, made["id"])
    copy = await store.create_conversation(items=[said("y", id=item["id"])])
    with acting_as(STRANGER):
        await store.add_items(made["id"], [said("z")])
    assert await texts(store, made["id"]) == ["x", "z"]
    assert await every(store, copy["id"]) == [item]
    await store.delete_conversation(made["id"])
