"""The chart in a cluster: who may do what, and the operator as its own service account and command line."""

from __future__ import annotations

import itertools
import json
import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.operator.chart.conftest import HERE, Install, Installed, narrowed
from tests.operator.conftest import new_namespace
from tests.support.controlplane import ControlPlane
from tests.support.helm import CHART, Helm
from tests.support.operator import DEFAULTS, Api, binding, kv, postgres_backend, rules, sql

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


@pytest.fixture
def api(control_plane: ControlPlane) -> Iterator[Api]:
    made = Api(control_plane, new_namespace(control_plane))
    yield made
    made.close()


def serves(made: Installed, api: Api, directory: Path) -> str:
    """The operator, as its service account and with the Deployment's arguments, serves a namespace.

    Returns:
        Its metrics.
    """
    operator = made.operator(directory).start()
    try:
        operator.wait_until_up()
        api.secret("pg-app", username="app", password="p")
        api.apply(postgres_backend(), postgres_backend("kv-default", type="kv_postgres"))
        api.apply(binding(stores=[kv("metadata"), sql("inference")], defaults=DEFAULTS))
        api.ready("chat", seconds=30)
        assert "SQL_DEFAULT_PASSWORD" in api.data("Secret", "chat-storage")
        assert made.probe("livenessProbe") == "ok\n"
        assert made.probe("readinessProbe") == "ok\n"
        metrics = made.probe("/metrics")
        assert made.test().endswith(" is ready\n")
    finally:
        api.clear()
        assert operator.stop() == 0, operator.log()
    refused = [
        event["requestURI"]
        for event in made.plane.audit(username=made.user)
        if event.get("responseStatus", {}).get("code") == 403
    ]
    assert refused == []
    return metrics


def test_cluster_wide_it_may_what_it_needs_and_nothing_else(
    install: Install, helm: Helm, api: Api, tmp_path: Path
):
    made = install()
    assert made.rights(api.namespace) == granted(rules())
    assert made.rights(made.namespace) == granted(rules(), rules("own-rules.yaml"))
    assert [one for one in REFUSED if made.may(*one, "-n", api.namespace)] == []
    assert [one for one in REFUSED_IN_THE_CLUSTER if made.may(*one)] == []
    assert made.may("get", "secrets", "-n", api.namespace)
    shown = serves(made, api, tmp_path)
    for expression in expressions(helm):
        assert unknown(expression, shown) == set(), expression


def test_who_has_rights_in_two_namespaces_only_can_install_it(
    control_plane: ControlPlane, tmp_path: Path
):
    user = control_plane.user([])
    own, served = new_namespace(control_plane), new_namespace(control_plane)
    for namespace in (own, served):
        everything = {"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}
        control_plane.grant(user, [everything], namespace)
    theirs = Helm(tmp_path, control_plane.kubeconfig(user))
    theirs.run(
        "install", "stackstore", CHART, "-n", own, "--set", f"watch.namespaces={{{served}}}",
        "--set", "crds.enabled=false", "--set", "rbac.aggregate=false",
    )  # fmt: skip
    theirs.run("uninstall", "stackstore", "-n", own)


def test_the_notes_lead_on(install: Install, api: Api):
    made = install(
        "--set", f"watch.namespaces={{{api.namespace}}}", "--set", "rbac.aggregate=false"
    )
    notes = made.helm.run("get", "notes", made.release, "-n", made.namespace)
    assert f"serves the namespaces {api.namespace}." in notes
    (manifest,) = re.findall(r"apply -f - <<EOF\n(.*?)  EOF\n", notes, re.DOTALL)
    api.apply(textwrap.dedent(manifest))
    commands = [
        one
        for one in re.findall(r"^  kubectl (.*?)(?: <<EOF)?$", notes, re.MULTILINE)
        if not one.endswith(" -f crds/")
    ]
    places = {re.match(r"--namespace (\S+) ", one)[1] for one in commands}
    assert places == {made.namespace, api.namespace}
    shown = made.plane.kubectl(*commands[-1].split(), "-o", "name")
    assert "storagebackend.stackstore.dev/sql-default" in shown
    api.clear()


def expressions(helm: Helm) -> Iterator[str]:
    """All that the alerts and the dashboard ask of Prometheus."""
    for obj in helm.objects("--values", HERE / "values" / "everything.yaml"):
        if obj["kind"] == "PrometheusRule":
            yield from (rule["expr"] for rule in obj["spec"]["groups"][0]["rules"])
        elif obj["kind"] == "ConfigMap":
            (text,) = obj["data"].values()
            for panel in json.loads(text)["panels"]:
                yield from (target["expr"] for target in panel["targets"])


def unknown(expression: str, metrics: str) -> set[str]:
    """Metrics of an expression that the operator doesn't show, and labels that they don't have."""
    given = {"namespace", "job", "pod", "le"}
    found = set()
    labels = set()
    for name, matchers in re.findall(r"(\w+)\{(.*?)\}", expression):
        # A metric without a value yet has a type, but no labels.
        base = re.sub("_(bucket|sum|count)$", "", name)
        if f"# TYPE {base} histogram\n" not in metrics and f"# TYPE {name} " not in metrics:
            found.add(name)
        for shown in re.findall(rf"^{name}\{{(.*)\}} ", metrics, re.MULTILINE):
            labels |= set(re.findall(r'(\w+)="', shown))
        asked = set(re.findall(r'(\w+)(?:=~|!=|=)"', matchers))
        if labels:
            found |= asked - given - labels
    assert found or "{" in expression, expression
    for names in re.findall(r" by \((.*?)\)", expression):
        if labels:
            found |= set(names.split(", ")) - given - labels
    return found


def test_an_unknown_metric_or_label_is_found():
    shown = '# TYPE a_total counter\na_total{kind="x"} 1.0\n# TYPE b histogram\n'
    assert unknown('sum by (kind) (rate(a_total{namespace="n",kind!="y"}[5m]))', shown) == set()
    assert unknown('rate(b_bucket{job="n"}[5m])', shown) == set()
    assert unknown('a{job="n"}', shown) == {"a"}
    assert unknown('sum by (knd) (a_total{kin=~"n"})', shown) == {"knd", "kin"}


def test_per_namespace_it_may_nothing_elsewhere(
    install: Install, control_plane: ControlPlane, api: Api, tmp_path: Path
):
    served, other = api.namespace, new_namespace(control_plane)
    made = install("--set", f"watch.namespaces={{{served}}}", "--set", "rbac.aggregate=false")
    assert made.rights(served) == granted(narrowed(rules()))
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
    # What each of the cluster's own roles takes in of the one before.
    for role, next_ in (("view", "edit"), ("edit", "admin")):
        shown = made.plane.kubectl("get", "clusterrole", role, "-o", "yaml")
        label = f"rbac.authorization.k8s.io/aggregate-to-{next_}"
        assert yaml.safe_load(shown)["metadata"]["labels"][label] == "true"
