"""Several bindings, one stack: who says what, and who is too late. Pure.

The oldest binding (ties by name) wins; a younger one that says otherwise is not accepted.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from stackstore_operator.api.binding import BackendRef, Defaults, StoreBinding
from stackstore_operator.api.conditions import Reason
from stackstore_operator.api.support import unsupported
from stackstore_operator.reconcile.conditions import Said
from stackstore_operator.reconcile.inputs import Key
from stackstore_operator.render.model import PlacedProvider, PlacedStore
from stackstore_operator.render.releases import NEWEST, RELEASES, Family, Release


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


def run_config_name(reference: BackendRef) -> str:
    """A backend's name in the run config."""
    return reference.alias or reference.name.replace("-", "_").replace(".", "_")


def by_age(bindings: Sequence[StoreBinding]) -> list[StoreBinding]:
    """Oldest first."""
    return sorted(bindings, key=lambda b: (b.metadata.creation_timestamp, b.metadata.name))


def compose(namespace: str, bindings: Sequence[StoreBinding]) -> Composition:
    """Take the bindings one after the other; each is accepted whole or not at all."""
    result = Composition()
    claims: dict[tuple[str, ...], tuple[str, object]] = {}
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
        for claim, value in _claims(binding, uses):
            claims.setdefault(claim, (name, value))
        result.accepted[name] = Said("Accepted", "True", Reason.ACCEPTED)
        result.uses += uses
        _take(result, namespace, binding)
    return result


def _conflict(
    binding: StoreBinding, uses: list[Use], claims: dict[tuple[str, ...], tuple[str, object]]
) -> Said | None:
    for claim, value in _claims(binding, uses):
        if claim not in claims:
            continue
        owner, other = claims[claim]
        if claim[0] == "backend name":
            if other != value:
                return Said(
                    "Accepted",
                    "False",
                    Reason.NAME_COLLISION,
                    f"another backend is already named '{claim[1]}' in this stack by StoreBinding "
                    f"'{owner}'; set `backendRef.alias`",
                )
        elif claim[0] == "stack" and other == value:
            continue
        else:
            what = f"{claim[0]} '{'/'.join(claim[1:])}'" if claim[0] != "stack" else f"`{claim[1]}`"
            verb = "sets it to something else" if claim[0] == "stack" else "binds it"
            return Said(
                "Accepted",
                "False",
                Reason.CONFLICT,
                f"{what}: StoreBinding '{owner}' of this stack is older and {verb}",
            )
    # Inside one binding two names may fold together as well.
    names: dict[str, Key] = {}
    for use in uses:
        if names.setdefault(use.name, use.backend) != use.backend:
            return Said(
                "Accepted",
                "False",
                Reason.NAME_COLLISION,
                f"two backends would be named '{use.name}'; set `backendRef.alias`",
            )
    return None


def _claims(binding: StoreBinding, uses: list[Use]) -> Iterator[tuple[tuple[str, ...], object]]:
    spec = binding.spec
    for store in spec.stores:
        yield ("store", store.name), binding.metadata.name
    for provider in spec.providers:
        yield ("provider field", provider.api, provider.provider_id, provider.field), None
    for use in uses:
        yield ("backend name", use.name), use.backend
    for name, value in (
        ("spec.baseConfigRef", spec.base_config_ref),
        ("spec.serverRelease", spec.server_release),
        ("spec.defaults", spec.defaults),
        ("spec.rollout", spec.rollout),
    ):
        if value is not None:
            yield ("stack", name), value


def _uses(namespace: str, binding: StoreBinding) -> Iterator[Use]:
    def use(reference: BackendRef, path: str, family: Family) -> Use:
        key = (reference.namespace or namespace, reference.name)
        return Use(binding.metadata.name, path, key, run_config_name(reference), family)

    spec = binding.spec
    for store in spec.stores:
        family: Family = "kv" if store.namespace is not None else "sql"
        yield use(store.backend_ref, f"spec.stores[{store.name}]", family)
    for provider in spec.providers:
        family = "kv" if provider.namespace is not None else "sql"
        path = f"spec.providers[{provider.api}/{provider.provider_id}/{provider.field}]"
        yield use(provider.backend_ref, path, family)
    if spec.defaults is not None and spec.defaults.kv is not None:
        yield use(spec.defaults.kv, "spec.defaults.kv", "kv")
    if spec.defaults is not None and spec.defaults.sql is not None:
        yield use(spec.defaults.sql, "spec.defaults.sql", "sql")


def _take(result: Composition, namespace: str, binding: StoreBinding) -> None:
    spec = binding.spec
    for store in spec.stores:
        family: Family = "kv" if store.namespace is not None else "sql"
        result.stores.append(
            PlacedStore(
                store.name,
                family,
                run_config_name(store.backend_ref),
                store.namespace or store.table_name or "",
                store.max_write_queue_size,
                store.num_writers,
            )
        )
    for provider in spec.providers:
        family = "kv" if provider.namespace is not None else "sql"
        result.providers.append(
            PlacedProvider(
                provider.api,
                provider.provider_id,
                provider.field,
                family,
                run_config_name(provider.backend_ref),
                provider.namespace or provider.table_name or "",
            )
        )
    if spec.defaults is not None and result.defaults is None:
        result.defaults = spec.defaults
    if spec.base_config_ref is not None and result.base_config is None:
        reference = spec.base_config_ref
        result.base_config = ((namespace, reference.name), reference.key)
    if spec.server_release is not None:
        result.release = RELEASES[spec.server_release]
