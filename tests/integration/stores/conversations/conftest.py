"""Stores of conversations over one database, on both engines."""

from __future__ import annotations

import pytest

from stackstore.access import AuthorizedSqlStore, User, acting_as
from stackstore.stores.conversations import ConversationsStore

ALICE = User("alice", {"teams": ["a"]})


@pytest.fixture
def conversations(place):
    """Makes stores that share a database: `conversations(policy, **settings)`."""
    sql = None

    def make(policy=None, **settings):
        nonlocal sql
        sql = sql or place.store()
        return ConversationsStore(AuthorizedSqlStore(sql, policy, **settings), "talks")

    return make


@pytest.fixture
async def store(conversations):
    """A store; the test is alice."""
    with acting_as(ALICE):
        yield conversations()


def said(text, **more):
    return {"type": "message", "role": "user", "content": text, **more}


async def every(store, conversation_id, **options):
    """All items, page by page."""
    found, cursor = [], None
    while True:
        page = await store.list_items(conversation_id, cursor=cursor, **{"order": "asc", **options})
        found += page.data
        cursor = page.next_cursor
        if cursor is None:
            assert not page.has_more
            return found


async def texts(store, conversation_id, **options):
    return [item["content"] for item in await every(store, conversation_id, **options)]
