"""Budgets from a stack's objects to its condition and its Secret: the arithmetic, and what is kept."""

from __future__ import annotations

import json
from typing import Any

import pytest

from stackstore_operator.api.backend import StorageBackend
from stackstore_operator.kube.workloads import NONE, Workload, Workloads
from stackstore_operator.probe import outcomes
from stackstore_operator.probe.finding import Finding
from stackstore_operator.reconcile.budget import ruling
from stackstore_operator.reconcile.budget.ledger import Ledger, Place
from stackstore_operator.reconcile.budget.ruling import Budget
from stackstore_operator.reconcile.budget.shares import Claim
from stackstore_operator.reconcile.conditions import timed
from stackstore_operator.reconcile.inputs import StackInputs
from stackstore_operator.reconcile.plan import Plan, plan, prepare
from stackstore_operator.reconcile.record import RECORD_KEY
from tests.unit.reconcile.samples import (
    DEFAULTS,
    LOGIN,
    NOW,
    applied,
    binding,
    change,
    conditions,
    inputs,
    judged,
    message,
    output,
    postgres,
    snapshot,
    sqlite,
    store,
)

LATER = "2026-01-02T00:00:00Z"
SQL = ("chat", "sql-default")
BOUND: dict[str, Any] = {"stores": [store("inference")], "defaults": DEFAULTS}


def deployment(replicas: int, surge: Any = "25%", name: str = "chat") -> Workloads:
    spec = {"replicas": replicas, "strategy": {"rollingUpdate": {"maxSurge": surge}}}
    return Workloads(
        {("Deployment", name): Workload({"metadata": {"name": name, "uid": "u"}, "spec": spec})}
    )


def stack(
    budget: int | None = 200,
    workloads: Workloads = NONE,
    workers: int = 1,
    pool: dict[str, int] | None = None,
    backends: tuple[StorageBackend, ...] = (),
    **spec: Any,
) -> StackInputs:
    limit = {} if budget is None else {"maxConnections": budget}
    consumers = {"consumers": [{"name": "chat", "workers": workers}]} if workloads.by_name else {}
    return inputs(
        binding(**{**BOUND, **consumers, **spec}),
        backends=(postgres(postgres={"pool": pool or {}}, **limit), sqlite(), *backends),
        workloads=workloads,
    )


def claims(found: StackInputs) -> list[tuple[str, int, str]]:
    return [(c.binding, c.ask, c.terms) for c in prepare(found).demand.claims]


def grants(decided: Plan) -> dict[str, int]:
    assert decided.secret is not None
    found: dict[str, int] = json.loads(decided.secret[RECORD_KEY]).get("grants", {})
    return found


def pool(decided: Plan, name: str = "sql_default") -> tuple[int, int]:
    found = snapshot(decided).backends[name]
    return found.pool.size, found.pool.max_overflow  # type: ignore[union-attr]


# -- the arithmetic


@pytest.mark.parametrize(
    ("found", "ask", "terms"),
    [
        (stack(), 30, "1 pod × 1 worker × (10 + 20)"),
        (stack(workloads=deployment(2)), 90, "(2 pods + 1 surge) × 1 worker × (10 + 20)"),
        (stack(workloads=deployment(2, 0), workers=4), 240, "2 pods × 4 workers × (10 + 20)"),
        (stack(workloads=deployment(1, 0), pool={"size": 3, "maxOverflow": 0}), 3,
         "1 pod × 1 worker × (3 + 0)"),
        (stack(workloads=Workloads({**deployment(2, 0).by_name, **deployment(1, 0, "jobs").by_name}),
               consumers=[{"name": "chat"}, {"name": "jobs", "workers": 2}]), 120,
         "(2 pods × 1 worker + 1 pod × 2 workers) × (10 + 20)"),
    ],
)  # fmt: skip
def test_what_a_stack_asks(found, ask, terms):
    assert claims(found) == [("chat", ask, terms)]


KV = postgres("kv-default", type="kv_postgres", postgres={"pool": {"size": 20, "maxOverflow": 20}})


@pytest.mark.parametrize(
    ("strategy", "expected"),
    [
        # One pool for both, the largest: kv's backend was named before sql's, by its store.
        ({}, {("chat", "kv-default"): 40}),
        ({"rollout": {"strategy": "HotReload"}}, {("chat", "kv-default"): 40}),
        # A stock server has one for each.
        ({"rollout": {"strategy": "None"}}, {("chat", "kv-default"): 40, SQL: 30}),
    ],
)
def test_backends_with_one_login_share_a_pool_in_the_runtime(strategy, expected):
    found = inputs(
        binding(stores=[store("metadata"), store("inference")], **strategy),
        backends=(KV, postgres()),
    )
    assert {c.backend: c.ask for c in prepare(found).demand.claims} == expected


def test_a_smaller_pool_that_comes_first_claims_its_own_part():
    found = inputs(
        binding(stores=[store("inference"), store("metadata")]), backends=(KV, postgres())
    )
    assert {c.backend[1]: (c.ask, c.terms) for c in prepare(found).demand.claims} == {
        "sql-default": (30, "1 pod × 1 worker × (10 + 20)"),
        "kv-default": (10, "1 pod × 1 worker × 10"),
    }


def test_a_younger_binding_asks_for_what_it_adds_to_the_stack():
    young = binding("young", born=LATER, stores=[store("responses")], consumers=[{"name": "chat"}])
    found = inputs(binding(**BOUND), young, workloads=deployment(3, 0))
    assert claims(found) == [
        ("chat", 30, "1 pod × 1 worker × (10 + 20)"),
        ("young", 60, "90 - 30 that older bindings of the stack ask"),
    ]


def test_files_claim_nothing():
    found = inputs(
        binding(stores=[store("metadata")], defaults={"kv": DEFAULTS["kv"]}), backends=(sqlite(),)
    )
    assert claims(found) == []


# -- what comes of it


def test_a_stack_within_its_budget_is_rendered_and_notes_its_grant():
    decided = judged(stack(workloads=deployment(2)))
    assert conditions(decided)["WithinBudget"] == ("True", "Granted")
    assert message(decided, "WithinBudget") == (
        "StorageBackend 'sql-default': (2 pods + 1 surge) × 1 worker × (10 + 20) = 90"
    )
    assert conditions(decided)["Ready"] == ("True", "Ready")
    assert grants(decided) == {"chat chat/sql-default": 90}
    assert pool(decided) == (10, 20)


def test_without_a_budget_nothing_is_said_or_noted():
    decided = judged(stack(budget=None, workloads=deployment(900)))
    assert "WithinBudget" not in conditions(decided)
    assert grants(decided) == {}
    assert decided == plan(stack(budget=None, workloads=deployment(900)))


def full() -> Ledger:
    """A ledger in which most is taken: by four of this namespace and two of others."""
    books = Ledger(lambda *_: None)
    held = [("chat", n, 20) for n in "abcd"] + [("far", "x", 30), ("away", "secret-name", 40)]
    for namespace, name, count in held:
        claim = Claim((namespace, name), name, SQL, "2025", count, held=count)
        books.note((namespace, name), [claim], {SQL: Place(("chat", "pg-rw.chat.svc", 5432), 200)})
    return books


def test_who_does_not_fit_is_refused_with_the_arithmetic():
    decided = judged(stack(workloads=deployment(2)), full())
    assert conditions(decided)["WithinBudget"] == ("False", "BudgetExceeded")
    assert conditions(decided)["Ready"] == ("False", "BudgetExceeded")
    assert conditions(decided)["Rendered"] == ("Unknown", "Waiting")
    assert (decided.config, decided.secret) == (None, None)
    words = message(decided, "WithinBudget")
    assert (
        words
        == message(decided, "Ready")
        == (
            "StorageBackend 'sql-default': asks (2 pods + 1 surge) × 1 worker × (10 + 20) = 90; of 200, 80 "
            "to 4 bindings of this namespace and 70 to 2 bindings of other namespaces are granted, 1 kept "
            "for verification, 49 are free. Scale down, make `postgres.pool` smaller, or raise "
            "`maxConnections`"
        )
    )
    assert "secret-name" not in str(decided)
    # The Deployment rolls, and has a SQLite file besides.
    assert [a.reason for a in decided.announcements] == ["BudgetExceeded", "FileShared"]


def test_verification_that_is_off_needs_no_connection():
    off = postgres(maxConnections=30, verification={"mode": "None"})
    on = postgres(maxConnections=30)
    for backend, answer in ((off, "Granted"), (on, "BudgetExceeded")):
        decided = judged(inputs(backends=(backend, sqlite())))
        assert conditions(decided)["WithinBudget"][1] == answer


def running(budget: int | None = 100, replicas: int = 2, **more: Any) -> StackInputs:
    start = stack(budget, deployment(replicas, 0), **more)
    return applied(start, judged(start))


def test_who_grows_beyond_it_keeps_the_grant_and_its_pools_are_made_to_fit():
    start = running()
    grown = change(start, workloads=deployment(6, 0))
    decided = judged(grown)
    assert conditions(decided)["WithinBudget"] == ("False", "GrantKept")
    assert conditions(decided)["Ready"] == ("True", "Ready")
    assert "asks 6 pods × 1 worker × (10 + 20) = 180 and keeps the 60" in message(
        decided, "WithinBudget"
    )
    assert grants(decided) == {"chat chat/sql-default": 60}
    assert pool(decided) == (10, 0)  # 6 × 10 = 60
    again = judged(applied(grown, decided))
    assert again.secret == decided.secret
    assert again.statuses == decided.statuses
    # As much as each process needs to work at all.
    assert pool(judged(change(start, workloads=deployment(500, 0)))) == (1, 0)
    back = judged(change(applied(grown, decided), workloads=deployment(3, 0)))
    assert conditions(back)["WithinBudget"] == ("True", "Granted")
    assert pool(back) == (10, 20)


def test_a_pool_that_is_made_larger_beyond_it_stays_as_large_as_it_was():
    start = running()
    larger = postgres(postgres={"pool": {"size": 50, "maxOverflow": 50}}, maxConnections=100)
    decided = judged(change(start, backends=(larger, sqlite())))
    assert conditions(decided)["WithinBudget"] == ("False", "GrantKept")
    assert pool(decided) == (30, 0)


def test_a_budget_that_becomes_smaller_cuts_nobody_off_and_is_told():
    start = running()
    smaller = change(start, backends=(postgres(maxConnections=40), sqlite()))
    decided = judged(smaller)
    assert conditions(decided)["WithinBudget"] == ("False", "Overcommitted")
    assert conditions(decided)["Ready"] == ("True", "Ready")
    assert "holds 60, and 60 of 39 are granted in all" in message(decided, "WithinBudget")
    assert decided.secret == judged(start).secret


def test_who_ran_before_there_was_a_budget_goes_on():
    start = running(budget=None)
    decided = judged(change(start, backends=(postgres(maxConnections=40), sqlite())))
    assert conditions(decided)["WithinBudget"] == ("False", "Overcommitted")
    assert grants(decided) == {"chat chat/sql-default": 60}
    assert pool(decided) == (10, 20)


def test_a_secret_that_somebody_deletes_costs_nobody_the_grant():
    start = change(running(), backends=(postgres(maxConnections=40), sqlite()), secret=None)
    decided = judged(start)
    assert conditions(decided)["Ready"] == ("True", "Ready")
    assert grants(decided) == {"chat chat/sql-default": 60}


def test_before_its_workloads_are_there_nothing_is_granted():
    start = stack(consumers=[{"name": "chat"}])
    decided = judged(start)
    assert conditions(decided)["WithinBudget"] == ("Unknown", "Waiting")
    assert conditions(decided)["Ready"] == ("Unknown", "Waiting")
    assert "consumers" in message(decided, "Ready")
    assert decided.secret is None
    assert conditions(judged(change(start, workloads=deployment(2))))["Ready"] == ("True", "Ready")
    # Without a budget nobody waits for anything.
    free = judged(stack(budget=None, consumers=[{"name": "chat"}]))
    assert conditions(free)["Ready"] == ("True", "Ready")


def test_a_workload_that_goes_keeps_its_place():
    decided = judged(change(running(), workloads=NONE))
    assert conditions(decided)["WithinBudget"] == ("True", "Granted")
    assert conditions(decided)["ConsumersResolved"] == ("False", "ConsumerNotFound")
    assert grants(decided) == {"chat chat/sql-default": 60}
    assert pool(decided) == (10, 20)


def test_a_younger_binding_that_does_not_fit_leaves_the_last_good_and_the_logins_go_on():
    start = running()
    far = postgres("far", maxConnections=10, postgres={"host": "elsewhere.x"})
    young = binding("young", born=LATER, stores=[store("responses", backendRef={"name": "far"})])
    both = change(
        start,
        bindings=(*start.bindings, young),
        backends=(postgres(maxConnections=100), sqlite(), far),
    )
    decided = judged(both)
    assert conditions(decided, "young")["Ready"] == ("False", "BudgetExceeded")
    assert conditions(decided)["WithinBudget"] == ("True", "Granted")
    assert conditions(decided)["Rendered"] == ("Unknown", "Waiting")
    assert "'young' asks for is beyond a budget" in message(decided, "Rendered")
    assert decided.config is None
    assert snapshot(decided).backends.keys() == {"kv_default", "sql_default"}
    assert grants(decided) == {"chat chat/sql-default": 60}
    assert pool(decided) == (10, 20)
    rotated = judged(change(both, secrets={("chat", "pg-app"): {**LOGIN, "password": b"second"}}))
    current = snapshot(rotated).backends["sql_default"].current  # type: ignore[union-attr]
    assert current.password.get_secret_value() == "second"


def test_a_younger_binding_that_is_refused_makes_nobodys_pool_smaller():
    start = running()
    more = [{"name": "chat"}, {"kind": "StatefulSet", "name": "jobs"}]
    young = binding("young", born=LATER, stores=[store("responses")], consumers=more)
    jobs = {
        ("StatefulSet", "jobs"): Workload({"metadata": {"name": "jobs"}, "spec": {"replicas": 9}})
    }
    both = Workloads({**deployment(2, 0).by_name, **jobs})
    decided = judged(change(start, bindings=(*start.bindings, young), workloads=both))
    assert conditions(decided, "young")["WithinBudget"] == ("False", "BudgetExceeded")
    assert pool(decided) == (10, 20)
    assert grants(decided) == {"chat chat/sql-default": 60}


def test_the_grant_of_a_binding_that_left_goes_with_the_next_render():
    young = binding("young", born=LATER, stores=[store("responses")], consumers=[{"name": "jobs"}])
    start = stack(200, Workloads({**deployment(2, 0).by_name, **deployment(1, 0, "jobs").by_name}))
    start = change(start, bindings=(*start.bindings, young))
    both = judged(start)
    assert grants(both) == {"chat chat/sql-default": 60, "young chat/sql-default": 30}
    after = applied(start, both)
    alone = judged(change(after, bindings=after.bindings[:1]))
    assert grants(alone) == {"chat chat/sql-default": 60}


def test_while_something_else_holds_the_render_back_the_grants_stay():
    start = running()
    held = judged(change(start, bindings=(*start.bindings, binding("young", born=LATER, stores=[
        store("responses", backendRef={"name": "nowhere"})]))))  # fmt: skip
    assert held.config is None
    assert grants(held) == {"chat chat/sql-default": 60}
    # Nor does a binding that is refused meanwhile lose its own.
    refused = binding(**BOUND, consumers=[{"name": "chat", "kind": "Whatever"}])
    decided = judged(change(start, bindings=(refused,)))
    assert conditions(decided)["Accepted"] == ("False", "NotYetSupported")
    assert grants(decided) == {"chat chat/sql-default": 60}


def test_a_forged_note_grants_nothing():
    start = stack(budget=40, workloads=deployment(2, 0))
    text = json.dumps(
        {"backends": {}, "places": None, "grants": {"chat chat/sql-default": 60}, "mac": ""}
    )
    forged = output("chat-storage", {RECORD_KEY: text})
    decided = judged(change(start, secret=forged))
    assert conditions(decided)["WithinBudget"] == ("False", "BudgetExceeded")


# -- what a backend says


BUDGET = Budget(100, 1, SQL)


def finding(allows: int | None) -> Finding:
    return Finding("", outcomes.connected("pg", "16.4", read_only=False), max_connections=allows)


@pytest.mark.parametrize(
    ("budget", "total", "limit", "allows", "expected"),
    [
        (None, 50, None, None, None),
        (BUDGET, 99, 100, None, ("True", "Granted", "")),
        (BUDGET, 99, 100, 100, ("True", "Granted", "")),
        (BUDGET, 99, None, 1, ("True", "Granted", "that of StorageBackend 'sql-default' on the same server")),
        (BUDGET, 100, 100, None, ("False", "Overcommitted", "100 connections are granted, and 99 of 100")),
        (BUDGET, 0, 100, 97, ("False", "ServerLimitExceeded", "is 100, and the server lets this login open 97")),
    ],
)  # fmt: skip
@pytest.mark.parametrize("visited", [True, False])
def test_what_a_backend_says(*, budget, total, limit, allows, expected, visited):
    one = postgres(**({} if limit is None else {"maxConnections": limit}))
    said = ruling.of_backend(one, budget, total, finding(allows) if visited else None)
    if expected is None:
        assert said is None
        return
    assert said is not None
    if expected[1] == "ServerLimitExceeded" and not visited:
        expected = ("True", "Granted", "")
    assert (said.status, str(said.reason)) == expected[:2]
    assert expected[2] in said.message


def test_after_a_start_what_the_server_allows_is_not_forgotten():
    one = postgres(maxConnections=100)
    said = ruling.of_backend(one, BUDGET, 0, finding(97))
    assert said is not None
    kept = timed([said], [], 1, NOW)
    before = one.model_copy(update={"status": one.status.model_copy(update={"conditions": kept})})
    assert ruling.of_backend(before, BUDGET, 0, None) == said
    later = before.model_copy(
        update={"metadata": one.metadata.model_copy(update={"generation": 2})}
    )
    assert ruling.of_backend(later, BUDGET, 0, None).reason == "Granted"  # type: ignore[union-attr]
    assert ruling.of_backend(before, BUDGET, 0, finding(100)).reason == "Granted"  # type: ignore[union-attr]
