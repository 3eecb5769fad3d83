"""A stack's two objects in the cluster: their names, and how to tell ours from somebody else's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

MANAGED_BY = "app.kubernetes.io/managed-by"
STACK_LABEL = "stackstore.dev/stack"
OPERATOR = "stackstore-operator"
"""Our field manager, and what `MANAGED_BY` says on our objects."""


def config_map_name(stack: str) -> str:
    """The name of a stack's ConfigMap."""
    return f"{stack}-run-config"


def secret_name(stack: str) -> str:
    """The name of a stack's Secret."""
    return f"{stack}-storage"


def is_ours(obj: Mapping[str, Any], stack: str) -> bool:
    """Whether an object of an output's name was made by us for this stack.

    It bears our label and is owned by a binding; or we have applied it before, so that it stays
    ours when somebody strips labels or owners from it: these are put back.
    """
    metadata = obj["metadata"]
    labels = metadata.get("labels") or {}
    owners = metadata.get("ownerReferences") or []
    labelled = labels.get(MANAGED_BY) == OPERATOR and labels.get(STACK_LABEL) == stack
    return (labelled and any(owner.get("kind") == "StoreBinding" for owner in owners)) or any(
        entry.get("manager") == OPERATOR and entry.get("operation") == "Apply"
        for entry in metadata.get("managedFields") or []
    )
