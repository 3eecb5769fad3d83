"""Write a plan: create first, adopt never, apply only what differs."""

from __future__ import annotations

import base64
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from stackstore_operator.kube.client import Client, Object
from stackstore_operator.reconcile.contest import Contests, Place, fingerprint, rivals
from stackstore_operator.reconcile.inputs import StackInputs
from stackstore_operator.reconcile.outputs import (
    MANAGED_BY,
    OPERATOR,
    OUR_MANAGERS,
    STACK_LABEL,
    WATCHED,
    config_map_name,
    is_ours,
    secret_name,
)
from stackstore_operator.reconcile.plan import Plan
from stackstore_operator.reconcile.rollout.target import ANNOTATION
from stackstore_operator.render.model import CONFIG_KEY

logger = logging.getLogger(__name__)


async def apply_outputs(
    client: Client, inputs: StackInputs, plan: Plan, contests: Contests
) -> list[Contested]:
    """Make the stack's Secret and ConfigMap as planned.

    Keys are in the Secret before the ConfigMap that uses them, and leave it after: a pod that
    starts in between finds what its config names.

    Returns:
        What was left as it is, because somebody else keeps changing it.

    Raises:
        ApiError: a write failed; everything written so far is consistent.
    """
    config = secret = None
    text = plan.config if plan.config is not None else _held(inputs)
    if text is not None:
        config = _desired("ConfigMap", config_map_name(inputs.stack), inputs, {CONFIG_KEY: text})
        config["metadata"]["annotations"] = _touched(inputs, plan)
    if plan.secret is not None:
        data = {key: base64.b64encode(value).decode() for key, value in plan.secret.items()}
        secret = _desired("Secret", secret_name(inputs.stack), inputs, data)
    lives = ((config, inputs.config_map), (secret, inputs.secret))
    outputs = [
        _Output(wanted, live, _wish(wanted, plan)) for wanted, live in lives if wanted is not None
    ]
    writable = [output.wanted["kind"] for output in outputs if output.is_to_be_written(contests)]
    await _write(
        client,
        inputs,
        config if "ConfigMap" in writable else None,
        secret if "Secret" in writable else None,
    )
    for output in outputs:
        if output.wanted["kind"] in writable:
            contests.wrote(output.place, output.wish)
    return [
        Contested(output.wanted["kind"], output.place.name, output.words(contests), again_in)
        for output in outputs
        if (again_in := contests.again_in(output.place)) is not None
    ]


async def _write(
    client: Client, inputs: StackInputs, config: Object | None, secret: Object | None
) -> None:
    """Write what is not None and not as wanted."""
    live = inputs.secret
    if secret is not None:
        data = secret["data"]
        leaving = {
            key: value
            for key, value in _ours(live).items()
            if config is not None and key not in data
        }
        if leaving:
            live = await _put(client, {**secret, "data": {**leaving, **data}}, live)
        elif config is not None and _differs(secret, live):
            live = await _put(client, secret, live)
    if config is not None:
        await _put(client, config, inputs.config_map)
    if secret is not None and (_differs(secret, live) or _superfluous(secret, live)):
        await _put(client, secret, live)


@dataclass(frozen=True, slots=True)
class Contested:
    """An output that somebody else keeps changing.

    Attributes:
        words: who, and what of it.
        again_in: seconds until it is to be looked at again.
    """

    kind: str
    name: str
    words: str
    again_in: float


@dataclass(frozen=True, slots=True)
class _Output:
    """What an object should be, and what it is."""

    wanted: Object
    live: Mapping[str, Any] | None
    wish: str

    @property
    def place(self) -> Place:
        metadata = self.wanted["metadata"]
        return Place(self.wanted["kind"], metadata["namespace"], metadata["name"])

    def is_to_be_written(self, contests: Contests) -> bool:
        """Whether it is not as it should be, and may be put right."""
        if _differs(self.wanted, self.live) or _superfluous(self.wanted, self.live):
            return contests.may_write(self.place, self.wish)
        contests.agrees(self.place)
        return False

    def words(self, contests: Contests) -> str:
        return contests.words(self.place, rivals(self.live, self.wanted, OUR_MANAGERS))


def _wish(wanted: Object, plan: Plan) -> str:
    """Tells one wish from another; a run config that stays as it is found is no wish of its text."""
    held = wanted["kind"] == "ConfigMap" and plan.config is None
    return fingerprint({**wanted, "data": {}} if held else wanted)


def _touched(inputs: StackInputs, plan: Plan) -> dict[str, str]:
    """The annotation for which readers of the ConfigMap restart; it stays when nothing is to be said."""
    wanted = plan.rolling.decision.touch if plan.rolling is not None else None
    if wanted is None and inputs.config_map is not None:
        annotations = inputs.config_map["metadata"].get("annotations") or {}
        wanted = annotations.get(ANNOTATION)
    return {} if wanted is None else {ANNOTATION: wanted}


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
            "labels": {
                MANAGED_BY: OPERATOR,
                STACK_LABEL: inputs.stack,
                **(WATCHED if kind == "ConfigMap" else {}),
            },
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
    annotations = metadata.get("annotations") or {}
    return (
        any(annotations.get(key) != text for key, text in wanted.get("annotations", {}).items())
        or any(labels.get(key) != value for key, value in wanted["labels"].items())
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
