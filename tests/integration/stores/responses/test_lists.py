"""Pages of responses, pages of their input, and the plans behind them."""

from __future__ import annotations

import enum
import json
import re

import pytest

from stackstore.access import AuthorizedSqlStore, User, acting_as
from stackstore.errors import InvalidArgumentError, NotFoundError
from stackstore.stores.responses import ResponsesStore
from tests.integration.access.test_plans import explained
from tests.integration.stores.responses.conftest import (
    ALICE,
    Statements,
    answer,
    chain,
    response,
    said,
)


class Order(enum.Enum):
    asc = "asc"
    desc = "desc"


async def names(store, **arguments):
    found, after = [], None
    while True:
        page = await store.list_responses(after, **arguments)
        found += [one["id"] for one in page.data]
        if not page.has_more:
            return found
        assert page.data
        after = page.last_id


async def test_pages_are_in_the_order_of_time_and_every_one_comes_once(store):
    for n in range(11):
        # Names that sort otherwise, all of one second but two.
        await store.store_response_object(
            response(f"r{(7 * n) % 11}", created_at=1000 + (n >= 9), model="ab"[n % 2]), [], []
        )
    stored = [f"r{(7 * n) % 11}" for n in range(11)]
    for limit in (1, 3, 11, 50):
        assert await names(store, limit=limit, order="asc") == stored
        assert await names(store, limit=limit) == stored[::-1]
        assert await names(store, limit=limit, model="b", order=Order.asc) == stored[1::2]
    assert await names(store, limit=2, order=None) == stored[::-1]
    assert await names(store, model="c") == []
    page = await store.list_responses(limit=2)
    assert (page.first_id, page.last_id, page.has_more) == (stored[-1], stored[-2], True)
    empty = await store.list_responses(model="c")
    assert (empty.first_id, empty.last_id, empty.has_more) == ("", "", False)


async def test_p2_a_cursor_survives_the_end_of_its_row(store):
    await chain(store, [f"r{n}" for n in range(6)])
    page = await store.list_responses(limit=2)
    await store.delete_response_object(page.last_id)
    following = await store.list_responses(limit=2, cursor=page.next_cursor)
    assert [one["id"] for one in following.data] == ["r3", "r2"]
    with pytest.raises(NotFoundError):
        await store.list_responses(page.last_id)


async def test_what_no_page_can_be_is_refused(store):
    await chain(store, ["r"])
    for wrong in ({"limit": 0}, {"limit": -1}, {"limit": True}, {"limit": None}, {"order": "up"}):
        with pytest.raises(InvalidArgumentError):
            await store.list_responses(**wrong)
        with pytest.raises(InvalidArgumentError):
            await store.list_response_input_items("r", **wrong)
    with pytest.raises(InvalidArgumentError):
        await store.list_responses("r", cursor="x")
    with pytest.raises(InvalidArgumentError):
        await store.list_response_input_items("r", after="msg_r", before="msg_r")


async def test_input_items_page_in_both_directions(store):
    await chain(store, ["a", "b", "c", "d"])
    ids = ["msg_a", "out_a", "msg_b", "out_b", "msg_c", "out_c", "msg_d"]
    for order, wanted in (("asc", ids), ("desc", ids[::-1])):
        for limit in (1, 2, 7, 20):
            found, page = [], None
            while page is None or page.has_more:
                after = page.last_id if page else None
                page = await store.list_response_input_items("d", after, limit=limit, order=order)
                assert page.first_id == page.data[0]["id"]
                found += [item["id"] for item in page.data]
            assert found == wanted
            found, page = [], None
            while page is None or page.has_more:
                before = page.first_id if page else wanted[-1]
                page = await store.list_response_input_items(
                    "d", before=before, limit=limit, order=order
                )
                found = [item["id"] for item in page.data] + found
            assert found == wanted[:-1]
    assert (await store.list_response_input_items("d")).data[0]["id"] == "msg_d"
    for place in ({"after": "never"}, {"before": "never"}):
        with pytest.raises(NotFoundError, match="'never'"):
            await store.list_response_input_items("d", **place)


async def test_an_item_that_is_said_twice_does_not_send_pages_in_a_circle(store):
    items = [said("a"), said("b"), said("a"), said("c"), {"type": "function_call_output"}]
    await store.store_response_object(response("r"), items, [])
    page = await store.list_response_input_items("r", limit=1, order="asc")
    seen = 0
    while page.has_more:
        page = await store.list_response_input_items("r", page.last_id, limit=1, order="asc")
        seen += 1
        assert seen < 9
    assert (page.data, page.last_id) == ([{"type": "function_call_output"}], "")


async def test_items_are_shown_as_asked_for(store):
    image = {"type": "input_image", "image_url": "data:x"}
    words = {"type": "output_text", "text": "t", "logprobs": [1]}
    items = [
        said("a", content=[image, words, "odd"]),
        {"role": "user", "content": [image]},
        {"type": "file_search_call", "id": "f", "results": [{"text": "t"}]},
        {"type": "reasoning", "id": "g", "content": [{"text": "t"}]},
        {"type": "compaction", "encrypted_content": "e"},
        {"type": "file_search_call", "id": "h", "results": None, "logprobs": [1]},
    ]
    await store.store_response_object(response("r"), items, [])
    page = await store.list_response_input_items("r", order="asc")
    hidden = [{**image, "image_url": None}, {**words, "logprobs": None}, "odd"]
    assert page.data == [
        {**items[0], "content": hidden},
        {"role": "user", "content": hidden[:1]},
        {**items[2], "results": None},
        {**items[3], "content": None},
        items[5],
    ]
    everything = [
        "file_search_call.results", "message.input_image.image_url",
        "message.output_text.logprobs", "reasoning.encrypted_content",
    ]  # fmt: skip
    page = await store.list_response_input_items("r", include=everything, order="asc")
    assert page.data == [*items[:4], items[5]]
    word = enum.Enum("Word", {"one": everything[0]}).one
    page = await store.list_response_input_items("r", include=[word], order="asc")
    assert page.data[2] == items[2]
    assert page.data[3]["content"] is None
    with pytest.raises(InvalidArgumentError, match=r"did you mean 'file_search_call\.results'"):
        await store.list_response_input_items("r", include=["file_search_call.result"])
    # What is stored, and the input of the response, has it all.
    assert (await store.get_response_object("r"))["input"] == items


async def crowd(place, sql, *, owners=40, each=50):
    """Many responses of many owners, past the store's own methods."""
    store = ResponsesStore(AuthorizedSqlStore(sql), "responses")
    with acting_as(ALICE):
        await chain(store, [f"r{n:02}" for n in range(20)])
    columns = "created_at, stored_at, model, previous_response_id, version, chain, response_object"
    series = (
        "generate_series(1, {n})"
        if place.dialect == "postgresql"
        else "(WITH RECURSIVE s(v) AS (SELECT 1 UNION ALL SELECT v + 1 FROM s WHERE v < {n}) "
        "SELECT v FROM s)"
    )
    v = "v" if place.dialect == "sqlite" else "v.v"
    await place.sql(
        f"INSERT INTO @responses (id, owner_id, owner_key, {columns}) "
        f"SELECT 'x' || {v}, 100000 + {v} % {owners}, 7 + {v} % {owners}, "
        f"created_at, {v}, model, previous_response_id, version, chain, response_object "
        f"FROM @responses, {series.format(n=owners * each)} AS v WHERE id = 'r00'"
    )
    fields = "previous, position, uses, first_input, first_messages, inherited, input, messages"
    await place.sql(
        f"INSERT INTO @responses__parts (part, id, owner_id, {fields}) "
        f"SELECT 'x' || {v}, 'x', 100000, {fields} "
        f"FROM @responses__parts, {series.format(n=owners * each)} AS v WHERE id = 'r00'"
    )
    await place.sql("ANALYZE" if place.dialect == "sqlite" else "ANALYZE @responses")
    if place.dialect == "postgresql":
        await place.sql("ANALYZE @responses__parts")
    return store


PAGE = "ORDER BY created_at DESC, stored_at DESC, id DESC, owner_key DESC LIMIT 5"


async def test_lists_and_chains_use_indexes(place):
    sql = place.store()
    store = await crowd(place, sql)
    seen = Statements(place.pools[-1])
    with acting_as(User("alice", {"teams": ["red"]})):
        page = await store.list_responses(limit=5)
        assert [len(one["input"]) for one in page.data] == [39, 37, 35, 33, 31]
        await store.get_response_object("r19")
    reads = seen.of("WITH", "responses__parts")
    assert len(reads) == 2
    table = "stackstore_responses" if place.dialect == "sqlite" else "stackstore.responses"
    for where in ("owner_id = 1", "owner_id = 1 AND model = 'm'"):
        reads.append((f"SELECT id FROM {table} WHERE {where} {PAGE}", ()))
    for statement, parameters in reads:
        async with place.pools[-1].engine.connect() as connection:
            if place.dialect == "sqlite":
                result = await connection.exec_driver_sql(
                    f"EXPLAIN QUERY PLAN {statement}", parameters
                )
                lines = [row[3] for row in result]
                ours = [line for line in lines if "stackstore_responses" in line]
                assert ours, lines
                assert all("SEARCH" in line for line in ours), "\n".join([statement, *lines])
                assert not any("TEMP B-TREE FOR ORDER" in line for line in lines), lines
                continue
            for mode in ("force_custom_plan", "force_generic_plan"):
                plan = await explained(connection, statement, parameters, mode)
                text = json.dumps(plan)
                assert not re.search(r'"Seq Scan"[^{}]*"Relation Name": "responses', text), text
                assert '"Node Type": "Sort"' not in text, text


async def test_a_list_that_is_changed_meanwhile_shows_each_as_it_is(store, place):
    """A response whose history was replaced between the two reads is read again."""
    await chain(store, ["a", "b", "c"])
    real = store._parts.read

    async def late(operations, tips, **more):
        store._parts.read = real
        await store.upsert_response_object(response("b", "a"), [said("new")], [], True)
        await store.delete_response_object("c")
        return await real(operations, tips, **more)

    store._parts.read = late
    page = await store.list_responses()
    assert [one["id"] for one in page.data] == ["b", "a"]
    assert page.data[0]["input"] == [said("a"), answer("a"), said("new")]
    assert "messages" not in page.data[0]
