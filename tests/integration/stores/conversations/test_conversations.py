"""Conversations: what goes in comes back, in order, and the ids are the store's."""

from __future__ import annotations

import re
import time

import pytest
from pydantic import BaseModel

from stackstore.access import acting_as
from stackstore.errors import InvalidArgumentError, NotFoundError
from tests.integration.stores.conversations.conftest import ALICE, every, said, texts

MESSAGE = re.compile(r"msg_[0-9a-f]{48}")
ITEM = re.compile(r"item_[0-9a-f]{48}")
NO_ID = "conv_" + "0" * 48


async def test_a_conversation_is_made_read_changed_and_deleted(store):
    before = int(time.time())
    made = await store.create_conversation(metadata={"topic": "weather"})
    assert set(made) == {"id", "object", "created_at", "metadata"}
    assert re.fullmatch(r"conv_[0-9a-f]{48}", made["id"])
    assert made["object"] == "conversation"
    assert made["metadata"] == {"topic": "weather"}
    assert before <= made["created_at"] <= time.time()
    assert await store.get_conversation(made["id"]) == made
    changed = await store.update_conversation(made["id"], metadata={"topic": "climate"})
    assert changed == {**made, "metadata": {"topic": "climate"}}
    assert await store.get_conversation(made["id"]) == changed
    assert await store.delete_conversation(made["id"]) == {
        "id": made["id"], "object": "conversation.deleted", "deleted": True,
    }  # fmt: skip
    for use in (
        store.get_conversation(made["id"]),
        store.update_conversation(made["id"], metadata={}),
        store.delete_conversation(made["id"]),
        store.add_items(made["id"], [said("x")]),
        store.add_items(made["id"], []),
        store.sync_items(made["id"], [said("x")]),
        store.list_items(made["id"]),
        store.list_items(made["id"], after="msg_1"),
        store.retrieve_item(made["id"], "msg_1"),
        store.delete_item(made["id"], "msg_1"),
    ):
        with pytest.raises(NotFoundError, match=f"^there is no conversation '{made['id']}'$"):
            await use


async def test_one_without_metadata_has_none(store):
    made = await store.create_conversation()
    assert made["metadata"] is None
    assert await store.get_conversation(made["id"]) == made


async def test_what_is_no_id_of_a_conversation_is_said(store):
    for wrong in ("", "conv_1", NO_ID + "0", NO_ID.upper(), NO_ID + "\n", None, 7):
        for use in (
            store.get_conversation(wrong),
            store.update_conversation(wrong, metadata={}),
            store.delete_conversation(wrong),
            store.add_items(wrong, [said("x")]),
            store.list_items(wrong),
            store.retrieve_item(wrong, "msg_1"),
            store.delete_item(wrong, "msg_1"),
        ):
            with pytest.raises(InvalidArgumentError, match="conv_ and 48 lowercase hexadecimal"):
                await use


async def test_metadata_are_texts_by_texts(store):
    made = await store.create_conversation()
    for wrong in ("text", {"n": 1}, {1: "n"}, [("a", "b")]):
        with pytest.raises(InvalidArgumentError, match="texts to texts"):
            await store.create_conversation(metadata=wrong)
        with pytest.raises(InvalidArgumentError, match="texts to texts"):
            await store.update_conversation(made["id"], metadata=wrong)


async def test_items_get_ids_and_come_back_as_they_went_in(store):
    item = {
        "type": "function_call",
        "z": 1,
        "name": "f\0",
        "arguments": "{}",
        "a": [None, 2**70, "\ud800"],
    }
    made = await store.create_conversation(items=[said("first"), item])
    added = await store.add_items(made["id"], [{"role": "user", "content": "é"}])
    assert (added.has_more, added.first_id, added.last_id) == (
        False,
        added.data[0]["id"],
        added.data[0]["id"],
    )
    found = await every(store, made["id"])
    assert found[2:] == added.data
    ids = [each.pop("id") for each in found]
    assert MESSAGE.fullmatch(ids[0]) and ITEM.fullmatch(ids[1]) and MESSAGE.fullmatch(ids[2])
    assert found == [said("first"), item, {"role": "user", "content": "é", "type": "message"}]
    assert list(found[1]) == list(item)
    for each, item_id in zip(found, ids, strict=True):
        assert await store.retrieve_item(made["id"], item_id) == {**each, "id": item_id}


async def test_models_are_taken_too(store):
    class Message(BaseModel):
        type: str = "message"
        role: str = "user"
        content: str = "hello"
        id: str | None = None

    made = await store.create_conversation(items=[Message()])
    (found,) = await every(store, made["id"])
    assert found == {**Message().model_dump(), "id": found["id"]}


WRONG_ITEMS = [
    ("text", "list of items"),
    ({"type": "message"}, "list of items"),
    ([said("x"), "text"], r"items\[1\] is a model or a mapping"),
    ([{"content": "x"}], r"items\[0\] says no type"),
    ([{"type": 7, "role": "user"}], r"items\[0\] says no type"),
    ([said("x", id=7)], r"items\[0\]: its id is a text"),
    ([said("x", id="x" * 257)], r"items\[0\]: its id is a text of at most 256"),
    ([said(float("nan"))], r"items\[0\] can't be written as JSON"),
]


async def test_what_is_no_item_is_said_and_nothing_is_stored(store, place):
    made = await store.create_conversation()
    for wrong, says in WRONG_ITEMS:
        for use in (
            store.create_conversation(items=wrong),
            store.add_items(made["id"], wrong),
            store.sync_items(made["id"], wrong),
        ):
            with pytest.raises(InvalidArgumentError, match=says):
                await use
    assert await place.sql("SELECT count(*) FROM @talks") == [(1,)]
    assert await place.sql("SELECT count(*) FROM @talks__items") == [(0,)]


async def test_twenty_items_at_a_time(store):
    made = await store.create_conversation(items=[said(str(n)) for n in range(20)])
    await store.sync_items(made["id"], [said(str(n)) for n in range(20, 45)])
    await store.add_items(made["id"], [said(str(n)) for n in range(45, 65)])
    with pytest.raises(InvalidArgumentError, match="at most 20 items"):
        await store.add_items(made["id"], [said("x")] * 21)
    await store.sync_items(made["id"], [said(str(n)) for n in range(65, 90)])
    assert await texts(store, made["id"]) == [str(n) for n in range(90)]
    nothing = await store.add_items(made["id"], [])
    assert (nothing.data, nothing.first_id, nothing.last_id) == ([], "", "")


# -- pages


async def test_p1_all_items_of_one_call_come_page_by_page(store):
    """llama-stack: a conversation made with 15 items, limit 5: page 2 is empty, has_more=false."""
    made = await store.create_conversation(items=[said(n) for n in range(15)])
    assert await texts(store, made["id"], limit=5) == list(range(15))
    assert await texts(store, made["id"], limit=4, order="desc") == list(range(14, -1, -1))
    seen, after = [], None
    while True:
        page = await store.list_items(made["id"], after=after, limit=4)
        assert page.first_id == page.data[0]["id"] and page.last_id == page.data[-1]["id"]
        seen += [item["content"] for item in page.data]
        after = page.last_id
        if not page.has_more:
            break
    assert seen == list(range(14, -1, -1))


async def test_a_page_is_of_twenty_the_last_one_first(store):
    made = await store.create_conversation()
    await store.sync_items(made["id"], [said(n) for n in range(25)])
    for page in (
        await store.list_items(made["id"]),
        await store.list_items(
            made["id"], limit=None, order=None, include=["reasoning.encrypted_content"]
        ),
    ):
        assert [item["content"] for item in page.data] == list(range(24, 4, -1))
        assert page.has_more
    empty = await store.list_items((await store.create_conversation())["id"])
    assert (empty.data, empty.has_more, empty.first_id, empty.last_id) == ([], False, "", "")


async def test_p2_a_page_goes_on_where_its_last_item_was(store):
    """OGX: deleting the cursor's row breaks paging."""
    made = await store.create_conversation(items=[said(n) for n in range(6)])
    page = await store.list_items(made["id"], limit=3, order="asc")
    await store.delete_item(made["id"], page.last_id)
    rest = await store.list_items(made["id"], cursor=page.next_cursor, order="asc")
    assert [item["content"] for item in rest.data] == [3, 4, 5]
    with pytest.raises(NotFoundError, match=f"^there is no item '{page.last_id}' in conversation"):
        await store.list_items(made["id"], after=page.last_id)


async def test_p3_limit_0_is_an_error(store):
    """OGX's store: all rows."""
    made = await store.create_conversation(items=[said(n) for n in range(3)])
    for limit in (0, -1, True, "5"):
        with pytest.raises(InvalidArgumentError, match="limit is a whole number from 1"):
            await store.list_items(made["id"], limit=limit)
    with pytest.raises(InvalidArgumentError, match='"asc" or "desc"'):
        await store.list_items(made["id"], order="up")


async def test_positions_and_cursors_are_one_conversations(store):
    one = await store.create_conversation(items=[said(n) for n in range(3)])
    other = await store.create_conversation(items=[said(n) for n in range(3)])
    page = await store.list_items(one["id"], limit=1)
    with pytest.raises(NotFoundError):
        await store.list_items(other["id"], after=page.last_id)
    with pytest.raises(InvalidArgumentError):
        await store.list_items(other["id"], cursor=page.next_cursor)
    with pytest.raises(NotFoundError):
        await store.retrieve_item(other["id"], page.last_id)


async def test_what_is_added_after_the_last_item_was_deleted_is_still_after_it(store):
    made = await store.create_conversation(items=[said("a"), said("b")])
    page = await store.list_items(made["id"], limit=1, order="desc")
    reader = await store.list_items(made["id"], limit=1, order="asc")
    await store.delete_item(made["id"], page.last_id)
    for n in range(5):
        await store.add_items(made["id"], [said(n)])
        assert (await store.list_items(made["id"], limit=1)).data[0]["content"] == n
    rest = await store.list_items(made["id"], cursor=reader.next_cursor, order="asc")
    assert [item["content"] for item in rest.data] == [0, 1, 2, 3, 4]


# -- items


async def test_an_item_is_deleted_and_the_conversation_comes_back(store):
    made = await store.create_conversation(metadata={"a": "b"}, items=[said("x"), said("y")])
    first, second = await every(store, made["id"])
    assert await store.delete_item(made["id"], first["id"]) == made
    assert await every(store, made["id"]) == [second]
    for use in (
        store.retrieve_item(made["id"], first["id"]),
        store.delete_item(made["id"], first["id"]),
    ):
        with pytest.raises(
            NotFoundError, match=f"^there is no item '{first['id']}' in conversation"
        ):
            await use
    for wrong in ("", None, 7):
        for use in (store.retrieve_item(made["id"], wrong), store.delete_item(made["id"], wrong)):
            with pytest.raises(InvalidArgumentError, match="an item's id is a text"):
                await use


async def test_ids_of_the_callers_own_are_replaced(store):
    made = await store.create_conversation(items=[said("a", id="mine"), said("b", id="mine")])
    added = await store.add_items(made["id"], [said("c", id="mine"), said("d", id="")])
    found = await every(store, made["id"])
    assert len({item["id"] for item in found}) == 4
    assert all(MESSAGE.fullmatch(item["id"]) for item in found)
    assert found[2:] == added.data


async def test_a_known_item_is_copied_as_it_is_stored(store):
    """OGX's first release: adding an item's id to a second conversation took it from the first (A2)."""
    source = await store.create_conversation(items=[said("original")])
    (item,) = await every(store, source["id"])
    target = await store.create_conversation(items=[said("ignored", id=item["id"])])
    third = await store.create_conversation()
    added = await store.add_items(third["id"], [said("x"), said("ignored", id=item["id"])])
    assert added.data[1] == item
    assert await every(store, target["id"]) == [item]
    assert await every(store, source["id"]) == [item]
    await store.delete_conversation(source["id"])
    assert await every(store, target["id"]) == [item]


async def test_an_item_is_once_in_a_conversation(store):
    source = await store.create_conversation(items=[said("original")])
    (item,) = await every(store, source["id"])
    target = await store.create_conversation()
    for where, items in ((source, [item]), (target, [item, item]), (source, [said("new"), item])):
        with pytest.raises(
            InvalidArgumentError, match=f"item '{item['id']}' is already in the conversation"
        ):
            await store.add_items(where["id"], items)
    assert await every(store, source["id"]) == [item]
    assert await every(store, target["id"]) == []


async def test_d11_a_conversation_is_made_with_all_its_items_or_not_at_all(store, place):
    """OGX: a failure at the items leaves a conversation without them."""
    source = await store.create_conversation(items=[said("original")])
    (item,) = await every(store, source["id"])
    with pytest.raises(InvalidArgumentError):
        await store.create_conversation(items=[said("x"), item, item])
    assert await place.sql("SELECT count(*) FROM @talks") == [(1,)]
    assert await place.sql("SELECT count(*) FROM @talks__items") == [(1,)]


async def test_the_servers_items_keep_their_ids_and_are_there_once(store):
    made = await store.create_conversation()
    assert (
        await store.sync_items(
            made["id"], [said("a", id="msg_1"), said("b"), said("c", id="msg_1")]
        )
        is None
    )
    await store.sync_items(
        made["id"], [said("other", id="msg_1"), said("d", id="msg_2"), said("e", id="")]
    )
    await store.sync_items(made["id"], [])
    found = await every(store, made["id"])
    assert [item["content"] for item in found] == ["a", "b", "d", "e"]
    assert [found[0]["id"], found[2]["id"]] == ["msg_1", "msg_2"]
    assert MESSAGE.fullmatch(found[1]["id"]) and MESSAGE.fullmatch(found[3]["id"])


async def test_one_item_id_may_be_in_many_conversations(store):
    first, second = [await store.create_conversation() for _ in range(2)]
    await store.sync_items(first["id"], [said("one", id="msg_1")])
    await store.sync_items(second["id"], [said("two", id="msg_1")])
    assert await texts(store, first["id"]) == ["one"]
    assert await texts(store, second["id"]) == ["two"]
    await store.delete_item(first["id"], "msg_1")
    assert await texts(store, second["id"]) == ["two"]


async def test_a21_deleting_a_conversation_deletes_its_items(store, place):
    one = await store.create_conversation(items=[said(n) for n in range(3)])
    other = await store.create_conversation(items=[said(n) for n in range(2)])
    await store.delete_conversation(one["id"])
    assert await place.sql("SELECT count(*) FROM @talks__items") == [(2,)]
    assert await texts(store, other["id"]) == [0, 1]


async def test_times_of_next_century_fit(store, monkeypatch):
    """OGX: 32 bits (P7)."""
    monkeypatch.setattr(time, "time_ns", lambda: 5_000_000_000_123_456_789)
    made = await store.create_conversation(items=[said("x")])
    assert (await store.get_conversation(made["id"]))["created_at"] == 5_000_000_000


async def test_no_error_has_a_documents_content(store, place):
    canary = "canary-5f2d"
    made = await store.create_conversation(items=[said("x")])
    (item,) = await every(store, made["id"])
    wrong = [
        store.add_items(made["id"], [said(canary, extra={canary: float("nan")})]),
        store.add_items(made["id"], [{"content": canary}]),
        store.add_items(made["id"], [said(canary, id=item["id"])]),
        store.update_conversation(made["id"], metadata={canary: 1}),
    ]
    errors = [await caught(use) for use in wrong]
    await place.sql(
        f"DROP TABLE @talks__items {'CASCADE' if place.dialect == 'postgresql' else ''}"
    )
    errors.append(await caught(store.add_items(made["id"], [said(canary)])))
    for error in errors:
        while error is not None:
            assert canary not in f"{error!r} {error}"
            error = error.__cause__ or error.__context__  # noqa: PLW2901 - the chain


async def caught(use):
    with pytest.raises(Exception) as caught:
        await use
    return caught.value


async def test_tables_are_there_for_another_store_of_another_name(place, conversations):
    """OGX: two stacks on one database share the conversations, whatever their table's name is."""
    from stackstore.access import AuthorizedSqlStore
    from stackstore.stores.conversations import ConversationsStore

    with acting_as(ALICE):
        made = await conversations().create_conversation()
        other = ConversationsStore(AuthorizedSqlStore(place.store()), "other")
        with pytest.raises(NotFoundError):
            await other.get_conversation(made["id"])


async def test_one_request_brings_no_more_than_twenty_items(store):
    with pytest.raises(InvalidArgumentError, match="at most 20 items"):
        await store.create_conversation(items=[said("x")] * 21)
    made = await store.create_conversation(items=[said("x", id="zz")] * 20)
    assert len(await every(store, made["id"])) == 20
