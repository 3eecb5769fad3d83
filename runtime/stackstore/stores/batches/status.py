"""What becomes of a batch: its status, and how it may change; pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stackstore.errors import ConflictError, InvalidArgumentError
from stackstore.sql.names import shown

_STEPS = ("validating", "in_progress", "finalizing")
_ENDS = ("completed", "failed", "expired", "cancelled")
STATUSES = (*_STEPS, "cancelling", *_ENDS)

FIXED = ("id", "object", "created_at", "input_file_id", "endpoint", "completion_window")
"""What of a batch stays as it was made."""


def finished(status: str) -> bool:
    """Whether there is no work left."""
    return status in _ENDS


def merged(batch: Mapping[str, Any], changes: Mapping[str, Any], now: int) -> dict[str, Any]:
    """A batch with changes in it.

    A status goes forward only: from a step to a later one, to "cancelling" or to an end; from
    "cancelling" to "cancelled" alone; from an end nowhere. The same again is no change. When it
    changes, `<status>_at` is set, unless that is given too.

    Args:
        batch: the batch as it is.
        changes: fields and their new values; one that isn't known is kept like any other.
        now: seconds since 1970.

    Raises:
        InvalidArgumentError: there is no such status, or a field is one that stays.
        ConflictError: the status can't change so.
    """
    for name in changes:
        if name in FIXED:
            raise InvalidArgumentError(
                f"{name!r} of a batch stays as it was made; leave it out of the changes"
            )
    before, after = batch["status"], changes.get("status", batch["status"])
    if after not in STATUSES:
        raise InvalidArgumentError(
            f"a batch has no status {shown(after)}; there are {', '.join(STATUSES)}"
        )
    if after == before:
        return {**batch, **changes}
    if not _leads(before, after):
        raise ConflictError(f"the batch is {before}, so it can't become {after}")
    moment = {} if after == "validating" else {f"{after}_at": now}
    return {**batch, **moment, **changes}


def _leads(before: str, after: str) -> bool:
    if before in _ENDS:
        return False
    if before == "cancelling":
        return after == "cancelled"
    return after not in _STEPS or _STEPS.index(after) > _STEPS.index(before)
