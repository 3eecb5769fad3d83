"""helm, and the chart installed."""

from __future__ import annotations

import re
import secrets
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pytest
import yaml

from tests.operator.conftest import new_namespace
from tests.support.controlplane import ControlPlane
from tests.support.helm import CHART, Helm
from tests.support.operator import OperatorProcess
from tests.support.postgres import free_port

HERE = Path(__file__).parent
SETS = sorted((HERE / "values").glob("*.yaml"))
RESTRICTED = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn")}


def narrowed(rules: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What of rules a Role can give: what is in its namespace, and the namespace itself."""
    without = {"customresourcedefinitions", "namespaces", "nodes"}
    found = []
    for rule in rules:
        if left := [one for one in rule["resources"] if one not in without]:
            found.append({**rule, "resources": left})
        if "namespaces" in rule["resources"] and "get" in rule["verbs"]:
            found.append({**rule, "resources": ["namespaces"], "verbs": ["get"]})
    return found


@dataclass(frozen=True)
class Installed:
    """A release of the chart, and its service account as a user."""

    plane: ControlPlane
    helm: Helm
    release: str
    namespace: str
    user: str

    def may(self, verb: str, resource: str, *place: str) -> bool:
        """What `kubectl auth can-i` says to the service account."""
        shown = self.plane.kubectl(
            "auth", "can-i", verb, resource, *place, user=self.user, check=False
        )
        return "yes" in shown.splitlines()

    def rights(self, namespace: str) -> set[tuple[str, str, str]]:
        """All that it may do in a namespace, and other service accounts may not.

        Returns:
            (resource, an object's name or nothing, verb).
        """
        nobody = f"system:serviceaccount:{self.namespace}:nobody"
        return self._listed(namespace) - self._listed(namespace, f"--as={nobody}", user="admin")

    def _listed(
        self, namespace: str, *more: str, user: str | None = None
    ) -> set[tuple[str, str, str]]:
        shown = self.plane.kubectl(
            "auth",
            "can-i",
            "--list",
            "--no-headers",
            "-n",
            namespace,
            *more,
            user=user or self.user,
        )
        found = set()
        for line in shown.splitlines():
            resource = line.split("[")[0].strip()
            _, names, verbs = (part.split() for part in re.findall(r"\[(.*?)\]", line))
            found |= {(resource, name, verb) for name in names or [""] for verb in verbs}
        return found

    @property
    def container(self) -> dict[str, Any]:
        """The Deployment's one container."""
        shown = self.plane.kubectl("get", "deployment", self.release, "-n", self.namespace, "-o", "yaml")  # fmt: skip
        (found,) = yaml.safe_load(shown)["spec"]["template"]["spec"]["containers"]
        return dict(found)

    def operator(self, directory: Path, *more: str) -> OperatorProcess:
        """The operator as that service account, with its Deployment's arguments and these."""
        run, *options = self.container["args"]
        assert run == "run"
        process = OperatorProcess(self.plane, directory, user=self.user)
        # The last of an option's values counts.
        process._options = ["--namespace", self.namespace, *options, *more]
        return process

    def probe(self, name: str) -> str:
        """What the kubelet's probe of this name (or the path) is answered."""
        container = self.container
        (port,) = (one["containerPort"] for one in container["ports"] if one["name"] == "telemetry")
        path = container[name]["httpGet"]["path"] if name in container else name
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
            return str(answer.read().decode())

    def test(self) -> str:
        """What the pod of `helm test` says, run here; it finds the operator at this address."""
        shown = self.helm.run("get", "hooks", self.release, "-n", self.namespace)
        (pod,) = yaml.safe_load_all(shown)
        (container,) = pod["spec"]["containers"]
        script, address = container["args"]
        assert container["command"] == ["python", "-c"]
        host, _, port = address.rpartition(":")
        assert host == f"http://{self.release}.{self.namespace}.svc"
        done = subprocess.run(
            [sys.executable, "-c", script, f"http://127.0.0.1:{port}"],
            capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip
        return done.stdout + done.stderr


class Install(Protocol):
    """Installs a release with these arguments of helm."""

    def __call__(self, *arguments: str) -> Installed: ...


@pytest.fixture(scope="session")
def helm(tmp_path_factory: pytest.TempPathFactory) -> Helm:
    """helm that reaches no cluster."""
    return Helm(tmp_path_factory.mktemp("helm"))


@pytest.fixture
def install(
    control_plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Install]:
    """Releases in namespaces of their own; the CRDs are there already."""
    client = Helm(tmp_path_factory.mktemp("helm"), control_plane.kubeconfig())
    made = []

    def one(*arguments: str) -> Installed:
        release = f"stackstore-{secrets.token_hex(3)}"
        namespace = new_namespace(control_plane, **RESTRICTED)
        made.append((release, namespace))
        # The CRDs are there, and several operators share this machine.
        own = [
            "--set",
            "crds.enabled=false",
            "--set",
            f"ports.telemetry={free_port()},bind=127.0.0.1",
        ]
        client.run("install", release, CHART, "-n", namespace, *own, *arguments)
        user = control_plane.service_account(namespace, release)
        return Installed(control_plane, client, release, namespace, user)

    yield one
    for release, namespace in made:
        client.run("uninstall", release, "-n", namespace, "--ignore-not-found")
