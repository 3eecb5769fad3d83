"""What another store keeps of a conversation goes with it, and what age does to one."""

from __future__ import annotations

import pytest

from stackstore.access import AuthorizedSqlStore, User, acting_as
from stackstore.errors import BackendUnavailableError, NotFoundError
from stackstore.stores.conversations import ConversationsStore
from stackstore.stores.responses import ResponsesStore
from stackstore.stores.retention.clock import CautiousClock
from stackstore.stores.retention.leases import LEASES
from stackstore.stores.retention.sweep import Sweep
from tests.integration.stores.conversations.conftest import ALICE, said


@pytest.fixture
def both(place):
    sql = place.store()
    responses = ResponsesStore(AuthorizedSqlStore(sql), "answers")
    talks = ConversationsStore(
        AuthorizedSqlStore(sql), "talks", also_delete=responses.delete_conversation_messages
    )
    return talks, responses


async def test_a21_a_conversations_messages_are_deleted_with_it(both):
    talks, responses = both
    with acting_as(ALICE):
        gone, stays = [(await talks.create_conversation())["id"] for _ in range(2)]
        for one in (gone, stays):
            await responses.store_conversation_messages(one, [said("secret")])
        await talks.delete_conversation(gone)
        assert await responses.get_conversation_messages(gone) is None
        assert await responses.get_conversation_messages(stays) == [said("secret")]


async def test_who_may_not_delete_the_conversation_deletes_no_messages(both):
    talks, responses = both
    with acting_as(ALICE):
        made = (await talks.create_conversation())["id"]
        await responses.store_conversation_messages(made, [said("secret")])
    with acting_as(User("eve", {"teams": ["e"]})), pytest.raises(NotFoundError):
        await talks.delete_conversation(made)
    with acting_as(ALICE):
        assert await responses.get_conversation_messages(made) == [said("secret")]


async def test_a_deletion_that_was_cut_off_is_finished_by_the_next(place):
    sql, left = place.store(), ["first"]

    async def also(conversation_id):
        if left:
            left.clear()
            raise BackendUnavailableError("not now")
        asked.append(conversation_id)

    asked = []
    talks = ConversationsStore(AuthorizedSqlStore(sql), "talks", also_delete=also)
    with acting_as(ALICE):
        made = (await talks.create_conversation())["id"]
        with pytest.raises(BackendUnavailableError):
            await talks.delete_conversation(made)
        with pytest.raises(NotFoundError):
            await talks.delete_conversation(made)
    assert asked == [made]


async def test_age_takes_a_conversation_with_its_items(place):
    sql = place.store()
    talks = ConversationsStore(AuthorizedSqlStore(sql), "talks")
    with acting_as(ALICE):
        old, new = [
            (await talks.create_conversation(items=[said("a"), said("b")]))["id"] for _ in range(2)
        ]
    await place.sql(f"UPDATE @talks SET created_at = 1000 WHERE id = '{old}'")
    [ageing] = talks.ageings
    await sql.require(LEASES)
    await Sweep(sql, ageing, "me", CautiousClock()).batch(3600, 10.0, 100, None)
    with acting_as(ALICE):
        with pytest.raises(NotFoundError):
            await talks.get_conversation(old)
        assert len((await talks.list_items(new)).data) == 2
    assert await place.sql("SELECT count(*) FROM @talks__items") == [(2,)]
