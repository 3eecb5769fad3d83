"""What tools of servicebinding.io look for: a label on the kind, and a role that lets them read it."""

from __future__ import annotations

from pathlib import Path

from tests.support.helm import Helm


def test_tools_find_the_kind_and_may_read_it(tmp_path: Path):
    made = list(Helm(tmp_path).objects())
    (kind,) = (one for one in made if one["metadata"]["name"] == "storagebackends.stackstore.dev")
    assert kind["metadata"]["labels"]["servicebinding.io/provisioned-service"] == "true"
    label = "servicebinding.io/controller"
    (role,) = (one for one in made if label in one["metadata"].get("labels", {}))
    assert role["kind"] == "ClusterRole"
    assert role["metadata"]["labels"][label] == "true"
    assert role["rules"] == [
        {"apiGroups": ["stackstore.dev"], "resources": ["storagebackends"], "verbs": ["get", "list", "watch"]}
    ]  # fmt: skip


def test_without_aggregation_there_is_no_such_role(tmp_path: Path):
    made = Helm(tmp_path).objects("--set", "rbac.aggregate=false")
    assert [
        one for one in made if "servicebinding.io/controller" in one["metadata"].get("labels", {})
    ] == []
