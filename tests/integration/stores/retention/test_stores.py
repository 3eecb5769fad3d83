"""The stores that have a retention: what is left of each after a sweep, as its users see it."""

from __future__ import annotations

import asyncio
import time

import pytest

from stackstore.access import AuthorizedSqlStore, User, acting_as
from stackstore.errors import NotFoundError
from stackstore.stores.conversations import ConversationsStore
from stackstore.stores.inference import InferenceStore
from stackstore.stores.responses import ResponsesStore, parts
from stackstore.stores.retention import leases, pace, retention
from stackstore.stores.retention.clock import CautiousClock
from stackstore.stores.retention.retention import LONGEST_PERIOD_SECONDS, period
from stackstore.stores.retention.sweep import Sweep, oldest
from stackstore.stores.vector_stores import VectorStoresStore

MONTH = 30 * 86_400
ALICE, BOB = User("alice"), User("bob", {"teams": ["b"]}, tenant_id=None)


@pytest.fixture
def authorized(place):
    return AuthorizedSqlStore(place.store())


async def sweep(store, sql, ageings=None, seconds=MONTH):
    """One batch of each of its tables; how many rows of each went."""
    await store.ready()
    await sql.require(leases.LEASES)
    return [
        (await Sweep(sql, one, "me", CautiousClock()).batch(seconds, 0.0, pace.MOST, None)).rows
        for one in (store.ageings if ageings is None else ageings)
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
        assert await sweep(store, authorized.unguarded) == [5, 0, 0]
        assert [one["id"] for one in (await store.list_responses()).data] == ["resp_a3"]
        after = (await store.get_response_object("resp_a3"))["input"]
        assert after == before
        assert await rows(place, "responses__parts") == 3
        await authorized.unguarded.update(
            "responses", {"created_at": int(time.time()) - MONTH - 100}, {"id": "resp_a3"}
        )
        assert await sweep(store, authorized.unguarded) == [1, 0, 0]
        assert await rows(place, "responses__parts") == 0


async def test_a_conversations_messages_are_as_old_as_their_last_change(authorized, place):
    store = ResponsesStore(authorized, "responses")
    for user in (ALICE, BOB):
        with acting_as(user):
            for name in ("conv_old", "conv_young"):
                await store.store_conversation_messages(name, [{"role": "user", "content": name}])
    (_, ageing, _) = store.ageings
    await authorized.unguarded.update(
        ageing.table,
        {"updated_at": (int(time.time()) - MONTH - 100) * 1_000_000},
        {"conversation_id": "conv_old"},
    )
    assert await sweep(store, authorized.unguarded) == [0, 2, 0]
    for user in (ALICE, BOB):
        with acting_as(user):
            assert await store.get_conversation_messages("conv_young")
            assert not await store.get_conversation_messages("conv_old")
    assert await rows(place, "responses__parts") == 2


async def test_memory_records_are_as_old_as_their_last_change(authorized, place):
    store = ResponsesStore(authorized, "responses")
    with acting_as(ALICE):
        for name in ("old", "young"):
            await store.upsert_memory_record("alice", name, "vs", "f", "resp_1")
        await store.claim_default_memory_vector_store("n")
        await authorized.unguarded.update(
            "responses__memory_records",
            {"updated_at": int(time.time()) - MONTH - 100, "created_at": 0},
            {"conversation_id": "old"},
        )
        await authorized.unguarded.update(
            "responses__memory_records", {"created_at": 0}, {"conversation_id": "young"}
        )
        assert await sweep(store, authorized.unguarded) == [0, 0, 1]
        assert await store.get_memory_record("alice", "old", "vs") is None
        assert await store.get_memory_record("alice", "young", "vs")
        # Whose vector store is whose is somebody's set-up, however old.
        assert await store.get_default_memory_vector_store("n")


async def test_file_batches_go_when_they_expire(authorized, place):
    store = VectorStoresStore(authorized, "vectors")
    for user in (ALICE, BOB):
        with acting_as(user):
            await store.create_vector_store({"id": "vs"})
            for _ in range(2):
                batch = await store.create_file_batch("vs", ["f"])
            await authorized.unguarded.update(
                "vectors__file_batches", {"expires_at": int(time.time()) - 1}, {"id": batch["id"]}
            )
    assert await sweep(store, authorized.unguarded, store.expiries, 0) == [2]
    assert await sweep(store, authorized.unguarded, store.expiries, 0) == [0]
    assert await rows(place, "vectors__file_batches") == 2
    assert period(0) == LONGEST_PERIOD_SECONDS


async def test_a_long_history_goes_in_bites(authorized, place, monkeypatch):
    """Who deletes the last of it doesn't free thousands of parts in one transaction."""
    monkeypatch.setattr(parts, "FREED_AT_ONCE", 10)
    store = ResponsesStore(authorized, "responses")
    with acting_as(ALICE):
        names = [f"resp_{n}" for n in range(35)]
        for previous, name in zip([None, *names], names, strict=False):
            await store.store_response_object(
                response(name, 100, previous), [said(name)], [], incremental_input=True
            )
        for name in names[4:34]:
            await store.delete_response_object(name)
        assert await rows(place, "responses__parts") == 35
        # The first four are still there, and keep what is theirs.
        await store.delete_response_object("resp_34")
        assert await rows(place, "responses__parts") == 25
        assert await rows(place, "responses__parts__freed") == 1
        left = [25]
        while await rows(place, "responses__parts__freed"):
            assert await sweep(store, authorized.unguarded, store.expiries, 0) == [1]
            left.append(await rows(place, "responses__parts"))
        assert left == [25, 15, 5, 4]
        assert len((await store.get_response_object("resp_3"))["input"]) == 7


async def test_the_bites_follow_each_other(authorized, place, monkeypatch):
    """Nobody waits an hour for the next one."""
    monkeypatch.setattr(parts, "FREED_AT_ONCE", 3)
    monkeypatch.setattr(retention, "FIRST_SECONDS", 0.0)
    store = ResponsesStore(authorized, "responses")
    with acting_as(ALICE):
        for n in range(12):
            previous = f"resp_{n - 1}" if n else None
            await store.store_response_object(
                response(f"resp_{n}", 100, previous), [said("x")], [], incremental_input=True
            )
        for n in range(12):
            await store.delete_response_object(f"resp_{n}")
    (ageing,) = store.expiries
    sweeper = retention.Retention(authorized.unguarded, ageing, store.ready, seconds=0)
    sweeper.begin()
    try:
        async with asyncio.timeout(20):
            while await rows(place, "responses__parts"):
                await asyncio.sleep(0.02)
        while sweeper.stats.sweeps == 0:
            await asyncio.sleep(0.02)
        assert (sweeper.stats.deleted, sweeper.stats.failures) == (3, 0)
    finally:
        await sweeper.close()


@pytest.mark.parametrize(
    "make", [InferenceStore, ConversationsStore, ResponsesStore, VectorStoresStore]
)
async def test_an_index_gives_each_store_its_old_rows(authorized, place, make):
    store = make(authorized, "things")
    await store.ready()
    words = "EXPLAIN QUERY PLAN " if place.dialect == "sqlite" else "EXPLAIN "
    async with place.pools[0].engine.begin() as connection:
        if place.dialect == "postgresql":
            # An empty table is always read from end to end, if that is allowed.
            await connection.exec_driver_sql("SET LOCAL enable_seqscan = off")
            await connection.exec_driver_sql("SET LOCAL enable_bitmapscan = off")
        for ageing in [*getattr(store, "ageings", ()), *getattr(store, "expiries", ())]:
            known = authorized.unguarded.table(ageing.table)
            text = oldest(known, ageing, 1, 100, None).compile(
                dialect=connection.dialect, compile_kwargs={"literal_binds": True}
            )
            plan = await connection.exec_driver_sql(f"{words}{text}")
            found = "\n".join(str(tuple(row)) for row in plan)
            assert "ndex" in found or "INDEX" in found, found
            assert "Sort" not in found and "TEMP B-TREE" not in found, found
