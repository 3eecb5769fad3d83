"""What a stack's objects should be, from everything that was read. Pure.

A run config is rendered whole or not at all. It is held back, and the last good one stays, while a
binding's backends are not resolved, the oldest or the youngest: its stores would go to `defaults`
for the time being, and what is written meanwhile would lie in the wrong database. For the same
reason a binding that is no longer accepted does not give up the stores that were rendered for it.

The Secret goes on while the config is held back: rotations arrive, withdrawn logins leave.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from stackstore.credentials.snapshot import PostgresBackend, Snapshot
from stackstore_operator.api.binding import StoreBinding, StoreBindingStatus
from stackstore_operator.api.conditions import Reason
from stackstore_operator.reconcile import (
    adoption,
    conditions,
    consumers,
    continuity,
    files,
    moves,
    sharing,
)
from stackstore_operator.reconcile.budget import demand, ruling
from stackstore_operator.reconcile.budget.demand import Demand
from stackstore_operator.reconcile.budget.ruling import Ruling
from stackstore_operator.reconcile.budget.shares import ClaimKey
from stackstore_operator.reconcile.composition import Composition, compose, run_config_name
from stackstore_operator.reconcile.conditions import Said
from stackstore_operator.reconcile.continuity import Before
from stackstore_operator.reconcile.inputs import Key, StackInputs
from stackstore_operator.reconcile.outputs import config_map_name, is_ours, secret_name
from stackstore_operator.reconcile.record import RECORD_KEY, Record
from stackstore_operator.reconcile.resolution import Resolution, resolve
from stackstore_operator.reconcile.rollout.stack import Rolling, roll
from stackstore_operator.reconcile.sharing import Claim
from stackstore_operator.reconcile.tally import Use
from stackstore_operator.reconcile.verification import is_visited
from stackstore_operator.render import revision, runconfig, secret
from stackstore_operator.render.model import SNAPSHOT_KEY, RenderError, ResolvedStack


@dataclass(frozen=True, slots=True)
class Announcement:
    """An event to post on an object whose readiness changed."""

    name: str
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
        rolling: whom to restart when it is written; None: pods follow by themselves.
        claims: the tables and kv namespaces of databases that it uses then, with their names in words.
        uses: the backends whose logins are in the Secret then.
        earlier: the backends of which the Secret holds earlier logins; True: for another address.
    """

    config: str | None
    secret: Mapping[str, bytes] | None = field(repr=False)
    statuses: Mapping[str, StoreBindingStatus]
    announcements: tuple[Announcement, ...]
    again_at: int | None
    earlier: Mapping[Key, bool] = field(default_factory=dict)
    rolling: Rolling | None = None
    uses: frozenset[Key] = frozenset()
    claims: Mapping[Claim, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class _Outputs:
    """What comes of one look: the condition Rendered, and what there is to write."""

    rendered: Said
    snapshot: Snapshot | None
    record: Record
    config: str | None = None


@dataclass(frozen=True)
class Prepared:
    """What the inputs amount to, before budgets are asked."""

    composition: Composition
    resolution: Resolution
    before: Before
    demand: Demand


def prepare(inputs: StackInputs) -> Prepared:
    """Read the inputs."""
    composition = compose(inputs.namespace, inputs.bindings)
    before = continuity.read(inputs)
    resolution = resolve(inputs, composition, before.record.origins)
    wanted = demand.of_stack(inputs, composition, resolution, before)
    return Prepared(composition, resolution, before, wanted)


def plan(
    inputs: StackInputs,
    prepared: Prepared | None = None,
    rulings: Mapping[ClaimKey, Ruling] | None = None,
) -> Plan:
    """Decide.

    Args:
        inputs: what was read.
        prepared: what `prepare` made of it, when that is known.
        rulings: on claims that a budget binds; None: none is bound.
    """
    prepared = prepared or prepare(inputs)
    rulings = rulings or {}
    composition, resolution, before = prepared.composition, prepared.resolution, prepared.before
    outputs = _outputs(inputs, composition, resolution, before, rulings)
    snapshot = outputs.snapshot
    uses = frozenset(before.record.origins.values())
    # Before pools are fitted into a budget: a workload that is scaled up must not be restarted for it.
    rolling = roll(
        inputs,
        composition,
        before,
        snapshot,
        config=outputs.config,
        origins=outputs.record.origins,
    )
    data = None
    if snapshot is not None:
        snapshot = demand.fitted(snapshot, prepared.demand, rulings)
        named = outputs.record.origins.items()
        noted = replace(
            outputs.record,
            origins={name: k for name, k in named if name in snapshot.backends},
            grants=demand.grants(rulings, before, rendered=outputs.config is not None),
            content=rolling.content if rolling is not None else None,
            logins=rolling.logins if rolling is not None else None,
        )
        uses = frozenset(noted.origins.values())
        data = secret.of_snapshot(snapshot) | {
            RECORD_KEY: noted.to_bytes(inputs.key, inputs.namespace, inputs.stack)
        }
    statuses = _statuses(inputs, composition, resolution, outputs, rulings, rolling=rolling)
    return Plan(
        outputs.config,
        data,
        statuses,
        announcements(inputs, statuses),
        continuity.next_expiry(snapshot),
        continuity.earlier(snapshot, outputs.record.origins),
        rolling,
        uses,
        sharing.claims(snapshot, outputs.record.places),
    )


def _outputs(
    inputs: StackInputs,
    composition: Composition,
    resolution: Resolution,
    before: Before,
    rulings: Mapping[ClaimKey, Ruling],
) -> _Outputs:
    def last_good(rendered: Said, config: str | None = None) -> _Outputs:
        return _Outputs(rendered, continuity.followed(inputs, before), before.record, config)

    taken = _taken(inputs)
    if taken is not None:
        return last_good(taken)
    if inputs.unreadable:
        # What it binds must not leave the stack.
        named = ", ".join(f"'{binding.name}'" for binding in inputs.unreadable)
        return last_good(_waiting(f"StoreBinding {named} can't be read; see its conditions"))
    if not any(said.status == "True" for said in composition.accepted.values()):
        return last_good(_waiting("no binding is accepted"))
    gone = continuity.withdrawn(inputs, before)
    mine = [u for u in resolution.unusable if before.record.origins.get(u.name) == u.backend]
    refused = {use.name for use in mine if use.name in gone}
    who = ", ".join(sorted({f"'{use.binding}'" for use in resolution.unusable}))
    waiting = _waiting(f"backends of StoreBinding {who} are not resolved")
    if any(use.name not in refused for use in resolution.unusable):
        return last_good(waiting)
    beyond = {f"'{binding}'" for (binding, _), ruling in rulings.items() if ruling.refused}
    if beyond:
        who = ", ".join(sorted(beyond))
        return last_good(_waiting(f"what StoreBinding {who} asks for is beyond a budget"))
    try:
        stack = _stack(inputs, composition, resolution, before, refused)
        config = runconfig.config_yaml(stack)
    except RenderError as problem:
        if refused:
            return last_good(waiting)
        missing = problem.reason == Reason.BASE_CONFIG_NOT_FOUND
        return last_good(
            Said("Rendered", "Unknown" if missing else "False", problem.reason, str(problem))
        )
    places = runconfig.places_of(stack)
    moved = moves.of_unaccepted(
        inputs.bindings,
        composition,
        before.record.places,
        places,
        rendered=inputs.config_map is not None,
    )
    if moved is not None:
        return last_good(_waiting(moved))
    content = secret.data(stack, revision.of_stack(inputs.key, stack.backends))[SNAPSHOT_KEY]
    return _Outputs(
        # Where something is withdrawn, the words of the next look: nothing tells any more by then
        # that it was in force.
        waiting if refused else Said("Rendered", "True", Reason.RENDERED, _written(inputs)),
        Snapshot.parse(content, secret_name(inputs.stack)),
        Record({name: found.key for name, found in resolution.backends.items()}, places),
        config,
    )


def _written(inputs: StackInputs) -> str:
    return f"ConfigMap '{config_map_name(inputs.stack)}' and Secret '{secret_name(inputs.stack)}'"


def _waiting(message: str) -> Said:
    return Said("Rendered", "Unknown", Reason.WAITING, message)


def _stack(
    inputs: StackInputs,
    composition: Composition,
    resolution: Resolution,
    before: Before,
    refused: set[str],
) -> ResolvedStack:
    """Everything the files are made from; without the stores whose backend is withdrawn.

    Raises:
        RenderError: the base config isn't there, or the release needs one of those stores.
    """
    for store in composition.stores:
        rule = composition.release.stores.get(store.name)
        if store.backend in refused and rule is not None and rule.required:
            raise RenderError(
                Reason.STORE_MISSING,
                f"{composition.release.name} needs the store '{store.name}', and its backend is "
                "withdrawn",
            )
    defaults = composition.defaults
    kv = run_config_name(defaults.kv) if defaults and defaults.kv else None
    sql = run_config_name(defaults.sql) if defaults and defaults.sql else None
    return ResolvedStack(
        stack_id=revision.stack_id(inputs.namespace, inputs.stack),
        backends={
            name: continuity.continued(name, found, before, inputs.now)
            for name, found in resolution.backends.items()
        },
        stores=tuple(s for s in composition.stores if s.backend not in refused),
        providers=tuple(p for p in composition.providers if p.backend not in refused),
        default_kv=None if kv in refused else kv,
        default_sql=None if sql in refused else sql,
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
    resolution: Resolution,
    outputs: _Outputs,
    rulings: Mapping[ClaimKey, Ruling],
    *,
    rolling: Rolling | None,
) -> dict[str, StoreBindingStatus]:
    statuses = {}
    there = inputs.config_map
    config = outputs.config is not None or (there is not None and is_ours(there, inputs.stack))
    for binding in inputs.bindings:
        name, generation = binding.metadata.name, binding.metadata.generation
        accepted, resolved = composition.accepted[name], resolution.said[name]
        mine = outputs.rendered
        if accepted.status != "True" or resolved.status != "True":
            mine = _waiting("the binding is not accepted, or its backends are not resolved")
        within = ruling.said(r for (of, _), r in rulings.items() if of == name)
        parts = [accepted, resolved, mine]
        judged = conditions.lowering([within] if within is not None else [])
        restarts = [rolling.decision.said] if rolling and accepted.status == "True" else []
        said = [
            conditions.summary([accepted, resolved, *judged, mine, *conditions.lowering(restarts)]),
            *parts,
            _adopted(inputs, outputs, binding),
        ]
        # These lower nothing: pods may come later than what they run on.
        told = consumers.said(binding, inputs.workloads)
        exclusive = files.said(binding, inputs, composition, resolution)
        said += [one for one in (told, exclusive, within, *restarts) if one is not None]
        statuses[name] = StoreBindingStatus(
            observed_generation=generation,
            conditions=conditions.timed(said, binding.status.conditions, generation, inputs.now),
            # Names of what there is: nobody should wait for an object that nobody makes.
            config_map_name=config_map_name(inputs.stack) if config else "",
            secret_name=secret_name(inputs.stack) if outputs.snapshot else "",
            stack_id=revision.stack_id(inputs.namespace, inputs.stack),
            revision=outputs.snapshot.revision if outputs.snapshot is not None else "",
        )
    return statuses


def _adopted(inputs: StackInputs, outputs: _Outputs, binding: StoreBinding) -> Said:
    """Whether the stack's processes use the logins that its Secret holds now."""
    snapshot = outputs.snapshot
    if snapshot is None:
        return Said("Adopted", "Unknown", Reason.WAITING, "nothing is rendered yet")
    parts = []
    for name, backend in sorted(snapshot.backends.items()):
        key = outputs.record.origins.get(name)
        if not isinstance(backend, PostgresBackend):
            continue
        found = inputs.findings.get(key) if key is not None else None
        if found is not None and found.revision != backend.current.revision:
            found = None
        origin = inputs.backends.get(key) if key is not None else None
        use = inputs.uses.get(key) if key is not None else None
        # What is in force goes by the name that it has in the Secret, whatever bindings say by now.
        use = replace(use or Use(snapshot.stack_id, frozenset()), names=frozenset({name}))
        visited = origin is not None and is_visited(origin, backend)
        parts.append(adoption.Part(name, visited, found, use))
    same = binding.status.revision == snapshot.revision
    before = conditions.known(binding.status.conditions, "Adopted") if same else None
    return adoption.of_stack(parts, before)


def announcements(
    inputs: StackInputs, statuses: Mapping[str, StoreBindingStatus]
) -> tuple[Announcement, ...]:
    """One event a binding whose Ready changed its status or reason, and one a warning that is new.

    None tells of a backend that was not found or not allowed: events outlive what they tell of.
    """
    found = []
    for binding in inputs.bindings:
        ready = statuses[binding.metadata.name].conditions[0]
        if ready.reason == Reason.NOT_FOUND_OR_NOT_ALLOWED:
            continue
        if conditions.turned(binding.status.conditions, ready):
            found.append(
                Announcement(
                    binding.metadata.name, ready.status != "True", ready.reason, ready.message
                )
            )
        found += [
            Announcement(binding.metadata.name, True, one.reason, one.message)
            for one in statuses[binding.metadata.name].conditions
            if (one.type, one.status) in conditions.WARNINGS
            and one.reason != ready.reason
            and conditions.turned(binding.status.conditions, one)
        ]
    return tuple(found)
