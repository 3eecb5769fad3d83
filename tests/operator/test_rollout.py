"""Restarts: whom, how often, in which order, and when not. Controllers are played."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.operator.conftest import new_namespace
from tests.support.hasty import WAITS
from tests.support.operator import (
    DEFAULTS,
    Api,
    OperatorProcess,
    binding,
    kv,
    postgres_backend,
    sql,
    sqlite_backend,
    until,
)
from tests.support.workloads import ANNOTATION, Controllers, revision, run_pod, settle, workload

SECONDS = 30
QUIET = WAITS.rollout.quiet
Name = tuple[str, str]


@pytest.fixture
def api(control_plane, hasty) -> Iterator[Api]:
    made = Api(control_plane, new_namespace(control_plane))
    yield made
    made.clear()
    for kind in ("Deployment", "StatefulSet", "DaemonSet"):
        for obj in made.list(kind):
            made.delete(kind, obj["metadata"]["name"])
    made.close()


def unverified(name: str = "sql-default", secret: str = "pg-app") -> dict[str, Any]:
    return postgres_backend(name, secret, verification={"mode": "None"})


def stack(api: Api, *consumers: Name, strategy: str = "Restart", **spec: Any) -> None:
    """A stack of these workloads, made before it."""
    api.secret("pg-app", username="app", password="first")
    api.apply(
        unverified(),
        sqlite_backend(),
        binding(
            stores=[kv("metadata"), sql("inference")], defaults=DEFAULTS,
            consumers=[{"kind": kind, "name": name, "apiVersion": version(kind)} for kind, name in consumers],
            rollout={"strategy": strategy}, **spec,
        ),
    )  # fmt: skip
    api.ready("chat", seconds=SECONDS)


def version(kind: str) -> str:
    custom = {"OGXServer": "ogx.io/v1beta1", "LlamaStackDistribution": "llamastack.io/v1alpha1"}
    return custom.get(kind, "apps/v1")


def since(api: Api) -> int:
    """Since when what is in force is in force, by the operator's own note."""
    return int(json.loads(api.data("Secret", "chat-storage")["operator.json"])["content"]["since"])


def rotate(api: Api, password: str, secret: str = "pg-app") -> None:
    api.secret(secret, username="app", password=password)


def rolled(api: Api, status: str = "True", reason: str = "RolledOut") -> str:
    return api.wait("StoreBinding", "chat", "RolledOut", status, reason, seconds=SECONDS)


def patches(operator: OperatorProcess, api: Api, resource: str = "") -> list[str]:
    """The workloads of this namespace that the operator has written, in this order."""
    apps = ("deployments", "statefulsets", "daemonsets")
    return [
        event["objectRef"]["name"]
        for event in operator.writes()
        if event["objectRef"].get("namespace") == api.namespace
        and event["objectRef"]["resource"] in ((resource,) if resource else apps)
        and event["responseStatus"]["code"] < 300
    ]


def old_pods(api: Api, *names: str) -> None:
    """Pods as old as what is in force: the next change finds them older."""
    for name in names:
        run_pod(api, name, since(api) - 2)


def test_a_rotation_restarts_each_consumer_once_one_after_the_other(api, hasty):
    """Nobody else; and what is annotated is owned by a manager that owns nothing else."""
    named = (("StatefulSet", "b"), ("Deployment", "a"), ("DaemonSet", "c"))
    everybody = (*named, ("Deployment", "stranger"))
    for kind, name in everybody:
        api.apply(workload(kind, name))
    with Controllers(api, *everybody, seconds=0.3) as played:
        stack(api, *named)
        rolled(api)
        old_pods(api, "a", "b", "c", "stranger")
        time.sleep(1)
        assert patches(hasty, api) == []
        rotate(api, "second")
        until(lambda: len(patches(hasty, api)) == 3, SECONDS, lambda: str(played.seen))
        rolled(api)
        seen = [(what, found) for _, what, found in played.seen if found]
    # In the order of the list; each complete before the next begins.
    steps = [(what, found == "done") for what, found in seen if what != "Deployment/stranger"][-6:]
    order = ["StatefulSet/b", "Deployment/a", "DaemonSet/c"]
    assert steps == [(what, done) for what in order for done in (False, True)]
    assert len({revision(api, *one) for one in named}) == 1
    assert revision(api, "Deployment", "stranger") is None
    obj = api.get("Deployment", "a")
    (ours,) = (m for m in obj["metadata"]["managedFields"] if m["manager"] == "stackstore-operator-rollout")  # fmt: skip
    assert ours["fieldsV1"] == {
        "f:spec": {"f:template": {"f:metadata": {"f:annotations": {f"f:{ANNOTATION}": {}}}}}
    }
    assert "second" not in json.dumps(obj)
    # It is told by one event each.
    told = [e["message"] for e in api.list("Event") if e["reason"] == "RollingOut"]
    assert sorted(m.partition(" restarts")[0] for m in told) == ["DaemonSet 'c'", "Deployment 'a'", "StatefulSet 'b'"]  # fmt: skip
    # Nor does an operator that starts restart anything.
    assert hasty.stop() == 0
    hasty.start().wait_until_up()
    rotated = api.get("StoreBinding", "chat")["metadata"]["resourceVersion"]
    time.sleep(QUIET + 1)
    assert patches(hasty, api) == ["b", "a", "c"]
    assert api.get("StoreBinding", "chat")["metadata"]["resourceVersion"] == rotated


def test_changes_while_the_operator_was_away_are_one_restart(api, hasty):
    api.apply(workload("Deployment", "a"))
    with Controllers(api, ("Deployment", "a")):
        stack(api, ("Deployment", "a"))
        old_pods(api, "a")
        assert hasty.stop() == 0
        for password in ("second", "third"):
            rotate(api, password)
        time.sleep(1.1)
        hasty.start().wait_until_up()
        until(lambda: patches(hasty, api) == ["a"], SECONDS)
        rolled(api)
        # It dies between the two: what is written already is not written again.
        rotate(api, "fourth")
        until(lambda: api.data("Secret", "chat-storage")["SQL_DEFAULT_PASSWORD"] == "fourth", SECONDS)  # fmt: skip
        hasty.kill9()
        hasty.start().wait_until_up()
        until(lambda: patches(hasty, api) == ["a", "a"], SECONDS)
        rolled(api)
        time.sleep(QUIET + 0.5)
        assert patches(hasty, api) == ["a", "a"]


def test_many_secrets_that_change_together_are_one_restart(api, hasty):
    api.apply(workload("Deployment", "a"))
    names = [f"more-{number}" for number in range(4)]
    for name in names:
        rotate(api, "first", name)
        api.apply(unverified(name, name))
    providers = []
    for number, store in enumerate(("responses", "conversations", "prompts", "connectors")):
        providers.append(sql(store, backend=names[number]))
    with Controllers(api, ("Deployment", "a")):
        stack(api, ("Deployment", "a"))
        api.apply(binding("more", stores=providers))
        api.ready("more", seconds=SECONDS)
        rolled(api)
        old_pods(api, "a")
        time.sleep(1.1)
        for name in ("pg-app", *names):
            rotate(api, "second", name)
            time.sleep(0.2)
        until(lambda: patches(hasty, api) == ["a"], SECONDS)
        rolled(api)
        time.sleep(QUIET + 0.5)
        assert patches(hasty, api) == ["a"]


def test_a_consumer_that_is_seen_for_the_first_time_is_judged_by_its_pods(api, hasty):
    for name in ("young", "old", "none"):
        api.apply(workload("Deployment", name))
    names = [("Deployment", name) for name in ("young", "old", "none")]
    with Controllers(api, *names):
        stack(api, strategy="Restart")
        message = rolled(api, "Unknown", "NoConsumers")
        assert "spec.consumers" in message
        assert api.condition("StoreBinding", "chat")[0] == "True"
        run_pod(api, "young", since(api))
        run_pod(api, "old", since(api) - 60)
        stack(api, *names)
        until(lambda: patches(hasty, api) == ["old"], SECONDS)
        rolled(api)
        # Somebody takes the annotation away, as `kubectl replace` does: its pods are new all the same.
        run_pod(api, "old", time.time())
        api.merge("Deployment", "old", {"spec": {"template": {"metadata": {"annotations": None}}}})
        until(lambda: revision(api, "Deployment", "old") is None, SECONDS)
        # What somebody does to the outputs is no change either.
        api.delete("Secret", "chat-storage")
        until(lambda: "operator.json" in api.data("Secret", "chat-storage"), SECONDS)
        api.merge("ConfigMap", "chat-run-config", {"data": {"config.yaml": "x: 1\n"}})
        until(lambda: "storage" in api.config(), SECONDS)
        time.sleep(QUIET + 1)
        assert patches(hasty, api) == ["old"]


def test_one_that_does_not_come_up_stops_the_others_until_it_is_well(api, hasty):
    names = [("Deployment", "a"), ("Deployment", "b")]
    for kind, name in names:
        api.apply(workload(kind, name))
        settle(api, kind, name)
    stack(api, *names)
    old_pods(api, "a", "b")
    time.sleep(1.1)
    rotate(api, "second")
    until(lambda: patches(hasty, api) == ["a"], SECONDS)
    overdue = {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded"}
    settle(api, "Deployment", "a", updated=1, conditions=[overdue])
    message = rolled(api, "False", "RolloutStalled")
    assert "Deployment 'a': 1 of 2 pods updated" in message
    assert "Deployment 'b' wait for it" in message
    api.wait("StoreBinding", "chat", "Ready", "False", "RolloutStalled", seconds=SECONDS)
    time.sleep(QUIET)
    assert patches(hasty, api) == ["a"]
    settle(api, "Deployment", "a", conditions=[])
    until(lambda: patches(hasty, api) == ["a", "b"], SECONDS)
    # Without a deadline of its own, one that makes no progress for long is told too.
    rolled(api, "False", "RolloutStalled")
    settle(api, "Deployment", "b")
    rolled(api)
    api.ready("chat", seconds=SECONDS)


def test_what_a_consumers_own_settings_keep_back_blocks_nobody_and_is_told(api, hasty):
    names = [("Deployment", "paused"), ("Deployment", "empty"), ("StatefulSet", "by-hand"),
             ("StatefulSet", "parted"), ("DaemonSet", "hands"), ("Deployment", "last")]  # fmt: skip
    by_hand = {"updateStrategy": {"type": "OnDelete"}}
    parted = {"updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 1}}}
    api.apply(
        workload("Deployment", "paused", paused=True),
        workload("Deployment", "empty", replicas=0),
        workload("StatefulSet", "by-hand", **by_hand),
        workload("StatefulSet", "parted", **parted),
        workload("DaemonSet", "hands", **by_hand),
        workload("Deployment", "last"),
    )
    for one in names:
        settle(api, *one)
    stack(api, *names)
    old_pods(api, *(name for _, name in names))
    time.sleep(1.1)
    rotate(api, "second")
    for kind, name in names:
        until(lambda name=name: patches(hasty, api)[-1:] == [name], SECONDS,
              lambda: str(api.condition("StoreBinding", "chat", "RolledOut")))  # fmt: skip
        settle(api, kind, name, updated={"last": None, "empty": None, "parted": 1}.get(name, 0))
    message = rolled(api, "Unknown", "RolloutPartial")
    assert message.split("; ") == [
        "Deployment 'paused' is paused: its pods restart when it is resumed",
        "StatefulSet 'by-hand' has the update strategy OnDelete: 2 of its pods restart when deleted",
        "StatefulSet 'parted' has `partition: 1`: 1 of its pods stay as they are",
        "DaemonSet 'hands' has the update strategy OnDelete: 2 of its pods restart when deleted",
    ]
    api.ready("chat", seconds=SECONDS)
    api.merge("Deployment", "paused", {"spec": {"paused": False}})
    for one in names:
        settle(api, *one)
    rolled(api)
    assert len(patches(hasty, api)) == len(names)


def test_none_says_who_is_behind_and_touches_nobody(api, hasty):
    api.apply(workload("Deployment", "a"))
    settle(api, "Deployment", "a")
    stack(api, ("Deployment", "a"), strategy="None")
    rolled(api)
    old_pods(api, "a")
    time.sleep(1.1)
    rotate(api, "second")
    message = rolled(api, "Unknown", "RestartNeeded")
    assert "Deployment 'a'" in message
    api.ready("chat", seconds=SECONDS)
    # By whomever: `kubectl rollout restart` changes the template, and then there are new pods.
    run_pod(api, "a", time.time())
    settle(api, "Deployment", "a", conditions=[{"type": "Available", "status": "True"}])
    rolled(api)
    assert patches(hasty, api) == []


def test_by_default_nothing_is_restarted_and_nothing_is_said(api, hasty):
    api.apply(workload("Deployment", "a"))
    stack(api, ("Deployment", "a"), strategy="HotReload")
    run_pod(api, "a", 1_000_000_000.0)
    rotate(api, "second")
    until(lambda: api.data("Secret", "chat-storage")["SQL_DEFAULT_PASSWORD"] == "second", SECONDS)
    time.sleep(QUIET + 0.5)
    assert patches(hasty, api) == []
    assert api.condition("StoreBinding", "chat", "RolledOut") == ("", "", "")
    assert "content" not in json.loads(api.data("Secret", "chat-storage")["operator.json"])


def test_somebody_who_keeps_taking_the_annotation_away_is_told_and_not_fought(api, hasty):
    api.apply(workload("Deployment", "a"))
    stack(api, ("Deployment", "a"))
    old_pods(api, "a")
    time.sleep(1.1)
    rotate(api, "second")

    def taken_away() -> bool:
        if revision(api, "Deployment", "a") is not None:
            gone = {"spec": {"template": {"metadata": {"annotations": None}}}}
            api.merge("Deployment", "a", gone)
        return api.condition("StoreBinding", "chat", "RolledOut")[1] == "FieldContested"

    until(taken_away, SECONDS)
    count = len(patches(hasty, api))
    assert count <= WAITS.contests.corrections + 2
    start = time.monotonic()
    until(lambda: taken_away() and time.monotonic() - start > WAITS.contests.retry, SECONDS)
    assert len(patches(hasty, api)) <= count + 3
    # The other stops: the next try stays.
    until(lambda: revision(api, "Deployment", "a") is not None, SECONDS)
    settle(api, "Deployment", "a")
    rolled(api)
