"""Who shares a pool, and who keeps it when the snapshot changes."""

import pytest

from stackstore.credentials.snapshot import Login, PoolSettings, PostgresBackend, SqliteBackend, Tls
from stackstore.pools.pooling import groups, successors

LOGIN = Login(host="db", port=5432, database="stack", username="app", password="x")


def backend(kind="sql_postgres", login=LOGIN, **fields):
    return PostgresBackend(type=kind, current=login, **fields)


def moved(**changes):
    return LOGIN.model_copy(update=changes)


def members(backends):
    return [group.members for group in groups(backends)]


def test_one_database_is_one_pool_whatever_name_and_family():
    assert members({"kv": backend("kv_postgres"), "sql": backend(), "other": backend()}) == [
        ("kv", "other", "sql")
    ]


@pytest.mark.parametrize(
    "other",
    [
        backend(login=moved(host="db2")),
        backend(login=moved(port=5433)),
        backend(login=moved(database="Stack")),
        backend(login=moved(username="app2")),
        backend(tls=Tls(mode="Require")),
        backend(tls=Tls(mode="VerifyCA", ca="x")),
        backend(pooler="Session"),
    ],
)
def test_any_difference_that_a_connection_depends_on_parts_them(other):
    assert members({"a": backend(), "b": other}) == [("a",), ("b",)]


def test_what_makes_no_difference():
    assert len(members({"a": backend(), "b": backend(login=moved(host="DB"))})) == 1
    assert len(members({"a": backend(), "b": backend(login=moved(revision="0" * 8))})) == 1


def test_files_share_by_path():
    one, other = (
        SqliteBackend(type="kv_sqlite", path="/a"),
        SqliteBackend(type="sql_sqlite", path="/b"),
    )
    same = SqliteBackend(type="sql_sqlite", path="/a")
    assert members({"k": one, "o": other, "s": same}) == [("k", "s"), ("o",)]


def test_the_pool_is_the_largest_asked_for_and_the_most_patient():
    (group,) = groups(
        {
            "a": backend(
                pool=PoolSettings(size=5, max_overflow=20, recycle_seconds=-1),
                statement_timeout_seconds=5,
            ),
            "b": backend(
                pool=PoolSettings(
                    size=10, max_overflow=2, recycle_seconds=60, acquire_timeout_seconds=90
                ),
                statement_timeout_seconds=30,
            ),
        }
    )
    assert group.backend.pool == PoolSettings(
        size=5, max_overflow=20, recycle_seconds=60, acquire_timeout_seconds=90
    )
    assert group.backend.statement_timeout_seconds == 30
    (group,) = groups({"a": backend(statement_timeout_seconds=5), "b": backend()})
    assert group.backend.statement_timeout_seconds is None


def test_a_rotated_user_keeps_the_pool():
    before = groups({"a": backend(), "b": backend()})
    after = groups({name: backend(login=moved(username="new")) for name in "ab"})
    assert successors({"a": 0, "b": 0}, {0: before[0].key}, after) == {("a", "b"): 0}


def test_who_stays_where_it_was_keeps_the_pool_and_its_connections():
    (before,) = groups({"a": backend(), "b": backend()})
    after = groups({"a": backend(login=moved(host="db2")), "b": backend()})
    assert successors({"a": 0, "b": 0}, {0: before.key}, after) == {("a",): None, ("b",): 0}
    # Even against a majority that moved.
    names = dict.fromkeys("abc", 0)
    after = groups({**{n: backend(login=moved(host="db2")) for n in "bc"}, "a": backend()})
    assert successors(names, {0: before.key}, after) == {("a",): 0, ("b", "c"): None}


def test_who_joins_takes_the_pool_that_is_there():
    a, b = groups({"a": backend(), "b": backend(login=moved(host="db2"))})
    after = groups({"a": backend(), "b": backend()})
    assert successors({"a": 0, "b": 1}, {0: a.key, 1: b.key}, after) == {("a", "b"): 0}
    after = groups({name: backend(login=moved(host="db2")) for name in "ab"})
    assert successors({"a": 0, "b": 1}, {0: a.key, 1: b.key}, after) == {("a", "b"): 1}


def test_two_that_swap_their_databases_swap_their_pools():
    a, b = groups({"a": backend(), "b": backend(login=moved(host="db2"))})
    after = groups({"a": backend(login=moved(host="db2")), "b": backend()})
    # Neither pool served a member of the new group before, so each rotates its own.
    assert successors({"a": 0, "b": 1}, {0: a.key, 1: b.key}, after) == {("a",): 0, ("b",): 1}


def test_all_new_is_all_new():
    after = groups({"a": backend(), "b": backend(login=moved(host="db2"))})
    assert successors({}, {}, after) == {("a",): None, ("b",): None}
