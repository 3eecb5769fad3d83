"""The CRDs as the API server has taken them."""

from __future__ import annotations

import json

from stackstore_operator.api import crd
from tests.support.controlplane import ControlPlane

NAMES = ("storagebackends.stackstore.dev", "storebindings.stackstore.dev")


def test_the_api_server_serves_them_as_generated(control_plane: ControlPlane) -> None:
    """Nothing is dropped: what would not be structural, or too dear, is not silently left out."""
    for name, made in zip(NAMES, (crd.storage_backend(), crd.store_binding()), strict=True):
        shown = json.loads(control_plane.kubectl("get", "crd", name, "-o", "json"))
        assert shown["spec"]["versions"] == made["spec"]["versions"]
        conditions = {c["type"]: c["status"] for c in shown["status"]["conditions"]}
        assert conditions == {"NamesAccepted": "True", "Established": "True"}


def test_short_names_category_and_status(control_plane: ControlPlane) -> None:
    text = control_plane.kubectl(
        "api-resources", "--api-group=stackstore.dev", "-o", "wide", "--no-headers"
    )
    rows = {line.split()[0]: line for line in text.splitlines()}
    assert rows["storagebackends"].split()[1] == "sbe"
    assert rows["storebindings"].split()[1] == "sbn"
    assert all(row.split()[-1] == "stackstore" for row in rows.values())
    served = json.loads(control_plane.kubectl("get", "--raw", "/apis/stackstore.dev/v1alpha1"))
    assert {r["name"] for r in served["resources"]} == {
        "storagebackends", "storagebackends/status", "storebindings", "storebindings/status",
    }  # fmt: skip


def test_applying_them_again_changes_nothing(control_plane: ControlPlane) -> None:
    text = control_plane.kubectl(
        "apply", "--server-side", "--field-manager=kubectl-create", "--force-conflicts",
        "-f", "-", stdin="---\n".join(crd.files().values()),
    )  # fmt: skip
    assert text.count("serverside-applied") == 2
    shown = json.loads(control_plane.kubectl("get", "crd", *NAMES, "-o", "json"))
    assert {item["metadata"]["generation"] for item in shown["items"]} == {1}
