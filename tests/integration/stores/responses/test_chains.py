"""What comes back of chains of responses, and how much room they take."""

from __future__ import annotations

import json
import threading

import pytest

from stackstore.access import acting_as
from stackstore.errors import ConflictError, InvalidArgumentError, NotFoundError
from stackstore.stores.responses import growth
from stackstore.stores.responses.history import Chain, same
from tests.integration.stores.responses.conftest import (
    ALICE,
    Statements,
    answer,
    chain,
    everything,
    response,
    said,
    stored,
    told,
)


async def test_a_response_comes_back_as_it_went_in(store):
    given = response("r", metadata={"k": "\0é"}, usage={"total_tokens": 2**40}, text=None)
    await store.store_response_object(given, [said("a"), said("b")], [told("user", "a")])
    found = await store.get_response_object("r")
    assert found == {**given, "input": [said("a"), said("b")], "messages": [told("user", "a")]}
    assert json.loads(json.dumps(found)) == found


@pytest.mark.parametrize("incremental", [True, False])
async def test_e10_a_chain_keeps_only_what_each_adds(store, place, incremental):
    names = [f"r{n:03}" for n in range(40)]
    whole, heard = await chain(store, names, incremental=incremental)
    found = await store.get_response_object(names[-1])
    assert found["input"] == whole
    assert found["messages"] == heard
    middle = await store.get_response_object(names[20])
    assert middle["input"] == whole[:41]
    assert middle["messages"] == heard[:42]
    lengths = await place.sql(
        "SELECT length(CAST(inherited AS TEXT)) + length(CAST(input AS TEXT)) + "
        "length(CAST(messages AS TEXT)) FROM @responses__parts ORDER BY position"
    )
    assert len(lengths) == 40
    assert len({row[0] for row in lengths[1:]}) == 1


async def test_reading_takes_as_many_statements_for_a_long_chain_as_for_a_short_one(store, place):
    names = [f"r{n}" for n in range(30)]
    await chain(store, names)
    seen = Statements(place.pools[-1])
    counts = []
    for name in ("r1", "r29"):
        for read in (
            lambda: store.get_response_object(name),  # noqa: B023 - called at once
            lambda: store.list_response_input_items(name),  # noqa: B023
            lambda: store.get_response_object(name, reconstruct_input=False),  # noqa: B023
        ):
            seen.sent.clear()
            await read()
            counts.append(len(seen.sent))
    assert counts[:3] == counts[3:]
    assert max(counts) <= 2
    seen.sent.clear()
    page = await store.list_responses(limit=30)
    assert len(page.data) == 30
    assert len(seen.sent) <= 2


async def test_writing_never_reads_or_writes_what_is_far_back(store, place):
    names = [f"r{n:02}" for n in range(30)]
    await chain(store, names[:3])
    seen = Statements(place.pools[-1])
    await chain(store, ["a"], previous="r02", incremental=False)
    short = len(seen.sent)
    await chain(store, names[3:], previous="r02")
    seen.sent.clear()
    await chain(store, ["b"], previous="r29", incremental=False)
    assert len(seen.sent) == short
    assert not any("msg_r27" in repr(parameters) for _, parameters in seen.sent)


async def test_without_reconstruction_only_what_it_adds_comes_back(store):
    await chain(store, ["a", "b"])
    found = await store.get_response_object("b", reconstruct_input=False)
    assert found["input"] == [said("b")]
    assert found["messages"] is None
    assert found["status"] == "completed"


async def test_the_order_of_keys_hides_no_beginning(store, place):
    whole, heard = await chain(store, ["a", "b"])
    turned = [dict(reversed(item.items())) for item in [*whole, answer("b")]]
    heard = [dict(reversed(message.items())) for message in heard]
    await store.store_response_object(
        response("c", "b"), [*turned, said("c")], [*heard, told("user", "c")]
    )
    found = await store.get_response_object("c")
    assert found["input"] == [*turned, said("c")]
    assert found["messages"] == [*heard, told("user", "c")]
    assert await stored(place, "count(*)", "responses__parts") == 3
    last = await place.sql(
        "SELECT CAST(input AS TEXT), CAST(messages AS TEXT) FROM @responses__parts "
        "ORDER BY position DESC LIMIT 1"
    )
    assert [json.loads(text) for text in last[0]] == [[said("c")], [told("user", "c")]]
    # Who goes on in the same words needs no second look.
    seen = Statements(place.pools[-1])
    await store.store_response_object(
        response("d", "c"),
        [*turned, said("c"), answer("c"), said("d")],
        [*heard, told("user", "c"), told("user", "d")],
    )
    assert not seen.of("WITH", "responses__parts")
    assert len((await store.get_response_object("d"))["input"]) == 7


async def test_a_slow_comparison_keeps_nobody_waiting(store, monkeypatch):
    """Of 100,000 items it takes a second."""
    threads = []

    def noted(*lists):
        threads.append(threading.current_thread())
        return same(*lists)

    monkeypatch.setattr(growth, "same", noted)
    whole, heard = await chain(store, ["a"])
    turned = [dict(reversed(item.items())) for item in [*whole, answer("a")]]
    await store.store_response_object(response("b", "a"), [*turned, said("b")], heard)
    assert len((await store.get_response_object("b"))["input"]) == 3
    # The output is compared at once; it is one response's.
    assert [one is threading.main_thread() for one in threads].count(False) == 1


async def test_what_begins_otherwise_is_kept_whole(store, place):
    await chain(store, ["a", "b"])
    compacted = [{"type": "compaction", "encrypted_content": "x"}, said("c")]
    await store.store_response_object(response("c", "b"), compacted, [told("user", "short")])
    found = await store.get_response_object("c")
    assert (found["input"], found["messages"]) == (compacted, [told("user", "short")])
    assert found["previous_response_id"] == "b"
    await store.delete_response_object("b")
    await store.delete_response_object("a")
    # It needs nothing of what it went on from.
    assert await stored(place) == 1
    await chain(store, ["a", "b"])
    # True is 1 to Python, and isn't to those who wrote it.
    one = [{"type": "x", "n": 1}]
    await store.store_response_object(response("d"), one, one)
    await store.store_response_object(response("e", "d", output=[]), [{"type": "x", "n": True}], [])
    assert (await store.get_response_object("e"))["input"][0]["n"] is True
    # Shorter than what came before, or nothing.
    await store.store_response_object(response("f", "b"), [said("a")], [told("user", "a")])
    found = await store.get_response_object("f")
    assert (found["input"], found["messages"]) == ([said("a")], [told("user", "a")])
    await store.store_response_object(response("g", "b"), [], [])
    found = await store.get_response_object("g")
    assert (found["input"], found["messages"]) == ([], [])


async def test_a_list_without_the_output_between_comes_back_so(store):
    whole, _ = await chain(store, ["a"])
    await store.store_response_object(response("b", "a"), [*whole, said("b")], [])
    assert (await store.get_response_object("b"))["input"] == [*whole, said("b")]


async def test_two_go_on_from_one(store, place):
    whole, _ = await chain(store, ["a", "b"])
    left, left_heard = await chain(store, ["l1", "l2"], previous="b")
    right, right_heard = await chain(store, ["r1", "r2"], previous="b", incremental=False)
    assert left[: len(whole)] == right[: len(whole)] == whole
    for name, items, messages in (("l2", left, left_heard), ("r2", right, right_heard)):
        found = await store.get_response_object(name)
        assert (found["input"], found["messages"]) == (items, messages)
    assert await stored(place) == 6
    page = await store.list_responses(limit=10)
    assert {one["id"]: len(one["input"]) for one in page.data}["l2"] == 7


async def test_a_previous_one_that_is_not_there_is_no_beginning(store):
    await store.store_response_object(
        response("b", "never"), [said("b")], [told("user", "b")], incremental_input=True
    )
    found = await store.get_response_object("b")
    assert found["input"] == [said("b")]
    assert found["messages"] == [told("user", "b")]
    assert found["previous_response_id"] == "never"
    # That one of this name comes later changes nothing about what was answered.
    await store.store_response_object(response("never"), [said("x")], [])
    assert (await store.get_response_object("b"))["input"] == [said("b")]


async def test_a_circle_of_names_ends(store):
    await chain(store, ["a", "b"])
    await store.delete_response_object("a")
    await store.store_response_object(response("a", "b"), [said("a2")], [], incremental_input=True)
    found = await store.get_response_object("a")
    assert [item["id"] for item in found["input"]] == [
        "msg_a", "out_a", "msg_b", "out_b", "msg_a2",
    ]  # fmt: skip
    assert len((await store.get_response_object("b"))["input"]) == 3
    await store.store_response_object(
        response("self", "self"), [said("s")], [], incremental_input=True
    )
    assert (await store.get_response_object("self"))["input"] == [said("s")]


async def test_a_circle_in_the_table_ends(store, place):
    await chain(store, ["a", "b", "c"])
    await place.sql(
        "UPDATE @responses__parts SET previous = (SELECT part FROM @responses__parts WHERE id = 'c') "
        "WHERE id = 'a'"
    )
    assert len((await store.get_response_object("c"))["input"]) == 5
    await place.sql("UPDATE @responses__parts SET first_input = (1 = 0), first_messages = (1 = 0)")
    assert len((await store.get_response_object("c"))["input"]) == 5
    assert len((await store.list_responses()).data) == 3


async def test_deleting_takes_nothing_from_what_was_answered_on_it(store, place):
    whole, heard = await chain(store, ["a", "b", "c", "d"])
    for gone in ("b", "a", "c"):
        answered = await store.delete_response_object(gone)
        assert answered == {"id": gone, "object": "response", "deleted": True}
        found = await store.get_response_object("d")
        assert (found["input"], found["messages"]) == (whole, heard)
        with pytest.raises(NotFoundError):
            await store.get_response_object(gone)
        with pytest.raises(NotFoundError):
            await store.list_response_input_items(gone)
        assert gone not in [one["id"] for one in (await store.list_responses()).data]
    more, _ = await chain(store, ["e"], previous="d", incremental=False)
    assert (await store.get_response_object("e"))["input"] == more
    await store.delete_response_object("e")
    await store.delete_response_object("d")
    assert await stored(place) == await stored(place, table="responses") == 0


async def test_what_only_the_deleted_one_had_goes_with_it(store, place):
    await chain(store, ["a", "b"])
    await chain(store, ["secret"], previous="b")
    await chain(store, ["c"], previous="b")
    await store.delete_response_object("secret")
    assert "msg_secret" not in await everything(place)
    assert await stored(place) == 3
    await store.delete_response_object("b")
    # a is one's own and b's, b is c's only, c one's own.
    assert await stored(place, "sum(uses)") == 4
    await store.delete_response_object("c")
    assert await stored(place) == 1


async def test_a_deleted_name_is_free(store):
    await chain(store, ["a", "b"])
    await store.delete_response_object("a")
    await store.store_response_object(response("a"), [said("new")], [])
    assert (await store.get_response_object("a"))["input"] == [said("new")]
    assert (await store.get_response_object("b"))["input"][0] == said("a")


async def test_store_false_is_not_stored(store, place):
    await store.store_response_object(response("r", store=False), [said("a")], [])
    await store.upsert_response_object(response("r", store=False), [said("a")], [])
    with pytest.raises(NotFoundError):
        await store.get_response_object("r")
    await store.store_response_object(response("s", store=True), [said("a")], [])
    assert (await store.get_response_object("s"))["store"] is True
    assert "'r'" not in await everything(place)


async def test_a_second_one_of_the_name_is_a_conflict(store):
    await chain(store, ["a"])
    with pytest.raises(ConflictError):
        await store.store_response_object(response("a", status="failed"), [said("z")], [])
    found = await store.get_response_object("a")
    assert (found["status"], found["input"]) == ("completed", [said("a")])


async def test_what_is_no_response_is_refused(store):
    for wrong in (
        {"id": None}, {"id": ""}, {"id": 5}, {"model": None}, {"created_at": None},
        {"created_at": "1"}, {"created_at": True}, {"previous_response_id": 5},
    ):  # fmt: skip
        for write in (store.store_response_object, store.upsert_response_object):
            with pytest.raises(InvalidArgumentError, match=f"'{next(iter(wrong))}'"):
                await write({**response("r"), **wrong}, [], [])


async def test_what_is_no_list_of_items_is_refused_without_quoting_it(store):
    for items in (
        "canary",
        {"a": "canary"},
        ["canary"],
        [["canary"]],
        [{"canary": object()}],
        None,
    ):
        for given in ((items, []), ([], items)):
            with pytest.raises(InvalidArgumentError) as caught:
                await store.store_response_object(response("r"), *given)
            assert "canary" not in str(caught.value)
            assert caught.value.__cause__ is caught.value.__context__ is None


async def test_errors_of_the_database_say_nothing_of_a_document(store, place):
    await chain(store, ["a"])
    with pytest.raises(ConflictError) as caught:
        await store.store_response_object(response("a"), [said("canary")], [told("u", "canary")])
    assert "canary" not in repr((caught.value, caught.value.__cause__, caught.value.__context__))
    with pytest.raises(InvalidArgumentError) as caught:
        await store.store_response_object(response("b", model="canary" * 900), [], [])
    assert "canary" not in repr((caught.value, caught.value.__cause__, caught.value.__context__))


async def test_the_tables_are_made_by_any_first_use(make):
    with acting_as(ALICE):
        assert (await make().list_responses()).data == []
        with pytest.raises(NotFoundError):
            await make(table="other").get_response_object("x")


def test_chains_are_kept_as_json():
    from stackstore.stores.responses.history import Mark

    one = Chain("t", 3, 7, Mark(2, "x"), Mark(), "g", True, False, "f", "b", 1, Mark(1, "y"))
    assert Chain.of(json.loads(json.dumps(one.plain()))) == one
