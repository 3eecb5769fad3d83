"""The status of an object that can't be read: only an older schema can have let it in. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import ValidationError

from stackstore_operator.api.backend import StorageBackendStatus
from stackstore_operator.api.binding import StoreBindingStatus
from stackstore_operator.api.conditions import Condition, Reason
from stackstore_operator.reconcile import conditions
from stackstore_operator.reconcile.conditions import Said


def told(error: ValidationError) -> str:
    """Every problem with its path, and without the values."""
    return "; ".join(
        f"`{'.'.join(map(str, problem['loc']))}`: {problem['msg'].removeprefix('Value error, ')}"
        for problem in error.errors(include_url=False, include_input=False)
    )


def backend_status(
    obj: Mapping[str, Any], error: ValidationError, now: int
) -> StorageBackendStatus:
    """The status of a StorageBackend that `from_object` refused.

    Args:
        obj: the object's JSON; of its status is kept what can be read.
        error: what `from_object` raised.
        now: epoch seconds.
    """
    try:
        before = StorageBackendStatus.model_validate(obj.get("status") or {})
    except ValidationError:
        before = StorageBackendStatus()
    said = _said(error, "CredentialsResolved", extra=("Verified", "Adopted"))
    return before.model_copy(update=_update(obj, said, before.conditions, now))


def binding_status(obj: Mapping[str, Any], error: ValidationError, now: int) -> StoreBindingStatus:
    """The status of a StoreBinding that `from_object` refused; arguments as above."""
    try:
        before = StoreBindingStatus.model_validate(obj.get("status") or {})
    except ValidationError:
        before = StoreBindingStatus()
    said = _said(error, "BackendsResolved", "Rendered", extra=("Adopted",))
    return before.model_copy(update=_update(obj, said, before.conditions, now))


def _said(error: ValidationError, *waiting: str, extra: Iterable[str]) -> list[Said]:
    parts = [Said("Accepted", "False", Reason.INVALID, told(error)), *map(_waiting, waiting)]
    return [conditions.summary(parts), *parts, *map(_waiting, extra)]


def _waiting(type_: str) -> Said:
    return Said(type_, "Unknown", Reason.WAITING, "the object is not accepted")


def _update(
    obj: Mapping[str, Any], said: Iterable[Said], before: Iterable[Condition], now: int
) -> dict[str, object]:
    generation = int(obj["metadata"].get("generation") or 0)
    return {
        "observed_generation": generation,
        "conditions": conditions.timed(said, before, generation, now),
    }
