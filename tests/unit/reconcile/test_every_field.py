"""Nothing is accepted and then ignored: every field of both kinds changes what comes out, or is refused."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from stackstore_operator.api import crd
from stackstore_operator.api.backend import StorageBackend, StorageBackendSpec
from stackstore_operator.api.binding import StoreBinding, StoreBindingSpec
from stackstore_operator.kube.workloads import Workload, Workloads
from tests.unit.reconcile.samples import (
    DEFAULTS,
    INTERACTIONS,
    LOGIN,
    OWN_RESPONSES,
    applied,
    backend,
    binding,
    change,
    inputs,
    judged,
    postgres,
    sqlite,
    store,
)

PEM = (Path(__file__).parent / "ca.crt").read_text()
VERIFY = {"mode": "VerifyFull", "caRef": {"name": "ca"}}
SECRET = {
    **LOGIN, "u": b"U", "p": b"P", "h": b"H", "o": b"77", "d": b"D", "root": (PEM + PEM).encode(),
    "link": b"postgresql://ux:px@hx/dx", "ca.crt": PEM.encode(),
}  # fmt: skip

PG: dict[str, Any] = {
    "type": "sql_postgres",
    "postgres": {},
    "credentials": {"secretRef": {"name": "pg-app"}},
}
LITE: dict[str, Any] = {"type": "sql_sqlite", "sqlite": {"path": "/data/s.db"}}
JOURNAL = {"mode": "Journal", "path": "/j"}
SELECTED = {
    "from": "Selector",
    "selector": {
        "matchLabels": {"a": "b"},
        "matchExpressions": [{"key": "c", "operator": "In", "values": ["d", "e"]}],
    },
}
LABELS = {"a": "b", "c": "d"}
"""Of the namespace that isn't the backend's own."""


def merged(base: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """`base` with a value at a path; `[]` is the first of a list."""
    made = copy.deepcopy(base)
    at: Any = made
    *above, last = path.replace("[]", ".[]").split(".")
    for step in above:
        at = at[0] if step == "[]" else at.setdefault(step, {})
    at[0 if last == "[]" else last] = value
    return made


def leaves(node: dict[str, Any], path: str = "") -> Iterator[str]:
    """Paths of everything in a schema that holds a value."""
    if "properties" in node:
        for name, child in node["properties"].items():
            yield from leaves(child, f"{path}.{name}" if path else name)
    elif node.get("type") == "array":
        yield from leaves(node["items"], f"{path}[]")
    else:
        yield path


SELECTING = merged(PG, "allowedNamespaces", SELECTED)
# Path of a field: the spec to begin with, and the other value.
OF_BACKENDS: dict[str, tuple[dict[str, Any], Any]] = {
    "type": (PG, "kv_postgres"),
    "postgres.host": (PG, "mine"),
    "postgres.port": (PG, 7),
    "postgres.database": (PG, "mine"),
    "postgres.tls.mode": (PG, "Disable"),
    "postgres.tls.caRef.kind": (merged(PG, "postgres.tls", VERIFY), "Secret"),
    "postgres.tls.caRef.name": (merged(PG, "postgres.tls", VERIFY), "other"),
    "postgres.tls.caRef.key": (merged(PG, "postgres.tls", VERIFY), "other"),
    "postgres.pooler": (PG, "Session"),
    "postgres.pool.size": (PG, 1),
    "postgres.pool.maxOverflow": (PG, 1),
    "postgres.pool.recycleSeconds": (PG, 1),
    "postgres.pool.acquireTimeoutSeconds": (PG, 1),
    "postgres.statementTimeoutSeconds": (PG, 1),
    "sqlite.path": (LITE, "/data/other.db"),
    "credentials.secretRef.name": (PG, "other"),
    "credentials.keys.username": (PG, "u"),
    "credentials.keys.password": (PG, "p"),
    "credentials.keys.host": (PG, "h"),
    "credentials.keys.port": (PG, "o"),
    "credentials.keys.database": (PG, "d"),
    "credentials.keys.uri": (PG, "link"),
    "credentials.keys.ca": (merged(PG, "postgres.tls.mode", "VerifyFull"), "root"),
    "rotation.graceSeconds": (PG, 60),
    "maxConnections": (PG, 9),
    "allowedNamespaces.from": (PG, "All"),
    "allowedNamespaces.selector.matchLabels": (SELECTING, {"a": "c"}),
    "allowedNamespaces.selector.matchExpressions[].key": (SELECTING, "f"),
    "allowedNamespaces.selector.matchExpressions[].operator": (SELECTING, "NotIn"),
    "allowedNamespaces.selector.matchExpressions[].values[]": (SELECTING, "g"),
    "verification.mode": (PG, "None"),
    "verification.periodSeconds": (PG, 60),
}  # fmt: skip

BASE = {
    "distro_name": "chat",
    "providers": {
        "interactions": [
            {"provider_id": "builtin", "provider_type": "inline::builtin", "config": {}}
        ],
        "responses": [
            {
                "provider_id": "builtin",
                "provider_type": "inline::builtin",
                "config": {
                    "persistence": {"responses": {"backend": "sql_default", "table_name": "mine"}}
                },
            }
        ],
        "skills": [
            {
                "provider_id": "builtin",
                "provider_type": "inline::builtin",
                "config": {"persistence": {"backend": "kv_default", "namespace": "skills"}},
            }
        ],
    },
}
SKILLS = {
    "api": "skills",
    "providerId": "builtin",
    "field": "persistence",
    "backendRef": {"name": "kv-default"},
    "namespace": "mine",
}
BOUND: dict[str, Any] = {
    "stack": "chat",
    "stores": [store("inference")],
    "providers": [INTERACTIONS],
    "baseConfigRef": {"name": "base"},
    "defaults": DEFAULTS,
}
FULL_STORE = merged(BOUND, "stores[]", store("inference", durability=JOURNAL))
DEPLOYMENT = {"metadata": {"name": "chat"}, "spec": {"replicas": 2}}
CONSUMED = {**BOUND, "consumers": [{"name": "chat"}]}
OF_BINDINGS: dict[str, tuple[dict[str, Any], Any]] = {
    "stack": (BOUND, "other"),
    "stores[].name": (BOUND, "responses"),
    "stores[].backendRef.name": (BOUND, "second"),
    "stores[].backendRef.namespace": (BOUND, "platform"),
    "stores[].backendRef.alias": (BOUND, "other"),
    "stores[].namespace": ({**BOUND, "stores": [store("metadata")]}, "other"),
    "stores[].tableName": (BOUND, "other"),
    "stores[].maxWriteQueueSize": (BOUND, 7),
    "stores[].numWriters": (BOUND, 7),
    "stores[].retentionSeconds": (BOUND, 7),
    "stores[].durability.mode": (FULL_STORE, "Memory"),
    "stores[].durability.path": (FULL_STORE, "/other"),
    "providers[].api": (BOUND, "files"),
    "providers[].providerId": (BOUND, "other"),
    "providers[].field": (BOUND, "other"),
    "providers[].backendRef.name": (BOUND, "second"),
    "providers[].backendRef.namespace": (BOUND, "platform"),
    "providers[].backendRef.alias": (BOUND, "other"),
    "providers[].namespace": (merged(BOUND, "providers[]", SKILLS), "other"),
    "providers[].tableName": (BOUND, "other"),
    "providers[].retentionSeconds": (merged(BOUND, "providers[]", OWN_RESPONSES), 7),
    "baseConfigRef.name": (BOUND, "other"),
    "baseConfigRef.key": (BOUND, "other"),
    **{
        f"defaults.{family}.{field}": (BOUND, value)
        for family in ("kv", "sql")
        for field, value in (("name", "second"), ("namespace", "platform"), ("alias", "other"))
    },
    "serverRelease": (BOUND, "ogx-1.5"),
    "rollout.strategy": (BOUND, "Restart"),
    "consumers[].apiVersion": (CONSUMED, "v1"),
    "consumers[].kind": (CONSUMED, "StatefulSet"),
    "consumers[].name": (CONSUMED, "other"),
    "consumers[].workers": (CONSUMED, 2),
}  # fmt: skip

# What says nothing more than what is so anyway, and why.
AS_IT_IS = {
    "verification.periodSeconds": "it says how often the database is visited (test_following)",
    "serverRelease": "the one release that is known is the default",
}


def outcome_of_backend(spec: dict[str, Any]) -> tuple[Any, ...]:
    """What comes out for a binding in another namespace too, and after a rotation."""
    family = "kv" if spec["type"].startswith("kv") else "sql"
    made = backend(f"{family}-default", **spec)
    other = sqlite() if family == "sql" else postgres()
    start = inputs(
        backends=(made, other),
        secrets={("chat", "pg-app"): SECRET, ("chat", "other"): {**SECRET, "username": b"x"}},
        config_maps={("chat", "ca"): {"ca.crt": PEM, "other": PEM + PEM}, ("chat", "other"): {}},
    )
    rotated = {key: {**secret, "password": b"second"} for key, secret in start.secrets.items()}
    decided = judged(change(applied(start, judged(start)), secrets=rotated))
    elsewhere = made.model_copy(
        update={"metadata": made.metadata.model_copy(update={"namespace": "platform"})}
    )
    reference = {"name": made.metadata.name, "namespace": "platform"}
    stranger = judged(
        change(
            start,
            bindings=(binding(stores=[], defaults={**DEFAULTS, family: reference}),),
            backends=(elsewhere, other),
            secrets={("platform", name): secret for (_, name), secret in start.secrets.items()},
            labels=LABELS,
        )
    )
    return decided.config, decided.secret, [p.statuses["chat"] for p in (decided, stranger)]


def outcome_of_binding(spec: dict[str, Any]) -> tuple[Any, ...]:
    if spec["stack"] != "chat":
        return (spec["stack"],)  # another stack: other names, other outputs
    decided = judged(
        inputs(
            binding(**spec),
            backends=(postgres(), sqlite(), postgres("second")),
            config_maps={("chat", "base"): {"config.yaml": yaml.safe_dump(BASE)}},
            workloads=Workloads({("Deployment", "chat"): Workload(DEPLOYMENT)}),
        )
    )
    return decided.config, decided.secret, decided.statuses


@pytest.mark.parametrize("path", OF_BACKENDS)
def test_of_a_backend(path: str) -> None:
    start, value = OF_BACKENDS[path]
    judge(path, outcome_of_backend(start), outcome_of_backend(merged(start, path, value)))


@pytest.mark.parametrize("path", OF_BINDINGS)
def test_of_a_binding(path: str) -> None:
    start, value = OF_BINDINGS[path]
    judge(path, outcome_of_binding(start), outcome_of_binding(merged(start, path, value)))


def judge(path: str, before: Any, after: Any) -> None:
    if path in AS_IT_IS:
        assert before == after
    else:
        assert before != after


@pytest.mark.parametrize("spec", [PG, LITE])
def test_the_backends_to_begin_with_are_rendered(spec: dict[str, Any]) -> None:
    assert outcome_of_backend(spec)[0] is not None


@pytest.mark.parametrize("spec", [BOUND, merged(BOUND, "providers[]", SKILLS)])
def test_the_bindings_to_begin_with_are_rendered(spec: dict[str, Any]) -> None:
    assert outcome_of_binding(spec)[0] is not None


def test_every_field_of_the_schemas_is_here() -> None:
    assert set(leaves(crd.schema_of(StorageBackendSpec))) == set(OF_BACKENDS)
    assert set(leaves(crd.schema_of(StoreBindingSpec))) == set(OF_BINDINGS)
    StorageBackend.from_object({"metadata": {"name": "x"}, "spec": PG})
    StoreBinding.from_object({"metadata": {"name": "x"}, "spec": BOUND})
