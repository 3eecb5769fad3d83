"""A small cluster in words: what a stack's look would have read, and what it would find afterwards."""

from __future__ import annotations

import base64
import dataclasses
from typing import Any

import yaml

from stackstore.credentials.snapshot import Snapshot
from stackstore_operator.api.backend import StorageBackend
from stackstore_operator.api.binding import StoreBinding
from stackstore_operator.kube.workloads import NONE, Workloads
from stackstore_operator.reconcile.budget.ledger import Ledger
from stackstore_operator.reconcile.inputs import StackInputs
from stackstore_operator.reconcile.outputs import (
    MANAGED_BY,
    OPERATOR,
    STACK_LABEL,
    config_map_name,
    secret_name,
)
from stackstore_operator.reconcile.plan import Plan, plan, prepare
from stackstore_operator.render.model import CONFIG_KEY, SNAPSHOT_KEY

KEY = b"a key of tests"
NOW = 1_800_000_000
BORN = "2026-01-01T00:00:00Z"

LOGIN = {
    "username": b"app",
    "password": b"first",
    "host": b"pg-rw",
    "port": b"5432",
    "database": b"stack",
}


def postgres(name: str = "sql-default", namespace: str = "chat", **spec: Any) -> StorageBackend:
    return backend(
        name,
        namespace,
        **{
            "type": "sql_postgres",
            "postgres": {},
            "credentials": {"secretRef": {"name": "pg-app"}},
            **spec,
        },
    )


def sqlite(name: str = "kv-default", namespace: str = "chat", **spec: Any) -> StorageBackend:
    return backend(
        name, namespace, **{"type": "kv_sqlite", "sqlite": {"path": "/data/kv.db"}, **spec}
    )


def backend(name: str, namespace: str = "chat", /, **spec: Any) -> StorageBackend:
    metadata = {"name": name, "namespace": namespace, "uid": f"uid-{name}", "generation": 1}
    return StorageBackend.from_object({"metadata": metadata, "spec": spec})


STORES = {
    "metadata": {"name": "metadata", "backendRef": {"name": "kv-default"}, "namespace": "registry"},
    "inference": {"name": "inference", "backendRef": {"name": "sql-default"}, "tableName": "inference_store"},
    "conversations": {"name": "conversations", "backendRef": {"name": "sql-default"}, "tableName": "openai_conversations"},
    "responses": {"name": "responses", "backendRef": {"name": "sql-default"}, "tableName": "openai_responses"},
    "prompts": {"name": "prompts", "backendRef": {"name": "sql-default"}, "tableName": "prompts"},
}  # fmt: skip
DEFAULTS = {"kv": {"name": "kv-default"}, "sql": {"name": "sql-default"}}
FILES = {
    "api": "files",
    "providerId": "localfs",
    "field": "metadata_store",
    "backendRef": {"name": "sql-default"},
    "tableName": "files_metadata",
}
INTERACTIONS = {
    **FILES, "api": "interactions", "providerId": "builtin", "field": "store", "tableName": "interactions"
}  # fmt: skip
OWN_RESPONSES = {
    **FILES, "api": "responses", "providerId": "builtin", "field": "persistence.responses", "tableName": "own_responses"
}  # fmt: skip
UNKNOWN_KIND = {"apiVersion": "argoproj.io/v1alpha1", "kind": "Rollout", "name": "x"}
"""A consumer that no release can serve: what it asks for is refused by name."""
BASE = yaml.safe_dump(
    {
        "distro_name": "chat",
        "apis": ["inference", "files"],
        "providers": {
            "files": [
                {
                    "provider_id": "localfs",
                    "provider_type": "inline::localfs",
                    "config": {"storage_dir": "/data"},
                }
            ]
        },
        "storage": {"backends": {"old": {}}},
    },
    sort_keys=False,
)


def store(name: str, **changes: Any) -> dict[str, Any]:
    return {**STORES[name], **changes}


def binding(
    name: str = "chat", /, *, born: str = BORN, generation: int = 1, **spec: Any
) -> StoreBinding:
    """A binding of the stack `chat`; without more, one of its stores and defaults."""
    metadata = {
        "name": name, "namespace": "chat", "uid": f"uid-{name}", "generation": generation,
        "creationTimestamp": born,
    }  # fmt: skip
    spec = {"stack": "chat", **(spec or {"stores": [store("inference")], "defaults": DEFAULTS})}
    return StoreBinding.from_object({"metadata": metadata, "spec": spec})


def inputs(
    *bindings: StoreBinding,
    backends: tuple[StorageBackend, ...] | None = None,
    secrets: dict[tuple[str, str], dict[str, bytes]] | None = None,
    config_maps: dict[tuple[str, str], dict[str, str]] | None = None,
    workloads: Workloads = NONE,
    now: int = NOW,
) -> StackInputs:
    """What is read of the stack `chat`; without more, everything is there."""
    found = (postgres(), sqlite()) if backends is None else backends
    return StackInputs(
        namespace="chat",
        stack="chat",
        bindings=bindings or (binding(),),
        backends={(b.metadata.namespace, b.metadata.name): b for b in found},
        secrets={("chat", "pg-app"): LOGIN} if secrets is None else secrets,
        config_maps=config_maps or {},
        config_map=None,
        secret=None,
        key=KEY,
        now=now,
        workloads=workloads,
    )


def judged(found: StackInputs, ledger: Ledger | None = None) -> Plan:
    """The plan after budgets were asked, as a look at the stack makes it."""
    books = ledger or Ledger(lambda *_: None)
    prepared = prepare(found)
    rulings = books.note(
        (found.namespace, found.stack), prepared.demand.claims, prepared.demand.places
    )
    assert rulings is not None
    return plan(found, prepared, rulings)


def change(before: StackInputs, **changes: Any) -> StackInputs:
    """The same cluster with something changed; `bindings` and `backends` as objects."""
    if "backends" in changes:
        changes["backends"] = {
            (b.metadata.namespace, b.metadata.name): b for b in changes["backends"]
        }
    return dataclasses.replace(before, **changes)


def applied(before: StackInputs, plan: Plan) -> StackInputs:
    """The cluster after a plan was written: outputs and statuses."""
    bindings = tuple(
        b.model_copy(update={"status": plan.statuses[b.metadata.name]}) for b in before.bindings
    )
    config_map, secret = before.config_map, before.secret
    if plan.config is not None:
        config_map = output(config_map_name("chat"), {CONFIG_KEY: plan.config})
    if plan.secret is not None:
        data = {key: base64.b64encode(value).decode() for key, value in plan.secret.items()}
        secret = output(secret_name("chat"), data)
    return dataclasses.replace(before, bindings=bindings, config_map=config_map, secret=secret)


def output(name: str, data: dict[str, str]) -> dict[str, Any]:
    """An object as we would have made it."""
    return {
        "metadata": {
            "name": name,
            "namespace": "chat",
            "uid": f"uid-{name}",
            "labels": {MANAGED_BY: OPERATOR, STACK_LABEL: "chat"},
            "ownerReferences": [
                {
                    "apiVersion": "stackstore.dev/v1alpha1",
                    "kind": "StoreBinding",
                    "name": "chat",
                    "uid": "uid-chat",
                }
            ],
        },
        "data": data,
    }


def snapshot(plan: Plan) -> Snapshot:
    assert plan.secret is not None
    return Snapshot.parse(plan.secret[SNAPSHOT_KEY], "test")


def conditions(plan: Plan, name: str = "chat") -> dict[str, tuple[str, str]]:
    return {c.type: (c.status, c.reason) for c in plan.statuses[name].conditions}


def message(plan: Plan, type_: str, name: str = "chat") -> str:
    return next(c.message for c in plan.statuses[name].conditions if c.type == type_)
