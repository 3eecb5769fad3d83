"""The chart in a cluster: who may do what, and the operator as its own service account and command line."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.operator.chart.conftest import Install, Installed
from tests.operator.conftest import new_namespace
from tests.support.controlplane import ControlPlane
from tests.support.operator import DEFAULTS, Api, binding, kv, postgres_backend, rules, sql

OF_THE_CLUSTER = {"customresourcedefinitions", "namespaces", "nodes"}
REFUSED = [
    ("delete", "secrets"),
    ("deletecollection", "secrets"),
    ("update", "secrets"),
    ("delete", "configmaps"),
    ("create", "storagebackends.stackstore.dev"),
    ("delete", "storagebackends.stackstore.dev"),
    ("create", "storebindings.stackstore.dev"),
    ("delete", "storebindings.stackstore.dev"),
    ("create", "pods"),
    ("create", "pods/exec"),
    ("get", "pods/log"),
    ("create", "serviceaccounts/token"),
    ("create", "rolebindings.rbac.authorization.k8s.io"),
]
REFUSED_IN_THE_CLUSTER = [
    ("delete", "namespaces"),
    ("patch", "customresourcedefinitions.apiextensions.k8s.io"),
    ("create", "clusterrolebindings.rbac.authorization.k8s.io"),
    ("escalate", "clusterroles.rbac.authorization.k8s.io"),
    ("impersonate", "users"),
]


def granted(*given: Sequence[Mapping[str, Any]]) -> set[tuple[str, str, str]]:
    """(resource, object's name or nothing, verb) of RBAC rules, as `kubectl auth can-i` writes them."""
    found = set()
    for rule in (rule for some in given for rule in some):
        for resource, name, verb in itertools.product(
            rule["resources"], rule.get("resourceNames", [""]), rule["verbs"]
        ):
            plural, slash, part = resource.partition("/")
            group = "".join(f".{one}" for one in rule["apiGroups"] if one)
            found.add((f"{plural}{group}{slash}{part}", name, verb))
    return found


def in_a_namespace() -> set[tuple[str, str, str]]:
    return {one for one in granted(rules()) if one[0].split(".")[0] not in OF_THE_CLUSTER}


@pytest.fixture
def api(control_plane: ControlPlane) -> Iterator[Api]:
    made = Api(control_plane, new_namespace(control_plane))
    yield made
    made.close()


def serves(made: Installed, api: Api, directory: Path) -> None:
    """The operator, as its service account and with the Deployment's arguments, serves a namespace."""
    operator = made.operator(directory).start()
    try:
        operator.wait_until_up()
        api.secret("pg-app", username="app", password="p")
        api.apply(postgres_backend(), postgres_backend("kv-default", type="kv_postgres"))
        api.apply(binding(stores=[kv("metadata"), sql("inference")], defaults=DEFAULTS))
        api.ready("chat", seconds=30)
        assert "SQL_DEFAULT_PASSWORD" in api.data("Secret", "chat-storage")
    finally:
        api.clear()
        assert operator.stop() == 0, operator.log()
    refused = [
        event["requestURI"]
        for event in made.plane.audit(username=made.user)
        if event.get("responseStatus", {}).get("code") == 403
    ]
    assert refused == []


def test_cluster_wide_it_may_what_it_needs_and_nothing_else(
    install: Install, api: Api, tmp_path: Path
):
    made = install()
    assert made.rights(api.namespace) == granted(rules())
    assert made.rights(made.namespace) == granted(rules(), rules("own-rules.yaml"))
    assert [one for one in REFUSED if made.may(*one, "-n", api.namespace)] == []
    assert [one for one in REFUSED_IN_THE_CLUSTER if made.may(*one)] == []
    assert made.may("get", "secrets", "-n", api.namespace)
    serves(made, api, tmp_path)


def test_per_namespace_it_may_nothing_elsewhere(
    install: Install, control_plane: ControlPlane, api: Api, tmp_path: Path
):
    served, other = api.namespace, new_namespace(control_plane)
    made = install("--set", f"watch.namespaces={{{served}}}", "--set", "rbac.aggregate=false")
    assert made.rights(served) == in_a_namespace()
    assert made.rights(made.namespace) == granted(rules("own-rules.yaml"))
    assert made.rights(other) == set()
    assert not made.may("get", "secrets", "-n", other)
    assert not made.may("list", "storebindings.stackstore.dev", "--all-namespaces")
    serves(made, api, tmp_path)


def test_people_have_our_kinds_by_the_roles_that_they_have(install: Install):
    made = install()
    kinds = {"storagebackends.stackstore.dev", "storebindings.stackstore.dev"}
    for role, verbs in (
        ("view", {"get", "list", "watch"}),
        ("edit", {"create", "update", "patch", "delete", "deletecollection"}),
    ):
        shown = made.plane.kubectl("get", "clusterrole", f"{made.release}-{role}", "-o", "yaml")
        found = yaml.safe_load(shown)
        label = f"rbac.authorization.k8s.io/aggregate-to-{role}"
        assert found["metadata"]["labels"][label] == "true"
        expected = {(kind, "", verb) for kind in kinds for verb in verbs}
        assert granted(found["rules"]) == expected
