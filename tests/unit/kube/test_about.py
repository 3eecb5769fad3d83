"""How requests are counted: verb and kind, never a name."""

from __future__ import annotations

import pytest

from stackstore_operator.kube.client import about

OURS = "apis/stackstore.dev/v1alpha1/namespaces/a/storebindings"


@pytest.mark.parametrize(
    ("method", "path", "watch", "counted"),
    [
        ("GET", "api/v1/namespaces/a/secrets/x", False, ("get", "Secret")),
        ("GET", "/api/v1/namespaces/a/secrets", False, ("list", "Secret")),
        ("GET", "/api/v1/configmaps", True, ("watch", "ConfigMap")),
        ("POST", "api/v1/namespaces/a/events", False, ("create", "Event")),
        ("PATCH", f"{OURS}/secrets/status", False, ("apply", "StoreBinding/status")),
        ("PATCH", f"{OURS}/x", False, ("apply", "StoreBinding")),
        ("PUT", "apis/coordination.k8s.io/v1/namespaces/a/leases/x", False, ("update", "Lease")),
        ("GET", "/apis", False, ("list", "other")),
        ("GET", "/apis/stackstore.dev/v1alpha1", False, ("list", "other")),
        ("GET", "/version", False, ("list", "other")),
        ("GET", "api/v1/namespaces/secrets/endpoints/secrets", False, ("get", "other")),
    ],
)
def test_verb_and_kind(method, path, watch, counted):
    assert about(method, path, watch=watch) == counted
