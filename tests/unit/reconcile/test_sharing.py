"""Stacks that use one table or kv namespace of one database."""

from __future__ import annotations

from typing import Any

import pytest

from stackstore_operator.reconcile.plan import plan
from stackstore_operator.reconcile.sharing import Sharing, told
from tests.unit.reconcile.samples import (
    DEFAULTS,
    LOGIN,
    NOW,
    applied,
    binding,
    change,
    conditions,
    inputs,
    message,
    postgres,
    sqlite,
    store,
)

TABLE = {("db", "t"): "table 't'"}


def words(sharing: Sharing, stack: tuple[str, str]) -> str:
    said = sharing.said(stack)
    assert said is not None
    assert (said.status == "True") == (not said.message)
    return said.message.removeprefix(
        "used by other stacks on the same database, which may be meant: "
    )


def test_names_in_ones_own_namespace_and_counts_of_others() -> None:
    sharing = Sharing()
    assert sharing.put(("a", "s"), TABLE) == set()
    assert words(sharing, ("a", "s")) == ""
    assert sharing.put(("a", "s2"), TABLE) == {("a", "s")}
    assert words(sharing, ("a", "s")) == "table 't': stack 's2'"
    assert sharing.put(("b", "secret-name"), TABLE) == {("a", "s"), ("a", "s2")}
    assert words(sharing, ("a", "s")) == "table 't': stack 's2' and 1 stack of other namespaces"
    assert words(sharing, ("b", "secret-name")) == "table 't': 2 stacks of other namespaces"
    assert sharing.put(("b", "other"), {("db", "u"): "table 'u'"}) == set()
    # Asking again is no news.
    assert sharing.put(("a", "s2"), TABLE) == set()
    assert sharing.put(("a", "s2"), {}) == {("a", "s"), ("b", "secret-name")}
    assert words(sharing, ("a", "s2")) == ""
    assert sharing.put(("b", "secret-name"), {}) == {("a", "s")}
    assert words(sharing, ("a", "s")) == ""


def test_who_is_told_is_exactly_whose_words_are_others() -> None:
    """However many share it, and in whichever order they come and go."""
    sharing = Sharing()
    stacks = [(f"n{number % 3 if number < 24 else number}", f"s{number}") for number in range(40)]
    present: list[tuple[str, str]] = []
    for here, stack in [*((True, s) for s in stacks), *((False, s) for s in stacks[::2])]:
        before = {s: words(sharing, s) for s in present}
        affected = sharing.put(stack, TABLE if here else {})
        present = [*present, stack] if here else [s for s in present if s != stack]
        assert stack not in affected
        turned = {s for s in present if s != stack and words(sharing, s) != before.get(s)}
        assert turned <= affected
        # Nor many more.
        assert len(affected - turned) <= 8
    assert any("10 or more stacks of other namespaces" in words(sharing, s) for s in present)


def test_nothing_is_kept_of_stacks_that_are_gone() -> None:
    sharing = Sharing()
    for number in range(5):
        sharing.put(("a", f"s{number}"), TABLE)
    for number in range(5):
        sharing.put(("a", f"s{number}"), {})
    assert not any(vars(sharing).values())


def test_after_a_start_nothing_is_said_before_all_are_known() -> None:
    sharing = Sharing()
    sharing.begin({("a", "s"), ("a", "s2")})
    assert sharing.put(("a", "s"), TABLE) == set()
    assert sharing.said(("a", "s")) is None
    sharing.put(("a", "s2"), TABLE)
    assert sharing.complete
    assert words(sharing, ("a", "s")) == "table 't': stack 's2'"


def test_what_was_said_stays_until_all_are_known() -> None:
    start = inputs()
    decided = plan(start)
    sharing = Sharing()
    for other in (("chat", "two"), ("chat", "chat")):
        sharing.put(other, decided.claims)
    shared = sharing.said(("chat", "chat"))
    statuses = told(start.bindings, decided.statuses, shared, NOW)
    found = next(c for c in statuses["chat"].conditions if c.type == "Exclusive")
    assert (found.status, found.reason) == ("False", "TableShared")
    assert statuses["chat"].conditions[0] == decided.statuses["chat"].conditions[0]
    bound = start.bindings[0].model_copy(update={"status": statuses["chat"]})
    kept = told([bound], decided.statuses, None, NOW + 9)
    assert kept["chat"].conditions[-1] == found
    # Of one that nothing was ever said of.
    (fresh,) = told(start.bindings, decided.statuses, None, NOW).values()
    assert (fresh.conditions[-1].status, fresh.conditions[-1].reason) == ("Unknown", "Waiting")


def claimed(*stores: dict[str, Any], backends: Any = None, login: Any = None) -> set[Any]:
    start = inputs(
        binding(stores=list(stores), defaults=DEFAULTS),
        backends=backends,
        secrets={("chat", "pg-app"): {**LOGIN, **(login or {})}},
    )
    decided = plan(start)
    assert conditions(decided)["Ready"] == ("True", "Ready"), message(decided, "Ready")
    return set(decided.claims)


INFERENCE = store("inference")


@pytest.mark.parametrize(
    ("login", "same"),
    [
        ({"host": b"PG-RW.chat.svc"}, True),
        ({"host": b"pg-rw.chat.svc.cluster.local"}, True),
        ({"username": b"another", "password": b"x"}, True),
        ({"host": b"pg-ro"}, False),
        ({"port": b"5433"}, False),
        ({"database": b"other"}, False),
    ],
)
def test_one_database_by_whatever_name_and_login(login: dict[str, bytes], same: bool) -> None:
    assert (claimed(INFERENCE) == claimed(INFERENCE, login=login)) is same
    if not same:
        assert not claimed(INFERENCE) & claimed(INFERENCE, login=login)


def test_names_that_fold_together_are_one() -> None:
    assert claimed(INFERENCE) == claimed(store("inference", tableName="Inference_Store"))
    assert claimed(INFERENCE) - claimed(store("inference", tableName="other"))
    kv = (postgres(), postgres("kv-default", type="kv_postgres"))
    one = claimed(store("metadata"), backends=kv)
    assert one - claimed(store("metadata", namespace="Registry"), backends=kv)
    assert one == claimed(store("metadata"), backends=kv)


def test_a_file_is_each_pods_own() -> None:
    files = (sqlite(), sqlite("sql-default", type="sql_sqlite", sqlite={"path": "/s.db"}))
    assert claimed(INFERENCE, backends=files) == set()


def test_what_is_held_back_claims_what_is_in_force() -> None:
    start = inputs()
    good = plan(start)
    held = plan(change(applied(start, good), secrets={}))
    assert held.config is None
    assert held.claims == good.claims
    assert good.claims
