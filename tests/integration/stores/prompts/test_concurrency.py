"""Many who change a prompt at once: every version kept, one default at any moment."""

from __future__ import annotations

import asyncio

import pytest

from stackstore.errors import InvalidArgumentError
from tests.integration.processes import together
from tests.integration.stores.prompts.conftest import defaults

PROCESS = "tests.integration.stores.prompts.process"


async def test_d12_five_updates_at_once_give_versions_2_to_6(store):
    """OGX: one gets 2, the others an IntegrityError or InvalidParameter."""
    for _ in range(5):
        prompt = (await store.create_prompt("one"))["prompt_id"]
        made = await asyncio.gather(*(store.update_prompt(prompt, f"by {n}", 1) for n in range(5)))
        assert sorted(one["version"] for one in made) == [2, 3, 4, 5, 6]
        versions = (await store.list_prompt_versions(prompt)).data
        assert [one["version"] for one in versions] == [1, 2, 3, 4, 5, 6]
        for one in made:
            kept = versions[one["version"] - 1]
            assert kept["prompt"] == one["prompt"]
        assert [one["version"] for one in versions if one["is_default"]] == [6]
        assert (await store.get_prompt(prompt))["version"] == 6
        # Afterwards it is a version that is known to be old.
        with pytest.raises(InvalidArgumentError, match="latest one, 6, not 1"):
            await store.update_prompt(prompt, "late", 1)


async def test_updates_at_once_that_are_too_old_are_all_refused(store):
    prompt = (await store.create_prompt("one"))["prompt_id"]
    await store.update_prompt(prompt, "two", 1)
    ended = await asyncio.gather(
        *(store.update_prompt(prompt, "x", n) for n in (1, 2, 1, 2, 3)), return_exceptions=True
    )
    refused = [isinstance(one, InvalidArgumentError) for one in ended]
    assert refused[:4] == [True, False, True, False]


async def test_n10_one_default_whoever_sets_it(store):
    """OGX: three concurrent calls leave two or three defaults in 20 of 20 rounds."""
    prompt = (await store.create_prompt("1"))["prompt_id"]
    for n in (1, 2):
        await store.update_prompt(prompt, str(n + 1), n)

    seen = []

    async def look():
        seen.append(await defaults(store, prompt))

    for _ in range(20):
        chosen, *_ = await asyncio.gather(
            *(store.set_default_version(prompt, n) for n in (1, 2, 3)), look(), look()
        )
        assert chosen["is_default"]
        await look()
        found = await store.get_prompt(prompt)
        assert found["prompt"] == str(found["version"]) and found["is_default"]
    assert {len(one) for one in seen} == {1}


async def test_n10_processes_that_set_it_leave_one(store, place):
    prompt = (await store.create_prompt("1"))["prompt_id"]
    for n in (1, 2):
        await store.update_prompt(prompt, str(n + 1), n)
    await together(PROCESS, place.address, [{"what": "choose", "id": prompt}] * 3)
    (default,) = await defaults(store, prompt)
    found = await store.get_prompt(prompt)
    assert (found["version"], found["prompt"]) == (default, str(default))


async def test_processes_that_add_versions_lose_none(store, place):
    prompt = (await store.create_prompt("first"))["prompt_id"]
    tasks = [{"what": "update", "id": prompt}] * 2
    made = await together(PROCESS, place.address, tasks)
    assert sorted(made[0] + made[1]) == list(range(2, 22))
    versions = (await store.list_prompt_versions(prompt)).data
    for number, own in enumerate(made):
        assert {versions[one - 1]["prompt"] for one in own} == {str(number)}
    assert await defaults(store, prompt) == [21]


async def test_a_prompt_that_another_process_adds_to_leaves_no_version(store, place):
    ids = [(await store.create_prompt("x"))["prompt_id"] for _ in range(10)]
    await together(
        PROCESS, place.address, [{"what": what, "ids": ids} for what in ("chase", "delete")]
    )
    assert await place.sql("SELECT count(*) FROM @my_prompts") == [(0,)]
    assert await place.sql("SELECT count(*) FROM @my_prompts__versions") == [(0,)]
