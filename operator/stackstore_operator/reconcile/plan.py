"""What a stack's objects should be, from everything that was read. Pure."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from stackstore.credentials.snapshot import (
    MAX_PREVIOUS,
    PostgresBackend,
    PreviousLogin,
    Snapshot,
    SqliteBackend,
)
from stackstore.errors import ConfigError
from stackstore_operator.api.backend import allows
from stackstore_operator.api.binding import StoreBindingStatus
from stackstore_operator.api.conditions import Reason, Status
from stackstore_operator.reconcile import conditions
from stackstore_operator.reconcile.backends import look
from stackstore_operator.reconcile.composition import Composition, Use, compose, run_config_name
from stackstore_operator.reconcile.conditions import Said
from stackstore_operator.reconcile.inputs import StackInputs
from stackstore_operator.render import revision, runconfig, secret
from stackstore_operator.render.model import (
    SNAPSHOT_KEY,
    RenderError,
    ResolvedStack,
)

MANAGED_BY = "app.kubernetes.io/managed-by"
STACK_LABEL = "stackstore.dev/stack"
OPERATOR = "stackstore-operator"

Backend = PostgresBackend | SqliteBackend


@dataclass(frozen=True, slots=True)
class Announcement:
    """An event to post on a binding whose readiness changed."""

    binding: str
    warning: bool
    reason: str
    message: str


@dataclass(frozen=True)
class Plan:
    """What to write.

    Attributes:
        config: the text of `config.yaml`; None: leave the ConfigMap as it is.
        secret: the data of the Secret; None: leave it as it is.
        statuses: by the binding's name.
        again_at: epoch seconds at which something expires; None: nothing does.
    """

    config: str | None
    secret: Mapping[str, bytes] | None = field(repr=False)
    statuses: Mapping[str, StoreBindingStatus]
    announcements: tuple[Announcement, ...]
    again_at: int | None


def config_map_name(stack: str) -> str:
    """The name of a stack's ConfigMap."""
    return f"{stack}-run-config"


def secret_name(stack: str) -> str:
    """The name of a stack's Secret."""
    return f"{stack}-storage"


def is_ours(obj: Mapping[str, Any], stack: str) -> bool:
    """Whether an object of an output's name was made by us for this stack."""
    metadata = obj["metadata"]
    labels = metadata.get("labels") or {}
    owners = metadata.get("ownerReferences") or []
    return (
        labels.get(MANAGED_BY) == OPERATOR
        and labels.get(STACK_LABEL) == stack
        and any(owner.get("kind") == "StoreBinding" for owner in owners)
    )


def plan(inputs: StackInputs) -> Plan:
    """Decide."""
    composition = compose(inputs.namespace, inputs.bindings)
    resolution = _resolve(inputs, composition)
    existing = _existing(inputs)
    taken = _taken(inputs)
    config: str | None = None
    data: Mapping[str, bytes] | None = None
    snapshot = existing
    rendered = Said("Rendered", "True", Reason.RENDERED)
    withdrawn = {
        use.name for use in resolution.refused if existing and use.name in existing.backends
    }
    unresolved = [use for use in resolution.unusable if use.name not in withdrawn]
    if taken is not None:
        rendered = taken
    elif not any(said.status == "True" for said in composition.accepted.values()):
        rendered = Said("Rendered", "Unknown", Reason.WAITING, "no binding is accepted")
        snapshot = _refreshed(existing, resolution, withdrawn, inputs)
    elif unresolved:
        who = ", ".join(sorted({use.binding for use in unresolved}))
        rendered = Said(
            "Rendered",
            "Unknown",
            Reason.WAITING,
            f"backends of StoreBinding {who} are not resolved",
        )
        snapshot = _refreshed(existing, resolution, withdrawn, inputs)
    else:
        try:
            stack = _stack(inputs, composition, resolution, existing, withdrawn)
            config = runconfig.config_yaml(stack)
            snapshot = Snapshot.parse(
                secret.data(stack, revision.of_stack(inputs.key, stack.backends))[SNAPSHOT_KEY],
                secret_name(inputs.stack),
            )
        except RenderError as problem:
            config = None
            waiting = problem.reason == Reason.BASE_CONFIG_NOT_FOUND
            status: Status = "Unknown" if waiting else "False"
            rendered = Said("Rendered", status, problem.reason, str(problem))
            snapshot = _refreshed(existing, resolution, withdrawn, inputs)
    if snapshot is not None and taken is None:
        data = secret.of_snapshot(snapshot)
    statuses = _statuses(inputs, composition, resolution, rendered, snapshot)
    return Plan(config, data, statuses, _announcements(inputs, statuses), _again_at(snapshot))


@dataclass
class _Resolution:
    backends: dict[str, Backend] = field(default_factory=dict)
    said: dict[str, Said] = field(default_factory=dict)
    unusable: list[Use] = field(default_factory=list)
    refused: list[Use] = field(default_factory=list)
    grace: dict[str, int] = field(default_factory=dict)


def _resolve(inputs: StackInputs, composition: Composition) -> _Resolution:
    result = _Resolution()
    for use in composition.uses:
        problem = _use(inputs, use, result)
        if problem is not None:
            result.unusable.append(use)
            result.said.setdefault(use.binding, problem)
    for name, accepted in composition.accepted.items():
        if accepted.status == "True":
            result.said.setdefault(name, Said("BackendsResolved", "True", Reason.RESOLVED))
        else:
            result.said[name] = Said(
                "BackendsResolved", "Unknown", Reason.WAITING, "the binding is not accepted"
            )
    return result


def _use(inputs: StackInputs, use: Use, result: _Resolution) -> Said | None:
    label = use.backend[1] if use.backend[0] == inputs.namespace else "/".join(use.backend)
    backend = inputs.backends.get(use.backend)
    if backend is None or not allows(backend, inputs.namespace):
        if backend is not None:
            result.refused.append(use)
        return Said(
            "BackendsResolved",
            "Unknown",
            Reason.NOT_FOUND_OR_NOT_ALLOWED,
            f"{use.path}: StorageBackend '{label}' was not found, or does not allow namespace "
            f"'{inputs.namespace}'",
        )
    if not backend.spec.type.startswith(use.family):
        return Said(
            "BackendsResolved",
            "False",
            Reason.FAMILY_MISMATCH,
            f"{use.path} needs a {use.family} backend, and StorageBackend '{label}' is "
            f"{backend.spec.type}",
        )
    state = look(backend, inputs.secrets, inputs.config_maps, inputs.key)
    if state.snapshot is None:
        cause = ""
        if use.backend[0] == inputs.namespace:
            part = state.accepted if state.accepted.status != "True" else state.credentials
            cause = f" ({part.reason}: {part.message})"
        return Said(
            "BackendsResolved",
            "Unknown" if state.credentials.status == "Unknown" else "False",
            Reason.BACKEND_NOT_READY,
            f"{use.path}: StorageBackend '{label}' can't be used yet{cause}",
        )
    result.backends[use.name] = state.snapshot
    result.grace[use.name] = backend.spec.rotation.grace_seconds
    return None


def _stack(
    inputs: StackInputs,
    composition: Composition,
    resolution: _Resolution,
    existing: Snapshot | None,
    withdrawn: set[str],
) -> ResolvedStack:
    defaults = composition.defaults
    kv = run_config_name(defaults.kv) if defaults and defaults.kv else None
    sql = run_config_name(defaults.sql) if defaults and defaults.sql else None
    before = existing.backends if existing else {}
    return ResolvedStack(
        stack_id=revision.stack_id(inputs.namespace, inputs.stack),
        backends={
            name: _with_previous(backend, before.get(name), resolution.grace[name], inputs.now)
            for name, backend in resolution.backends.items()
        },
        stores=tuple(s for s in composition.stores if s.backend not in withdrawn),
        providers=tuple(p for p in composition.providers if p.backend not in withdrawn),
        default_kv=None if kv in withdrawn else kv,
        default_sql=None if sql in withdrawn else sql,
        base_config=_base_config(inputs, composition),
        release=composition.release,
    )


def _base_config(inputs: StackInputs, composition: Composition) -> str | None:
    if composition.base_config is None:
        return None
    key, entry = composition.base_config
    text = inputs.config_maps.get(key, {}).get(entry)
    if text is None:
        raise RenderError(
            Reason.BASE_CONFIG_NOT_FOUND, f"there is no ConfigMap '{key[1]}' with a key '{entry}'"
        )
    return text


def _with_previous(new: Backend, old: Backend | None, grace: int, now: int) -> Backend:
    """Keep earlier logins for as long as their grace lasts."""
    if not isinstance(new, PostgresBackend) or not isinstance(old, PostgresBackend):
        return new
    current = new.current.model_copy(update={"revision": ""})
    before = old.current.model_copy(update={"revision": ""})
    kept = [
        previous
        for previous in old.previous
        if previous.usable_until > now
        and previous.as_login().model_copy(update={"revision": ""}) != current
    ]
    if before != current and grace > 0:
        kept.insert(0, PreviousLogin(**dict(old.current), usable_until=now + grace))
    return new.model_copy(update={"previous": tuple(kept[:MAX_PREVIOUS])})


def _refreshed(
    existing: Snapshot | None,
    resolution: _Resolution,
    withdrawn: set[str],
    inputs: StackInputs,
) -> Snapshot | None:
    """The last good Secret goes on: logins of usable backends are followed, withdrawn ones go."""
    if existing is None:
        return None
    kept: dict[str, Backend] = {}
    for name, old in existing.backends.items():
        new = resolution.backends.get(name)
        if name in withdrawn:
            continue
        if new is None or new.type != old.type:
            kept[name] = old
        else:
            kept[name] = _with_previous(new, old, resolution.grace[name], inputs.now)
    return existing.model_copy(
        update={"backends": kept, "revision": revision.of_stack(inputs.key, kept)}
    )


def _existing(inputs: StackInputs) -> Snapshot | None:
    """What the stack's Secret says now; None when there is none that can be read."""
    obj = inputs.secret
    if obj is None or not is_ours(obj, inputs.stack):
        return None
    encoded = (obj.get("data") or {}).get(SNAPSHOT_KEY)
    if not encoded:
        return None
    try:
        return Snapshot.parse(base64.b64decode(encoded), secret_name(inputs.stack))
    except (ConfigError, ValueError):
        return None


def _taken(inputs: StackInputs) -> Said | None:
    for kind, name, obj in (
        ("Secret", secret_name(inputs.stack), inputs.secret),
        ("ConfigMap", config_map_name(inputs.stack), inputs.config_map),
    ):
        if obj is not None and not is_ours(obj, inputs.stack):
            return Said(
                "Rendered",
                "False",
                Reason.OUTPUT_NAME_TAKEN,
                f"{kind} '{name}' exists and is not Stackstore's; rename it, or the stack",
            )
    return None


def _statuses(
    inputs: StackInputs,
    composition: Composition,
    resolution: _Resolution,
    rendered: Said,
    snapshot: Snapshot | None,
) -> dict[str, StoreBindingStatus]:
    statuses = {}
    for binding in inputs.bindings:
        name, generation = binding.metadata.name, binding.metadata.generation
        accepted, resolved = composition.accepted[name], resolution.said[name]
        mine = rendered
        if accepted.status != "True" or resolved.status != "True":
            mine = Said("Rendered", "Unknown", Reason.WAITING, "the binding is not resolved")
        parts = [accepted, resolved, mine]
        said = [conditions.summary(parts), *parts, conditions.not_yet("Adopted")]
        statuses[name] = StoreBindingStatus(
            observed_generation=generation,
            conditions=conditions.timed(said, binding.status.conditions, generation, inputs.now),
            config_map_name=config_map_name(inputs.stack),
            secret_name=secret_name(inputs.stack),
            stack_id=revision.stack_id(inputs.namespace, inputs.stack),
            revision=snapshot.revision if snapshot is not None else "",
        )
    return statuses


def _announcements(
    inputs: StackInputs, statuses: Mapping[str, StoreBindingStatus]
) -> tuple[Announcement, ...]:
    """One event a binding whose Ready changed its status or reason."""
    found = []
    for binding in inputs.bindings:
        before = {c.type: (c.status, c.reason) for c in binding.status.conditions}
        ready = statuses[binding.metadata.name].conditions[0]
        if before.get("Ready") != (ready.status, ready.reason):
            found.append(
                Announcement(
                    binding.metadata.name, ready.status != "True", ready.reason, ready.message
                )
            )
    return tuple(found)


def _again_at(snapshot: Snapshot | None) -> int | None:
    if snapshot is None:
        return None
    ends = [
        previous.usable_until
        for backend in snapshot.backends.values()
        if isinstance(backend, PostgresBackend)
        for previous in backend.previous
    ]
    return min(ends, default=None)
