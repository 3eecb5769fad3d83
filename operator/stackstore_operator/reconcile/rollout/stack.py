"""A stack's rollout: from what was read to what is decided. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from stackstore.credentials.snapshot import PostgresBackend, Snapshot
from stackstore_operator.api.conditions import Reason
from stackstore_operator.kube.workloads import Workload
from stackstore_operator.reconcile.composition import Composition
from stackstore_operator.reconcile.conditions import Said, known
from stackstore_operator.reconcile.consumers import observe
from stackstore_operator.reconcile.continuity import Before
from stackstore_operator.reconcile.inputs import Key, StackInputs
from stackstore_operator.reconcile.outputs import OPERATOR, config_map_name, is_ours
from stackstore_operator.reconcile.record import Content
from stackstore_operator.reconcile.rollout import target
from stackstore_operator.reconcile.rollout.course import Course
from stackstore_operator.reconcile.rollout.decision import CONDITION, Decision, Situation, decide
from stackstore_operator.reconcile.rollout.pods import epoch
from stackstore_operator.reconcile.rollout.target import ANNOTATION, Target
from stackstore_operator.reconcile.verification import is_visited, verified
from stackstore_operator.render import revision, secret
from stackstore_operator.render.model import CONFIG_KEY, SNAPSHOT_KEY


@dataclass(frozen=True, slots=True)
class Rolling:
    """What comes of a look.

    Attributes:
        decision: whom to restart, and what to say.
        content: what is in force, and since when; goes into the stack's record.
        logins: the same of the logins alone.
        targets: the consumers that are there.
    """

    decision: Decision
    content: Content | None = None
    logins: Content | None = None
    targets: Sequence[Target] = ()


def roll(
    inputs: StackInputs,
    composition: Composition,
    before: Before,
    snapshot: Snapshot | None,
    *,
    config: str | None,
    origins: Mapping[str, Key],
) -> Rolling | None:
    """Decide about a stack; None where nothing is ever restarted, nor looked at.

    Args:
        inputs: what was read.
        composition: what the bindings say together.
        before: the last good render.
        snapshot: what the Secret is to hold.
        config: the run config that is to be written; None: it stays as it is.
        origins: where the snapshot's backends come from.
    """
    strategy = composition.rollout
    if snapshot is None or strategy == "HotReload":
        return None
    if strategy == "None" and not composition.consumers:
        return None
    live = _live_config(inputs)
    text = live if config is None else config
    content = _content(inputs, before, before.record.content, snapshot, (live or "", text or ""))
    logins = _content(inputs, before, before.record.logins, snapshot, ("", ""))
    if not composition.consumers:
        message = "`rollout.strategy` is Restart and nothing is named; list it in `spec.consumers`"
        said = Said(CONDITION, "Unknown", Reason.NO_CONSUMERS, message)
        return Rolling(Decision(said, Course("", inputs.observed.now)), content, logins)
    targets = _targets(inputs, composition)
    refused, unverified = _unproven(inputs, snapshot, origins)
    ours = inputs.config_map if live is not None else None
    metadata: Mapping[str, Any] = {} if ours is None else ours["metadata"]
    situation = Situation(
        touches=strategy == "Restart",
        targets=targets,
        content=content,
        logins=logins,
        done=_is_done(inputs, composition) and before.record.content == content,
        touched=(metadata.get("annotations") or {}).get(ANNOTATION),
        config_version=f"{metadata.get('resourceVersion')}-{metadata.get('name')}",
        config_changes=text != live,
        refused=refused,
        unverified=unverified,
        contested=inputs.observed.contested,
        course=inputs.observed.course,
        now=inputs.observed.now,
    )
    return Rolling(decide(situation, inputs.observed.pace), content, logins, targets)


def _targets(inputs: StackInputs, composition: Composition) -> list[Target]:
    found = []
    for state in observe(composition.consumers, inputs.workloads):
        name = (state.kind, state.name)
        read = inputs.workloads.by_name.get(name, Workload())
        started = inputs.observed.started.get(name)
        one = target.of(state, read, config_map_name(inputs.stack), started)
        if one is not None:
            found.append(one)
    return found


def _live_config(inputs: StackInputs) -> str | None:
    """The run config in the cluster; None: there is none of ours."""
    obj = inputs.config_map
    if obj is None or not is_ours(obj, inputs.stack):
        return None
    return str((obj.get("data") or {}).get(CONFIG_KEY, ""))


def _logins(snapshot: Snapshot) -> dict[str, str]:
    """What a server reads once: everything in the Secret but the file that our runtime follows."""
    found = secret.of_snapshot(snapshot)
    return {key: value.decode() for key, value in found.items() if key != SNAPSHOT_KEY}


def _is_done(inputs: StackInputs, composition: Composition) -> bool:
    """Whether it was said before that all is rolled out."""
    return all(
        (said := known(binding.status.conditions, CONDITION)) is not None and said.status == "True"
        for binding in inputs.bindings
        if composition.accepted[binding.metadata.name].status == "True"
    )


def _content(
    inputs: StackInputs,
    before: Before,
    noted: Content | None,
    snapshot: Snapshot,
    texts: tuple[str, str],
) -> Content:
    """What is in force after this look, and since when.

    What the record says counts more than what the objects hold: what somebody edits and we put back
    is no change.

    Args:
        inputs: what was read.
        before: the last good render.
        noted: what the record says.
        snapshot: what the Secret is to hold.
        texts: the run config as it is, and as it is to be.
    """
    live, text = texts
    now = revision.of_content(inputs.key, _logins(snapshot), text)
    if noted is not None:
        return noted if noted.revision == now else Content(now, inputs.now)
    if before.snapshot is None:
        # The Secret is new. Or somebody has deleted it, and what its pods started with is the same.
        same = any(b.status.revision == snapshot.revision for b in inputs.bindings)
        return Content(now, 0 if same else inputs.now)
    if revision.of_content(inputs.key, _logins(before.snapshot), live) != now:
        return Content(now, inputs.now)
    return Content(now, max(map(_applied, (inputs.secret, inputs.config_map))))


def _applied(obj: Mapping[str, Any] | None) -> int:
    """Epoch seconds at which we last changed something of an object."""
    entries = (obj or {}).get("metadata", {}).get("managedFields") or []
    times = (
        epoch(entry.get("time"))
        for entry in entries
        if (entry.get("manager"), entry.get("operation")) == (OPERATOR, "Apply")
    )
    return max((seconds for seconds in times if seconds is not None), default=0)


def _unproven(
    inputs: StackInputs, snapshot: Snapshot, origins: Mapping[str, Key]
) -> tuple[list[str], list[str]]:
    """The backends whose login was refused, and those whose login nobody has verified yet."""
    refused, unverified = [], []
    for name, backend in sorted(snapshot.backends.items()):
        key = origins.get(name)
        origin = None if key is None else inputs.backends.get(key)
        if key is None or origin is None or not isinstance(backend, PostgresBackend):
            continue
        if not is_visited(origin, backend):
            continue
        found = verified(origin, backend.current.revision)
        label = key[1] if key[0] == inputs.namespace else "/".join(key)
        if found is False:
            refused.append(label)
        elif found is None:
            unverified.append(label)
    return refused, unverified
