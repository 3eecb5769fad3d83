"""What becomes of a batch: its status, and how it may change; pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stackstore.errors import ConflictError, InvalidArgumentError
from stackstore.sql.names import choices, shown

_STEPS = ("validating", "in_progress", "finalizing")
_ENDS = ("completed", "failed", "expired", "cancelled")
STATUSES = (*_STEPS, "cancelling", *_ENDS)

_MOMENTS = (
    "in_progress_at", "finalizing_at", "completed_at", "failed_at", "expired_at",
    "cancelling_at", "cancelled_at", "expires_at",
)  # fmt: skip
_TEXTS = ("error_file_id", "output_file_id", "model")
_OBJECTS = ("errors", "request_counts", "usage")
CHANGEABLE = ("status", "metadata", *_MOMENTS, *_TEXTS, *_OBJECTS)
"""What of a batch may change: the fields that the server's API knows."""

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
        changes: fields and their new values; what isn't the status may be None.
        now: seconds since 1970.

    Raises:
        InvalidArgumentError: there is no such status, a field stays or isn't known, or a value is of
            the wrong kind; the text doesn't show it.
        ConflictError: the status can't change so.
    """
    for name, value in changes.items():
        _check(name, value)
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


def _check(name: str, value: object) -> None:
    if name in FIXED:
        raise InvalidArgumentError(
            f"{name!r} of a batch stays as it was made; leave it out of the changes"
        )
    if name not in CHANGEABLE:
        raise InvalidArgumentError(f"a batch has no {shown(name)}; {choices(name, CHANGEABLE)}")
    if value is None or name == "status":
        return
    if name in _MOMENTS and (type(value) is not int or not 0 <= value < 2**53):
        raise InvalidArgumentError(f"{name!r} of a batch is whole seconds since 1970, or None")
    if name in _TEXTS and not isinstance(value, str):
        raise InvalidArgumentError(f"{name!r} of a batch is a text, or None")
    if name in _OBJECTS and not isinstance(value, Mapping):
        raise InvalidArgumentError(f"{name!r} of a batch is a mapping, or None")
    if name == "metadata":
        check_metadata(value)


def check_metadata(metadata: object) -> None:
    """Refuse what can't go with a batch.

    Raises:
        InvalidArgumentError: it isn't texts by texts.
    """
    if metadata is not None and not (
        isinstance(metadata, Mapping)
        and all(isinstance(part, str) for item in metadata.items() for part in item)
    ):
        raise InvalidArgumentError("metadata of a batch is a mapping of texts to texts, or None")


def _leads(before: str, after: str) -> bool:
    if before in _ENDS:
        return False
    if before == "cancelling":
        return after == "cancelled"
    return after not in _STEPS or _STEPS.index(after) > _STEPS.index(before)
