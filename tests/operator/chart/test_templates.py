"""What the chart makes of values: goldens, which the API server takes; refusals that say what to do."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

import pytest
import yaml

from tests.operator.chart.conftest import HERE, RESTRICTED, SETS, narrowed
from tests.operator.conftest import new_namespace
from tests.support.controlplane import ControlPlane
from tests.support.helm import CHART, Helm
from tests.support.operator import ROOT

# The Prometheus Operator's: nothing serves them here.
OPTIONAL = {"ServiceMonitor", "PrometheusRule"}

by_name = pytest.mark.parametrize("values", SETS, ids=lambda path: path.stem)


def test_lint(helm: Helm):
    for values in SETS:
        shown = helm.run("lint", "--strict", CHART, "--values", values)
        assert "0 chart(s) failed" in shown
        assert "WARNING" not in shown


@by_name
def test_what_it_makes(helm: Helm, values: Path):
    """`UPDATE_GOLDEN=1` writes the goldens anew."""
    objects = []
    for obj in helm.objects("--values", values):
        name = obj["metadata"]["name"]
        # Lists that the chart takes from elsewhere, and that change without it.
        if obj["kind"] == "CustomResourceDefinition":
            obj["spec"] = "…"
        if obj["kind"] in ("Role", "ClusterRole") and name in ("stackstore", "stackstore-own"):
            obj["rules"] = "…"
        objects.append(obj)
    text = yaml.safe_dump_all(objects, sort_keys=False, allow_unicode=True, width=100)
    golden = HERE / "goldens" / values.name
    if os.environ.get("UPDATE_GOLDEN"):
        golden.write_text(text)
    assert golden.read_text() == text


@by_name
def test_the_api_server_takes_it_under_restricted_pod_security(
    control_plane: ControlPlane, helm: Helm, values: Path
):
    own, other = new_namespace(control_plane, **RESTRICTED), new_namespace(control_plane)
    known = [obj for obj in helm.objects("--values", values) if obj["kind"] not in OPTIONAL]
    text = yaml.safe_dump_all(known)
    text = text.replace("stackstore-system", own).replace("team-a", other)
    shown = control_plane.kubectl(
        "apply", "--server-side", "--dry-run=server", "-f", "-", stdin=text, check=False
    )
    lines = shown.splitlines()
    taken = [line for line in lines if line.endswith(" serverside-applied (server dry run)")]
    told = [line for line in lines if line not in taken]
    if values.stem == "node":
        # Of the Deployment, by a warning, and of the pod of `helm test`; and nothing else is wrong.
        assert len(told) == 2, shown
        for line in told:
            assert line.endswith('"restricted:latest": host namespaces (hostNetwork=true)')
    else:
        assert told == []
    assert len(taken) == len(known) - (values.stem == "node")


def test_the_crds_are_those_of_the_repository_and_say_whose_they_are(helm: Helm):
    files = [yaml.safe_load(path.read_text()) for path in sorted((ROOT / "crds").iterdir())]
    made = [obj for obj in helm.objects() if obj["kind"] == "CustomResourceDefinition"]
    assert [obj["spec"] for obj in made] == [obj["spec"] for obj in files]
    for obj, file in zip(made, files, strict=True):
        labels = obj["metadata"]["labels"]
        assert labels == {**file["metadata"].get("labels", {}), **labels}
        assert labels["app.kubernetes.io/name"] == "stackstore"
        assert obj["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"


def test_the_roles_follow_the_one_list_of_rules(helm: Helm):
    rules = yaml.safe_load((CHART / "files" / "rules.yaml").read_text())
    (everywhere,) = (
        obj["rules"]
        for obj in helm.objects()
        if obj["kind"] == "ClusterRole" and obj["metadata"]["name"] == "stackstore"
    )
    assert everywhere == rules
    made = list(helm.objects("--set", "watch.namespaces={team-a,team-b}", "--set", "rbac.aggregate=false"))  # fmt: skip
    assert {obj["kind"] for obj in made} & {"ClusterRole", "ClusterRoleBinding"} == set()
    roles = {(obj["metadata"]["namespace"], obj["metadata"]["name"]): obj["rules"] for obj in made if obj["kind"] == "Role"}  # fmt: skip
    for namespace in ("team-a", "team-b"):
        assert roles.pop((namespace, "stackstore")) == narrowed(rules)
    own = yaml.safe_load((CHART / "files" / "own-rules.yaml").read_text())
    assert roles == {("stackstore-system", "stackstore-own"): own}


def test_no_role_of_a_namespace_speaks_of_what_has_none(control_plane: ControlPlane, helm: Helm):
    shown = control_plane.kubectl("api-resources", "--namespaced=false", "-o", "name")
    without = {line.split(".")[0] for line in shown.splitlines()}
    assert {"nodes", "namespaces", "customresourcedefinitions"} <= without
    for obj in helm.objects("--set", "watch.namespaces={team-a}"):
        if obj["kind"] == "Role":
            for rule in obj["rules"]:
                named = {one.split("/")[0] for one in rule["resources"]} & without
                # A Role gives the right to get its own namespace.
                assert not named or (named, rule["verbs"]) == ({"namespaces"}, ["get"])


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ("replica=3", "additional properties 'replica' not allowed"),
        ("replicas=two", "at '/replicas': got string, want integer"),
        ("leaseSeconds=-1", "at '/leaseSeconds': minimum: got -1, want 0"),
        ("leaseSeconds=0", "replicas is not 1: give `--set replicas=1`, or a lease"),
        ("watch.namespaces={Team}", "at '/watch/namespaces/0': 'Team' does not match pattern"),
        ("watch.namespaces={a,a}", "at '/watch/namespaces': items at 0 and 1 are equal"),
        ("image.digest=latest", "at '/image/digest': 'latest' does not match pattern '^(sha256:"),
        ("image.repository=reg/op:1.0", "at '/image/repository'"),
        ("logFormat=xml", "at '/logFormat': value must be one of 'json', 'text'"),
        ("runAsUser=0", "at '/runAsUser': minimum: got 0, want 1"),
        ("serviceAccount.create=false", "name the one to use in serviceAccount.name"),
        ("crds.enable=false", "additional properties 'enable' not allowed"),
        ("podDisruptionBudget.maxUnavailable=half", "at '/podDisruptionBudget/maxUnavailable'"),
        ("networkPolicy.databasePorts={0}", "at '/networkPolicy/databasePorts/0': minimum"),
    ],
)  # fmt: skip
def test_wrong_values_are_refused_with_their_path(helm: Helm, values: str, told: str):
    assert told in helm.run("template", CHART, "--set", values, check=False)


def test_a_helm_that_cannot_apply_crds_is_told_so(helm: Helm, tmp_path: Path):
    copy = tmp_path / "chart"
    shutil.copytree(CHART, copy)
    checks = copy / "templates" / "_checks.tpl"
    checks.write_text(checks.read_text().replace(">=4.0.0-0", ">=99.0.0-0"))
    told = helm.run("template", copy, check=False)
    assert "This is helm v4.3. Helm applies CRDs that are there already since version 4" in told
    for other in ("crds.enabled=false", "crds.hooks=false"):
        assert "kind: Deployment" in helm.run("template", copy, "--set", other)


def test_every_alert_is_in_the_document(helm: Helm):
    document = (ROOT / "docs" / "operations.md").read_text()
    objects = helm.objects("--values", HERE / "values" / "everything.yaml")
    (rules,) = (obj["spec"]["groups"][0]["rules"] for obj in objects if obj["kind"] == "PrometheusRule")  # fmt: skip
    listed = re.findall(r"^\| `(Stackstore\w+)` \| (\w+) \| (\w+) ", document, re.MULTILINE)
    assert listed == [(rule["alert"], rule["labels"]["severity"], rule["for"]) for rule in rules]


def test_names_are_cut_and_never_taken_twice(helm: Helm):
    long = "r" * 53
    text = helm.run("template", long, CHART, "--set", "watch.namespaces={team-a}")
    names = [obj["metadata"]["name"] for obj in filter(None, yaml.safe_load_all(text))]
    assert max(map(len, names)) <= 63
    text = helm.run("template", "prod", CHART)
    assert "name: prod-stackstore\n" in text
