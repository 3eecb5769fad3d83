"""Earlier logins leave a stack's Secret before their grace is over, when nobody uses them any more."""

from __future__ import annotations

from typing import Any, cast

import pytest

from stackstore_operator.api.conditions import Reason
from stackstore_operator.reconcile.conditions import Said, timed
from stackstore_operator.reconcile.inputs import StackInputs
from stackstore_operator.reconcile.plan import plan
from tests.unit.reconcile.samples import (
    LOGIN,
    NOW,
    applied,
    change,
    inputs,
    postgres,
    snapshot,
    sqlite,
)


def rotated(**status: str) -> StackInputs:
    """After a rotation, with a status of the backend about the login that is current now."""
    start = inputs()
    start = applied(start, plan(start))
    second = change(start, secrets={("chat", "pg-app"): {**LOGIN, "password": b"second"}})
    current = snapshot(plan(second)).backends["sql_default"].current
    said = [
        Said(type_, cast("Any", found), Reason.READY)
        for type_, found in {"Verified": "True", "Adopted": "True", **status}.items()
        if type_ != "revision"
    ]
    made = postgres()
    made = made.model_copy(
        update={
            "status": made.status.model_copy(
                update={
                    "conditions": timed(said, [], 1, NOW),
                    "revision": status.get("revision", current.revision),
                }
            )
        }
    )
    return change(second, backends=(made, sqlite()))


def test_an_earlier_login_leaves_when_nobody_uses_it_any_more() -> None:
    decided = plan(rotated())
    assert snapshot(decided).backends["sql_default"].previous == ()
    assert (decided.again_at, decided.earlier) == (None, {})
    # What is there leaves as well, and that is all that differs.
    waiting = rotated(Adopted="Unknown")
    held = applied(waiting, plan(waiting))
    now = change(held, backends=tuple(rotated().backends.values()))
    assert plan(held).secret != plan(now).secret
    assert plan(held).config == plan(now).config


@pytest.mark.parametrize(
    "status",
    [
        {"Adopted": "False"},
        {"Adopted": "Unknown"},
        {"Verified": "False"},
        {"Verified": "Unknown"},
        {"revision": "ffffffff"},
    ],
)
def test_until_then_it_stays_for_its_grace(status: dict[str, str]) -> None:
    decided = plan(rotated(**status))
    (previous,) = snapshot(decided).backends["sql_default"].previous
    assert previous.usable_until == NOW + 300
    assert decided.earlier == {("chat", "sql-default"): False}


def test_an_earlier_login_for_another_address_is_known_as_such() -> None:
    start = inputs()
    start = applied(start, plan(start))
    moved = change(start, secrets={("chat", "pg-app"): {**LOGIN, "host": b"elsewhere"}})
    assert plan(moved).earlier == {("chat", "sql-default"): True}
