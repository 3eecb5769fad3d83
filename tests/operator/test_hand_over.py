"""What OGXServer and LlamaStackDistribution need of us: names, labels, shapes, and few writes."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.operator.conftest import new_namespace
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

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "hand-over.md"
PEERS = Path(os.environ.get("PEER_CRDS") or Path(__file__).parent / "peers")
KINDS = ("OGXServer", "LlamaStackDistribution")


def manifests() -> list[dict[str, Any]]:
    """Everything the page says to write."""
    return [
        yaml.safe_load(text) for text in re.findall(r"^```yaml\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    ]  # fmt: skip


def peers() -> list[dict[str, Any]]:
    """The CRDs of the two kinds."""
    found = [yaml.safe_load(path.read_text()) for path in sorted(PEERS.glob("*.yaml"))]
    return [crd for crd in found if crd["spec"]["names"]["kind"] in KINDS]


@pytest.fixture(scope="module")
def served(control_plane: ControlPlane, operator: OperatorProcess) -> None:
    """The two kinds are there, after the operator is: as when the other one is installed later."""
    assert len(peers()) == 2
    for crd in peers():
        control_plane.kubectl("apply", "--server-side", "-f", "-", stdin=yaml.safe_dump(crd))
        plural = f"{crd['spec']['names']['plural']}.{crd['spec']['group']}"
        until(
            lambda plural=plural: "No resources" in control_plane.kubectl("get", plural, check=False), 30
        )  # fmt: skip


@pytest.fixture
def api(control_plane: ControlPlane, operator: OperatorProcess) -> Iterator[Api]:
    made = Api(control_plane, new_namespace(control_plane))
    made.secret("pg-app", username="app", password="hunter2")
    made.apply(
        postgres_backend(),
        sqlite_backend(),
        binding(stores=[kv("metadata"), sql("inference")], defaults=DEFAULTS),
    )
    made.ready("chat", seconds=30)
    yield made
    made.clear()
    made.close()


def config_map(api: Api) -> dict[str, Any]:
    found = api.get("ConfigMap", "chat-run-config")
    assert found
    return found


def test_what_the_page_says_to_write_is_valid(served, api, control_plane):
    assert [m["kind"] for m in manifests()] == ["OGXServer", "OGXServer", "LlamaStackDistribution"]
    for manifest in manifests():
        # Strict: a field that the kind doesn't have would be dropped without a word otherwise.
        control_plane.kubectl(
            "apply", "--server-side", "--force-conflicts", "--validate=strict", "-n", api.namespace,
            "-f", "-", stdin=yaml.safe_dump(manifest),
        )  # fmt: skip
        control_plane.kubectl("delete", manifest["kind"], "chat", "-n", api.namespace)


def test_the_variables_of_the_page_are_those_of_the_run_config(api):
    text = api.data("ConfigMap", "chat-run-config")["config.yaml"]
    there = set(api.data("Secret", "chat-storage"))
    needed = set(re.findall(r"\$\{env\.([A-Z0-9_]+)\}", text))
    assert needed
    for manifest in manifests():
        spec = manifest["spec"]
        env = (
            spec["server"]["containerSpec"]["env"]
            if manifest["kind"] == "LlamaStackDistribution"
            else spec["workload"]["overrides"]["env"]
        )
        references = {entry["name"]: entry["valueFrom"]["secretKeyRef"] for entry in env}
        assert set(references) == needed
        assert {r["name"] for r in references.values()} == {"chat-storage"}
        assert {r["key"] for r in references.values()} <= there


def test_they_find_a_whole_run_config_under_the_name_and_key_that_the_page_says(api):
    found = config_map(api)
    named = set()
    for manifest in manifests():
        spec = manifest["spec"]
        for reference in (spec.get("overrideConfig"), spec.get("baseConfig")):
            if reference:
                named.add((reference["name"], reference["key"]))
        if "server" in spec:
            named.add((spec["server"]["userConfig"]["configMapName"], "config.yaml"))
    assert named == {(found["metadata"]["name"], "config.yaml")}
    assert list(found["data"]) == ["config.yaml"]
    labels = found["metadata"]["labels"]
    assert (labels["ogx.io/watch"], labels["llamastack.io/watch"]) == ("true", "true")
    secret = api.get("Secret", "chat-storage")
    assert secret
    assert not {"ogx.io/watch", "llamastack.io/watch"} & set(secret["metadata"]["labels"])


def test_a_label_that_somebody_takes_away_comes_back_and_one_on_the_secret_stays(api):
    api.merge("Secret", "chat-storage", {"metadata": {"labels": {"ogx.io/watch": "true"}}})
    gone = {"metadata": {"labels": {"ogx.io/watch": None}}}
    api.merge("ConfigMap", "chat-run-config", gone)
    until(lambda: "ogx.io/watch" in config_map(api)["metadata"]["labels"], 30)
    api.secret("pg-app", username="app", password="second")
    until(lambda: api.data("Secret", "chat-storage")["SQL_DEFAULT_PASSWORD"] == "second", 30)
    secret = api.get("Secret", "chat-storage")
    assert secret
    assert secret["metadata"]["labels"]["ogx.io/watch"] == "true"


def test_one_write_of_the_config_map_for_each_change_of_its_content(api, operator):
    """Both kinds restart at any write to it, so every one of them is counted, by whomever."""

    def versions() -> list[str]:
        return [
            event["verb"]
            for event in operator.plane.audit()
            if event["verb"] not in ("get", "list", "watch")
            and event.get("objectRef", {}).get("resource") == "configmaps"
            and event["objectRef"].get("namespace") == api.namespace
            and event["objectRef"].get("name") == "chat-run-config"
            and event["responseStatus"]["code"] < 300
        ]

    first = len(versions())
    # A change of shape is one.
    api.apply(
        binding(stores=[kv("metadata"), sql("inference"), sql("conversations")], defaults=DEFAULTS)
    )
    until(lambda: "conversations_table" in str(api.config()), 30)
    api.ready("chat", seconds=30)
    assert len(versions()) - first == 1
    version = config_map(api)["metadata"]["resourceVersion"]
    # A rotation is none, nor what others do to the binding, the backend or the Secret.
    api.secret("pg-app", username="app", password="second")
    api.merge("StorageBackend", "sql-default", {"spec": {"rotation": {"graceSeconds": 600}}})
    api.merge("StoreBinding", "chat", {"metadata": {"annotations": {"note": "x"}}})
    api.merge("Secret", "chat-storage", {"metadata": {"labels": {"team": "x"}}})
    until(lambda: api.data("Secret", "chat-storage")["SQL_DEFAULT_PASSWORD"] == "second", 30)
    time.sleep(1)
    assert config_map(api)["metadata"]["resourceVersion"] == version
    assert len(versions()) - first == 1
