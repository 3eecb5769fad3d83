"""Write a plan: create first, adopt never, apply only what differs."""

from __future__ import annotations

import base64
import logging
from collections.abc import Mapping
from typing import Any

from stackstore_operator.kube.client import Client, Object
from stackstore_operator.reconcile.inputs import StackInputs
from stackstore_operator.reconcile.outputs import (
    MANAGED_BY,
    OPERATOR,
    STACK_LABEL,
    config_map_name,
    is_ours,
    secret_name,
)
from stackstore_operator.reconcile.plan import Plan
from stackstore_operator.render.model import CONFIG_KEY

logger = logging.getLogger(__name__)


async def apply_outputs(client: Client, inputs: StackInputs, plan: Plan) -> None:
    """Make the stack's Secret and ConfigMap as planned.

    Keys are in the Secret before the ConfigMap that uses them, and leave it after: a pod that
    starts in between finds what its config names.

    Raises:
        ApiError: a write failed; everything written so far is consistent.
    """
    config = None
    text = plan.config if plan.config is not None else _held(inputs)
    if text is not None:
        name = config_map_name(inputs.stack)
        config = _desired("ConfigMap", name, inputs, {CONFIG_KEY: text})
    config_differs = config is not None and _differs(config, inputs.config_map)
    live = inputs.secret
    if plan.secret is not None:
        data = {key: base64.b64encode(value).decode() for key, value in plan.secret.items()}
        wanted = _desired("Secret", secret_name(inputs.stack), inputs, data)
        leaving = {
            key: value for key, value in _ours(live).items() if config_differs and key not in data
        }
        if leaving:
            between = {**wanted, "data": {**leaving, **data}}
            live = await _put(client, between, live)
        if config is not None and config_differs:
            if live is None or _differs(wanted, live):
                live = await _put(client, {**wanted, "data": {**leaving, **data}}, live)
            await _put(client, config, inputs.config_map)
        if _differs(wanted, live) or _superfluous(wanted, live):
            await _put(client, wanted, live)
    elif config is not None and config_differs:
        await _put(client, config, inputs.config_map)


def _held(inputs: StackInputs) -> str | None:
    """The run config that stays: its owners come and go all the same."""
    obj = inputs.config_map
    if obj is None or not is_ours(obj, inputs.stack):
        return None
    text: str | None = (obj.get("data") or {}).get(CONFIG_KEY)
    return text


def owner_references(inputs: StackInputs) -> list[dict[str, Any]]:
    """All bindings of the stack: with the last of them the outputs go."""
    owners = [*(binding.metadata for binding in inputs.bindings), *inputs.unreadable]
    return [
        {
            "apiVersion": "stackstore.dev/v1alpha1",
            "kind": "StoreBinding",
            "name": owner.name,
            "uid": owner.uid,
        }
        for owner in sorted(owners, key=lambda owner: owner.name)
    ]


def _desired(kind: str, name: str, inputs: StackInputs, data: Mapping[str, str]) -> Object:
    return {
        "apiVersion": "v1",
        "kind": kind,
        "metadata": {
            "name": name,
            "namespace": inputs.namespace,
            "labels": {MANAGED_BY: OPERATOR, STACK_LABEL: inputs.stack},
            "ownerReferences": owner_references(inputs),
        },
        "data": dict(data),
    }


def _differs(desired: Object, live: Mapping[str, Any] | None) -> bool:
    """Whether anything that we say is otherwise in the cluster; what others added doesn't count."""
    if live is None:
        return True
    metadata = live["metadata"]
    labels = metadata.get("labels") or {}
    owners = {
        owner["uid"]
        for owner in metadata.get("ownerReferences") or []
        if owner.get("kind") == "StoreBinding"
    }
    data = live.get("data") or {}
    wanted = desired["metadata"]
    return (
        any(labels.get(key) != value for key, value in wanted["labels"].items())
        or {owner["uid"] for owner in wanted["ownerReferences"]} != owners
        or any(data.get(key) != value for key, value in desired["data"].items())
    )


def _superfluous(desired: Object, live: Mapping[str, Any] | None) -> bool:
    """Whether we once said more than we say now."""
    return bool(set(_ours(live)) - set(desired["data"]))


def _ours(live: Mapping[str, Any] | None) -> dict[str, str]:
    """The data keys that our field manager applied."""
    if live is None:
        return {}
    keys: set[str] = set()
    for entry in live["metadata"].get("managedFields") or []:
        if entry.get("manager") == OPERATOR and entry.get("operation") == "Apply":
            fields = (entry.get("fieldsV1") or {}).get("f:data") or {}
            keys |= {field.removeprefix("f:") for field in fields if field != "."}
    data = live.get("data") or {}
    return {key: data[key] for key in keys if key in data}


async def _put(client: Client, desired: Object, live: Mapping[str, Any] | None) -> Object:
    """Apply an object, creating its shell first where there is none.

    A plain apply would silently take over an object of that name that somebody made a moment ago; a
    create refuses, and the uid in the apply makes sure that it is still the same one. The shell holds
    the labels alone: what is in it belongs to the create for ever, and no apply takes it away.
    """
    if live is None:
        names = ("name", "namespace", "labels")
        shell = {
            "apiVersion": desired["apiVersion"],
            "kind": desired["kind"],
            "metadata": {name: desired["metadata"][name] for name in names},
        }
        made = await client.create(shell)
        if made is None:
            # Somebody was faster; the next look decides whose it is.
            raise TakenError(desired["kind"], desired["metadata"]["name"])
        live = made
    metadata = {**desired["metadata"], "uid": live["metadata"]["uid"]}
    applied = await client.apply({**desired, "metadata": metadata})
    logger.info("applied %s %s/%s", desired["kind"], metadata["namespace"], metadata["name"])
    return applied


class TakenError(Exception):
    """An output's name was taken between the look and the create."""
