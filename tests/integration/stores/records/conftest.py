"""Stores of records over real databases, with users."""

from __future__ import annotations

import pytest

from stackstore.access import AuthorizedSqlStore, User

ALICE = User("alice", {"teams": ["a"]})
ANN = User("ann", {"teams": ["a"]})
EVE = User("eve", {"teams": ["e"]})
OWN = [{"permit": {"actions": ["create", "read", "update", "delete"]}, "when": "user is owner"}]
READERS = [
    {"permit": {"actions": ["create", "read", "update", "delete"]}, "when": "user is owner"},
    {"permit": {"actions": "read"}, "when": "user in owners teams"},
]
"""One's own is one's own, and a team may look at it."""


@pytest.fixture
def authorized(place):
    """Makes authorized stores over the place, by default all over one SqlStore."""
    sql = None

    def make(policy=None, *, over=None, **settings):
        nonlocal sql
        sql = over or sql or place.store()
        return AuthorizedSqlStore(sql, policy, **settings)

    return make
