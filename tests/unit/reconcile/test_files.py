"""Who may open a SQLite file: one pod at a time, or a warning."""

from __future__ import annotations

from typing import Any

import pytest

from stackstore_operator.api.binding import CONSUMER_KINDS, Consumer
from stackstore_operator.kube.workloads import Workload, Workloads
from stackstore_operator.reconcile import files
from stackstore_operator.reconcile.inputs import Neighbour
from stackstore_operator.reconcile.plan import Plan, plan
from tests.unit.reconcile.samples import (
    DEFAULTS,
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

RECREATE = {"strategy": {"type": "Recreate"}}
NO_SURGE = {"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0}}}


def workload(claim: str = "", mount: dict[str, Any] | None = None, **spec: Any) -> Workload:
    pod: dict[str, Any] = {"containers": [{"volumeMounts": [{"name": "other", "mountPath": "/"}]}]}
    if mount is not None:
        pod["containers"].append({"volumeMounts": [{"name": "data", **mount}]})
        pod["volumes"] = [{"name": "data", "persistentVolumeClaim": {"claimName": claim}}]
    spec = {"replicas": 1, **RECREATE, "template": {"spec": pod}, **spec}
    return Workload({"metadata": {"name": "chat", "uid": "u"}, "spec": spec})


def planned(read: Workload | None, kind: str = "Deployment", **more: Any) -> Plan:
    consumers = (
        [] if read is None else [{"apiVersion": CONSUMER_KINDS[kind], "kind": kind, "name": "chat"}]
    )
    workloads = Workloads({} if read is None else {(kind, "chat"): read, **more.pop("others", {})},
                          more.pop("scalers", ()))  # fmt: skip
    spec = {"stores": [store("inference")], "defaults": DEFAULTS, "consumers": consumers}
    return plan(change(inputs(binding(**spec), workloads=workloads), **more))


HPA = {
    "metadata": {"name": "chat"},
    "spec": {"maxReplicas": 4, "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "chat"}},
}  # fmt: skip


@pytest.mark.parametrize(
    ("decided", "words"),
    [
        (lambda: planned(workload()), ""),
        (lambda: planned(workload(replicas=0)), ""),
        (lambda: planned(workload(replicas=3)), "up to 3 pods open it (Deployment 'chat': 3)"),
        (lambda: planned(workload(), scalers=(HPA,)), "up to 4 pods open it"),
        (lambda: planned(workload(strategy={})), "Deployment 'chat' starts a new pod before the old"),
        (lambda: planned(workload(**NO_SURGE)), "starts a new pod before the old one has ended"),
        (lambda: planned(workload(), "StatefulSet"), ""),
        (lambda: planned(workload(replicas=2), "StatefulSet"), "up to 2 pods"),
        (lambda: planned(Workload({"metadata": {}, "status": {"desiredNumberScheduled": 1}}), "DaemonSet"), ""),
        (lambda: planned(Workload({"metadata": {}, "status": {"desiredNumberScheduled": 2}}), "DaemonSet"),
         "up to 2 pods"),
        (lambda: planned(Workload({"metadata": {}, "spec": {"updateStrategy": {"rollingUpdate": {"maxSurge": 1}}}}),
                         "DaemonSet"), "starts a new pod before"),
        (lambda: planned(Workload({"metadata": {}, "spec": {"workload": {}}}), "OGXServer"), "starts a new pod"),
        (lambda: planned(Workload({"metadata": {}, "spec": {"workload": {"storage": {}}}}), "OGXServer"), ""),
    ],
)  # fmt: skip
def test_a_file_is_opened_by_one_pod_at_a_time_or_it_is_told(decided, words):
    found = decided()
    expected = ("False", "FileShared") if words else ("True", "FileExclusive")
    assert conditions(found)["FileExclusive"] == expected
    assert words in message(found, "FileExclusive")
    assert message(found, "FileExclusive").startswith(
        "'/data/kv.db' (StorageBackend 'kv-default'): "
    )
    # A warning, and nothing else.
    assert conditions(found)["Ready"] == ("True", "Ready")
    assert [a.reason for a in found.announcements] == ["Ready"] + ["FileShared"] * bool(words)


def test_what_nobody_can_know_is_not_said():
    for decided in (planned(None), planned(Workload()), planned(Workload(refused=True))):
        assert "FileExclusive" not in conditions(decided)
    kv = postgres("kv-default", type="kv_postgres")
    decided = plan(
        change(
            inputs(
                binding(
                    stores=[store("inference")], defaults=DEFAULTS, consumers=[{"name": "chat"}]
                ),
                backends=(postgres(), kv),
            ),
            workloads=Workloads({("Deployment", "chat"): workload(replicas=9)}),
        )
    )
    assert "FileExclusive" not in conditions(decided)


def test_a_warning_is_told_once():
    spec = {"stores": [store("inference")], "defaults": DEFAULTS, "consumers": [{"name": "chat"}]}
    start = inputs(
        binding(**spec), workloads=Workloads({("Deployment", "chat"): workload(replicas=2)})
    )
    first = plan(start)
    assert [a.warning for a in first.announcements] == [False, True]
    assert plan(applied(start, first)).announcements == ()


def test_the_pods_of_all_consumers_count_together():
    spec = {"stores": [store("inference")], "defaults": DEFAULTS,
            "consumers": [{"name": "chat"}, {"name": "jobs"}]}  # fmt: skip
    both = Workloads({("Deployment", name): workload() for name in ("chat", "jobs")})
    decided = plan(inputs(binding(**spec), workloads=both))
    assert "up to 2 pods open it (Deployment 'chat': 1, Deployment 'jobs': 1)" in message(
        decided, "FileExclusive"
    )


def test_of_several_mounts_the_innermost_holds_the_file():
    pod = {
        "containers": [{"volumeMounts": [{"name": "root", "mountPath": "/"}, {"name": "data", "mountPath": "/data"}]}],
        "volumes": [{"name": name, "persistentVolumeClaim": {"claimName": name}} for name in ("root", "data")],
    }  # fmt: skip
    decided = planned(
        workload(template={"spec": pod}),
        others={("Deployment", "other"): workload("data", {"mountPath": "/data"})},
        neighbours=(OTHER,),
    )
    assert "on the PersistentVolumeClaim 'data'" in message(decided, "FileExclusive")


OTHER = Neighbour("second", (Consumer(name="other"),))


@pytest.mark.parametrize(
    ("mine", "theirs", "shared"),
    [
        (("data", {"mountPath": "/data"}), ("data", {"mountPath": "/data"}), True),
        (("data", {"mountPath": "/data/"}), ("data", {"mountPath": "/data"}), True),
        (("data", {"mountPath": "/data"}), ("its-own", {"mountPath": "/data"}), False),
        (("data", {"mountPath": "/data", "subPath": "a"}), ("data", {"mountPath": "/data", "subPath": "b"}), False),
        (("data", {"mountPath": "/data", "subPath": "a"}), ("data", {"mountPath": "/data", "subPath": "a"}), True),
        (("data", {"mountPath": "/", "subPath": "x"}), ("data", {"mountPath": "/data", "subPath": "x/data"}), True),
        (("data", {"mountPath": "/dat"}), ("data", {"mountPath": "/dat"}), False),
        (("data", {"mountPath": "/data"}), ("", None), False),
    ],
)  # fmt: skip
def test_two_stacks_on_one_place_of_one_claim_share_a_file(mine, theirs, shared):
    decided = planned(
        workload(mine[0], mine[1]),
        others={("Deployment", "other"): workload(theirs[0], theirs[1])},
        neighbours=(OTHER,),
    )
    words = "stack 'second' opens it too, on the PersistentVolumeClaim 'data'"
    assert (words in message(decided, "FileExclusive")) is shared
    assert conditions(decided)["FileExclusive"][0] == ("False" if shared else "True")


def test_neighbours_have_a_file_of_the_same_path():
    backends = {(b.metadata.namespace, b.metadata.name): b for b in (
        sqlite(), sqlite("same"), sqlite("else", sqlite={"path": "/data/else.db"}), postgres())}  # fmt: skip
    named = [{"name": "chat"}]

    def of(name: str, kv: str, **more: Any):
        made = binding(name, stores=[store("metadata", backendRef={"name": kv})],
                       defaults={"sql": {"name": "sql-default"}}, **{"consumers": named, **more})  # fmt: skip
        return made.model_copy(update={"spec": made.spec.model_copy(update={"stack": name})})

    mine = of("mine", "kv-default")
    others = [mine, of("a", "same"), of("b", "else"), of("c", "sql-default"), of("d", "gone")]
    found = files.neighbours("mine", [mine], others, backends.get)
    assert [(n.stack, [c.name for c in n.consumers]) for n in found] == [("a", ["chat"])]
    assert files.neighbours("mine", [of("mine", "sql-default")], others, backends.get) == ()
    # Nobody knows who opens it.
    assert (
        files.neighbours("mine", [of("mine", "kv-default", consumers=[])], others, backends.get)
        == ()
    )
