"""Inference stores over real databases, and what their tests ask of them."""

from __future__ import annotations

import contextlib

import pytest

from stackstore.access import AuthorizedSqlStore, User, acting_as
from stackstore.stores.inference import InferenceStore
from tests.integration.sql.conftest import Place
from tests.integration.stores.conftest import locked as of_a_table

TABLE = "inference"
ALICE = User("alice", {"teams": ["a"]})
BOB = User("bob", {"teams": ["b"]})
CAROL = User("carol", {"teams": ["a"]})
USERS = {user.principal: user for user in (ALICE, BOB, CAROL)}


def completion(name, created=1_700_000_000, model="m", said="hello", **more):
    """What a model's server answers."""
    return {
        "id": name,
        "object": "chat.completion",
        "created": created,
        "model": model,
        "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": said}}],
        **more,
    }  # fmt: skip


def asked(text="hi"):
    """What it was asked."""
    return [{"role": "user", "content": text}]


def inference(place: Place, *, policy=None, over=None, pool=None, table=TABLE, auth=True, tenancy=None, **options):  # fmt: skip
    """A store that nobody ends."""
    sql = over or place.store(**(pool or {}))
    authorized = AuthorizedSqlStore(sql, policy, auth=auth, tenancy=tenancy)
    return InferenceStore(authorized, table, **options)


@pytest.fixture
async def make():
    """Makes stores that end with the test: `make(place, **options)`."""
    made = []

    def one(place, **options):
        made.append(inference(place, **options))
        return made[-1]

    yield one
    for store in made:
        with contextlib.suppress(Exception):
            await store.shutdown(0.2)


async def keep(store, user, *names, **more):
    with acting_as(user):
        for name in names:
            await store.store_chat_completion(completion(name, **more), asked(name))


async def ids(store, user, **how):
    with acting_as(user):
        return [found["id"] for found in (await store.list_chat_completions(**how)).data]


async def get(store, user, name):
    with acting_as(user):
        return await store.get_chat_completion(name)


async def delete(store, user, name):
    with acting_as(user):
        await store.delete_chat_completion(name)


async def rows(place, columns="id", table=TABLE):
    """What is in the table, seen from outside."""
    return sorted(await place.sql(f"SELECT {columns} FROM @{table}"))


async def letters(place):
    return await place.sql("SELECT identity, reason, payload FROM @dead_letters ORDER BY sequence")


def locked(place, table=TABLE):
    """Nobody writes to the table meanwhile; reading goes on."""
    return of_a_table(place, table, "SHARE")
