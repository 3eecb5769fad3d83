"""A response while it grows: streamed upserts, updates, and who is faster."""

from __future__ import annotations

import asyncio

import pytest

from stackstore.access import acting_as
from stackstore.errors import ConflictError, InvalidArgumentError, NotFoundError
from tests.integration.processes import together
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

PROCESS = "tests.integration.stores.responses.process"


@pytest.mark.parametrize("incremental", [True, False])
async def test_a_stream_writes_its_input_once_and_each_message_once(store, place, incremental):
    whole, heard = await chain(store, ["a", "b"])
    items = [said("c")] if incremental else [*whole, answer("b"), said("c")]
    heard = [*heard, told("user", "c")]
    await store.upsert_response_object(
        response("c", "b", status="in_progress", output=[]), items, [], incremental
    )
    assert (await store.get_response_object("c"))["messages"] == []
    seen = Statements(place.pools[-1])
    for n in range(5):
        heard = [*heard, told("assistant", f"m{n}")]
        output = [answer(f"m{i}") for i in range(n + 1)]
        for _ in range(2):
            await store.upsert_response_object(
                response("c", "b", status="in_progress", output=output), items, heard, incremental
            )
        found = await store.get_response_object("c")
        assert (found["messages"], found["output"]) == (heard, output)
        assert found["input"] == [*whole, answer("b"), said("c")]
    written = [one for one in seen.sent if one[0].startswith(("INSERT", "UPDATE", "DELETE"))]
    assert "msg_c" not in repr(written)
    assert sum("m3" in repr(one) for one in seen.of("INSERT", "responses__parts")) == 1
    assert not seen.of("UPDATE", "responses__parts")
    assert len(seen.of("INSERT", "responses__parts")) == 5
    await store.upsert_response_object(
        response("c", "b", output=[answer("c")]), items, heard, incremental
    )
    more, more_heard = await chain(store, ["d"], previous="c")
    found = await store.get_response_object("d")
    assert (found["input"], found["messages"]) == (more, more_heard)
    await store.delete_response_object("c")
    found = await store.get_response_object("d")
    assert (found["input"], found["messages"]) == (more, more_heard)
    for name in ("d", "b", "a"):
        await store.delete_response_object(name)
    assert await stored(place) == 0


async def test_an_upsert_may_say_it_all_anew(store, place):
    whole, heard = await chain(store, ["a"])
    await chain(store, ["b"], previous="a")
    other = [told("user", "other")]
    await store.upsert_response_object(response("b", "a"), [said("x")], other, True)
    found = await store.get_response_object("b")
    assert found["input"] == [*whole, answer("a"), said("x")]
    assert found["messages"] == other
    # And back again, by handing over all of it.
    heard = [*heard, told("user", "y")]
    await store.upsert_response_object(
        response("b", "a"), [*whole, answer("a"), said("y")], heard, False
    )
    found = await store.get_response_object("b")
    assert found["input"] == [*whole, answer("a"), said("y")]
    assert found["messages"] == heard
    text = await everything(place)
    assert "msg_x" not in text
    assert "msg_b" not in text
    assert "other" not in text
    assert await stored(place) == 2
    # It goes on from another one now.
    await chain(store, ["c"])
    await store.upsert_response_object(response("b", "c"), [said("z")], [], True)
    found = await store.get_response_object("b")
    assert found["input"] == [said("c"), answer("c"), said("z")]
    assert found["previous_response_id"] == "c"
    await store.delete_response_object("a")
    assert "msg_a" not in await everything(place)


async def test_what_others_went_on_from_stays_as_it_was(store):
    await chain(store, ["a"])
    whole, heard = await chain(store, ["b"], previous="a")
    await store.upsert_response_object(
        response("a", output=[answer("new")]), [said("new")], [told("user", "new")]
    )
    found = await store.get_response_object("b")
    assert (found["input"], found["messages"]) == (whole, heard)
    assert (await store.get_response_object("a"))["input"] == [said("new")]


async def test_an_update_keeps_input_messages_and_ancestry(store):
    whole, heard = await chain(store, ["a", "b"])
    found = await store.get_response_object("b", reconstruct_input=False)
    found["status"] = "cancelled"
    found["previous_response_id"] = "elsewhere"
    await store.update_response_object(found)
    after = await store.get_response_object("b")
    assert (after["status"], after["previous_response_id"]) == ("cancelled", "a")
    assert (after["input"], after["messages"]) == (whole, heard)
    listed = (await store.list_responses(limit=1, order="desc")).data[0]
    assert listed["status"] == "cancelled"


async def test_an_update_may_bring_its_input_anew(store, place):
    _, heard = await chain(store, ["a", "b"])
    await store.update_response_object(response("b", status="failed"), [said("x")])
    after = await store.get_response_object("b")
    assert after["input"] == [said("a"), answer("a"), said("x")]
    assert after["messages"] == heard
    assert "msg_b" not in await everything(place)


async def test_an_update_or_an_old_version_never_brings_it_back(store, place):
    await chain(store, ["a", "b"])
    old = await store.get_response_object("a")
    await store.delete_response_object("a")
    for given in (old, dict(old)):
        with pytest.raises(NotFoundError):
            await store.update_response_object(given)
        with pytest.raises(NotFoundError):
            await store.update_response_object(given, [said("x")])
    assert await stored(place, table="responses") == 1


async def test_d12_an_older_version_is_a_conflict(store):
    await chain(store, ["a"])
    cancelling, finishing = [await store.get_response_object("a") for _ in range(2)]
    cancelling["status"] = "cancelled"
    await store.update_response_object(cancelling)
    finishing["status"] = "failed"
    with pytest.raises(ConflictError, match="read it again"):
        await store.update_response_object(finishing)
    with pytest.raises(ConflictError, match="read it again"):
        await store.update_response_object(dict(finishing), version=finishing.version)
    assert (await store.get_response_object("a"))["status"] == "cancelled"
    # Listed ones know their version, too.
    listed = (await store.list_responses()).data[0]
    listed["status"] = "done"
    await store.update_response_object(listed)
    # What comes from nowhere knows none, and the last one wins.
    await store.update_response_object(response("a", status="anew"))
    assert (await store.get_response_object("a"))["status"] == "anew"


async def test_d12_concurrent_updates_of_different_fields_all_land(store):
    await chain(store, ["a"])

    async def change(name):
        while True:
            found = await store.get_response_object("a")
            found[name] = True
            try:
                await store.update_response_object(found)
            except ConflictError:
                continue
            return

    names = [f"field{n}" for n in range(8)]
    await asyncio.gather(*map(change, names))
    found = await store.get_response_object("a")
    assert all(found[name] for name in names)


async def test_updates_beside_a_stream_lose_nothing_of_it(store):
    whole, heard = await chain(store, ["a", "b"])
    messages = list(heard)

    async def stream():
        nonlocal messages
        for n in range(15):
            messages = [*messages, told("assistant", f"m{n}")]
            await store.upsert_response_object(response("b", "a"), [said("b")], messages, True)

    async def update():
        for n in range(15):
            await store.update_response_object(response("b", status=f"s{n}"))

    await asyncio.gather(stream(), update())
    found = await store.get_response_object("b")
    assert (found["input"], found["messages"]) == (whole, messages)


async def test_many_who_store_one_new_response_make_one(store, place):
    await chain(store, ["a"])

    async def upsert(n):
        await store.upsert_response_object(
            response("b", "a", n=n), [said(f"b{n}")], [told("user", f"b{n}")], True
        )

    await asyncio.gather(*map(upsert, range(8)))
    found = await store.get_response_object("b")
    assert found["input"][-1] == said(f"b{found['n']}")
    assert found["messages"] == [told("user", f"b{found['n']}")]
    assert await stored(place) == 2

    async def store_one(n):
        try:
            await store.store_response_object(response("c", "a", n=n), [said(f"c{n}")], [], True)
        except ConflictError:
            return 0
        return 1

    assert sum(await asyncio.gather(*map(store_one, range(6)))) == 1
    assert await stored(place) == 3


async def test_going_on_while_it_is_deleted(store, place):
    """Whoever went on in time has it all; whoever came late has a response of its own."""
    for turn in range(12):
        await chain(store, ["a", "b"])

        async def go_on(n):
            await store.store_response_object(
                response(f"n{n}", "b"), [said(f"n{n}")], [], incremental_input=True
            )

        await asyncio.gather(
            go_on(0), store.delete_response_object("b"), go_on(1), store.delete_response_object("a")
        )
        for n in range(2):
            ids = [item["id"] for item in (await store.get_response_object(f"n{n}"))["input"]]
            assert ids in (
                [f"msg_n{n}"],
                ["msg_a", "out_a", "msg_b", "out_b", f"msg_n{n}"],
            ), turn
            await store.delete_response_object(f"n{n}")
        assert await stored(place) == 0, turn


async def test_many_who_go_on_from_one_at_once_are_all_counted(store, place):
    for turn in range(3):
        await chain(store, ["a"])
        names = [f"r{n}" for n in range(16)]
        await asyncio.gather(
            *(
                store.store_response_object(response(name, "a"), [said(name)], [], True)
                for name in names
            )
        )
        assert await stored(place, "max(uses)") == 17, turn
        await asyncio.gather(*map(store.delete_response_object, ["a", *names[1:]]))
        assert (await store.get_response_object("r0"))["input"][0] == said("a")
        await store.delete_response_object("r0")
        assert await stored(place) == 0, turn


async def test_processes_that_fork_and_delete_one_chain_leave_it_whole(store, place):
    whole, _ = await chain(store, ["a", "b"])
    await chain(store, ["shared"], previous="b")
    assert await together(PROCESS, place.address, [{"turns": 12}] * 3) == [12] * 3
    page = await store.list_responses(limit=100)
    for one in page.data:
        assert one["input"][:3] == whole[:3]
    shared = await store.get_response_object("shared")
    # Three processes, twelve turns: each field that was set is there.
    assert all(shared[f"p{n}_{turn}"] for n in range(3) for turn in range(12))
    for one in page.data:
        await store.delete_response_object(one["id"])
    assert await stored(place) == 0


async def test_a_cancelled_write_leaves_all_or_nothing(store, place):
    await chain(store, ["a"])
    for n in range(12):
        task = asyncio.ensure_future(
            store.store_response_object(response(f"r{n}", "a"), [said("x")], [], True)
        )
        await asyncio.sleep(0.0015 * n)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    for one in (await store.list_responses(limit=50)).data:
        found = await store.get_response_object(one["id"])
        assert found["input"][0] == said("a")
        await store.delete_response_object(one["id"])
    assert await stored(place) == 0


async def test_a_wrong_input_changes_nothing(store):
    await chain(store, ["a"])
    with pytest.raises(InvalidArgumentError):
        await store.update_response_object(response("a", status="x"), "text")
    assert (await store.get_response_object("a"))["status"] == "completed"


async def test_all_of_it_is_undone_together(store, place):
    """What fails after the row was written takes the row with it."""
    await chain(store, ["a"])
    await place.sql("DELETE FROM @responses__parts")
    await store.store_response_object(response("b"), [said("b")], [])
    with acting_as(ALICE), pytest.raises(ConflictError):
        await store.store_response_object(response("c", "a"), [said("c")], [], True)
    with pytest.raises(NotFoundError):
        await store.get_response_object("c", reconstruct_input=False)
