"""The rows of conversations and of their items, and what callers may hand over; pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel

from stackstore.errors import InvalidArgumentError, NotFoundError
from stackstore.sql.names import derived, shown
from stackstore.sql.tables import Row
from stackstore.stores.documents import Document, plain, text
from stackstore.stores.ids import filled, minted
from stackstore.stores.tables import JSON, MAYBE_JSON, NUMBER, TEXT, TEXT_KEY, TableDefinition

MAX_ADDED = 20
"""Most items of one call to add some, as the server's API has it."""

MAX_ID = 256
"""Most characters of an item's id."""

_ID = re.compile(r"conv_[0-9a-f]{48}")


def conversations_table(table: str) -> TableDefinition:
    """The table of the conversations."""
    return TableDefinition(
        table,
        {
            "id": TEXT_KEY,
            "created_at": NUMBER,
            # Random: what its items are keyed by.
            "uid": TEXT,
            # The place of the next item. It only grows, so no two items ever have the same.
            "next_place": NUMBER,
            "metadata": MAYBE_JSON,
        },
        {derived(table, "uid"): ["uid"], derived(table, "created"): ["created_at"]},
    )


def items_table(table: str) -> TableDefinition:
    """The table of their items, which are parts of them."""
    name = derived(table, "items")
    return TableDefinition(
        name,
        {
            "conversation": TEXT_KEY,
            "id": TEXT_KEY,
            "place": NUMBER,
            # Microseconds. A copy has its original's, so the oldest of an id is the original.
            "made": NUMBER,
            "item_data": JSON,
        },
        {derived(name, "place"): ["conversation", "place"], derived(name, "made"): ["id", "made"]},
        owned=False,
    )


def conversation_id(given: object) -> str:
    """A conversation's id.

    Raises:
        InvalidArgumentError: it can't be one.
    """
    if not isinstance(given, str) or not _ID.fullmatch(given):
        raise InvalidArgumentError(
            f"{shown(given)} is no id of a conversation: it is conv_ and 48 lowercase hexadecimal digits"
        )
    return given


def item_id(given: object) -> str:
    """An item's id, to look for.

    Raises:
        InvalidArgumentError: it can't be one.
    """
    return filled("an item's id", given)


def metadata(given: object) -> dict[str, str]:
    """A conversation's metadata, a copy.

    Raises:
        InvalidArgumentError: they aren't texts by texts.
    """
    if not isinstance(given, Mapping) or not all(
        isinstance(part, str) for entry in given.items() for part in entry
    ):
        raise InvalidArgumentError("metadata of a conversation is a mapping of texts to texts")
    return dict(given)


def documents(items: object) -> list[dict[str, Any]]:
    """Items that a caller hands over, each with an `id` that is a text, or None.

    A message needs no type.

    Raises:
        InvalidArgumentError: they aren't a list of items; the text says which is wrong.
    """
    if not isinstance(items, Sequence) or isinstance(items, str | bytes):
        raise InvalidArgumentError(f"items are a list of items, not a {type(items).__name__}")
    return [_document(f"items[{place}]", item) for place, item in enumerate(items)]


def few(given: Sequence[Document]) -> list[dict[str, Any]]:
    """The same, of a client: what one request does in one transaction is bounded.

    Raises:
        InvalidArgumentError: there are too many.
    """
    found = documents(given)
    if len(found) > MAX_ADDED:
        raise InvalidArgumentError(
            f"at most {MAX_ADDED} items can be added at a time, not {len(found)}"
        )
    return found


def _document(what: str, item: Document) -> dict[str, Any]:
    if not isinstance(item, BaseModel | Mapping):
        raise InvalidArgumentError(f"{what} is a model or a mapping, not a {type(item).__name__}")
    found = plain(what, item)
    if "type" not in found and "role" in found:
        found = {**found, "type": "message"}
    if not isinstance(found.get("type"), str) or not found["type"]:
        raise InvalidArgumentError(
            f"{what} says no type (as a text); only an item with a role needs none: it is a message"
        )
    given = found.get("id")
    if given is not None and (not isinstance(given, str) or len(given) > MAX_ID):
        raise InvalidArgumentError(
            f"{what}: its id is a text of at most {MAX_ID} characters, or None"
        )
    return found


def named(document: Mapping[str, Any]) -> dict[str, Any]:
    """The same item with an id of the store's own."""
    return {**document, "id": minted("msg" if document["type"] == "message" else "item")}


def item_row(uid: str, place: int, made: int, document: dict[str, Any]) -> Row:
    """An item's row."""
    return {
        "conversation": uid,
        "id": document["id"],
        "place": place,
        "made": made,
        "item_data": text("an item", document),
    }


def shown_conversation(row: Row) -> dict[str, Any]:
    """A conversation as the server's API has it."""
    return {
        "id": row["id"],
        "object": "conversation",
        "created_at": row["created_at"],
        "metadata": row["metadata"],
    }


def no_conversation(wanted: str) -> NotFoundError:
    """There is no such conversation, or the user may not see it."""
    return NotFoundError(f"there is no conversation {shown(wanted)}")


def no_item(wanted: str, conversation: str) -> NotFoundError:
    """There is no such item in a conversation that there is."""
    return NotFoundError(f"there is no item {shown(wanted)} in conversation {shown(conversation)}")
