"""The operator as a process: at rest, killed, cut off, told to stop, not allowed."""

from __future__ import annotations

import collections
import contextlib
import json
import subprocess
import sys
import time

import pytest
import yaml

from tests.operator.conftest import new_namespace
from tests.operator.test_hand_over import peers
from tests.support.controlplane import ControlPlane
from tests.support.operator import (
    DEFAULTS,
    OWN_NAMESPACE,
    UNKNOWN_KIND,
    Api,
    OperatorProcess,
    binding,
    kv,
    operator_user,
    postgres_backend,
    rules,
    sql,
    sqlite_backend,
    until,
)
from tests.support.postgres import free_port
from tests.support.workloads import Controllers, run_pod, workload

AT_REST_SECONDS = 60


@pytest.fixture(scope="module")
def plane():
    """A control plane of this module's own: others' operators would be seen in its audit log."""
    made = ControlPlane.start()
    try:
        from stackstore_operator.api import crd

        made.kubectl("create", "-f", "-", stdin="---\n".join(crd.files().values()))
        made.kubectl("create", "namespace", OWN_NAMESPACE)
        yield made
    finally:
        made.stop()


@pytest.fixture
def api(plane):
    made = Api(plane, new_namespace(plane))
    yield made
    made.clear()
    made.close()


@pytest.fixture
def operator(plane, tmp_path):
    made = OperatorProcess(plane, tmp_path)
    yield made
    if made.process is not None:
        made.stop()


def stacks(api: Api, count: int, password: str = "hunter2", first: int = 0) -> None:
    for number in range(first, first + count):
        api.apply(
            binding(f"b{number:03}", f"s{number:03}", [kv("metadata", place=f"r{number}"), sql("inference", place=f"t{number}")],
                    defaults=DEFAULTS)
        )  # fmt: skip


def rendered(api: Api) -> dict[str, str]:
    """Every output's content."""
    return {
        f"{kind}/{obj['metadata']['name']}": json.dumps(obj.get("data"), sort_keys=True)
        for kind in ("Secret", "ConfigMap")
        for obj in api.list(kind)
        if obj["metadata"].get("labels", {}).get("app.kubernetes.io/managed-by")
        == "stackstore-operator"
    }


def complete(api: Api, count: int) -> bool:
    """As many outputs as there should be, and each with its content (it is created empty)."""
    found = rendered(api)
    return len(found) == count and "null" not in found.values()


def all_ready(api: Api) -> bool:
    bindings = api.list("StoreBinding")
    return all(
        {c["type"]: c["status"] for c in b.get("status", {}).get("conditions", [])}.get("Ready")
        == "True"
        for b in bindings
    )


def test_at_rest_it_writes_nothing(api, operator):
    api.secret("pg-app", username="app", password="x")
    api.apply(postgres_backend(), sqlite_backend())
    stacks(api, 5)
    # One that waits for something, and one that is refused, must be as quiet.
    api.apply(binding("waits", "waits", [sql("inference", backend="gone")]))
    api.apply(binding("refused", "refused", [sql("inference")], consumers=[UNKNOWN_KIND]))
    operator.start().wait_until_up()
    api.ready(*(f"b{n:03}" for n in range(5)))
    api.wait("StoreBinding", "waits", "Ready", "Unknown", "NotFoundOrNotAllowed")
    api.wait("StoreBinding", "refused", "Ready", "False", "NotYetSupported")
    time.sleep(2)
    assert len(list(operator.writes())) >= 5 * 3, "the audit log is not looked at rightly"
    before = len(list(operator.writes()))
    time.sleep(AT_REST_SECONDS)
    after = list(operator.writes())[before:]
    assert [(e["verb"], e["objectRef"]) for e in after] == []
    # Nor when it is started again on a cluster where everything is as it should be.
    assert operator.stop() == 0
    operator.start().wait_until_up()
    time.sleep(3)
    assert list(operator.writes())[before:] == []


def test_killed_in_the_middle_of_a_hundred_applies_it_converges_to_the_same_bytes(
    plane, api, operator
):
    api.secret("pg-app", username="app", password="x")
    api.apply(postgres_backend(), sqlite_backend())
    stacks(api, 100)
    for kill in range(4):
        operator.start()
        until(lambda goal=20 * (kill + 1): len(rendered(api)) >= goal, 20, operator.log)
        operator.kill9()
    assert len(rendered(api)) < 200, "killed too late to show anything"
    operator.start()
    until(lambda: complete(api, 200) and all_ready(api), 90)
    killed = rendered(api)
    # What an operator makes that nobody kills: everything anew, in the same namespace.
    assert operator.stop() == 0
    for kind in ("Secret", "ConfigMap"):
        for obj in api.list(kind):
            if f"{kind}/{obj['metadata']['name']}" in killed:
                api.delete(kind, obj["metadata"]["name"])
    assert rendered(api) == {}
    operator.start()
    until(lambda: complete(api, 200) and all_ready(api), 90)
    assert rendered(api) == killed
    assert operator.stop() == 0


def test_it_survives_an_api_server_that_restarts_and_misses_nothing(plane, api, operator):
    api.secret("pg-app", username="app", password="x")
    api.apply(postgres_backend(), sqlite_backend())
    stacks(api, 3)
    operator.start().wait_until_up()
    until(lambda: all_ready(api) and len(rendered(api)) == 6)
    for round_ in range(2):
        plane.stop_apiserver()
        time.sleep(1 + 3 * round_)
        plane.start_apiserver()
        # Changed at once, while its watches are still down.
        api.secret("pg-app", username="app", password=f"rotated-{round_}")
        api.delete("StoreBinding", f"b00{round_}")
        until(
            lambda round_=round_: (
                f"rotated-{round_}" in api.data("Secret", "s002-storage")["stackstore.json"]
            ),
            20,
            operator.log,
        )
    stacks(api, 1, first=9)
    api.ready("b009", seconds=15)
    assert operator.process.poll() is None


def test_it_waits_for_an_api_server_that_is_not_there_yet(plane, api, operator):
    plane.stop_apiserver()
    operator.start()
    until(lambda: "waiting for the API server" in operator.log(), 20)
    plane.start_apiserver()
    operator.wait_until_up()
    api.apply(sqlite_backend(), sqlite_backend("sql-default", "sql_sqlite"))
    stacks(api, 1)
    api.ready("b000")


def test_objects_that_only_an_older_schema_let_in_are_told_and_change_nothing(plane, api, operator):
    from stackstore_operator.api import crd

    api.secret("pg-app", username="app", password="x")
    api.apply(sqlite_backend(), postgres_backend())
    stacks(api, 1)
    operator.start().wait_until_up()
    api.ready("b000")
    good = rendered(api)
    strict = crd.files().values()
    loose = [yaml.safe_load(text) for text in strict]
    for one in loose:
        schema = one["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
        schema["properties"]["spec"] = {
            "type": "object",
            "x-kubernetes-preserve-unknown-fields": True,
        }
    plane.apply(*loose)
    try:
        until(lambda: _takes_anything(api), 20)
        api.merge("StoreBinding", "b000", {"spec": {"stores": [{"name": "nonsense"}]}})
        message = api.wait("StoreBinding", "b000", "Accepted", "False", "Invalid")
        assert "stores" in message
        message = api.wait("StorageBackend", "broken", "Accepted", "False", "Invalid")
        assert "sqlite" in message
        time.sleep(1)
        assert rendered(api) == good
        # The logins go on: whoever can't be read is no reason for the others to miss a rotation.
        api.secret("pg-app", username="app", password="second")
        until(lambda: "second" in api.data("Secret", "s000-storage")["stackstore.json"])
        config = "ConfigMap/s000-run-config"
        assert rendered(api)[config] == good[config]
        writes = len(list(operator.writes()))
        time.sleep(3)
        assert len(list(operator.writes())) == writes
        stacks(api, 1)
        api.ready("b000")
        api.delete("StorageBackend", "broken")
    finally:
        plane.kubectl("replace", "-f", "-", stdin="---\n".join(strict))
        until(lambda: _answers(api), 20)
    assert "Traceback" not in operator.log()


def _answers(api: Api) -> bool:
    """The API server has taken up the kinds as they are now."""
    try:
        return bool(api.list("StoreBinding") and api.list("StorageBackend"))
    except AssertionError:
        return False


def _takes_anything(api: Api) -> bool:
    try:
        api.apply({"apiVersion": "stackstore.dev/v1alpha1", "kind": "StorageBackend",
                   "metadata": {"name": "broken"}, "spec": {"type": "kv_sqlite", "sqlite": {"path": 7}}})  # fmt: skip
    except AssertionError:
        return False
    return True


def test_sigterm_ends_it_at_once_with_0(api, operator):
    api.apply(sqlite_backend(), sqlite_backend("sql-default", "sql_sqlite"))
    operator.start().wait_until_up()
    stacks(api, 20)
    start = time.monotonic()
    assert operator.stop() == 0
    assert time.monotonic() - start < 3
    assert "Traceback" not in operator.log()
    assert "never retrieved" not in operator.log()


def test_sigterm_ends_it_also_while_it_waits_for_the_api_server(tmp_path, plane):
    process = OperatorProcess(
        plane, tmp_path, user="admin", server=f"https://127.0.0.1:{free_port()}"
    )
    process.start()
    until(lambda: "waiting for the API server" in process.log(), 20, process.log)
    start = time.monotonic()
    assert process.stop() == 0
    assert time.monotonic() - start < 3
    assert "Traceback" not in process.log()


@pytest.mark.parametrize("content", ["{", "[]", "", "clusters: 7", "a: [\n"])
def test_a_kubeconfig_that_is_none_is_told(tmp_path, content):
    path = tmp_path / "kubeconfig"
    path.write_text(content)
    done = subprocess.run(
        [sys.executable, "-m", "stackstore_operator.main", "run", "--kubeconfig", path],
        capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert str(path) in done.stderr or "kubeconfig" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_broken_key_of_its_own_is_told(tmp_path):
    plane = ControlPlane.start()
    try:
        plane.kubectl("create", "namespace", OWN_NAMESPACE)
        own = Api(plane, OWN_NAMESPACE)
        own.secret("stackstore-revision-key", key="short")
        own.close()
        process = OperatorProcess(plane, tmp_path).start()
        until(lambda: process.process.poll() is not None, 20, process.log)
        assert process.process.returncode == 1
        assert "stackstore-revision-key must hold 32 bytes" in process.log()
    finally:
        plane.stop()


def watched(plane: ControlPlane, operator: OperatorProcess, resource: str) -> bool:
    """Whether the operator watches, as the audit log tells when the watch's answer begins or ends."""
    return any(
        event["verb"] == "watch" and event.get("objectRef", {}).get("resource") == resource
        for event in plane.audit(username=operator.user)
    )


def test_every_rule_it_ships_with_is_used_and_no_request_is_forbidden(plane, api, tmp_path):
    for crd in peers():
        plane.kubectl("apply", "--server-side", "-f", "-", stdin=yaml.safe_dump(crd))
    operator = OperatorProcess(plane, tmp_path, module="tests.support.hasty")
    api.secret("pg-app", username="app", password="x")
    api.apply(postgres_backend(verification={"mode": "None"}), sqlite_backend())
    with contextlib.closing(Api(plane, OWN_NAMESPACE)) as own:
        for lease in own.list("Lease"):
            own.delete("Lease", lease["metadata"]["name"])
    operator.start().wait_until_up()
    rolled = [(kind, kind.lower()) for kind in ("Deployment", "StatefulSet", "DaemonSet")]
    for kind, name in rolled:
        api.apply(workload(kind, name))
        run_pod(api, name, 0)
    consumers = [{"kind": kind, "name": name} for kind, name in rolled]
    consumers += [
        {"kind": "OGXServer", "apiVersion": "ogx.io/v1beta1", "name": "x"},
        {"kind": "LlamaStackDistribution", "apiVersion": "llamastack.io/v1alpha1", "name": "x"},
    ]
    with Controllers(api, *rolled):
        api.apply(
            binding("chat", "chat", [sql("inference")], defaults=DEFAULTS, consumers=consumers,
                    rollout={"strategy": "Restart"})
        )  # fmt: skip
        api.wait("StoreBinding", "chat", "RolledOut", "True", "RolledOut", seconds=60)
    api.ready("chat")
    until(lambda: api.list("Event"))
    until(lambda: watched(plane, operator, "ogxservers"), 30)
    until(lambda: watched(plane, operator, "llamastackdistributions"), 30)
    # It gives its Lease back, by an update.
    assert operator.stop() == 0
    used = collections.Counter()
    for event in plane.audit(username=operator.user):
        ref = event.get("objectRef")
        if ref is None:
            continue
        assert event.get("responseStatus", {}).get("code") != 403, event
        resource = ref["resource"] + (f"/{ref['subresource']}" if "subresource" in ref else "")
        used[ref.get("apiGroup", ""), resource, event["verb"]] += 1
    granted = {
        (group, resource, verb)
        for rule in rules() + rules("own-rules.yaml")
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }
    assert set(used) <= granted
    # `get` of our own kinds is what an administrator's `kubectl auth can-i` expects beside list and watch.
    assert {
        (g, r, v)
        for g, r, v in granted - set(used)
        if (r, v) not in {("storagebackends", "get"), ("storebindings", "get")}
    } == set()


@pytest.mark.parametrize("lacking", ["secrets", "storebindings"])
def test_without_the_rights_it_says_so_and_ends_with_1(plane, tmp_path, lacking):
    fewer = [
        {**rule, "resources": [r for r in rule["resources"] if r != lacking]} for rule in rules()
    ]
    process = OperatorProcess(
        plane, tmp_path, user=operator_user(plane, [r for r in fewer if r["resources"]])
    )
    process.start()
    until(lambda: process.process.poll() is not None, 20, process.log())
    assert process.process.returncode == 1
    assert lacking in process.log()
    assert "forbidden" in process.log()
    assert "Traceback" not in process.log()


def test_without_the_crds_it_says_so_and_ends_with_1(tmp_path):
    plane = ControlPlane.start()
    try:
        plane.kubectl("create", "namespace", OWN_NAMESPACE)
        process = OperatorProcess(plane, tmp_path).start()
        until(lambda: process.process.poll() is not None, 20, process.log())
        assert process.process.returncode == 1
        assert "kubectl apply -f crds/" in process.log()
        assert "Traceback" not in process.log()
    finally:
        plane.stop()
