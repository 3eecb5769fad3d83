"""Whose prompts are whose, and that versions go with them."""

from __future__ import annotations

import pytest

from stackstore.access import AccessDeniedError, Tenancy, User, acting_as
from stackstore.errors import NotFoundError
from tests.integration.stores.prompts.conftest import ALICE, defaults

TEAMMATE = User("tom", {"teams": ["a"]})
STRANGER = User("eve", {"teams": ["e"]})
READERS = [
    {"permit": {"actions": ["create", "read", "update", "delete"]}, "when": "user is owner"},
    {"permit": {"actions": ["read"]}, "when": "user in owners teams"},
]


async def uses(store, prompt):
    yield store.get_prompt(prompt)
    yield store.get_prompt(prompt, version=1)
    yield store.list_prompt_versions(prompt)
    async for use in changes(store, prompt):
        yield use


async def changes(store, prompt):
    yield store.update_prompt(prompt, "x", 2)
    yield store.set_default_version(prompt, 1)
    yield store.delete_prompt(prompt)


@pytest.fixture
async def prompt(prompts):
    """Alice's prompt of two versions, and the store."""

    async def make(policy=None, **settings):
        store = prompts(policy, **settings)
        with acting_as(ALICE):
            made = await store.create_prompt("secret")
            await store.update_prompt(made["prompt_id"], "secret 2", 1)
        return store, made["prompt_id"]

    return make


async def unchanged(store, prompt):
    with acting_as(ALICE):
        versions = await store.list_prompt_versions(prompt)
        assert [one["prompt"] for one in versions.data] == ["secret", "secret 2"]
        assert await defaults(store, prompt) == [2]


@pytest.mark.parametrize("policy", [None, READERS])
async def test_a4_a_stranger_sees_and_changes_nothing(prompt, policy):
    """llama-stack: any tenant lists, edits and deletes all prompts."""
    store, made = await prompt(policy)
    with acting_as(STRANGER):
        assert (await store.list_prompts()).data == []
        assert (await store.list_prompts(limit=5)).data == []
        for wanted in (made, "pmpt_" + "0" * 48):
            async for use in uses(store, wanted):
                with pytest.raises(NotFoundError) as seen:
                    await use
                assert str(seen.value) == f"there is no prompt '{wanted}'"
    await unchanged(store, made)


async def test_who_may_only_read_changes_nothing(prompt):
    store, made = await prompt(READERS)
    with acting_as(TEAMMATE):
        assert (await store.get_prompt(made))["prompt"] == "secret 2"
        assert [one["prompt"] for one in (await store.list_prompts()).data] == ["secret 2"]
        async for use in changes(store, made):
            with pytest.raises(AccessDeniedError):
                await use
    await unchanged(store, made)


async def test_a_version_that_a_teammate_adds_is_a_part_of_the_prompt(prompt):
    store, made = await prompt()
    with acting_as(TEAMMATE):
        await store.update_prompt(made, "tom's", 2)
        await store.set_default_version(made, 1)
    with acting_as(ALICE):
        assert [one["prompt"] for one in (await store.list_prompt_versions(made)).data][
            2
        ] == "tom's"
        assert await defaults(store, made) == [1]
        await store.delete_prompt(made)
    with acting_as(TEAMMATE), pytest.raises(NotFoundError):
        await store.get_prompt(made, version=3)


async def test_tenants_are_apart(prompts):
    store = prompts(tenancy=Tenancy("multi"))
    with acting_as(User("alice", tenant_id="one")):
        made = (await store.create_prompt("secret"))["prompt_id"]
    with acting_as(User("alice", tenant_id="two")):
        assert (await store.list_prompts()).data == []
        async for use in uses(store, made):
            with pytest.raises(NotFoundError):
                await use
    with acting_as(User("alice", tenant_id="one")):
        assert (await store.get_prompt(made))["prompt"] == "secret"


async def test_creating_is_checked_and_nobody_is_refused(prompt, prompts):
    store, made = await prompt()
    async for use in uses(store, made):
        with pytest.raises(AccessDeniedError):
            await use
    for use in (store.list_prompts(), store.create_prompt("x")):
        with pytest.raises(AccessDeniedError):
            await use
    forbidding = prompts([{"permit": {"actions": ["read"]}}])
    with acting_as(ALICE):
        assert (await forbidding.get_prompt(made))["prompt"] == "secret 2"
        with pytest.raises(AccessDeniedError):
            await forbidding.create_prompt("x")
    await unchanged(store, made)


async def test_with_authorization_off_all_is_everybodys(prompts):
    store = prompts(auth=False)
    made = (await store.create_prompt("x"))["prompt_id"]
    with acting_as(STRANGER):
        await store.update_prompt(made, "y", 1)
    assert (await store.get_prompt(made))["prompt"] == "y"
    await store.delete_prompt(made)
