"""What a stack asks of its databases, in connections. Pure.

A server process of the Stackstore runtime holds one pool for all backends with the same address,
login, TLS and pooler: the largest that is asked for. A stock server, which is told of a change by a
restart, holds one for each backend.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass, field

from stackstore.credentials.snapshot import PoolSettings, PostgresBackend, Snapshot
from stackstore_operator.api.backend import StorageBackend
from stackstore_operator.api.binding import StoreBinding
from stackstore_operator.reconcile import consumers
from stackstore_operator.reconcile.budget.ledger import Place
from stackstore_operator.reconcile.budget.ruling import Ruling
from stackstore_operator.reconcile.budget.shares import Claim, ClaimKey
from stackstore_operator.reconcile.composition import Composition, by_age
from stackstore_operator.reconcile.consumers import ConsumerState
from stackstore_operator.reconcile.continuity import Before
from stackstore_operator.reconcile.inputs import Key, StackInputs
from stackstore_operator.reconcile.outputs import is_ours
from stackstore_operator.reconcile.resolution import Found, Resolution


@dataclass(frozen=True)
class Demand:
    """All claims of a stack.

    Attributes:
        places: the backends that they are for.
        pools: backends of the run config that share a pool, by any of their names.
    """

    claims: tuple[Claim, ...] = ()
    places: Mapping[Key, Place] = field(default_factory=dict)
    pools: Mapping[str, frozenset[Key]] = field(default_factory=dict)


def place(backend: StorageBackend, snapshot: object) -> Place:
    """A backend as the ledger knows it; `snapshot` is how stacks see it, None while it has no login."""
    server = None
    if isinstance(snapshot, PostgresBackend):
        login = snapshot.current
        server = backend.metadata.namespace, login.host.lower(), login.port
    spec = backend.spec
    return Place(server, spec.max_connections, spec.verification.mode == "Connect")


def of_stack(
    inputs: StackInputs, composition: Composition, resolution: Resolution, before: Before
) -> Demand:
    """What its accepted bindings ask, and what it was granted before."""
    accepted = [b for b in by_age(inputs.bindings)
                if composition.accepted[b.metadata.name].status == "True"]  # fmt: skip
    names: dict[str, list[str]] = {}
    for use in composition.uses:
        found = resolution.backends.get(use.name)
        if found is not None and isinstance(found.snapshot, PostgresBackend):
            names.setdefault(use.binding, []).append(use.name)
    pools = _pools(accepted, resolution.backends, [n for ns in names.values() for n in ns])
    claims = list(
        _claims(inputs, accepted, names=names, pools=pools, resolution=resolution, before=before)
    )
    asked = {claim.key for claim in claims}
    # What is in force although nobody asks for it now: its last good render goes on.
    claims += [
        Claim(
            (inputs.namespace, inputs.stack), binding, backend, "", held, held=held, known=False,
            terms="as before",
            past=True,
        )
        for (binding, backend), held in before.record.grants.items()
        if (binding, backend) not in asked
    ]  # fmt: skip
    used = {n for ns in names.values() for n in ns}
    found_backends = [found for name, found in resolution.backends.items() if name in used]
    return Demand(
        tuple(claims),
        {f.key: place(inputs.backends[f.key], f.snapshot) for f in found_backends},
        {
            name: frozenset(resolution.backends[n].key for n in used if pools[n] == pools[name])
            for name in used
        },
    )


def _claims(
    inputs: StackInputs,
    accepted: list[StoreBinding],
    *,
    names: Mapping[str, list[str]],
    pools: Mapping[str, Hashable],
    resolution: Resolution,
    before: Before,
) -> Iterable[Claim]:
    """One a binding and backend: what the stack asks with it beyond what it asks without it."""
    granted_of = {backend for _, backend in before.record.grants}
    in_force = set(before.record.origins.values()) - granted_of
    # Somebody deleted or forged the Secret while its run config is in use.
    lost = before.record.places is None and _has_config(inputs)
    largest: dict[Hashable, int] = {}
    share: dict[str, int] = {}
    last: dict[Key, int] = {}
    for number, binding in enumerate(accepted):
        name = binding.metadata.name
        states = consumers.observe(consumers.named(accepted[: number + 1]), inputs.workloads)
        processes = sum(state.processes for state in states) or 1
        known = all(state.found for state in states)
        for used in names.get(name, ()):
            if used not in share:
                size = _size(resolution.backends[used])
                share[used] = max(0, size - largest.get(pools[used], 0))
                largest[pools[used]] = max(size, largest.get(pools[used], 0))
        for backend in sorted({resolution.backends[used].key for used in share}):
            mine = [used for used in share if resolution.backends[used].key == backend]
            ask = processes * sum(share[used] for used in mine)
            more = ask - last.get(backend, 0)
            if not more:
                continue
            held = before.record.grants.get((name, backend), 0)
            # It ran before there was a budget: nobody is cut off.
            held = more if lost or backend in in_force else held
            yield Claim(
                (inputs.namespace, inputs.stack),
                name,
                backend,
                binding.metadata.creation_timestamp,
                more,
                held=held,
                known=known,
                terms=_terms(states, resolution, mine, share)
                if backend not in last
                else f"{ask} - {last[backend]} that older bindings of the stack ask",
            )
            last[backend] = ask


def _has_config(inputs: StackInputs) -> bool:
    obj = inputs.config_map
    return obj is not None and is_ours(obj, inputs.stack)


def _pools(
    accepted: list[StoreBinding], backends: Mapping[str, Found], names: Iterable[str]
) -> dict[str, Hashable]:
    """What names the pool that a backend's connections are in, by the backend's name."""
    strategies = [b.spec.rollout.strategy for b in accepted if b.spec.rollout is not None]
    alone = bool(strategies) and strategies[0] != "HotReload"
    found: dict[str, Hashable] = {}
    for name in names:
        snapshot = backends[name].snapshot
        assert isinstance(snapshot, PostgresBackend)  # noqa: S101 - only those have pools
        login = snapshot.current
        shared = (login.host.lower(), login.port, login.database, login.username, snapshot.tls,
                  snapshot.pooler)  # fmt: skip
        found[name] = name if alone else shared
    return found


def _size(found: Found) -> int:
    snapshot = found.snapshot
    assert isinstance(snapshot, PostgresBackend)  # noqa: S101 - only those have pools
    return snapshot.pool.size + snapshot.pool.max_overflow


def _terms(
    states: Iterable[ConsumerState],
    resolution: Resolution,
    names: list[str],
    share: Mapping[str, int],
) -> str:
    """How what a whole stack asks of one backend comes about."""
    each = [
        f"({s.most} {'pod' if s.most == 1 else 'pods'} + {s.surge} surge) × {_workers(s.workers)}"
        if s.surge
        else f"{s.most} {'pod' if s.most == 1 else 'pods'} × {_workers(s.workers)}"
        for s in states
    ]
    processes = each[0] if len(each) == 1 else f"({' + '.join(each)})"
    pools = []
    for name in names:
        snapshot = resolution.backends[name].snapshot
        if isinstance(snapshot, PostgresBackend) and share[name] == _size(
            resolution.backends[name]
        ):
            pools.append(f"({snapshot.pool.size} + {snapshot.pool.max_overflow})")
        elif share[name]:
            pools.append(str(share[name]))
    together = pools[0] if len(pools) == 1 else f"({' + '.join(pools)})"
    return f"{processes if each else '1 pod × 1 worker'} × {together}"


def _workers(count: int) -> str:
    return "1 worker" if count == 1 else f"{count} workers"


# -- what comes of the rulings


def fitted(snapshot: Snapshot, demand: Demand, rulings: Mapping[ClaimKey, Ruling]) -> Snapshot:
    """The snapshot with pools that together hold no more than was granted.

    A stack that grew beyond its grant shares it among its processes, each of which keeps at least one
    connection. What was refused altogether is not counted: it is not in the snapshot.
    """
    changed = {}
    for name, keys in demand.pools.items():
        backend = snapshot.backends.get(name)
        counted = [r for r in rulings.values() if r.claim.backend in keys and r.grant]
        asked, granted = (sum(r.claim.ask for r in counted), sum(r.grant for r in counted))
        if granted >= asked or not isinstance(backend, PostgresBackend):
            continue
        pool = backend.pool
        most = max(1, (pool.size + pool.max_overflow) * granted // asked)
        size = min(pool.size, most)
        smaller = PoolSettings(
            **{**dict(pool), "size": size, "max_overflow": min(pool.max_overflow, most - size)}
        )
        changed[name] = backend.model_copy(update={"pool": smaller})
    if not changed:
        return snapshot
    return snapshot.model_copy(update={"backends": {**snapshot.backends, **changed}})


def grants(
    rulings: Mapping[ClaimKey, Ruling], before: Before, *, rendered: bool
) -> Mapping[ClaimKey, int]:
    """What to note as granted: of what is in force.

    Args:
        rulings: of this look.
        before: the last good render.
        rendered: what was asked for is written; else the last good render goes on.
    """
    now = {key: ruling.grant for key, ruling in rulings.items() if ruling.grant}
    if rendered:
        return {key: grant for key, grant in now.items() if not rulings[key].claim.past}
    in_force = set(before.record.origins.values())
    known = before.record.grants
    return {**known, **{key: n for key, n in now.items() if key in known or (
        key[1] in in_force and not any(backend == key[1] for _, backend in known))}}  # fmt: skip
