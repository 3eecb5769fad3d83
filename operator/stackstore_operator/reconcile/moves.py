"""Stores that a new render would take away from a binding that is not accepted. Pure.

A change that can't be accepted must not move what was rendered before: without this, the stores of
a binding that got an unsupported field would go to `defaults`, or leave the stack.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import yaml

from stackstore_operator.api.binding import StoreBinding
from stackstore_operator.api.conditions import Reason
from stackstore_operator.reconcile.composition import Composition

_Path = tuple[str, ...]


def of_unaccepted(
    bindings: Sequence[StoreBinding],
    composition: Composition,
    before: Mapping[str, Any],
    config: str,
) -> str | None:
    """Why not to write `config`, in words; None when nothing speaks against it.

    Args:
        bindings: all of the stack.
        composition: what the accepted ones say.
        before: the config in force, parsed; empty when there is none yet.
        config: the text of the new one.
    """
    placed = {("stores", store.name) for store in composition.stores} | {
        ("providers", p.api, p.provider_id, p.field) for p in composition.providers
    }
    after = yaml.safe_load(config)
    for binding in bindings:
        name = binding.metadata.name
        accepted = composition.accepted[name]
        if accepted.status == "True":
            continue
        for path in _bound(binding):
            if path in placed:
                continue
            what = f"store '{path[1]}'" if path[0] == "stores" else f"field '{'/'.join(path[1:])}'"
            if before:
                was = _reference(before, path)
                if was is not None and was != _reference(after, path):
                    return (
                        f"the {what} would move: StoreBinding '{name}', which binds it, is not "
                        "accepted"
                    )
            elif accepted.reason == Reason.NOT_YET_SUPPORTED:
                # A conflict loses to what is older; here nobody else says where the store belongs.
                return f"StoreBinding '{name}', which alone binds the {what}, is not accepted"
    return None


def _bound(binding: StoreBinding) -> Iterable[_Path]:
    for store in binding.spec.stores:
        yield "stores", store.name
    for provider in binding.spec.providers:
        yield "providers", provider.api, provider.provider_id, provider.field


def _reference(config: Mapping[str, Any], path: _Path) -> object:
    """What a config says at a store or a provider's field; None when it says nothing."""
    if path[0] == "stores":
        return _at(config, ("storage", *path))
    _, api, provider_id, field = path
    entries = _at(config, ("providers", api))
    for entry in entries if isinstance(entries, list) else ():
        if isinstance(entry, dict) and entry.get("provider_id") == provider_id:
            return _at(entry, ("config", *field.split(".")))
    return None


def _at(found: object, path: Iterable[str]) -> object:
    for step in path:
        if not isinstance(found, Mapping):
            return None
        found = found.get(step)
    return found
