"""The stores that have a retention: what is left of each after a sweep, as its users see it."""

from __future__ import annotations

import time

import pytest

from stackstore.access import AuthorizedSqlStore, User, acting_as
from stackstore.errors import NotFoundError
from stackstore.stores.conversations import ConversationsStore
from stackstore.stores.inference import InferenceStore
from stackstore.stores.responses import ResponsesStore
from stackstore.stores.retention import leases, pace
from stackstore.stores.retention.clock import CautiousClock
from stackstore.stores.retention.sweep import Sweep, oldest

MONTH = 30 * 86_400
ALICE, BOB = User("alice"), User("bob", {"teams": ["b"]}, tenant_id=None)


@pytest.fixture
def authorized(place):
    return AuthorizedSqlStore(place.store())


async def sweep(store, sql):
    """One sweep of all its tables; how many rows of each went."""
    await store.ready()
    await sql.require(leases.LEASES)
    return [
        (await Sweep(sql, one, "me", CautiousClock()).batch(MONTH, 0.0, pace.MOST, None)).rows
        for one in store.ageings
    ]


async def rows(place, table):
    return len(await place.sql(f"SELECT 1 FROM @{table}"))


def completion(name, age):
    return {
        "id": name, "object": "chat.completion", "created": int(time.time()) - age, "model": "m",
        "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "x"}}],
    }  # fmt: skip


async def test_inference(authorized, place):
    store = InferenceStore(authorized, "chats")
    try:
        for user in (ALICE, BOB):
            with acting_as(user):
                for name, age in (("old", MONTH + 100), ("young", MONTH - 100)):
                    await store.store_chat_completion(
                        completion(name, age), [{"role": "user", "content": "hello"}]
                    )
        await store.flush()
        assert await sweep(store, authorized.unguarded) == [2]
        for user in (ALICE, BOB):
            with acting_as(user):
                listed = await store.list_chat_completions()
                assert [one["id"] for one in listed.data] == ["young"]
                with pytest.raises(NotFoundError):
                    await store.get_chat_completion("old")
        # What comes late, as from a journal, goes at the next sweep.
        with acting_as(ALICE):
            await store.store_chat_completion(completion("late", MONTH + 5), [])
        await store.flush()
        assert await sweep(store, authorized.unguarded) == [1]
    finally:
        await store.shutdown(5)


async def test_conversations(authorized, place):
    store = ConversationsStore(authorized, "conversations")
    made = {}
    message = {"type": "message", "role": "user", "content": "hello"}
    for user in (ALICE, BOB):
        with acting_as(user):
            for name in ("old", "young"):
                found = await store.create_conversation(metadata={"n": name}, items=[message] * 3)
                made[user, name] = found["id"]
    for user in (ALICE, BOB):
        await authorized.unguarded.update(
            "conversations",
            {"created_at": int(time.time()) - MONTH - 100},
            {"id": made[user, "old"]},
        )
    assert await rows(place, "conversations__items") == 12
    assert await sweep(store, authorized.unguarded) == [2]
    assert await rows(place, "conversations__items") == 6
    for user in (ALICE, BOB):
        with acting_as(user):
            assert len((await store.list_items(made[user, "young"])).data) == 3
            with pytest.raises(NotFoundError):
                await store.get_conversation(made[user, "old"])


def response(name, age, previous=None):
    return {
        "id": name, "object": "response", "created_at": int(time.time()) - age, "model": "m",
        "status": "completed", "previous_response_id": previous,
        "output": [{"type": "message", "id": f"msg_{name}", "role": "assistant", "status": "completed",
                    "content": [{"type": "output_text", "text": f"answer of {name}", "annotations": []}]}],
    }  # fmt: skip


def said(text):
    return {"type": "message", "role": "user", "content": text}


async def test_responses_and_what_younger_ones_went_on_from(authorized, place):
    store = ResponsesStore(authorized, "responses")
    with acting_as(ALICE):
        # One chain whose end is young, one that is old as a whole.
        for chain, last in (("a", MONTH - 100), ("b", MONTH + 100)):
            previous = None
            for number, age in ((1, MONTH + 300), (2, MONTH + 200), (3, last)):
                name = f"resp_{chain}{number}"
                await store.store_response_object(
                    response(name, age, previous), [said(f"question {number}")], [],
                    incremental_input=True,
                )  # fmt: skip
                previous = name
        before = (await store.get_response_object("resp_a3"))["input"]
        assert "question 1" in str(before)
        assert await rows(place, "responses__parts") == 6
        assert await sweep(store, authorized.unguarded) == [5, 0]
        assert [one["id"] for one in (await store.list_responses()).data] == ["resp_a3"]
        after = (await store.get_response_object("resp_a3"))["input"]
        assert after == before
        assert await rows(place, "responses__parts") == 3
        await authorized.unguarded.update(
            "responses", {"created_at": int(time.time()) - MONTH - 100}, {"id": "resp_a3"}
        )
        assert await sweep(store, authorized.unguarded) == [1, 0]
        assert await rows(place, "responses__parts") == 0


async def test_a_conversations_messages_are_as_old_as_their_last_change(authorized, place):
    store = ResponsesStore(authorized, "responses")
    for user in (ALICE, BOB):
        with acting_as(user):
            for name in ("conv_old", "conv_young"):
                await store.store_conversation_messages(name, [{"role": "user", "content": name}])
    (_, ageing) = store.ageings
    await authorized.unguarded.update(
        ageing.table,
        {"updated_at": (int(time.time()) - MONTH - 100) * 1_000_000},
        {"conversation_id": "conv_old"},
    )
    assert await sweep(store, authorized.unguarded) == [0, 2]
    for user in (ALICE, BOB):
        with acting_as(user):
            assert await store.get_conversation_messages("conv_young")
            assert not await store.get_conversation_messages("conv_old")
    assert await rows(place, "responses__parts") == 2


@pytest.mark.parametrize("make", [InferenceStore, ConversationsStore, ResponsesStore])
async def test_an_index_gives_each_store_its_old_rows(authorized, place, make):
    store = make(authorized, "things")
    await store.ready()
    words = "EXPLAIN QUERY PLAN " if place.dialect == "sqlite" else "EXPLAIN "
    async with place.pools[0].engine.begin() as connection:
        if place.dialect == "postgresql":
            # An empty table is always read from end to end, if that is allowed.
            await connection.exec_driver_sql("SET LOCAL enable_seqscan = off")
            await connection.exec_driver_sql("SET LOCAL enable_bitmapscan = off")
        for ageing in store.ageings:
            known = authorized.unguarded.table(ageing.table)
            text = oldest(known, ageing, 1, 100, None).compile(
                dialect=connection.dialect, compile_kwargs={"literal_binds": True}
            )
            plan = await connection.exec_driver_sql(f"{words}{text}")
            found = "\n".join(str(tuple(row)) for row in plan)
            assert "ndex" in found or "INDEX" in found, found
            assert "Sort" not in found and "TEMP B-TREE" not in found, found
