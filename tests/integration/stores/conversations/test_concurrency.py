"""Many who add, sync and delete at once: no item lost, none twice, none left over."""

from __future__ import annotations

import asyncio

from stackstore.errors import NotFoundError
from tests.integration.processes import together
from tests.integration.stores.conversations.conftest import every, said, texts

PROCESS = "tests.integration.stores.conversations.process"


def side_by_side(found, calls):
    """Each call's three items are there, side by side and in order."""
    assert sorted(found[::3]) == sorted(f"{call}.0" for call in calls)
    for start in range(0, len(found), 3):
        call = found[start].rpartition(".")[0]
        assert found[start : start + 3] == [f"{call}.{n}" for n in range(3)]


async def places(place):
    return [row[0] for row in await place.sql("SELECT place FROM @talks__items ORDER BY place")]


async def test_p5_tasks_that_add_at_once_keep_their_items_together(store, place):
    """OGX: six concurrent adds of three give 18 to 21 distinct places of 33, and interleave."""
    made = await store.create_conversation()
    calls = [f"{n}" for n in range(12)]

    async def add(call):
        added = await store.add_items(made["id"], [said(f"{call}.{n}") for n in range(3)])
        assert [item["content"] for item in added.data] == [f"{call}.{n}" for n in range(3)]

    await asyncio.gather(*map(add, calls))
    side_by_side(await texts(store, made["id"]), calls)
    assert await places(place) == list(range(36))


async def test_p5_processes_that_add_at_once_do_too(store, place):
    made = await store.create_conversation()
    tasks = [{"what": "add", "id": made["id"]}] * 3
    await together(PROCESS, place.address, tasks)
    side_by_side(
        await texts(store, made["id"]), [f"{n}.{call}" for n in range(3) for call in range(12)]
    )
    assert await places(place) == list(range(108))


async def test_items_that_processes_sync_at_once_are_there_once(store, place):
    made = await store.create_conversation()
    await together(PROCESS, place.address, [{"what": "sync", "id": made["id"]}] * 2)
    assert [item["id"] for item in await every(store, made["id"])] == [
        f"msg_{n}" for n in range(13)
    ]


async def test_a_conversation_that_another_process_adds_to_leaves_no_item(store, place):
    ids = [(await store.create_conversation())["id"] for _ in range(12)]
    tasks = [
        {"what": "chase", "ids": ids},
        {"what": "chase", "ids": ids},
        {"what": "delete", "ids": ids},
    ]
    first, second, _ = await together(PROCESS, place.address, tasks)
    assert first + second >= 12
    assert await place.sql("SELECT count(*) FROM @talks__items") == [(0,)]
    assert await place.sql("SELECT count(*) FROM @talks") == [(0,)]


async def test_tasks_that_delete_and_add_and_read_at_once(store, place):
    """Whoever comes late is told; nobody sees a conversation that lost only its items."""
    for _ in range(15):
        made = await store.create_conversation(items=[said("x")])

        async def read(made=made):
            try:
                return (await store.list_items(made["id"])).data
            except NotFoundError:
                return ["gone"]

        async def add(made=made):
            try:
                await store.add_items(made["id"], [said("y")])
            except NotFoundError:
                return False
            return True

        results = await asyncio.gather(
            add(), read(), store.delete_conversation(made["id"]), add(), read()
        )
        assert results[1] and results[4]
    assert await place.sql("SELECT count(*) FROM @talks__items") == [(0,)]


async def test_of_two_who_delete_one_item_one_did(store):
    made = await store.create_conversation(items=[said(n) for n in range(10)])
    items = await every(store, made["id"])
    for item in items:
        ended = await asyncio.gather(
            *(store.delete_item(made["id"], item["id"]) for _ in range(2)), return_exceptions=True
        )
        assert sorted(type(one).__name__ for one in ended) == ["NotFoundError", "dict"]
    assert await every(store, made["id"]) == []
