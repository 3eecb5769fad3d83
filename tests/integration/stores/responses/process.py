"""A process of its own that goes on from one response, deletes, and updates; run as a script."""

from __future__ import annotations

import asyncio

from stackstore.access import acting_as
from stackstore.errors import ConflictError
from stackstore.stores.responses import ResponsesStore
from tests.integration.processes import serve
from tests.integration.stores.responses.conftest import ALICE, response, said


async def work(store, number, turns) -> None:
    for turn in range(turns):
        mine = f"r{number}_{turn}"
        await store.store_response_object(
            response(mine, "b"), [said(mine)], [], incremental_input=True
        )
        while True:
            found = await store.get_response_object("shared")
            found[f"p{number}_{turn}"] = True
            try:
                await store.update_response_object(found)
            except ConflictError:
                continue
            break
        if turn % 2:
            await store.delete_response_object(mine)
        if turn == turns // 2 and number == 0:
            await store.delete_response_object("a")
            await store.delete_response_object("r0_0")


async def main(store, task) -> int:
    with acting_as(ALICE):
        await work(ResponsesStore(store, "responses"), task["number"], task["turns"])
    return task["turns"]


if __name__ == "__main__":
    asyncio.run(serve(main))
