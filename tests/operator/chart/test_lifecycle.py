"""Install, upgrade, roll back, an older chart, uninstall, reinstall: what people declared survives."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from hack import tools
from tests.operator.chart.conftest import Installed
from tests.operator.conftest import new_namespace
from tests.support.controlplane import ControlPlane
from tests.support.helm import CHART, Helm
from tests.support.operator import (
    DEFAULTS,
    OWN_NAMESPACE,
    ROOT,
    Api,
    OperatorProcess,
    binding,
    kv,
    postgres_backend,
    sql,
    sqlite_backend,
    until,
)

CRDS = ["storagebackends.stackstore.dev", "storebindings.stackstore.dev"]


@pytest.fixture(scope="module")
def plane() -> Iterator[ControlPlane]:
    """A control plane without our CRDs."""
    made = ControlPlane.start()
    yield made
    made.stop()


@pytest.fixture
def client(plane: ControlPlane, tmp_path: Path) -> Iterator[Helm]:
    made = Helm(tmp_path, plane.kubeconfig())
    yield made
    # A release that a failure left is in nobody's way.
    for line in made.run("list", "-A", "--no-headers").splitlines():
        if line.strip():
            release, namespace = line.split()[:2]
            made.run("uninstall", release, "-n", namespace)


@pytest.fixture
def api(plane: ControlPlane) -> Iterator[Api]:
    made = Api(plane, new_namespace(plane))
    yield made
    made.close()


@pytest.fixture
def crds(plane: ControlPlane) -> Iterator[None]:
    """None before, and none after, whatever a failure left."""
    yield
    for line in plane.kubectl("get", "sbe", "-A", "--no-headers", check=False).splitlines():
        if len(place := line.split()[:2]) == 2 and not line.startswith(("No ", "error")):
            released = ["--type=merge", "-p", '{"metadata":{"finalizers":null}}']
            plane.kubectl("patch", "sbe", place[1], "-n", place[0], *released, check=False)
    plane.kubectl("delete", "crd", *CRDS, "--ignore-not-found")


def chart(directory: Path, version: str, *, note: bool) -> Path:
    """The chart as of another version, whose StorageBackend may have a field `spec.note`."""
    copy = directory / f"chart-{version}"
    shutil.copytree(CHART, copy)
    about = copy / "Chart.yaml"
    about.write_text(re.sub(r"ersion: .*0\.1\.0.*", f'ersion: "{version}"', about.read_text()))
    if note:
        file = copy / "files" / "crds" / "stackstore.dev_storagebackends.yaml"
        crd = yaml.safe_load(file.read_text())
        spec = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
        spec["properties"]["note"] = {"type": "string", "maxLength": 100}
        file.write_text(yaml.safe_dump(crd, sort_keys=False))
    return copy


def schema(plane: ControlPlane) -> tuple[str, bool]:
    """The version of the chart that the live CRD is from, and whether it has `spec.note`."""
    crd = json.loads(plane.kubectl("get", "crd", CRDS[0], "-o", "json"))
    spec = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    version = crd["metadata"].get("annotations", {}).get("stackstore.dev/chart-version", "")
    return version, "note" in spec["properties"]


def outputs(operator: OperatorProcess) -> list[str]:
    """Each write of a stack's Secret or ConfigMap by this service account, in whatever process."""
    places = [event["objectRef"] for event in operator.writes()]
    kinds = ("secrets", "configmaps")
    return [f"{one['resource']}/{one['name']}" for one in places if one["resource"] in kinds]


def image(plane: ControlPlane) -> str:
    return plane.kubectl(
        "get", "deployment", "stackstore", "-n", OWN_NAMESPACE,
        "-o", "jsonpath={.spec.template.spec.containers[0].image}",
    )  # fmt: skip


def declared(api: Api) -> dict[str, Any]:
    """What people declared, and what was made of it, to the last byte; the outputs' versions, too."""
    found = {}
    for kind in ("StorageBackend", "StoreBinding", "Secret", "ConfigMap"):
        for obj in api.list(kind):
            metadata = obj["metadata"]
            own = kind in ("StorageBackend", "StoreBinding")
            found[f"{kind}/{metadata['name']}"] = {
                "uid": metadata["uid"],
                "version": metadata["generation" if own else "resourceVersion"],
                **{key: obj.get(key) for key in ("spec", "data")},
            }
    return found


def in_a_shell(client: Helm, commands: str) -> str:
    """What these commands of a document print, typed in the repository's directory."""
    kubectl = tools.find(["kubectl"])["kubectl"].parent
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", commands], cwd=ROOT, capture_output=True, text=True,
        check=False, env={**client.environment, "REGISTRY": "registry.example",
                          "PATH": f"{kubectl}{os.pathsep}{client.environment['PATH']}"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def readme_install(client: Helm) -> None:
    """The README's `helm install`, as it stands there."""
    (command,) = re.findall(
        r"^helm install (?:.*\\\n)*.*$", (ROOT / "README.md").read_text(), re.MULTILINE
    )
    shown = in_a_shell(client, command)
    assert "kubectl --namespace stackstore-system rollout status deployment/stackstore" in shown


def installed(plane: ControlPlane, client: Helm) -> Installed:
    user = plane.service_account(OWN_NAMESPACE, "stackstore")
    return Installed(plane, client, "stackstore", OWN_NAMESPACE, user)


def begin(operator: OperatorProcess, request: pytest.FixtureRequest) -> None:
    """Start it; one that a failure left behind would act beside those of other tests."""
    request.addfinalizer(operator.start().stop)
    operator.wait_until_up()


@pytest.mark.usefixtures("crds")
def test_what_people_declared_outlives_every_release(
    plane: ControlPlane, client: Helm, api: Api, tmp_path: Path, request: pytest.FixtureRequest
):
    place = ["-n", OWN_NAMESPACE]
    readme_install(client)
    assert schema(plane) == ("0.1.0", False)
    plane.kubectl("wait", "--for=condition=Established", "--timeout=30s", *(f"crd/{one}" for one in CRDS))  # fmt: skip
    assert image(plane) == "registry.example/stackstore-operator:0.1.0"

    # The port of the chart is one of this machine's here, and may be taken.
    operator = installed(plane, client).operator(tmp_path, "--metrics-port=0")
    begin(operator, request)
    api.secret("pg-app", username="app", password="p")
    api.apply(postgres_backend(), sqlite_backend())
    api.apply(binding(stores=[kv("metadata"), sql("inference")], defaults=DEFAULTS))
    api.ready("chat", seconds=30)
    before = declared(api)
    assert {"Secret/chat-storage", "ConfigMap/chat-run-config"} <= set(before)

    told = client.run("upgrade", "stackstore", chart(tmp_path, "0.2.0", note=True), *place)
    assert "The CRDs are those" not in told
    assert schema(plane) == ("0.2.0", True)
    assert image(plane).endswith(":0.2.0")
    # An older release knows nothing of the newer schema, and leaves it.
    client.run("rollback", "stackstore", "1", *place)
    assert image(plane) == "registry.example/stackstore-operator:0.1.0"
    assert schema(plane) == ("0.2.0", True)
    # So does an older chart.
    told = client.run("upgrade", "stackstore", CHART, *place)
    assert "The CRDs are those of the chart 0.2.0, which is newer than this one" in told
    assert image(plane).endswith(":0.1.0")
    assert schema(plane) == ("0.2.0", True)
    # A newer one may take a field away; a release candidate is older than its release.
    client.run("upgrade", "stackstore", chart(tmp_path, "0.3.0-rc.1", note=False), *place)
    assert schema(plane) == ("0.3.0-rc.1", False)
    client.run("upgrade", "stackstore", chart(tmp_path, "0.3.0", note=True), *place)
    assert schema(plane) == ("0.3.0", True)
    assert declared(api) == before
    assert operator.process is not None
    assert operator.process.poll() is None, operator.log()

    assert operator.stop() == 0
    client.run("uninstall", "stackstore", *place)
    assert left(plane) == {f"customresourcedefinition.apiextensions.k8s.io/{one}" for one in CRDS}
    assert declared(api) == before

    client.run("install", "stackstore", chart(tmp_path, "0.4.0", note=False), *place)
    assert schema(plane) == ("0.4.0", False)
    operator = installed(plane, client).operator(tmp_path, "--metrics-port=0")
    earlier = len(outputs(operator))
    begin(operator, request)
    # It serves them, and has nothing to write but what changes now.
    api.secret("pg-app", username="app", password="p-2")
    until(lambda: "p-2" in api.data("Secret", "chat-storage").get("stackstore.json", ""), 30)
    assert outputs(operator)[earlier:] == ["secrets/chat-storage"]
    after = declared(api)
    for changed in ("Secret/pg-app", "Secret/chat-storage"):
        assert after.pop(changed)["uid"] == before.pop(changed)["uid"]
    assert after == before
    api.clear()
    until(lambda: not api.list("StorageBackend"), 30)
    assert operator.stop() == 0, operator.log()
    client.run("uninstall", "stackstore", *place)


def left(plane: ControlPlane) -> set[str]:
    """Everything in the cluster that says it is of the chart."""
    kinds = plane.kubectl("api-resources", "--verbs=list", "-o", "name").split()
    chosen = ["-A", "-l", "app.kubernetes.io/name=stackstore", "-o", "name"]
    return set(plane.kubectl("get", ",".join(kinds), *chosen).split())


@pytest.mark.usefixtures("crds")
def test_crds_may_be_plain_objects(plane: ControlPlane, client: Helm, tmp_path: Path):
    """For who renders charts without helm; there and back, and to the end."""
    place = ["-n", new_namespace(plane)]
    client.run("install", "stackstore", CHART, *place)
    assert schema(plane) == ("0.1.0", False)
    newer = chart(tmp_path, "0.2.0", note=True)
    client.run("upgrade", "stackstore", newer, *place, "--set", "crds.hooks=false")
    assert schema(plane) == ("0.2.0", True)
    client.run("upgrade", "stackstore", CHART, *place, "--set", "crds.hooks=false")
    assert schema(plane) == ("0.2.0", True)
    client.run("upgrade", "stackstore", newer, *place)
    client.run("uninstall", "stackstore", *place)
    assert schema(plane) == ("0.2.0", True)


@pytest.mark.usefixtures("crds")
def test_crds_that_kubectl_made_are_taken_over(plane: ControlPlane, client: Helm, tmp_path: Path):
    place = ["-n", new_namespace(plane)]
    plane.kubectl("apply", "--server-side", "-f", str(ROOT / "crds"))
    client.run("install", "stackstore", CHART, *place)
    assert schema(plane) == ("0.1.0", False)
    # What is otherwise than somebody else said is not overwritten unasked; docs/install.md says how.
    newer = chart(tmp_path, "0.2.0", note=True)
    told = client.run("upgrade", "stackstore", newer, *place, check=False)
    assert re.search(r'conflicts? with "kubectl"', told), told
    assert schema(plane) == ("0.1.0", False)
    in_a_shell(client, giving_away())
    client.run("upgrade", "stackstore", newer, *place)
    assert schema(plane) == ("0.2.0", True)
    client.run("uninstall", "stackstore", *place)


def giving_away() -> str:
    """The commands of docs/install.md by which kubectl gives the CRDs away."""
    text = (ROOT / "docs" / "install.md").read_text()
    (block,) = re.findall(r"gives them away:\n\n```\n(.*?)```", text, re.DOTALL)
    return str(block)
