"""The operator as a process of its own, and plain JSON access to what it works on."""

from __future__ import annotations

import base64
import os
import secrets
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import httpx
import yaml
from prometheus_client.parser import text_string_to_metric_families

from tests.support.controlplane import ControlPlane
from tests.support.postgres import die_with_parent

ROOT = Path(__file__).resolve().parents[2]
OWN_NAMESPACE = "stackstore-system"
T = TypeVar("T")

_PLACES = {
    "Namespace": "api/v1/namespaces",
    "Secret": "api/v1/namespaces/{}/secrets",
    "ConfigMap": "api/v1/namespaces/{}/configmaps",
    "Event": "api/v1/namespaces/{}/events",
    "Lease": "apis/coordination.k8s.io/v1/namespaces/{}/leases",
    "Deployment": "apis/apps/v1/namespaces/{}/deployments",
    "StatefulSet": "apis/apps/v1/namespaces/{}/statefulsets",
    "DaemonSet": "apis/apps/v1/namespaces/{}/daemonsets",
    "Pod": "api/v1/namespaces/{}/pods",
    "HorizontalPodAutoscaler": "apis/autoscaling/v2/namespaces/{}/horizontalpodautoscalers",
    "OGXServer": "apis/ogx.io/v1beta1/namespaces/{}/ogxservers",
    "LlamaStackDistribution": "apis/llamastack.io/v1alpha1/namespaces/{}/llamastackdistributions",
    "StorageBackend": "apis/stackstore.dev/v1alpha1/namespaces/{}/storagebackends",
    "StoreBinding": "apis/stackstore.dev/v1alpha1/namespaces/{}/storebindings",
}


def rules(file: str = "rules.yaml") -> list[dict[str, Any]]:
    """The RBAC rules that the chart ships: everywhere, or of `own-rules.yaml`."""
    path = ROOT / "charts" / "stackstore" / "files" / file
    found: list[dict[str, Any]] = yaml.safe_load(path.read_text())
    return found


def operator_user(plane: ControlPlane, everywhere: Any = None) -> str:
    """A user who may do what the chart's rules say; `everywhere` instead of the cluster's."""
    return plane.user(
        rules() if everywhere is None else everywhere,
        namespace=OWN_NAMESPACE,
        own_rules=rules("own-rules.yaml"),
    )


def until(
    condition: Callable[[], T], seconds: float = 10.0, what: str | Callable[[], str] = ""
) -> T:
    """Wait until `condition` gives something true, and return that."""
    deadline = time.monotonic() + seconds
    while True:
        found = condition()
        if found:
            return found
        if time.monotonic() > deadline:
            told = what if isinstance(what, str) else what()
            raise AssertionError(f"not within {seconds} s: {told or condition}")
        time.sleep(0.02)


class _Patient(httpx.HTTPTransport):
    """Asks again when the API server says "later", as every client of it does.

    It says so of a kind whose CRD has just changed.
    """

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        for _ in range(20):
            answer = super().handle_request(request)
            if answer.status_code != 429:
                break
            answer.close()
            time.sleep(0.5)
        return answer


class Api:
    """One namespace of an API server, as its administrator sees it."""

    def __init__(self, plane: ControlPlane, namespace: str) -> None:
        self.plane = plane
        self.namespace = namespace
        entry = yaml.safe_load(plane.kubeconfig().read_text())
        context = ssl.create_default_context(
            cadata=base64.b64decode(
                entry["clusters"][0]["cluster"]["certificate-authority-data"]
            ).decode()
        )
        self._client = httpx.Client(
            base_url=plane.url, timeout=20, transport=_Patient(verify=context),
            headers={"Authorization": f"Bearer {entry['users'][0]['user']['token']}"},
        )  # fmt: skip

    def clear(self) -> None:
        """Delete what an operator works on; the namespace stays."""
        for kind in ("StoreBinding", "StorageBackend"):
            for obj in self.list(kind):
                self.delete(kind, obj["metadata"]["name"])

    def close(self) -> None:
        self._client.close()

    def _url(self, kind: str, name: str = "", namespace: str | None = None) -> str:
        place = _PLACES[kind].format(namespace or self.namespace)
        return f"/{place}/{name}" if name else f"/{place}"

    def get(self, kind: str, name: str) -> dict[str, Any] | None:
        answer = self._client.get(self._url(kind, name))
        if answer.status_code == 404:
            return None
        return _checked(answer)

    def list(self, kind: str, selector: str = "") -> list[dict[str, Any]]:
        query = {"labelSelector": selector} if selector else None
        return list(_checked(self._client.get(self._url(kind), params=query))["items"])

    def apply(self, *objects: Mapping[str, Any] | str) -> None:
        """Server-side apply of objects, or of YAML text; as the user, by force."""
        for given in objects:
            for obj in yaml.safe_load_all(given) if isinstance(given, str) else [given]:
                namespace = obj["metadata"].get("namespace", self.namespace)
                _checked(
                    self._client.patch(
                        self._url(obj["kind"], obj["metadata"]["name"], namespace),
                        params={"fieldManager": "user", "force": "true"},
                        content=yaml.safe_dump(obj),
                        headers={"Content-Type": "application/apply-patch+yaml"},
                    )
                )

    def merge(self, kind: str, name: str, patch: Mapping[str, Any], subresource: str = "") -> None:
        url = self._url(kind, name) + (f"/{subresource}" if subresource else "")
        _checked(
            self._client.patch(
                url, json=patch, headers={"Content-Type": "application/merge-patch+json"},
            )
        )  # fmt: skip

    def delete(self, kind: str, name: str, namespace: str | None = None) -> None:
        _checked(self._client.delete(self._url(kind, name, namespace)))

    def secret(self, name: str, **data: str) -> None:
        """Make a Secret, or replace its data."""
        encoded = {key: base64.b64encode(text.encode()).decode() for key, text in data.items()}
        self.apply(
            {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "data": encoded}
        )

    def config_map(self, name: str, **data: str) -> None:
        """Make a ConfigMap; `config_yaml` stands for the key `config.yaml`."""
        named = {key.replace("_", "."): text for key, text in data.items()}
        self.apply(
            {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": named}
        )

    # -- what the operator says and made

    def condition(self, kind: str, name: str, type_: str = "Ready") -> tuple[str, str, str]:
        """(status, reason, message); empty while it isn't there."""
        obj = self.get(kind, name) or {}
        for condition in obj.get("status", {}).get("conditions", []):
            if condition["type"] == type_:
                return condition["status"], condition["reason"], condition.get("message", "")
        return "", "", ""

    def wait(
        self, kind: str, name: str, type_: str, status: str, reason: str, *, seconds: float = 10
    ) -> str:
        """Wait for a condition; returns its message."""

        def holds() -> tuple[str] | None:
            found = self.condition(kind, name, type_)
            return (found[2],) if found[:2] == (status, reason) else None

        try:
            return until(holds, seconds)[0]
        except AssertionError:
            shown = (self.get(kind, name) or {}).get("status")
            raise AssertionError(
                f"{kind} {name} is not {type_}={status}/{reason}: {shown}"
            ) from None

    def ready(self, *bindings: str, seconds: float = 10) -> None:
        for binding in bindings:
            self.wait("StoreBinding", binding, "Ready", "True", "Ready", seconds=seconds)

    def data(self, kind: str, name: str) -> dict[str, str]:
        """The decoded data of a Secret or ConfigMap; empty while it isn't there."""
        obj = self.get(kind, name) or {}
        found = obj.get("data") or {}
        if kind == "Secret":
            return {key: base64.b64decode(value).decode() for key, value in found.items()}
        return dict(found)

    def config(self, stack: str = "chat") -> dict[str, Any]:
        """A stack's rendered run config; empty while it isn't there."""
        text = self.data("ConfigMap", f"{stack}-run-config").get("config.yaml", "{}")
        found: dict[str, Any] = yaml.safe_load(text)
        return found


def _checked(answer: httpx.Response) -> dict[str, Any]:
    if answer.status_code >= 400:
        raise AssertionError(f"{answer.request.method} {answer.request.url}: {answer.text}")
    found: dict[str, Any] = answer.json()
    return found


class OperatorProcess:
    """`stackstore-operator run`, logged in as a user who may do what the chart's rules say."""

    def __init__(
        self,
        plane: ControlPlane,
        directory: Path,
        *,
        user: str | None = None,
        server: str | None = None,
        lease_seconds: float = 3,
        module: str = "stackstore_operator.main",
        namespaces: Sequence[str] = (),
        metrics_port: int = 0,
        plain: bool = False,
    ) -> None:
        self.plane = plane
        self._module = module
        self.user = user or operator_user(plane)
        self._options = ["--lease-seconds", str(lease_seconds)]
        self.metrics_port = metrics_port
        # As a container runs it; Python's checks cost time and memory.
        self._checks = [] if plain else ["-W", "error", "-X", "dev"]
        if metrics_port:
            self._options += ["--metrics-port", str(metrics_port)]
        if namespaces:
            self._options += ["--namespaces", ",".join(namespaces)]
        self.log_path = directory / f"operator-{secrets.token_hex(4)}.log"
        kubeconfig = plane.kubeconfig(self.user).read_text()
        if server is not None:
            kubeconfig = kubeconfig.replace(plane.url, server)
        # A colon would make it two files.
        name = self.user.replace(":", ".")
        self._kubeconfig = directory / f"{name}-{secrets.token_hex(4)}.kubeconfig"
        self._kubeconfig.write_text(kubeconfig)
        self.process: subprocess.Popen[bytes] | None = None
        self._before = 0

    def start(self) -> OperatorProcess:
        self._before = len(self.log())
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, *self._checks, "-m", self._module, "run",
                 "--kubeconfig", self._kubeconfig, "--namespace", OWN_NAMESPACE, *self._options],
                stdout=log, stderr=log, preexec_fn=die_with_parent,
                # The client writes the CA to a temporary file, which a kill leaves behind.
                env={**os.environ, "PYTHONUNBUFFERED": "1", "TMPDIR": str(self.log_path.parent)},
            )  # fmt: skip
        return self

    def wait_until_up(self, seconds: float = 30) -> OperatorProcess:
        """It has said that it watches."""
        until(lambda: "watching" in self.log()[self._before :], seconds, self.log)
        return self

    def kill9(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait(10)

    def stop(self) -> int:
        """SIGTERM; returns its exit code."""
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(15)

    def log(self) -> str:
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def probe(self, path: str) -> tuple[int, str]:
        """What it answers at `/livez`, `/readyz` or `/metrics`; (0, "") while nobody does."""
        try:
            answer = httpx.get(f"http://127.0.0.1:{self.metrics_port}{path}", timeout=5)
        except httpx.TransportError:
            return 0, ""
        return answer.status_code, answer.text

    def metric(self, name: str, **labels: str) -> float:
        """The sum of a metric's samples with these labels; 0 where there is none."""
        return sum(
            sample.value
            for family in text_string_to_metric_families(self.probe("/metrics")[1])
            for sample in family.samples
            if sample.name == f"stackstore_operator_{name}"
            and labels.items() <= sample.labels.items()
        )

    def writes(self) -> Iterator[dict[str, Any]]:
        """What the API server's audit log holds of its writes; that it leads is no write of it."""
        for event in self.plane.audit(username=self.user):
            place = event.get("objectRef", {"resource": "leases"})
            if event["verb"] not in ("get", "list", "watch") and place["resource"] != "leases":
                yield event


# -- manifests that tests begin with


def sqlite_backend(
    name: str = "kv-default", type_: str = "kv_sqlite", **spec: Any
) -> dict[str, Any]:
    return {
        "apiVersion": "stackstore.dev/v1alpha1",
        "kind": "StorageBackend",
        "metadata": {"name": name},
        "spec": {"type": type_, "sqlite": {"path": f"/data/{name}.db"}, **spec},
    }


def postgres_backend(
    name: str = "sql-default", secret: str = "pg-app", **spec: Any
) -> dict[str, Any]:
    """A database that isn't there, so that nobody visits it."""
    return {
        "apiVersion": "stackstore.dev/v1alpha1",
        "kind": "StorageBackend",
        "metadata": {"name": name},
        "spec": {
            "type": "sql_postgres",
            "postgres": {"host": "pg-rw.db.svc", "database": "stack", "tls": {"mode": "Disable"}},
            "credentials": {"secretRef": {"name": secret}},
            "verification": {"mode": "None"},
            **spec,
        },
    }


def kv(store: str, backend: str = "kv-default", place: str | None = None) -> dict[str, Any]:
    return {"name": store, "backendRef": {"name": backend}, "namespace": place or store}


def sql(store: str, backend: str = "sql-default", place: str | None = None) -> dict[str, Any]:
    return {"name": store, "backendRef": {"name": backend}, "tableName": place or f"{store}_table"}


DEFAULTS = {"kv": {"name": "kv-default"}, "sql": {"name": "sql-default"}}
UNKNOWN_KIND = {"apiVersion": "argoproj.io/v1alpha1", "kind": "Rollout", "name": "x"}
"""A consumer that no release can serve: what it asks for is refused by name."""


def binding(
    name: str = "chat", stack: str = "chat", stores: Any = (), **spec: Any
) -> dict[str, Any]:
    return {
        "apiVersion": "stackstore.dev/v1alpha1",
        "kind": "StoreBinding",
        "metadata": {"name": name},
        "spec": {"stack": stack, "stores": list(stores), **spec},
    }
