"""Stores that a new render would take away from a binding that is not accepted. Pure.

A change that can't be accepted must not move what was rendered before: without this, the stores of
a binding that got an unsupported field would go to `defaults`, or leave the stack.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from stackstore_operator.api.binding import StoreBinding
from stackstore_operator.api.conditions import Reason
from stackstore_operator.reconcile.composition import Composition
from stackstore_operator.reconcile.record import Places


def of_unaccepted(
    bindings: Sequence[StoreBinding],
    composition: Composition,
    before: Places | None,
    after: Places,
    *,
    rendered: bool,
) -> str | None:
    """Why not to write what was rendered, in words; None when nothing speaks against it.

    Args:
        bindings: all of the stack.
        composition: what the accepted ones say.
        before: where the last render put everything; None: nobody knows.
        after: where the new one does.
        rendered: whether there is a run config.
    """
    placed = {f"stores/{store.name}" for store in composition.stores} | {
        f"providers/{p.api}/{p.provider_id}/{p.field}" for p in composition.providers
    }
    for binding in bindings:
        name = binding.metadata.name
        accepted = composition.accepted[name]
        if accepted.status == "True":
            continue
        for path in _bound(binding):
            if path in placed:
                continue
            kind, _, rest = path.partition("/")
            what = f"store '{rest}'" if kind == "stores" else f"field '{rest}'"
            if before is not None:
                if path in before and before[path] != after.get(path):
                    return (
                        f"the {what} would move: StoreBinding '{name}', which binds it, is not "
                        "accepted"
                    )
            elif rendered or accepted.reason == Reason.NOT_YET_SUPPORTED:
                # At first a conflict loses to what is older; here nobody else says where the store belongs.
                return f"StoreBinding '{name}', which alone binds the {what}, is not accepted"
    return None


def _bound(binding: StoreBinding) -> Iterable[str]:
    for store in binding.spec.stores:
        yield f"stores/{store.name}"
    for provider in binding.spec.providers:
        yield f"providers/{provider.api}/{provider.provider_id}/{provider.field}"
