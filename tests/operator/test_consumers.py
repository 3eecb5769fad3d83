"""Workloads that a binding names: found, followed, and never a reason not to be Ready."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from tests.operator.test_hand_over import peers
from tests.support.operator import DEFAULTS, Api, binding, kv, sqlite_backend, until

CONDITION = "ConsumersResolved"
SECONDS = 30


@pytest.fixture
def workloads(api: Api):
    """Removes what a test has made: autoscalers would be looked at by others' operators too."""
    yield
    for kind in ("Deployment", "StatefulSet", "DaemonSet", "HorizontalPodAutoscaler"):
        for obj in api.list(kind):
            api.delete(kind, obj["metadata"]["name"])


def workload(kind: str = "Deployment", name: str = "chat", **spec: Any) -> dict[str, Any]:
    labels = {"app": name}
    pod = {"containers": [{"name": "server", "image": "none.invalid/none"}]}
    template = {"metadata": {"labels": labels}, "spec": pod}
    return {
        "apiVersion": "apps/v1", "kind": kind, "metadata": {"name": name},
        "spec": {"selector": {"matchLabels": labels}, "template": template, **spec},
    }  # fmt: skip


def autoscaler(bound: int, name: str = "chat") -> dict[str, Any]:
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": name}
    metric = {
        "type": "Resource",
        "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50}},
    }
    return {
        "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": name},
        "spec": {"scaleTargetRef": target, "minReplicas": 1, "maxReplicas": bound, "metrics": [metric]},
    }  # fmt: skip


def stack(api: Api, *consumers: dict[str, Any]) -> None:
    lite = {"kv": {"name": "kv-default"}, "sql": {"name": "sql-lite"}}
    api.apply(
        sqlite_backend(),
        sqlite_backend("sql-lite", "sql_sqlite"),
        binding(stores=[kv("metadata")], defaults={**DEFAULTS, **lite}, consumers=list(consumers)),
    )
    api.ready("chat", seconds=SECONDS)


def told(api: Api, words: str) -> None:
    until(lambda: api.condition("StoreBinding", "chat", CONDITION)[2] == words, SECONDS,
          lambda: str(api.condition("StoreBinding", "chat", CONDITION)))  # fmt: skip


def test_workloads_come_scale_and_go(api, workloads):
    stack(api, {"name": "chat", "workers": 2}, {"kind": "StatefulSet", "name": "jobs"})
    message = api.wait(
        "StoreBinding", "chat", CONDITION, "False", "ConsumerNotFound", seconds=SECONDS
    )
    assert "spec.consumers[Deployment/chat], spec.consumers[StatefulSet/jobs]" in message
    api.apply(workload(replicas=3), workload("StatefulSet", "jobs", replicas=2, serviceName="x"))
    jobs = "StatefulSet 'jobs': at most 2 pods × 1 worker"
    told(api, f"Deployment 'chat': at most (3 pods + 1 surge) × 2 workers; {jobs}")
    assert api.condition("StoreBinding", "chat", CONDITION)[:2] == ("True", "Resolved")
    api.merge("Deployment", "chat", {"spec": {"replicas": 8}})
    told(api, f"Deployment 'chat': at most (8 pods + 2 surge) × 2 workers; {jobs}")
    api.apply(autoscaler(9))
    scaled = "× 2 workers by HorizontalPodAutoscaler 'chat'"
    told(api, f"Deployment 'chat': at most (9 pods + 3 surge) {scaled}; {jobs}")
    api.apply(autoscaler(12))
    told(api, f"Deployment 'chat': at most (12 pods + 3 surge) {scaled}; {jobs}")
    api.delete("HorizontalPodAutoscaler", "chat")
    told(api, f"Deployment 'chat': at most (8 pods + 2 surge) × 2 workers; {jobs}")
    api.delete("StatefulSet", "jobs")
    message = api.wait(
        "StoreBinding", "chat", CONDITION, "False", "ConsumerNotFound", seconds=SECONDS
    )
    assert "StatefulSet 'jobs'" in message
    assert "Deployment" not in message
    assert api.condition("StoreBinding", "chat")[0] == "True"


def test_a_daemon_set_counts_by_nodes(api, workloads):
    stack(api, {"kind": "DaemonSet", "name": "chat"})
    api.apply(workload("DaemonSet"))
    told(api, "DaemonSet 'chat': at most 1 pod × 1 worker")
    counted = {"desiredNumberScheduled": 5, "currentNumberScheduled": 5, "numberMisscheduled": 0,
               "numberReady": 0, "observedGeneration": 1}  # fmt: skip
    api.merge("DaemonSet", "chat", {"status": counted}, "status")
    told(api, "DaemonSet 'chat': at most 5 pods × 1 worker")


def test_a_kind_that_the_cluster_does_not_have_is_missing_and_no_trouble(api, operator, workloads):
    stack(api, {"kind": "OGXServer", "apiVersion": "ogx.io/v1beta1", "name": "never-made"})
    api.wait("StoreBinding", "chat", CONDITION, "False", "ConsumerNotFound", seconds=SECONDS)
    assert "OGXServer" not in operator.log()


def on_claim(claim: str = "data", name: str = "chat", **spec: Any) -> dict[str, Any]:
    made = workload(name=name, strategy={"type": "Recreate"}, **spec)
    pod = made["spec"]["template"]["spec"]
    pod["volumes"] = [{"name": "data", "persistentVolumeClaim": {"claimName": claim}}]
    pod["containers"][0]["volumeMounts"] = [{"name": "data", "mountPath": "/data"}]
    return made


def exclusive(api: Api, name: str, status: str, words: str) -> None:
    until(lambda: api.condition("StoreBinding", name, "FileExclusive")[0] == status
          and words in api.condition("StoreBinding", name, "FileExclusive")[2], SECONDS,
          lambda: str(api.condition("StoreBinding", name, "FileExclusive")))  # fmt: skip


def test_a_file_is_for_one_pod_at_a_time(api, workloads):
    api.apply(workload(replicas=1))
    stack(api, {"name": "chat"})
    exclusive(
        api, "chat", "False", "Deployment 'chat' starts a new pod before the old one has ended"
    )
    api.merge(
        "Deployment", "chat", {"spec": {"strategy": {"type": "Recreate", "rollingUpdate": None}}}
    )
    exclusive(api, "chat", "True", "one pod at a time")
    api.apply(autoscaler(3))
    exclusive(api, "chat", "False", "up to 3 pods open it")
    assert api.condition("StoreBinding", "chat")[0] == "True"
    until(lambda: [e["type"] for e in api.list("Event") if e["reason"] == "FileShared"], SECONDS)


def test_two_stacks_with_one_file_on_one_claim_are_both_told(api, workloads):
    api.apply(on_claim(), on_claim(name="second"))
    stack(api, {"name": "chat"})
    lite = {"kv": {"name": "kv-default"}, "sql": {"name": "sql-lite"}}
    exclusive(api, "chat", "True", "one pod at a time")
    api.apply(
        binding("second", "second", [kv("metadata")], defaults=lite, consumers=[{"name": "second"}])
    )
    exclusive(
        api, "second", "False", "stack 'chat' opens it too, on the PersistentVolumeClaim 'data'"
    )
    exclusive(api, "chat", "False", "stack 'second' opens it too")
    api.apply(on_claim("its-own", "second"))
    exclusive(api, "second", "True", "one pod at a time")
    exclusive(api, "chat", "True", "one pod at a time")
    api.apply(on_claim(name="second"))
    exclusive(api, "chat", "False", "stack 'second' opens it too")
    api.delete("StoreBinding", "second")
    exclusive(api, "chat", "True", "one pod at a time")


def test_another_operators_kind_is_read_with_the_deployment_it_made(api, control_plane, workloads):
    for crd in peers():
        control_plane.kubectl("apply", "--server-side", "-f", "-", stdin=yaml.safe_dump(crd))
        plural = f"{crd['spec']['names']['plural']}.{crd['spec']['group']}"
        until(
            lambda plural=plural: (
                "No resources" in control_plane.kubectl("get", plural, check=False)
            ),
            SECONDS,
        )
    spec = {"distribution": {"name": "starter"}, "workload": {"replicas": 2, "workers": 3}}
    api.apply(
        {
            "apiVersion": "ogx.io/v1beta1",
            "kind": "OGXServer",
            "metadata": {"name": "made"},
            "spec": spec,
        }
    )
    stack(api, {"kind": "OGXServer", "apiVersion": "ogx.io/v1beta1", "name": "made"})
    told(api, "OGXServer 'made': at most (2 pods + 1 surge) × 3 workers")
    # What its operator makes of it; the watch of Deployments tells of that one too.
    owner = {"apiVersion": "ogx.io/v1beta1", "kind": "OGXServer", "name": "made",
             "uid": api.get("OGXServer", "made")["metadata"]["uid"]}  # fmt: skip
    made = workload(name="made", replicas=2, strategy={"type": "Recreate"})
    made["metadata"]["ownerReferences"] = [owner]
    api.apply(made)
    told(api, "OGXServer 'made': at most 2 pods × 3 workers")
    api.apply({**autoscaler(5, "made")})
    told(api, "OGXServer 'made': at most 5 pods × 3 workers by HorizontalPodAutoscaler 'made'")
    api.delete("OGXServer", "made")
