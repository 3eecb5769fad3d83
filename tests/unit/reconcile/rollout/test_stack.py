"""What counts as a change of what pods start with, and what is noted of it."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from stackstore_operator.kube.workloads import Workload, Workloads
from stackstore_operator.reconcile import continuity, record
from stackstore_operator.reconcile.budget.ledger import Ledger
from stackstore_operator.reconcile.inputs import StackInputs
from stackstore_operator.reconcile.plan import Plan, plan
from stackstore_operator.reconcile.record import Content
from stackstore_operator.reconcile.rollout.course import Observed
from tests.unit.reconcile import samples
from tests.unit.reconcile.samples import (
    DEFAULTS,
    KEY,
    LOGIN,
    NOW,
    applied,
    binding,
    change,
    judged,
    postgres,
    sqlite,
    store,
)

STORES = [store("metadata"), store("inference")]


def chat(strategy: str = "Restart", **spec: Any):
    spec = {"stores": STORES, "defaults": DEFAULTS, "consumers": [{"name": "chat"}], **spec}
    return binding(rollout={"strategy": strategy}, **spec)


def deployment(**annotations: str) -> Workloads:
    """A Deployment that is well."""
    obj = {
        "metadata": {"name": "chat", "uid": "u", "generation": 1},
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": {"app": "chat"}},
            "template": {"metadata": {"annotations": annotations}},
        },
        "status": {"observedGeneration": 1, "replicas": 1, "updatedReplicas": 1, "availableReplicas": 1},
    }  # fmt: skip
    return Workloads({("Deployment", "chat"): Workload(obj)})


def start(**given: Any) -> StackInputs:
    return change(
        samples.inputs(
            given.pop("of", chat()),
            backends=given.pop("backends", (postgres(verification={"mode": "None"}), sqlite())),
        ),
        workloads=deployment(),
        **given,
    )


def noted(inputs: StackInputs) -> Content | None:
    return record.read(inputs.secret, KEY, "chat", "chat").content


def settled(inputs: StackInputs) -> StackInputs:
    return applied(inputs, plan(inputs))


def later(inputs: StackInputs, **changes: Any) -> StackInputs:
    return change(inputs, now=inputs.now + 100, **changes)


def said(decided: Plan) -> tuple[str, str]:
    (one,) = (c for c in decided.statuses["chat"].conditions if c.type == "RolledOut")
    return one.status, one.reason


def test_it_is_noted_with_its_time_and_stays_the_same_while_nothing_changes():
    inputs = settled(start())
    first = noted(inputs)
    assert first is not None
    assert first.since == NOW
    again = plan(later(inputs))
    assert again.secret == plan(inputs).secret
    assert said(again) == ("True", "RolledOut")


@pytest.mark.parametrize(
    "changes",
    [
        {"secrets": {("chat", "pg-app"): {**LOGIN, "password": b"second"}}},
        {"secrets": {("chat", "pg-app"): {**LOGIN, "host": b"elsewhere"}}},
        {"backends": (postgres(verification={"mode": "None"}, postgres={"pool": {"size": 3}}), sqlite())},
        {"bindings": (chat(stores=[STORES[0], store("inference", tableName="other")]),)},
    ],
)  # fmt: skip
def test_what_a_server_reads_once_counts(changes):
    inputs = settled(start())
    changed = settled(later(inputs, **changes))
    before, after = noted(inputs), noted(changed)
    assert before
    assert after
    assert after.revision != before.revision
    assert after.since == NOW + 100


def test_a_previous_login_that_goes_is_no_change():
    inputs = settled(start())
    rotated = settled(later(inputs, secrets={("chat", "pg-app"): {**LOGIN, "password": b"second"}}))
    gone = plan(change(rotated, now=rotated.now + 10_000))
    assert gone.secret != plan(rotated).secret
    assert noted(applied(rotated, gone)) == noted(rotated)


def test_what_somebody_edits_and_is_put_back_is_no_change():
    inputs = settled(start())
    config_map = {**inputs.config_map, "data": {"config.yaml": "theirs: 1"}}
    secret = {**inputs.secret, "data": {**inputs.secret["data"], "stackstore.json": "e30="}}
    for edited in ({"config_map": config_map}, {"secret": secret}):
        assert noted(settled(later(inputs, **edited))) == noted(inputs)


def test_a_secret_that_somebody_deletes_makes_no_pod_old():
    inputs = settled(start())
    back = noted(settled(later(inputs, secret=None)))
    before = noted(inputs)
    assert back
    assert before
    assert back.revision == before.revision
    assert back.since == 0


def test_a_note_that_somebody_forges_counts_as_none():
    inputs = settled(start())
    data = inputs.secret["data"]
    text = base64.b64decode(data["operator.json"]).replace(b'"since": 18', b'"since": 19')
    forged = {**inputs.secret, "data": {**data, "operator.json": base64.b64encode(text).decode()}}
    assert noted(change(inputs, secret=forged)) is None


def test_turned_on_later_it_counts_from_the_last_write():
    inputs = settled(start(of=chat("HotReload")))
    assert noted(inputs) is None
    assert "RolledOut" not in {c.type for c in plan(inputs).statuses["chat"].conditions}
    times = [
        {"manager": "stackstore-operator", "operation": "Apply", "time": "2027-01-15T07:00:00Z"},
        {"manager": "other", "operation": "Update", "time": "2027-01-15T07:59:00Z"},
    ]
    metadata = {**inputs.secret["metadata"], "managedFields": times}
    on = settled(later(inputs, bindings=(chat(),), secret={**inputs.secret, "metadata": metadata}))
    found = noted(on)
    assert found
    assert found.since == NOW - 3600


def test_a_pool_that_a_budget_makes_smaller_restarts_nobody():
    bound = (postgres(verification={"mode": "None"}, maxConnections=70), sqlite())
    inputs, books = start(backends=bound), Ledger(lambda *_: None)
    granted = applied(inputs, judged(inputs, books))
    more = deployment()
    more.by_name["Deployment", "chat"].obj["spec"]["replicas"] = 3
    scaled = later(granted, workloads=more)
    after = applied(scaled, judged(scaled, books))
    assert (
        plan_of(after).backends["sql_default"].pool != plan_of(granted).backends["sql_default"].pool
    )
    assert noted(after) == noted(granted)


def plan_of(inputs: StackInputs):
    return continuity.read(inputs).snapshot


@pytest.mark.parametrize(
    ("verified", "held"),
    [(("True", "Connected"), False), (("False", "LoginRefused"), True), (("Unknown", "Unreachable"), True)],
)  # fmt: skip
def test_the_backends_own_condition_holds_a_restart(verified, held):
    backend = postgres()
    inputs = settled(start(backends=(backend, sqlite())))
    login = settled(later(inputs, secrets={("chat", "pg-app"): {**LOGIN, "password": b"second"}}))
    (now,) = (
        b.current.revision
        for b in continuity.read(login).snapshot.backends.values()
        if b.type == "sql_postgres"
    )
    status, reason = verified
    condition = {
        "type": "Verified", "status": status, "reason": reason, "message": "",
        "observedGeneration": 1, "lastTransitionTime": "2027-01-15T08:00:00Z",
    }  # fmt: skip
    told = type(backend).model_validate(
        backend.model_dump(by_alias=True) | {"status": {"revision": now, "conditions": [condition]}}
    )
    observed = Observed(now=100.0, started={("Deployment", "chat"): NOW})
    first = plan(change(login, backends=(told, sqlite()), observed=observed))
    assert first.rolling
    assert said(first)[1] == "RolloutWaiting"
    after = Observed(now=110.0, started=observed.started, course=first.rolling.decision.course)
    second = plan(change(login, backends=(told, sqlite()), observed=after))
    assert second.rolling
    assert said(second)[1] == ("RolloutHeld" if held else "RollingOut")
    assert (second.rolling.decision.restart is None) is held
