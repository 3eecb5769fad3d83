"""A process of its own that uses a prompt; run as a script with one JSON argument."""

from __future__ import annotations

import asyncio

from stackstore.access import acting_as
from stackstore.errors import NotFoundError
from stackstore.stores.prompts import PromptsStore
from tests.integration.processes import serve
from tests.integration.stores.prompts.conftest import ALICE


async def update(store, task):
    """Add versions, one after the other, each as of the latest one that it knows."""
    numbers = []
    while len(numbers) < 10:
        latest = (await store.list_prompt_versions(task["id"])).data[-1]["version"]
        try:
            made = await store.update_prompt(task["id"], str(task["number"]), latest)
        except ValueError:
            # Another one was there when the call began.
            continue
        numbers.append(made["version"])
    return numbers


async def choose(store, task):
    """Set one default after the other."""
    for round_ in range(20):
        await store.set_default_version(task["id"], 1 + (task["number"] + round_) % 3)


async def chase(store, task):
    """Add versions until the prompt is gone."""
    for prompt in task["ids"]:
        latest = 1
        while True:
            try:
                latest = (await store.update_prompt(prompt, "x", latest))["version"]
            except NotFoundError:
                break


async def delete(store, task):
    """Delete them, one after the other, each while the other one adds to it."""
    for prompt in task["ids"]:
        while len((await store.list_prompt_versions(prompt)).data) < 2:
            await asyncio.sleep(0.005)
        await store.delete_prompt(prompt)


async def main(authorized, task):
    with acting_as(ALICE):
        return await globals()[task["what"]](PromptsStore(authorized, "my_prompts"), task)


if __name__ == "__main__":
    asyncio.run(serve(main))
