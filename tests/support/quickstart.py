"""The quickstart's manifests, and what the operator renders from them, without a cluster."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from stackstore_operator.api.backend import StorageBackend
from stackstore_operator.api.binding import StoreBinding
from stackstore_operator.reconcile.inputs import StackInputs
from stackstore_operator.reconcile.plan import Plan, plan

DIRECTORY = Path(__file__).resolve().parents[2] / "examples" / "quickstart"
NAMESPACE = "default"


def manifests() -> list[dict[str, Any]]:
    """Every object of `examples/quickstart/`, as `kubectl apply -f` would send them."""
    files = sorted(DIRECTORY.glob("*.yaml"))
    return [obj for file in files for obj in yaml.safe_load_all(file.read_text())]


def render(*, secret: Mapping[str, str] | None = None, sqlite: Path | None = None) -> Plan:
    """The plan of the stack `chat`.

    Args:
        secret: keys of the login Secret that differ from the file's.
        sqlite: another path for the kv backend.
    """
    objects = [_created(obj) for obj in manifests()]
    if sqlite is not None:
        for obj in objects:
            if obj["metadata"]["name"] == "kv-default":
                obj["spec"]["sqlite"]["path"] = str(sqlite)
    backends = [StorageBackend.from_object(o) for o in objects if o["kind"] == "StorageBackend"]
    return plan(
        StackInputs(
            namespace=NAMESPACE,
            stack="chat",
            bindings=tuple(
                StoreBinding.from_object(o) for o in objects if o["kind"] == "StoreBinding"
            ),
            backends={(NAMESPACE, backend.metadata.name): backend for backend in backends},
            secrets={
                (NAMESPACE, o["metadata"]["name"]): {
                    key: value.encode()
                    for key, value in {**o["stringData"], **(secret or {})}.items()
                }
                for o in objects
                if o["kind"] == "Secret"
            },
            config_maps={
                (NAMESPACE, o["metadata"]["name"]): o["data"]
                for o in objects
                if o["kind"] == "ConfigMap"
            },
            config_map=None,
            secret=None,
            key=b"k" * 32,
            now=1_800_000_000,
        )
    )


def _created(obj: dict[str, Any]) -> dict[str, Any]:
    """As the API server would have completed it."""
    name = obj["metadata"]["name"]
    obj["metadata"] |= {
        "namespace": NAMESPACE,
        "uid": f"uid-{name}",
        "generation": 1,
        "resourceVersion": "1",
        "creationTimestamp": "2026-01-01T00:00:00Z",
    }
    return obj
