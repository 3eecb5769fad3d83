"""Several bindings, one stack: who says what, and who is too late. Pure.

The oldest binding (ties by name) wins; a younger one that says otherwise is not accepted, as a
whole: half of a binding is nothing anybody asked for. Bindings that are not accepted claim nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from stackstore_operator.api.binding import BackendRef, Consumer, Defaults, StoreBinding
from stackstore_operator.api.conditions import Reason
from stackstore_operator.api.support import unsupported
from stackstore_operator.reconcile.conditions import Said
from stackstore_operator.reconcile.inputs import Key
from stackstore_operator.render.model import PlacedProvider, PlacedStore
from stackstore_operator.render.releases import NEWEST, RELEASES, Family, Release

_DEFAULTS: dict[str, Family] = {"spec.defaults.kv": "kv", "spec.defaults.sql": "sql"}


@dataclass(frozen=True, slots=True)
class Use:
    """One reference to a backend.

    Attributes:
        name: the backend's name in the run config.
        path: where the binding says it, for messages.
    """

    binding: str
    path: str
    backend: Key
    name: str
    family: Family


@dataclass
class Composition:
    """What the accepted bindings of a stack say together."""

    accepted: dict[str, Said] = field(default_factory=dict)
    uses: list[Use] = field(default_factory=list)
    stores: list[PlacedStore] = field(default_factory=list)
    providers: list[PlacedProvider] = field(default_factory=list)
    defaults: Defaults | None = None
    base_config: tuple[Key, str] | None = None
    release: Release = NEWEST
    rollout: str = "HotReload"
    consumers: list[Consumer] = field(default_factory=list)


def run_config_name(reference: BackendRef) -> str:
    """A backend's name in the run config."""
    return reference.alias or reference.name.replace("-", "_").replace(".", "_")


def by_age(bindings: Sequence[StoreBinding]) -> list[StoreBinding]:
    """Oldest first."""
    return sorted(bindings, key=lambda b: (b.metadata.creation_timestamp, b.metadata.name))


def compose(namespace: str, bindings: Sequence[StoreBinding]) -> Composition:
    """Take the bindings one after the other; each is accepted whole or not at all."""
    result = Composition()
    claims: dict[tuple[str, ...], tuple[str, _Claim]] = {}
    for binding in by_age(bindings):
        name = binding.metadata.name
        missing = unsupported(binding)
        if missing:
            message = f"not supported yet: {', '.join(missing)}; remove it"
            result.accepted[name] = Said("Accepted", "False", Reason.NOT_YET_SUPPORTED, message)
            continue
        uses = list(_uses(namespace, binding))
        problem = _conflict(binding, uses, claims)
        if problem is not None:
            result.accepted[name] = problem
            continue
        for claim in _claims(binding, uses):
            claims.setdefault(claim.key, (name, claim))
        result.accepted[name] = Said("Accepted", "True", Reason.ACCEPTED)
        result.uses += uses
        _take(result, namespace, binding)
    return result


@dataclass(frozen=True, slots=True)
class _Claim:
    """What only one binding of a stack may say, or all must say alike.

    Attributes:
        what: for messages.
        value: what is said; None: saying it twice is a conflict already.
    """

    key: tuple[str, ...]
    what: str
    value: object = None
    reason: Reason = Reason.CONFLICT


def _conflict(
    binding: StoreBinding, uses: list[Use], claims: dict[tuple[str, ...], tuple[str, _Claim]]
) -> Said | None:
    # Inside one binding two names may fold together as well.
    names: dict[str, Use] = {}
    for use in uses:
        other = names.setdefault(use.name, use)
        if other.backend != use.backend:
            return _collision(use, "/".join(other.backend), "")
    for claim in _claims(binding, uses):
        if claim.key not in claims:
            continue
        owner, earlier = claims[claim.key]
        if claim.value is not None and claim.value == earlier.value:
            continue
        if claim.reason == Reason.NAME_COLLISION:
            return _collision(
                names[claim.key[1]],
                "/".join(map(str, earlier.value if isinstance(earlier.value, tuple) else ())),
                f" by the older StoreBinding '{owner}'",
            )
        verb = "binds it" if claim.value is None else "sets it to something else"
        return Said(
            "Accepted",
            "False",
            Reason.CONFLICT,
            f"{claim.what}: StoreBinding '{owner}' of this stack is older and {verb}; remove it "
            "from one of the two",
        )
    return None


def _collision(use: Use, other: str, by: str) -> Said:
    return Said(
        "Accepted",
        "False",
        Reason.NAME_COLLISION,
        f"{use.path}: StorageBackend '{'/'.join(use.backend)}' would be named '{use.name}' in the "
        f"run config, as '{other}' is{by}; set `backendRef.alias`",
    )


def _claims(binding: StoreBinding, uses: list[Use]) -> Iterator[_Claim]:
    spec = binding.spec
    for store in spec.stores:
        yield _Claim(("store", store.name), f"store '{store.name}'")
    for provider in spec.providers:
        key = (provider.api, provider.provider_id, provider.field)
        yield _Claim(("provider", *key), f"provider field '{'/'.join(key)}'")
    for use in uses:
        yield _Claim(("name", use.name), use.name, use.backend, Reason.NAME_COLLISION)
    defaults = {use.path: (use.backend, use.name) for use in uses if use.path in _DEFAULTS}
    for name, value in (
        ("baseConfigRef", spec.base_config_ref),
        ("serverRelease", spec.server_release),
        ("defaults", defaults or None),
        ("rollout", spec.rollout),
    ):
        if value is not None:
            yield _Claim(("stack", name), f"`spec.{name}`", value)


def _uses(namespace: str, binding: StoreBinding) -> Iterator[Use]:
    def use(reference: BackendRef, path: str, family: Family) -> Use:
        key = (reference.namespace or namespace, reference.name)
        return Use(binding.metadata.name, path, key, run_config_name(reference), family)

    spec = binding.spec
    for store in spec.stores:
        yield use(store.backend_ref, f"spec.stores[{store.name}]", store.family)
    for provider in spec.providers:
        path = f"spec.providers[{provider.api}/{provider.provider_id}/{provider.field}]"
        yield use(provider.backend_ref, path, provider.family)
    for path, family in _DEFAULTS.items():
        reference = getattr(spec.defaults, family, None)
        if reference is not None:
            yield use(reference, path, family)


def _take(result: Composition, namespace: str, binding: StoreBinding) -> None:
    spec = binding.spec
    for store in spec.stores:
        result.stores.append(
            PlacedStore(
                store.name,
                store.family,
                run_config_name(store.backend_ref),
                store.place,
                store.max_write_queue_size,
                store.num_writers,
                store.retention_seconds,
                store.journal,
            )
        )
    for provider in spec.providers:
        result.providers.append(
            PlacedProvider(
                provider.api,
                provider.provider_id,
                provider.field,
                provider.family,
                run_config_name(provider.backend_ref),
                provider.place,
                provider.retention_seconds,
            )
        )
    if spec.defaults is not None and result.defaults is None:
        result.defaults = spec.defaults
    if spec.base_config_ref is not None and result.base_config is None:
        reference = spec.base_config_ref
        result.base_config = ((namespace, reference.name), reference.key)
    if spec.rollout is not None:
        result.rollout = spec.rollout.strategy
    known = {(consumer.kind, consumer.name) for consumer in result.consumers}
    result.consumers += [c for c in spec.consumers if (c.kind, c.name) not in known]
    if spec.server_release is not None:
        result.release = RELEASES[spec.server_release]
