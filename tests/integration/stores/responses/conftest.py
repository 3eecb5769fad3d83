"""Responses stores over a place of either engine, and responses to put into them."""

from __future__ import annotations

import pytest
from sqlalchemy import event

from stackstore.access import AuthorizedSqlStore, User, acting_as
from stackstore.stores.responses import ResponsesStore

ALICE = User("alice", {"teams": ["red"]})
MATE = User("mate", {"teams": ["red"]})
EVE = User("eve", {"teams": ["blue"]})


@pytest.fixture
def make(place):
    """Makes stores over the place; by default all over one SqlStore."""
    sql = None

    def make(policy=None, *, over=None, table="responses", **settings):
        nonlocal sql
        sql = over or sql or place.store()
        return ResponsesStore(AuthorizedSqlStore(sql, policy, **settings), table)

    return make


@pytest.fixture
def store(make):
    """One store, and alice as the user."""
    with acting_as(ALICE):
        yield make()


def said(text, **more):
    return {"type": "message", "role": "user", "id": f"msg_{text}", "content": text, **more}


def answer(text):
    return {
        "type": "message",
        "role": "assistant",
        "id": f"out_{text}",
        "content": [{"type": "output_text", "text": text, "annotations": []}],
    }


def told(role, text):
    return {"role": role, "content": text}


def response(name, previous=None, **more):
    return {
        "id": name,
        "object": "response",
        "created_at": 1000,
        "model": "m",
        "status": "completed",
        "output": [answer(name)],
        "previous_response_id": previous,
        **more,
    }


async def chain(store, names, *, incremental=True, previous=None, messages=True):
    """Responses, each after the one before; returns what the last one's input and messages are."""
    whole, heard = [], []
    if previous is not None:
        before = await store.get_response_object(previous)
        whole, heard = [*before["input"], *before["output"]], list(before["messages"])
    for name in names:
        whole.append(said(name))
        heard += [told("user", name), told("assistant", name)]
        await store.store_response_object(
            response(name, previous),
            [said(name)] if incremental else whole,
            heard if messages else [],
            incremental_input=incremental,
        )
        expected = list(whole)
        whole.append(answer(name))
        previous = name
    return expected, heard


async def stored(place, what="count(*)", table="responses__parts"):
    return (await place.sql(f"SELECT {what} FROM @{table}"))[0][0]


async def everything(place):
    """The text of all tables of the store."""
    rows = []
    for table in ("responses", "responses__parts", "responses__conversation_messages"):
        rows += await place.sql(f"SELECT * FROM @{table}")
    return repr(rows)


class Statements:
    """What is sent to the database, without what begins and ends transactions."""

    def __init__(self, pool) -> None:
        self.sent = []
        event.listen(pool.engine.sync_engine, "before_cursor_execute", self._note)

    def _note(self, _connection, _cursor, statement, parameters, *_):
        if not statement.startswith(("BEGIN", "COMMIT", "PRAGMA", "SAVEPOINT", "RELEASE")):
            self.sent.append((statement, parameters))

    def of(self, word, table):
        return [one for one in self.sent if one[0].startswith(word) and f'{table}"' in one[0]]
