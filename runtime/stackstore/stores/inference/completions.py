"""A chat completion as a row: its document as it went in, and what it is found by; pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from pydantic import BaseModel

from stackstore.errors import InvalidArgumentError
from stackstore.sql.tables import Row
from stackstore.stores.documents import Document, text
from stackstore.stores.tables import JSON, NUMBER, TEXT, TEXT_KEY

COLUMNS = {
    "id": TEXT_KEY,
    # Whole seconds since 1970, as the model's server says.
    "created": NUMBER,
    # Microseconds since 1970, when it came to us: the order of those of one second.
    "arrived": NUMBER,
    "model": TEXT,
    "body": JSON,
    "input_messages": JSON,
}

ORDER = ("created", "arrived")

MAX_NAME_BYTES = 1000
"""Most bytes of an id or a model. They are indexed together, which has a bound on both engines."""

_WHAT = "a chat completion"
_DOCUMENT = (BaseModel, Mapping)
_MOST = 2**63 - 1


def is_unwanted(completion: object, store: bool | None) -> bool:
    """Whether the request, or the completion itself, says that it is not to be stored."""
    if store is False:
        return True
    if isinstance(completion, BaseModel):
        # Not by getattr: a model takes longer to find that it has no such field than to be read here.
        extra = completion.__pydantic_extra__ or {}
        return vars(completion).get("store", extra.get("store")) is False
    return isinstance(completion, Mapping) and completion.get("store") is False


def row(completion: Document, input_messages: Sequence[Document], arrived: int) -> Row:
    """What to write.

    Args:
        completion: what the model's server answered.
        input_messages: what it was asked.
        arrived: when it came to us, in microseconds.

    Raises:
        InvalidArgumentError: it can't be stored. The text says why, and holds nothing of its content.
    """
    # In this order: whether something is a Mapping takes longer to see.
    if isinstance(completion, BaseModel):
        given: Callable[[str, None], Any] = partial(getattr, completion)
    elif isinstance(completion, Mapping):
        given = completion.get
    else:
        raise InvalidArgumentError(
            f"{_WHAT} is a model or a mapping, not a {type(completion).__name__}"
        )
    if not _are_messages(input_messages):
        raise InvalidArgumentError("input_messages is a list of messages: models or mappings")
    return {
        "id": _name("id", given("id", None)),
        "created": _seconds(given("created", None)),
        "arrived": arrived,
        "model": _name("model", given("model", None)),
        "body": text(_WHAT, completion),
        "input_messages": text("input_messages", input_messages),
    }


def document(found: Row) -> dict[str, Any]:
    """The completion as it went in, and `input_messages`."""
    return {**found["body"], "input_messages": found["input_messages"]}


def _are_messages(given: object) -> bool:
    return (
        isinstance(given, Sequence)
        and not isinstance(given, str)
        # Of a conversation's many messages there are few types.
        and all([issubclass(kind, _DOCUMENT) for kind in set(map(type, given))])  # noqa: C419 - quicker
    )


def _name(field: str, value: Any) -> str:
    """A text that fits every index: refused here, for once acknowledged it would be set aside."""
    # Nearly all are so; the others are looked at closely.
    plain = type(value) is str and value.isascii() and "\0" not in value
    if plain and 0 < len(value) <= MAX_NAME_BYTES:
        return str(value)
    if not isinstance(value, str) or not value:
        raise InvalidArgumentError(
            f"{_WHAT} needs {field!r}, a text that is not empty; "
            + ("it is empty" if value == "" else f"it is a {type(value).__name__}")
        )
    if "\0" in value:
        raise InvalidArgumentError(
            f"{_WHAT}: its {field!r} holds a NUL, which Postgres does not store"
        )
    try:
        size = len(value.encode())
    except UnicodeEncodeError:
        size = -1
    if size < 0:
        raise InvalidArgumentError(
            f"{_WHAT}: its {field!r} holds a lone surrogate, which no database stores"
        )
    if size > MAX_NAME_BYTES:
        raise InvalidArgumentError(
            f"{_WHAT}: its {field!r} has {size} bytes; allowed are {MAX_NAME_BYTES}"
        )
    return str.__str__(value)


def _seconds(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= _MOST:
        raise InvalidArgumentError(
            f"{_WHAT} needs 'created', a whole number of seconds since 1970 from 0 to {_MOST}; "
            + (
                "it is out of that range"
                if type(value) is int
                else f"it is a {type(value).__name__}"
            )
        )
    return int(value)
