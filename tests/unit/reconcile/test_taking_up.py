"""A binding's Adopted comes from what was found with the login that its stack has now."""

from __future__ import annotations

from dataclasses import replace

from stackstore_operator.api.conditions import Reason
from stackstore_operator.probe.finding import Finding, Outcome, Processes, Sight
from stackstore_operator.reconcile.inputs import StackInputs
from stackstore_operator.reconcile.plan import plan
from stackstore_operator.reconcile.tally import Use
from tests.unit.reconcile.samples import LOGIN, applied, change, conditions, inputs, snapshot

KEY = ("chat", "sql-default")


def seen(start: StackInputs, revision: str, *, proven: str) -> StackInputs:
    """One process, which has proven a revision; found with the login of a revision."""
    stack_id = snapshot(plan(start)).stack_id
    sight = Sight((Processes("sql_default", proven, 1),))
    found = Finding(
        revision, Outcome("True", Reason.CONNECTED, ""), "16.4", 100, "read", {stack_id: sight}
    )
    # The bindings' names for it may differ from those in force.
    use = Use(stack_id, frozenset({"renamed"}))
    return replace(start, findings={KEY: found}, uses={KEY: use})


def current(start: StackInputs) -> str:
    return snapshot(plan(start)).backends["sql_default"].current.revision  # type: ignore[union-attr]


def test_what_was_found_with_the_login_of_now_counts() -> None:
    start = inputs()
    now = current(start)
    assert conditions(plan(seen(start, now, proven=now)))["Adopted"] == ("True", "Adopted")
    waiting = plan(seen(start, now, proven="ffffffff"))
    assert conditions(waiting)["Adopted"] == ("False", "ProcessesWaiting")
    # What was found with another login is nothing.
    old = plan(seen(start, "ffffffff", proven="ffffffff"))
    assert conditions(old)["Adopted"] == ("Unknown", "Verifying")


def test_what_was_taken_up_stays_said_until_another_login_comes() -> None:
    start = inputs()
    now = current(start)
    adopted = seen(start, now, proven=now)
    after = applied(adopted, plan(adopted))
    restarted = replace(after, findings={})
    assert conditions(plan(restarted))["Adopted"] == ("True", "Adopted")
    rotated = change(restarted, secrets={("chat", "pg-app"): {**LOGIN, "password": b"second"}})
    assert conditions(plan(rotated))["Adopted"] == ("Unknown", "Verifying")
