"""Stores of prompts over one database, on both engines."""

from __future__ import annotations

import pytest

from stackstore.access import AuthorizedSqlStore, User, acting_as
from stackstore.stores.prompts import PromptsStore

ALICE = User("alice", {"teams": ["a"]})


@pytest.fixture
def prompts(place):
    """Makes stores that share a database: `prompts(policy, **settings)`."""
    sql = None

    def make(policy=None, **settings):
        nonlocal sql
        sql = sql or place.store()
        return PromptsStore(AuthorizedSqlStore(sql, policy, **settings), "my_prompts")

    return make


@pytest.fixture
async def store(prompts):
    """A store; the test is alice."""
    with acting_as(ALICE):
        yield prompts()


async def defaults(store, prompt_id):
    """The versions that are the default."""
    versions = await store.list_prompt_versions(prompt_id)
    return [one["version"] for one in versions.data if one["is_default"]]
