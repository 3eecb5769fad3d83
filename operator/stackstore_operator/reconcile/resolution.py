"""Which backends the accepted bindings' references lead to, or why to none. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from stackstore.credentials.snapshot import PostgresBackend, SqliteBackend
from stackstore_operator.api.backend import StorageBackend, allows, refuses
from stackstore_operator.api.conditions import Reason
from stackstore_operator.reconcile.adoption import is_adopted
from stackstore_operator.reconcile.backends import BackendState, look
from stackstore_operator.reconcile.composition import Composition, Use
from stackstore_operator.reconcile.conditions import Said
from stackstore_operator.reconcile.inputs import Key, StackInputs
from stackstore_operator.reconcile.verification import verified

_NOTHING: Mapping[str, Key] = {}

Backend = PostgresBackend | SqliteBackend


@dataclass(frozen=True, slots=True)
class Found:
    """A backend that can be used.

    Attributes:
        key: namespace and name of its object.
        snapshot: how a stack sees it, without previous logins.
        grace: how many seconds a replaced login stays usable.
        settled: this login is verified, and nobody uses an earlier one any more.
    """

    key: Key
    snapshot: Backend
    grace: int
    settled: bool = False


@dataclass
class Resolution:
    """What came of the references.

    Attributes:
        backends: by their names in the run config.
        said: the condition BackendsResolved, by binding.
        unusable: the references that lead to nothing usable.
    """

    backends: dict[str, Found] = field(default_factory=dict)
    said: dict[str, Said] = field(default_factory=dict)
    unusable: list[Use] = field(default_factory=list)


def resolve(
    inputs: StackInputs, composition: Composition, in_force: Mapping[str, Key] = _NOTHING
) -> Resolution:
    """Follow every reference of every accepted binding.

    Args:
        inputs: what was read.
        composition: what the bindings say.
        in_force: the backends whose logins the Secret holds, by their names in the run config.
    """
    result = Resolution()
    leaving: dict[str, set[Key]] = {}
    problems: dict[str, dict[Said, list[str]]] = {}
    states: dict[Key, BackendState] = {}
    for use in composition.uses:
        found = _follow(inputs, use, in_force, states)
        if isinstance(found, Found):
            result.backends[use.name] = found
            if inputs.backends[use.backend].metadata.deletion_timestamp is not None:
                leaving.setdefault(use.binding, set()).add(use.backend)
            continue
        result.unusable.append(use)
        problems.setdefault(use.binding, {}).setdefault(found, []).append(use.path)
    for name, found_problems in problems.items():
        # All of a binding's problems at once, under the reason of the first.
        texts = [f"{', '.join(paths)}: {said.message}" for said, paths in found_problems.items()]
        result.said[name] = replace(next(iter(found_problems)), message="; ".join(texts))
    for name, accepted in composition.accepted.items():
        if accepted.status == "True":
            message = _farewell(inputs, leaving.get(name, set()))
            result.said.setdefault(name, Said("BackendsResolved", "True", Reason.RESOLVED, message))
        else:
            result.said[name] = Said(
                "BackendsResolved", "Unknown", Reason.WAITING, "the binding is not accepted"
            )
    return result


def find(inputs: StackInputs, key: Key) -> Found | None:
    """A backend by its key, if this namespace may use it and it can be used."""
    backend = inputs.backends.get(key)
    if backend is None or not allows(backend, inputs.namespace, inputs.labels):
        return None
    state = look(backend, inputs.secrets, inputs.config_maps, inputs.key)
    return None if state.snapshot is None else _found(key, backend, state.snapshot)


def is_withdrawn(inputs: StackInputs, key: Key) -> bool:
    """Whether a backend is there and does not let this namespace use it; not what nobody knows."""
    backend = inputs.backends.get(key)
    return backend is not None and refuses(backend, inputs.namespace, inputs.labels)


def _farewell(inputs: StackInputs, leaving: Iterable[Key]) -> str:
    labels = ", ".join(f"'{_label(inputs, key)}'" for key in sorted(leaving))
    return f"StorageBackend {labels} is being deleted, once nobody uses it" if labels else ""


def _label(inputs: StackInputs, key: Key) -> str:
    return key[1] if key[0] == inputs.namespace else "/".join(key)


def _leaves(inputs: StackInputs, use: Use, in_force: Mapping[str, Key]) -> str:
    """Why a backend that is there takes nobody any more; empty when it does."""
    label = _label(inputs, use.backend)
    if use.backend[0] in inputs.ending:
        return (
            f"the namespace of StorageBackend '{label}' is being deleted, and the backend with it; "
            "what was rendered stays; move the stores"
        )
    deleted = inputs.backends[use.backend].metadata.deletion_timestamp
    if deleted is None or use.backend in in_force.values():
        return ""
    # A stack that nothing was rendered for yet may have asked before the deletion.
    asked = {b.metadata.name: b.metadata.creation_timestamp for b in inputs.bindings}
    if not in_force and asked[use.binding] < deleted:
        return ""
    return f"StorageBackend '{label}' is being deleted and takes nobody new; name another"


def _follow(
    inputs: StackInputs,
    use: Use,
    in_force: Mapping[str, Key],
    states: dict[Key, BackendState],
) -> Found | Said:
    label = _label(inputs, use.backend)
    backend = inputs.backends.get(use.backend)
    if backend is None and use.backend in in_force.values():
        # No secret: it was in use here until it went.
        return Said(
            "BackendsResolved",
            "False",
            Reason.BACKEND_GONE,
            f"StorageBackend '{label}' was deleted while it was in use here; what was rendered stays; "
            "make it again, or move the stores",
        )
    if backend is None or not allows(backend, inputs.namespace, inputs.labels):
        # One answer for both: whether it exists is not a stranger's business.
        problem = f"was not found, or does not allow namespace '{inputs.namespace}'"
        if use.backend[0] == inputs.namespace:
            problem = f"does not exist in namespace '{inputs.namespace}'"
        return Said(
            "BackendsResolved",
            "Unknown",
            Reason.NOT_FOUND_OR_NOT_ALLOWED,
            f"StorageBackend '{label}' {problem}",
        )
    leaves = _leaves(inputs, use, in_force)
    if leaves:
        return Said("BackendsResolved", "False", Reason.BACKEND_TERMINATING, leaves)
    if not backend.spec.type.startswith(f"{use.family}_"):
        return Said(
            "BackendsResolved",
            "False",
            Reason.FAMILY_MISMATCH,
            f"needs a {use.family} backend ({use.family}_postgres or {use.family}_sqlite), "
            f"and StorageBackend '{label}' is {backend.spec.type}",
        )
    state = states.get(use.backend)
    if state is None:
        # Once for all references: to look at a large CA takes long, and a binding may have many.
        state = look(backend, inputs.secrets, inputs.config_maps, inputs.key)
        states[use.backend] = state
    if state.snapshot is None:
        part = state.accepted if state.accepted.status != "True" else state.credentials
        # The details of another namespace's Secret are for its owner.
        mine = use.backend[0] == inputs.namespace
        cause = f": {part.reason}: {part.message}" if mine else "; see its own conditions"
        return Said(
            "BackendsResolved",
            part.status,
            Reason.BACKEND_NOT_READY,
            f"StorageBackend '{label}' can't be used yet{cause}",
        )
    return _found(use.backend, backend, state.snapshot)


def _found(key: Key, backend: StorageBackend, snapshot: Backend) -> Found:
    current = snapshot.current.revision if isinstance(snapshot, PostgresBackend) else ""
    settled = verified(backend, current) is True and is_adopted(backend, current)
    return Found(key, snapshot, backend.spec.rotation.grace_seconds, settled)
