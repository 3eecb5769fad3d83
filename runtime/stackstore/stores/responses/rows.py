"""Responses' rows: what is in them, and what callers get; and how a lost race is run again."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar

from stackstore.errors import ConflictError, InvalidArgumentError, NotFoundError
from stackstore.sql.names import shown
from stackstore.sql.tables import Row
from stackstore.stores.documents import Document, plain
from stackstore.stores.ids import minted
from stackstore.stores.responses.history import Chain, joined_lists, told
from stackstore.stores.responses.parts import MovedError
from stackstore.stores.tables import JSON, MAYBE_TEXT, NUMBER, TEXT, TEXT_KEY, TableDefinition

T = TypeVar("T")

ORDER = ("created_at", "stored_at")
"""The second one, in microseconds, orders those of one second as they were stored."""

_ATTEMPTS = 25
_HISTORY = ("input", "messages", "input_storage_mode")
"""What a document has of its history when it comes back; it is kept apart."""


class StoredResponse(dict[str, Any]):
    """A response as it is stored, and which version of it.

    Attributes:
        version: `update_response_object` of this object succeeds only while it is the newest. It
            doesn't survive a copy; hand it over as `version=` then.
    """

    version: str = ""


def definition(table: str) -> TableDefinition:
    """The responses' table."""
    return TableDefinition(
        table,
        {
            "id": TEXT_KEY,
            "created_at": NUMBER,
            "stored_at": NUMBER,
            "model": TEXT,
            "previous_response_id": MAYBE_TEXT,
            "version": TEXT,
            "chain": JSON,
            "response_object": JSON,
        },
        {f"{table}__created": list(ORDER), f"{table}__model": ["model", *ORDER]},
    )


def document_of(response: Document) -> dict[str, Any]:
    """A response without its history, as a mapping of the caller's own.

    Raises:
        InvalidArgumentError: it isn't one.
    """
    document = plain("a response", response)
    for name in _HISTORY:
        document.pop(name, None)
    for name, kind, article in (("id", str, "a text"), ("model", str, "a text")):
        if not isinstance(document.get(name), kind) or not document[name]:
            raise InvalidArgumentError(f"a response has {name!r}, {article} that isn't empty")
    made = document.get("created_at")
    if not isinstance(made, int) or isinstance(made, bool):
        raise InvalidArgumentError("a response has 'created_at', whole seconds since 1970")
    if not isinstance(document.get("previous_response_id"), str | None):
        raise InvalidArgumentError("a response's 'previous_response_id' is a text or None")
    return document


def columns_of(document: Mapping[str, Any]) -> dict[str, Any]:
    """What a response's row has of it, under a new version."""
    return {
        "created_at": document["created_at"],
        "model": document["model"],
        "version": minted("v", 24),
        "response_object": document,
    }


def shown_response(
    row: Row, parts: Mapping[str, Row], *, messages: bool = True
) -> StoredResponse | None:
    """A response with its whole input; None: its history isn't among the parts.

    Items that several responses have in common are the same objects in each.

    Args:
        row: its row.
        parts: what may be seen of histories.
        messages: with its messages, too.
    """
    chain = Chain.of(row["chain"])
    said = told(parts, chain.tip, "input")
    if said is None:
        return None
    found = with_history(row, joined_lists(said))
    if messages:
        heard = () if chain.silent else told(parts, chain.tip, "messages")
        found["messages"] = joined_lists(heard or ())
    return found


def with_history(row: Row, said: list[Any]) -> StoredResponse:
    """A response with some input."""
    found = StoredResponse({**row["response_object"], "input": said})
    found.version = row["version"]
    return found


def missing(response_id: object) -> NotFoundError:
    """The one answer for what isn't there and for what may not be seen."""
    return NotFoundError(f"there is no response {shown(response_id)}")


async def retried(attempt: Callable[[], Awaitable[T]]) -> T:
    """Do it until nobody is faster.

    Raises:
        ConflictError: others were faster all the time.
    """
    for turn in range(_ATTEMPTS):
        try:
            return await attempt()
        except MovedError:
            # Jitter, or the same would meet again.
            await asyncio.sleep(random.uniform(0, 0.002 * (turn + 1)))  # noqa: S311
    raise ConflictError("it is changed by others all the time; nothing was written, try again")
