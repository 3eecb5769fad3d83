"""How many pods and processes a stack's workloads may reach, and what is said of them."""

from __future__ import annotations

from typing import Any

import pytest

from stackstore_operator.api.binding import Consumer
from stackstore_operator.kube.workloads import Workload, Workloads
from stackstore_operator.reconcile import consumers
from stackstore_operator.reconcile.consumers import ConsumerState, Progress
from stackstore_operator.reconcile.plan import plan
from tests.unit.reconcile.samples import (
    DEFAULTS,
    binding,
    conditions,
    inputs,
    message,
    store,
)


def workload(kind: str, spec: dict[str, Any], **status: Any) -> dict[str, Any]:
    metadata = {"name": "chat", "uid": "u", "generation": 3}
    return {"kind": kind, "metadata": metadata, "spec": spec, "status": status}


def deployment(replicas: int | None = 2, surge: Any = None, **spec: Any) -> dict[str, Any]:
    if surge is not None:
        spec["strategy"] = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": surge}}
    return workload("Deployment", {**({} if replicas is None else {"replicas": replicas}), **spec})


def hpa(bound: int, kind: str = "Deployment", name: str = "chat", version: str = "apps/v1"):
    target = {"apiVersion": version, "kind": kind, "name": name}
    return {
        "metadata": {"name": f"{name}-hpa-{bound}"},
        "spec": {"maxReplicas": bound, "scaleTargetRef": target},
    }


def state(obj: dict[str, Any], *scalers: Any, made: Any = None, workers: int = 1) -> ConsumerState:
    kind = obj["kind"]
    consumer = Consumer(kind=kind, name="chat", workers=workers)
    read = Workloads({(kind, "chat"): Workload(obj, made)}, scalers)
    (found,) = consumers.observe([consumer], read)
    return found


RECREATE = {"strategy": {"type": "Recreate"}}
NO_SURGE_STATED = {"strategy": {"type": "RollingUpdate"}}


# (workload, autoscalers): most pods, surge.
@pytest.mark.parametrize(
    ("obj", "scalers", "most", "surge"),
    [
        (deployment(), [], 2, 1),  # a quarter, rounded up
        (deployment(5, "25%"), [], 5, 2),
        (deployment(4, "25%"), [], 4, 1),
        (deployment(3, "100%"), [], 3, 3),
        (deployment(3, 2), [], 3, 2),
        (deployment(3, 0), [], 3, 0),
        (deployment(3, "0%"), [], 3, 0),
        (deployment(3, "much"), [], 3, 0),
        (deployment(None, 0), [], 1, 0),
        (deployment(0), [], 1, 1),  # one that rests is meant to come back
        (deployment(3, **RECREATE), [], 3, 0),
        (deployment(8, **NO_SURGE_STATED), [], 8, 2),
        (deployment(2), [hpa(10)], 10, 3),
        (deployment(2), [hpa(4), hpa(10), hpa(7)], 10, 3),
        (deployment(12), [hpa(10)], 12, 3),  # until the autoscaler brings it down
        (deployment(), [hpa(9, name="other"), hpa(9, "StatefulSet"), hpa(9, version="x.io/v1")], 2, 1),
        (deployment(), [hpa(9, version="apps/v2")], 9, 3),
        (workload("StatefulSet", {"replicas": 3}), [], 3, 0),
        (workload("StatefulSet", {"replicas": 3}), [hpa(6, "StatefulSet")], 6, 0),
        (workload("DaemonSet", {}, desiredNumberScheduled=7), [], 7, 0),
        (workload("DaemonSet", {}), [], 1, 0),
        (workload("DaemonSet", {"updateStrategy": {"rollingUpdate": {"maxSurge": "10%"}}},
                  desiredNumberScheduled=11), [], 11, 2),
        (workload("DaemonSet", {"updateStrategy": {"type": "OnDelete"}}, desiredNumberScheduled=2),
         [], 2, 0),
        (workload("OGXServer", {}), [], 1, 1),
        (workload("OGXServer", {"workload": {"replicas": 4}}), [], 4, 1),
        (workload("OGXServer", {"workload": {"replicas": 2, "autoscaling": {"maxReplicas": 8}}}),
         [], 8, 2),
        (workload("OGXServer", {"workload": {"replicas": 2, "storage": {}}}), [], 2, 0),
        (workload("LlamaStackDistribution", {"replicas": 3, "server": {}}), [], 3, 1),
        (workload("LlamaStackDistribution",
                  {"replicas": 3, "server": {"autoscaling": {"maxReplicas": 5}, "storage": {}}}),
         [], 5, 0),
        ({**deployment(), "spec": None, "status": []}, [], 1, 1),
    ],
)  # fmt: skip
def test_the_most_pods_it_may_reach(obj, scalers, most, surge):
    found = state(obj, *scalers)
    assert (found.found, found.most, found.surge) == (True, most, surge)
    assert found.processes == most + surge
    assert state(obj, *scalers, workers=4).processes == 4 * (most + surge)


def test_of_another_operators_kind_the_deployment_it_made_counts_too():
    server = workload("OGXServer", {"workload": {"workers": 3}})
    assert state(server).processes == (1 + 1) * 3
    made = {**deployment(6, 0), "status": {"observedGeneration": 3, "replicas": 6}}
    found = state(server, hpa(7), made=made)
    assert (found.wanted, found.most, found.surge, found.autoscaler) == (1, 7, 0, "chat-hpa-7")
    assert found.progress == Progress(generation=3, observed=3, wanted=6, pods=6)
    # The larger of what the binding and the server itself say.
    assert state(server, workers=5).workers == 5
    assert state(server, workers=2).workers == 3


@pytest.mark.parametrize(
    ("status", "complete"),
    [
        ({}, False),
        ({"observedGeneration": 3, "replicas": 2, "updatedReplicas": 2, "availableReplicas": 2}, True),
        ({"observedGeneration": 2, "replicas": 2, "updatedReplicas": 2, "availableReplicas": 2}, False),
        ({"observedGeneration": 3, "replicas": 3, "updatedReplicas": 2, "availableReplicas": 2}, False),
        ({"observedGeneration": 3, "replicas": 2, "updatedReplicas": 1, "availableReplicas": 2}, False),
        ({"observedGeneration": 3, "replicas": 2, "updatedReplicas": 2, "availableReplicas": 1}, False),
    ],
)  # fmt: skip
@pytest.mark.parametrize("kind", ["Deployment", "StatefulSet", "DaemonSet"])
def test_a_rollout_is_complete_when_the_new_template_is_everywhere(kind, status, complete):
    names = {"replicas": "currentNumberScheduled", "updatedReplicas": "updatedNumberScheduled",
             "availableReplicas": "numberAvailable"}  # fmt: skip
    if kind == "DaemonSet":
        status = {names.get(key, key): value for key, value in status.items()}
        status["desiredNumberScheduled"] = 2
    assert state(workload(kind, {"replicas": 2}, **status)).progress.complete is complete


def test_the_templates_annotations_and_a_pause_are_seen():
    template = {"metadata": {"annotations": {"stackstore.dev/revision": "1"}}}
    found = state(deployment(template=template, paused=True))
    assert (found.annotations, found.paused) == ({"stackstore.dev/revision": "1"}, True)
    made = deployment(template=template, paused=True)
    found = state(workload("OGXServer", {}), made=made)
    assert (found.annotations, found.paused) == ({"stackstore.dev/revision": "1"}, True)
    assert state(deployment()).annotations == {}


def test_of_a_workload_that_two_bindings_name_the_most_workers_count():
    bindings = [
        binding("a", consumers=[{"name": "chat", "workers": 2}, {"name": "other"}]),
        binding("b", consumers=[{"name": "chat", "workers": 3}]),
        binding("c", consumers=[{"name": "chat"}, {"kind": "StatefulSet", "name": "chat"}]),
    ]
    assert [(c.kind, c.name, c.workers) for c in consumers.named(bindings)] == [
        ("Deployment", "chat", 3), ("Deployment", "other", 1), ("StatefulSet", "chat", 1)
    ]  # fmt: skip


def planned(workloads: Workloads, *named: dict[str, Any]):
    spec = {"stores": [store("inference")], "defaults": DEFAULTS, "consumers": list(named)}
    return plan(inputs(binding(**spec), workloads=workloads))


def test_what_is_missing_is_named_and_lowers_nothing():
    decided = planned(
        Workloads({("Deployment", "chat"): Workload(deployment())}),
        {"name": "chat"},
        {"kind": "StatefulSet", "name": "gone"},
    )
    assert conditions(decided)["ConsumersResolved"] == ("False", "ConsumerNotFound")
    assert conditions(decided)["Ready"] == ("True", "Ready")
    assert message(decided, "ConsumersResolved") == (
        "spec.consumers[StatefulSet/gone]: there is no StatefulSet 'gone' in namespace 'chat'; "
        "make it, or correct the name"
    )


def test_what_may_not_be_read_is_unknown():
    decided = planned(Workloads({("Deployment", "chat"): Workload(refused=True)}), {"name": "chat"})
    assert conditions(decided)["ConsumersResolved"] == ("Unknown", "ConsumersNotReadable")
    assert conditions(decided)["Ready"] == ("True", "Ready")


def test_what_is_there_is_told_with_what_it_may_reach():
    read = Workloads({("Deployment", "chat"): Workload(deployment())}, (hpa(6),))
    decided = planned(read, {"name": "chat", "workers": 2})
    assert conditions(decided)["ConsumersResolved"] == ("True", "Resolved")
    assert message(decided, "ConsumersResolved") == (
        "Deployment 'chat': at most (6 pods + 2 surge) × 2 workers by HorizontalPodAutoscaler 'chat-hpa-6'"
    )


def test_a_binding_without_consumers_says_nothing_of_them():
    assert "ConsumersResolved" not in conditions(plan(inputs()))
