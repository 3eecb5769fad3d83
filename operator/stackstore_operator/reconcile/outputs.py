"""A stack's two objects in the cluster: their names, and how to tell ours from somebody else's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stackstore_operator.api.crd import GROUP
from stackstore_operator.kube.client import FIELD_MANAGER

MANAGED_BY = "app.kubernetes.io/managed-by"
STACK_LABEL = "stackstore.dev/stack"
OPERATOR = FIELD_MANAGER
"""What `MANAGED_BY` says on our objects."""
WATCHED = {"ogx.io/watch": "true", "llamastack.io/watch": "true"}
"""On every ConfigMap of ours: without them the operator of OGXServer finds none, and that of
LlamaStackDistribution looks at it every five minutes. Always, because to add them later would be a
write, which restarts whoever reads it. Never on the Secret: that operator would read it whole."""
ROLLOUT_MANAGER = "stackstore-operator-rollout"
"""Who annotates pod templates: nothing else of a workload is ever ours."""
OUR_MANAGERS = (FIELD_MANAGER, ROLLOUT_MANAGER)
"""The field managers that are us."""


def config_map_name(stack: str) -> str:
    """The name of a stack's ConfigMap."""
    return f"{stack}-run-config"


def secret_name(stack: str) -> str:
    """The name of a stack's Secret."""
    return f"{stack}-storage"


def is_ours(obj: Mapping[str, Any], stack: str) -> bool:
    """Whether an object of an output's name was made by us for this stack.

    We have applied it before, so that it stays ours when somebody strips labels or owners from it:
    these are put back. Or it bears our labels, and we have made it, or a binding owns it (a restored
    backup knows nothing of managers).
    """
    metadata = obj["metadata"]
    labels = metadata.get("labels") or {}
    owners = metadata.get("ownerReferences") or []
    labelled = labels.get(MANAGED_BY) == OPERATOR and labels.get(STACK_LABEL) == stack
    ours = [
        entry
        for entry in metadata.get("managedFields") or []
        if entry.get("manager") == FIELD_MANAGER
    ]
    if any(entry.get("operation") == "Apply" for entry in ours):
        return True
    return labelled and (bool(ours) or any(map(_is_binding, owners)))


def _is_binding(owner: Mapping[str, Any]) -> bool:
    return owner.get("kind") == "StoreBinding" and str(owner.get("apiVersion")).startswith(
        f"{GROUP}/"
    )
