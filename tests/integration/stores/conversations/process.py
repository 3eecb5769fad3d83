"""A process of its own that uses a conversation; run as a script with one JSON argument."""

from __future__ import annotations

import asyncio

from stackstore.access import acting_as
from stackstore.errors import NotFoundError
from stackstore.stores.conversations import ConversationsStore
from tests.integration.processes import serve
from tests.integration.stores.conversations.conftest import ALICE, said


async def add(store, task):
    """Add items, three at a time, by several tasks at once."""

    async def one(call):
        name = f"{task['number']}.{call}"
        await store.add_items(task["id"], [said(f"{name}.{n}") for n in range(3)])

    await asyncio.gather(*(one(call) for call in range(12)))


async def sync(store, task):
    """Put the same items there as everybody else does."""
    for n in range(12):
        await store.sync_items(task["id"], [said("x", id=f"msg_{n}"), said("x", id=f"msg_{n + 1}")])


async def chase(store, task):
    """Add to conversations until they are gone."""
    added = 0
    for conversation_id in task["ids"]:
        while True:
            try:
                await store.add_items(conversation_id, [said("x"), said("y")])
                added += 1
            except NotFoundError:
                break
    return added


async def delete(store, task):
    """Delete them, one after the other, each while the others add to it."""
    for conversation_id in task["ids"]:
        while not (await store.list_items(conversation_id)).data:
            await asyncio.sleep(0.005)
        await store.delete_conversation(conversation_id)


async def main(authorized, task):
    with acting_as(ALICE):
        return await globals()[task["what"]](ConversationsStore(authorized, "talks"), task)


if __name__ == "__main__":
    asyncio.run(serve(main))
