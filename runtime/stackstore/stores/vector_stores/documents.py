"""The documents of vector stores, files and batches of files: what is filled in, and counted; pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from stackstore.errors import ConflictError, InvalidArgumentError
from stackstore.sql.names import shown

STATUSES = ("in_progress", "completed", "cancelled", "failed")
"""Of a file, and of a batch of files."""

MAX_FILES = 10_000
"""Most files of a batch."""

BATCH_SECONDS = 7 * 24 * 3600
"""How long a batch of files is kept."""

_COUNTED = ("file_counts", "usage_bytes")
_FIXED = {
    "vector store": ("id", "object", "created_at", *_COUNTED),
    "file": ("id", "object", "created_at", "vector_store_id"),
    "batch": ("id", "object", "created_at", "vector_store_id", "file_ids", "expires_at"),
}


def new_store(store_id: str, given: Mapping[str, Any], now: int) -> dict[str, Any]:
    """A vector store without files."""
    store = {
        "id": store_id,
        "object": "vector_store",
        "created_at": now,
        "name": "",
        "status": "completed",
        "expires_after": None,
        "expires_at": None,
        "last_active_at": now,
        "metadata": {},
        **{name: value for name, value in given.items() if name not in ("id", "object")},
        "usage_bytes": 0,
        "file_counts": dict.fromkeys((*STATUSES, "total"), 0),
    }
    _whole("created_at", store["created_at"])
    return store


def new_file(
    store_id: str, file_id: str, given: Mapping[str, Any], there: Mapping[str, Any] | None, now: int
) -> dict[str, Any]:
    """A file of a vector store; one that is there keeps the time at which it was attached."""
    file = {
        "created_at": now if there is None else there["created_at"],
        "status": "in_progress",
        "usage_bytes": 0,
        "last_error": None,
        "attributes": None,
        **given,
        "id": file_id,
        "object": "vector_store.file",
        "vector_store_id": store_id,
    }
    _whole("created_at", file["created_at"])
    return _file(file)


def new_batch(
    batch_id: str, store_id: str, file_ids: object, more: Mapping[str, Any], now: int
) -> dict[str, Any]:
    """A batch of files on which nothing was done yet."""
    if (
        isinstance(file_ids, str)
        or not isinstance(file_ids, Sequence)
        or not 1 <= len(file_ids) <= MAX_FILES
        or not all(isinstance(one, str) and one for one in file_ids)
    ):
        raise InvalidArgumentError(f"file_ids are a list of 1 to {MAX_FILES} texts")
    waiting = {"in_progress": len(file_ids), "total": len(file_ids)}
    return {
        "id": batch_id,
        "object": "vector_store.files_batch",
        "created_at": now,
        "vector_store_id": store_id,
        "status": "in_progress",
        "file_counts": {**dict.fromkeys(STATUSES, 0), **waiting},
        "file_ids": list(file_ids),
        **more,
        "expires_at": now + BATCH_SECONDS,
    }


def changed(
    what: str,
    there: Mapping[str, Any],
    changes: Mapping[str, Any],
    expected: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """A document with changes in it.

    Args:
        what: "vector store", "file" or "batch".
        there: it as it is.
        changes: fields and their new values.
        expected: fields that must have these values now.

    Raises:
        InvalidArgumentError: a field stays as it was made, or is counted.
        ConflictError: it isn't as expected, or its status can't change so: a batch's does once.
    """
    for name in changes:
        if name in _FIXED[what]:
            raise InvalidArgumentError(
                f"{name!r} of a {what} can't be changed; leave it out of the changes"
            )
    for name, value in (expected or {}).items():
        if there.get(name) != value:
            raise ConflictError(f"{shown(name)} of the {what} isn't as expected")
    after = {**there, **changes}
    if what == "file":
        return _file(after)
    if what == "batch":
        _status(after)
        before = there["status"]
        if before not in ("in_progress", after["status"]):
            raise ConflictError(f"the batch is {before}, so it can't become {after['status']}")
    return after


def moved(
    store: Mapping[str, Any], before: Mapping[str, Any] | None, after: Mapping[str, Any] | None
) -> dict[str, Any]:
    """A vector store whose counts follow a file: it came, changed or went."""
    counts = dict(store["file_counts"])
    usage = store["usage_bytes"]
    for file, step in ((before, -1), (after, 1)):
        if file is not None:
            counts[file["status"]] += step
            counts["total"] += step
            usage += step * file["usage_bytes"]
    return {**store, "file_counts": counts, "usage_bytes": usage}


def _file(file: dict[str, Any]) -> dict[str, Any]:
    _status(file)
    _whole("usage_bytes", file["usage_bytes"])
    return file


def _status(document: Mapping[str, Any]) -> None:
    if document["status"] not in STATUSES:
        raise InvalidArgumentError(
            f"there is no status {shown(document['status'])}; there are {', '.join(STATUSES)}"
        )


def _whole(what: str, value: object) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**53:
        raise InvalidArgumentError(f"{what} is a whole number, at least 0")
