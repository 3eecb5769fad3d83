"""What people copy works: the README's blocks and the quickstart's files."""

from __future__ import annotations

import asyncio
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from stackstore.config import load
from stackstore_operator.api.backend import StorageBackend
from stackstore_operator.api.binding import StoreBinding
from tests.support.kubelet import VolumeDirectory
from tests.support.postgres import PostgresServer
from tests.support.quickstart import manifests, render

ROOT = Path(__file__).resolve().parents[2]
MODELS = {"StorageBackend": StorageBackend, "StoreBinding": StoreBinding}


def blocks(language: str) -> list[str]:
    """The README's blocks of a language."""
    return re.findall(
        rf"^```{language}\n(.*?)^```$", (ROOT / "README.md").read_text(), re.DOTALL | re.MULTILINE
    )


def unknown(spec: object, model: object) -> list[str]:
    """Keys that a manifest has and the model dropped; the API server would drop them as well."""
    if isinstance(spec, dict) and isinstance(model, dict):
        return [
            name
            for key, value in spec.items()
            for name in ([key] if key not in model else unknown(value, model[key]))
        ]
    if isinstance(spec, list) and isinstance(model, list):
        return [name for pair in zip(spec, model, strict=True) for name in unknown(*pair)]
    return []


def check(obj: dict) -> None:
    model = MODELS[obj["kind"]].from_object(obj)
    assert obj["apiVersion"] == "stackstore.dev/v1alpha1"
    assert unknown(obj["spec"], model.spec.model_dump(by_alias=True)) == []


@pytest.fixture
def mounted(tmp_path: Path) -> Path:
    """/etc/stack of a pod of the quickstart."""
    plan = render(sqlite=tmp_path / "kv.db")
    assert plan.config is not None and plan.secret is not None
    VolumeDirectory(tmp_path / "config").write({"config.yaml": plan.config.encode()})
    VolumeDirectory(tmp_path / "storage").write(plan.secret)
    return tmp_path


# -- README


def test_the_readmes_manifests_are_what_the_api_takes():
    objects = [obj for block in blocks("yaml") for obj in yaml.safe_load_all(block)]
    ours = [obj for obj in objects if isinstance(obj, dict) and obj.get("kind") in MODELS]
    assert [obj["kind"] for obj in ours] == ["StorageBackend", "StorageBackend", "StoreBinding"]
    for obj in ours:
        check(obj)


def test_the_readmes_binding_is_the_quickstarts():
    (readme,) = (
        obj
        for block in blocks("yaml")
        for obj in yaml.safe_load_all(block)
        if isinstance(obj, dict) and obj.get("kind") == "StoreBinding"
    )
    (quickstart,) = (obj for obj in manifests() if obj["kind"] == "StoreBinding")
    for field, value in readme["spec"].items():
        assert quickstart["spec"][field] == value


def test_the_readmes_volumes_are_named_as_the_outputs():
    plan = render()
    status = plan.statuses["chat"]
    (volumes,) = (
        v
        for block in blocks("yaml")
        if (v := yaml.safe_load(block) if "volumes:" in block else None)
    )
    assert volumes == {
        "volumes": [
            {"name": "config", "configMap": {"name": status.config_map_name}},
            {"name": "storage", "secret": {"secretName": status.secret_name}},
        ]
    }


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Path]:
    """The same, and the database that its logins lead to."""
    server = PostgresServer.start()
    try:
        asyncio.run(server.create_role("app", "app"))
        asyncio.run(server.create_database("app", "app"))
        secret = {"host": server.host, "port": str(server.port), "username": "app",
                  "password": "app", "database": "app"}  # fmt: skip
        plan = render(sqlite=tmp_path / "kv.db", secret=secret)
        assert plan.config is not None and plan.secret is not None
        VolumeDirectory(tmp_path / "config").write({"config.yaml": plan.config.encode()})
        VolumeDirectory(tmp_path / "storage").write(plan.secret)
        yield tmp_path
    finally:
        server.stop()


def test_the_readmes_program_runs(served):
    (program,) = blocks("python")
    assert "/etc/stack/" in program
    shown = subprocess.run(
        [sys.executable, "-W", "error", "-c", program.replace("/etc/stack/", f"{served}/")],
        capture_output=True, text=True, check=False, cwd=served, env={},
    )  # fmt: skip
    assert (shown.stdout, shown.stderr) == ("meta/llama-3\n['chatcmpl-1']\n", "")


def test_the_readmes_validate_command_runs(mounted):
    (line,) = re.findall(r"`(stackstore validate [^`]+)`", (ROOT / "README.md").read_text())
    program, *arguments = shlex.split(line.replace("/etc/stack/", f"{mounted}/"))
    shown = subprocess.run(
        [Path(sys.executable).with_name(program), *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    assert shown.returncode == 0, shown.stderr
    assert "sql_default" in shown.stdout


# -- the quickstart


def test_the_quickstart_is_one_secret_two_backends_a_base_and_a_binding():
    found = sorted((obj["kind"], obj["metadata"]["name"]) for obj in manifests())
    assert found == [
        ("ConfigMap", "chat-base"),
        ("Secret", "pg-app"),
        ("StorageBackend", "kv-default"),
        ("StorageBackend", "sql-default"),
        ("StoreBinding", "chat"),
    ]
    for obj in manifests():
        if obj["kind"] in MODELS:
            check(obj)


def test_the_quickstart_is_ready_and_the_runtime_loads_what_it_renders(mounted):
    plan = render()
    conditions = {c.type: c.status for c in plan.statuses["chat"].conditions}
    assert conditions["Ready"] == conditions["Rendered"] == "True"
    names = frozenset({"kv_default", "sql_default"})
    config = load(mounted / "config" / "config.yaml", {}, snapshot_backends=names)
    stores = {name: (store.family, store.backend) for name, store in config.stores.items()}
    assert stores["metadata"] == ("kv", "kv_default")
    assert stores["inference"] == stores["conversations"] == ("sql", "sql_default")
    assert [(p.api, p.provider_id, p.backend) for p in config.providers] == [
        ("files", "localfs", "sql_default")
    ]


def test_where_the_quickstarts_database_is_comes_from_its_secret_alone():
    plan = render(secret={"host": "db.example", "port": "6000", "database": "d", "password": "p"})
    assert plan.secret is not None and plan.config is not None
    login = json.loads(plan.secret["stackstore.json"])["backends"]["sql_default"]["current"]
    assert (login["host"], login["port"], login["database"]) == ("db.example", 6000, "d")
    assert "db.example" not in plan.config
