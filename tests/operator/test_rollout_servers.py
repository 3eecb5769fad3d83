"""Restarts of OGXServer and LlamaStackDistribution; their operator is played, the database is real."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from tests.operator.conftest import new_namespace
from tests.operator.test_hand_over import peers
from tests.operator.test_rollout import QUIET, SECONDS, old_pods, patches, rolled, rotate, stack
from tests.support.controlplane import ControlPlane
from tests.support.operator import (
    DEFAULTS,
    Api,
    OperatorProcess,
    binding,
    kv,
    postgres_backend,
    sql,
    sqlite_backend,
    until,
)
from tests.support.postgres import PostgresServer, quote
from tests.support.workloads import ANNOTATION, revision, settle, workload

TAKEN = "configmap.hash/user-config"


@pytest.fixture(scope="module")
def served(control_plane: ControlPlane) -> None:
    """The two kinds."""
    for crd in peers():
        control_plane.kubectl("apply", "--server-side", "-f", "-", stdin=yaml.safe_dump(crd))
        plural = f"{crd['spec']['names']['plural']}.{crd['spec']['group']}"
        until(
            lambda plural=plural: "No resources" in control_plane.kubectl("get", plural, check=False), 30
        )  # fmt: skip


@pytest.fixture
def api(control_plane: ControlPlane, served: None, hasty: OperatorProcess) -> Iterator[Api]:
    made = Api(control_plane, new_namespace(control_plane))
    yield made
    made.clear()
    for kind in ("Deployment", "OGXServer", "LlamaStackDistribution"):
        for obj in made.list(kind):
            made.delete(kind, obj["metadata"]["name"])
    made.close()


def server(api: Api, kind: str, name: str, spec: dict[str, Any]) -> None:
    """An object of the kind and the Deployment that its operator has made of it."""
    group = "ogx.io/v1beta1" if kind == "OGXServer" else "llamastack.io/v1alpha1"
    api.apply({"apiVersion": group, "kind": kind, "metadata": {"name": name}, "spec": spec})
    uid = (api.get(kind, name) or {})["metadata"]["uid"]
    made = workload("Deployment", name)
    made["metadata"]["ownerReferences"] = [
        {"apiVersion": group, "kind": kind, "name": name, "uid": uid, "controller": True}
    ]
    api.apply(made)
    settle(api, "Deployment", name)


def config_map(api: Api) -> dict[str, Any]:
    found = api.get("ConfigMap", "chat-run-config")
    assert found
    return dict(found["metadata"])


def take(api: Api, name: str) -> None:
    """Its operator notices the ConfigMap as it is, and replaces the pods."""
    note = {TAKEN: f"{config_map(api)['resourceVersion']}-chat-run-config"}
    api.merge("Deployment", name, {"spec": {"template": {"metadata": {"annotations": note}}}})
    settle(api, "Deployment", name)


OVERRIDE = {
    "distribution": {"name": "starter"},
    "overrideConfig": {"name": "chat-run-config", "key": "config.yaml"},
}
USER = {
    "server": {
        "distribution": {"name": "starter"},
        "userConfig": {"configMapName": "chat-run-config"},
    }
}
BASE = {
    "distribution": {"name": "starter"},
    "baseConfig": {"name": "chat-run-config", "key": "config.yaml"},
    "disabledAPIs": ["batches"],
}


def test_who_reads_the_config_map_restarts_by_exactly_one_write_to_it(api, hasty):
    server(api, "OGXServer", "s", OVERRIDE)
    server(api, "LlamaStackDistribution", "t", USER)
    api.apply(workload("Deployment", "a"))
    settle(api, "Deployment", "a")
    consumers = (("OGXServer", "s"), ("LlamaStackDistribution", "t"), ("Deployment", "a"))
    stack(api, *consumers)
    for name in ("s", "t"):
        take(api, name)
    rolled(api)
    old_pods(api, "s", "t", "a")
    before, written = config_map(api), len(patches(hasty, api, "configmaps"))
    time.sleep(1.1)
    # Logins alone: one write, of an annotation.
    rotate(api, "second")
    until(lambda: config_map(api)["resourceVersion"] != before["resourceVersion"], SECONDS)
    touched = config_map(api)
    assert touched["annotations"][ANNOTATION] != before["annotations"][ANNOTATION]
    # The next one waits until their operator has taken it.
    time.sleep(QUIET + 0.5)
    assert patches(hasty, api) == []
    take(api, "s")
    time.sleep(0.5)
    assert patches(hasty, api) == []
    take(api, "t")
    until(lambda: patches(hasty, api) == ["a"], SECONDS)
    settle(api, "Deployment", "a")
    rolled(api)
    assert len(patches(hasty, api, "configmaps")) == written + 1
    # The run config: one write, with the annotation in it.
    stores = [kv("metadata"), sql("inference"), sql("conversations")]
    names = [{"kind": "OGXServer", "apiVersion": "ogx.io/v1beta1", "name": "s"},
             {"kind": "LlamaStackDistribution", "apiVersion": "llamastack.io/v1alpha1", "name": "t"}]  # fmt: skip
    api.apply(
        binding(stores=stores, defaults=DEFAULTS, consumers=names, rollout={"strategy": "Restart"})
    )
    until(lambda: "conversations_table" in str(api.config()), SECONDS)
    for name in ("s", "t"):
        take(api, name)
    rolled(api)
    time.sleep(QUIET + 0.5)
    assert len(patches(hasty, api, "configmaps")) == written + 2
    assert config_map(api)["annotations"][ANNOTATION] != touched["annotations"][ANNOTATION]
    # Nothing of what their operator owns was written.
    assert patches(hasty, api) == ["a"]
    assert revision(api, "Deployment", "s") is None


def test_who_makes_a_run_config_of_ours_restarts_for_logins_by_its_deployment(api, hasty):
    server(api, "OGXServer", "s", BASE)
    stack(api, ("OGXServer", "s"))
    rolled(api)
    old_pods(api, "s")
    time.sleep(1.1)
    rotate(api, "second")
    until(lambda: patches(hasty, api) == ["s"], SECONDS)
    settle(api, "Deployment", "s")
    rolled(api)
    # What its own operator applies leaves the annotation.
    uid = (api.get("OGXServer", "s") or {})["metadata"]["uid"]
    assert uid
    api.apply(workload("Deployment", "s", replicas=3))
    settle(api, "Deployment", "s")
    first = revision(api, "Deployment", "s")
    assert first
    # For a new run config it rolls by itself.
    consumer = {"kind": "OGXServer", "apiVersion": "ogx.io/v1beta1", "name": "s"}
    stores = [kv("metadata"), sql("inference"), sql("conversations")]
    api.apply(
        binding(stores=stores, defaults=DEFAULTS, consumers=[consumer], rollout={"strategy": "Restart"})
    )  # fmt: skip
    until(lambda: "conversations_table" in str(api.config()), SECONDS)
    rolled(api)
    time.sleep(QUIET + 0.5)
    assert patches(hasty, api) == ["s"]
    assert revision(api, "Deployment", "s") == first


def test_nobody_is_restarted_for_a_login_that_the_database_refuses(
    api: Api, hasty: OperatorProcess, postgres: PostgresServer
) -> None:
    role = f"t{secrets.token_hex(6)}"
    postgres.execute(f'CREATE ROLE "{role}" LOGIN PASSWORD {quote("first")}')
    try:
        api.secret("pg-app", username=role, password="first")
        place = {"host": postgres.host, "port": postgres.port, "database": "postgres",
                 "tls": {"mode": "Disable"}}  # fmt: skip
        api.apply(
            postgres_backend(postgres=place, verification={"mode": "Connect"}),
            sqlite_backend(),
            workload("Deployment", "a"),
            binding(stores=[kv("metadata"), sql("inference")], defaults=DEFAULTS,
                    consumers=[{"name": "a"}], rollout={"strategy": "Restart"}),
        )  # fmt: skip
        settle(api, "Deployment", "a")
        rolled(api)
        old_pods(api, "a")
        time.sleep(1.1)
        # The Secret first: the database doesn't know the new password yet.
        api.secret("pg-app", username=role, password="second")
        message = rolled(api, "Unknown", "RolloutHeld")
        assert "the restart of Deployment 'a' waits" in message
        api.wait("StorageBackend", "sql-default", "Verified", "False", "LoginRefused", seconds=60)
        time.sleep(QUIET + 1)
        assert patches(hasty, api) == []
        postgres.execute(f'ALTER ROLE "{role}" PASSWORD {quote("second")}')
        until(lambda: patches(hasty, api) == ["a"], 60)
        settle(api, "Deployment", "a")
        rolled(api)
    finally:
        postgres.execute(f'DROP ROLE "{role}"')
