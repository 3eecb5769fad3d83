"""Budgets in a cluster: who is refused, what heals by itself, and that a restart changes nothing."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.operator.test_consumers import autoscaler, workload, workloads  # noqa: F401 - a fixture
from tests.support.operator import (
    DEFAULTS,
    Api,
    OperatorProcess,
    binding,
    postgres_backend,
    sql,
    sqlite_backend,
    until,
)

SECONDS = 30
CONDITION = "WithinBudget"


def platform(api: Api, limit: int | None, **spec: Any) -> None:
    api.secret("pg-app", username="app", password="hunter2")
    # Nobody verifies here: all of it may be granted.
    budget = {} if limit is None else {"maxConnections": limit}
    backend = postgres_backend(verification={"mode": "None"}, **budget, **spec)
    backend["spec"]["postgres"]["pool"] = {"size": 5, "maxOverflow": 5}
    api.apply(backend, sqlite_backend())


def stack(api: Api, name: str, *consumers: dict[str, Any], of: str = "") -> None:
    """One more stack of its own, of the backend of this or another namespace."""
    backend = {"name": "sql-default", **({"namespace": of} if of else {})}
    if of:
        api.apply(sqlite_backend())
    api.apply(
        binding(name, name, [{**sql("inference"), "backendRef": backend}],
                defaults={**DEFAULTS, "sql": backend}, consumers=list(consumers))
    )  # fmt: skip


def judged(api: Api, name: str, status: str, reason: str) -> str:
    return api.wait("StoreBinding", name, CONDITION, status, reason, seconds=SECONDS)


def granted(api: Api, *names: str) -> None:
    for name in names:
        judged(api, name, "True", "Granted")
        api.ready(name, seconds=SECONDS)


def refused(api: Api, name: str) -> str:
    message = judged(api, name, "False", "BudgetExceeded")
    assert api.condition("StoreBinding", name)[:2] == ("False", "BudgetExceeded")
    assert api.get("Secret", f"{name}-storage") is None
    return message


def pool(api: Api, name: str) -> tuple[int, int]:
    found = json.loads(api.data("Secret", f"{name}-storage").get("stackstore.json", "{}"))
    settings = found["backends"]["sql_default"]["pool"]
    return settings["size"], settings["maxOverflow"]


def secrets_of(api: Api, *names: str) -> list[str]:
    return [json.dumps(api.get("Secret", f"{name}-storage"), sort_keys=True) for name in names]


def test_the_oldest_come_first_and_who_does_not_fit_heals_when_there_is_room(api, other):
    platform(api, 25, allowedNamespaces={"from": "All"})
    stack(api, "a")
    granted(api, "a")
    stack(other, "far", of=api.namespace)
    granted(other, "far")
    stack(api, "late")
    message = refused(api, "late")
    assert (
        "asks 1 pod × 1 worker × (5 + 5) = 10; of 25, 10 to 1 binding of this namespace and 10 to 1 "
        in message
    )
    assert "binding of other namespaces are granted, 5 are free" in message
    assert "far" not in message.replace("of this namespace", "")
    assert other.namespace not in message
    # Somebody goes: nobody has to ask again.
    api.delete("StoreBinding", "a")
    granted(api, "late")
    stack(api, "later")
    refused(api, "later")
    # The budget is raised.
    api.merge("StorageBackend", "sql-default", {"spec": {"maxConnections": 30}})
    granted(api, "later")


def test_a_budget_that_becomes_smaller_cuts_nobody_off(api):
    platform(api, None)
    stack(api, "a")
    stack(api, "b")
    api.ready("a", "b", seconds=SECONDS)
    pools = [pool(api, "a"), pool(api, "b")]
    api.merge("StorageBackend", "sql-default", {"spec": {"maxConnections": 15}})
    granted(api, "a")
    message = judged(api, "b", "False", "Overcommitted")
    assert "holds 10, and 20 of 15 are granted in all" in message
    api.ready("b", seconds=SECONDS)
    assert [pool(api, "a"), pool(api, "b")] == pools
    told = api.wait(
        "StorageBackend", "sql-default", CONDITION, "False", "Overcommitted", seconds=SECONDS
    )
    assert "20 connections are granted, and 15 of 15 may be" in told
    assert api.condition("StorageBackend", "sql-default")[0] == "True"
    api.delete("StoreBinding", "a")
    granted(api, "b")
    api.wait("StorageBackend", "sql-default", CONDITION, "True", "Granted", seconds=SECONDS)
    told = [e["reason"] for e in api.list("Event") if e["involvedObject"]["name"] == "b"]
    assert told.count("Overcommitted") == 1


def test_a_workload_that_grows_shares_its_grant_and_gets_more_when_there_is(api, workloads):  # noqa: F811
    platform(api, 50)
    api.apply(workload(replicas=2, strategy={"type": "Recreate"}))
    stack(api, "chat", {"name": "chat"})
    granted(api, "chat")
    assert pool(api, "chat") == (5, 5)
    api.apply(autoscaler(10))
    message = judged(api, "chat", "False", "GrantKept")
    assert "asks 10 pods × 1 worker × (5 + 5) = 100 and keeps the 20 that it was granted" in message
    until(lambda: pool(api, "chat") == (2, 0), SECONDS)
    api.ready("chat", seconds=SECONDS)
    api.merge("StorageBackend", "sql-default", {"spec": {"maxConnections": 100}})
    granted(api, "chat")
    until(lambda: pool(api, "chat") == (5, 5), SECONDS)


def test_a_consumer_that_is_not_there_yet_is_waited_for(api, workloads):  # noqa: F811
    platform(api, 25)
    stack(api, "chat", {"name": "chat"})
    judged(api, "chat", "Unknown", "Waiting")
    api.apply(workload(replicas=3, strategy={"type": "Recreate"}))
    assert "asks 3 pods × 1 worker × (5 + 5) = 30" in refused(api, "chat")
    api.merge("Deployment", "chat", {"spec": {"replicas": 2}})
    granted(api, "chat")


def test_a_restart_of_the_operator_changes_nothing(api, operator: OperatorProcess):
    platform(api, 25)
    for name in ("b", "c"):
        stack(api, name)
        granted(api, name)
    # Younger by its name when both are as old: it would be granted if it were looked at first.
    for name in ("a", "d"):
        stack(api, name)
        refused(api, name)
    before = secrets_of(api, "b", "c")
    bindings = [(b["metadata"]["name"], b["status"]) for b in api.list("StoreBinding")]
    seen = len(list(operator.writes()))
    assert operator.stop() == 0
    operator.start().wait_until_up()
    # It is up and has looked at all of them when something that comes after is done.
    stack(api, "e")
    refused(api, "e")
    assert secrets_of(api, "b", "c") == before
    assert [
        (b["metadata"]["name"], b["status"])
        for b in api.list("StoreBinding")
        if b["metadata"]["name"] != "e"
    ] == bindings
    written = {
        w["objectRef"]["name"]
        for w in list(operator.writes())[seen:]
        if w["objectRef"].get("namespace") == api.namespace
        and w["objectRef"]["resource"] in ("storebindings", "secrets", "configmaps")
    }
    # Beside what is new nothing was written.
    assert written == {"e"}


@pytest.mark.parametrize("limit", [1, 2])
def test_one_connection_is_kept_for_verification(api, limit):
    api.secret("pg-app", username="app", password="hunter2")
    small = postgres_backend(maxConnections=limit, verification={"mode": "Connect"})
    small["spec"]["postgres"]["pool"] = {"size": 1, "maxOverflow": 0}
    api.apply(small, sqlite_backend())
    stack(api, "chat")
    if limit == 1:
        assert "none to others are granted, 1 kept for verification, 0 are free" in refused(
            api, "chat"
        )
    else:
        granted(api, "chat")
