"""Documents: what callers hand over as objects or mappings, and the tables keep as JSON text."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from pydantic import BaseModel
from pydantic_core import PydanticSerializationError, to_json

from stackstore.errors import InvalidArgumentError
from stackstore.sql.columns import JsonText

MAX_DEPTH = 200
"""How deep mappings and lists may be nested; what models say is about ten deep."""

_BRACKETS = re.compile(rb'"(?:[^"\\]|\\.)*"|[\[\]{}]', re.DOTALL)
_MOST_DIGITS = 4_300
_DIGITS = re.compile(rb"\d{4300}")

Document: TypeAlias = BaseModel | Mapping[str, Any]
"""An object of the server's API, or the same as a mapping."""


def text(what: str, document: Document | Sequence[Document]) -> JsonText:
    """A document, or a list of them, as JSON; it comes back as it went in.

    Args:
        what: what it is, for the message ("a completion").
        document: what to write down; models are written with all their fields, by their aliases.

    Raises:
        InvalidArgumentError: it isn't JSON; the text says nothing of its content.
    """
    trouble = ""
    try:
        return JsonText(_written(document))
    except (PydanticSerializationError, TypeError, ValueError, RecursionError) as error:
        trouble = type(error).__name__
    raise InvalidArgumentError(
        f"{what} can't be written as JSON ({trouble}); allowed are models, mappings, lists, texts, "
        "finite numbers, True, False and None"
    )


def texts(what: str, documents: Sequence[Document]) -> list[str]:
    """Documents as JSON, one by one; the same as `text` of each, and quicker.

    Raises:
        InvalidArgumentError: as `text`, or one is neither a model nor a mapping.
    """
    with contextlib.suppress(PydanticSerializationError, TypeError, ValueError, RecursionError):
        written = [to_json(one, by_alias=True, inf_nan_mode="constants") for one in documents]
        for document in written:
            _check_depth(document)
        _check_values(b"".join(written))
        if all(one.startswith(b"{") for one in written):
            return [one.decode() for one in written]
    # Anything out of the ordinary takes the way that looks closer.
    found = []
    for given in documents:
        one = text(what, given)
        if not one.startswith("{"):
            raise InvalidArgumentError(
                f"{what} is a model or a mapping, not a {type(given).__name__}"
            )
        found.append(str(one))
    return found


def plain(what: str, document: Document) -> dict[str, Any]:
    """A document as a mapping of plain values, a copy that is the caller's own.

    Raises:
        InvalidArgumentError: as `text`, or it isn't a mapping.
    """
    if isinstance(document, BaseModel | Mapping):
        found: dict[str, Any] = json.loads(text(what, document))
        return found
    raise InvalidArgumentError(f"{what} is a model or a mapping, not a {type(document).__name__}")


def _written(document: Document | Sequence[Document]) -> str:
    try:
        written = to_json(document, by_alias=True, inf_nan_mode="constants")
    except (PydanticSerializationError, UnicodeError):
        # Half a surrogate pair, as a cut stream leaves it, has no UTF-8, but an escape in JSON.
        written = json.dumps(document, default=_fields, allow_nan=False).encode()
    _check_depth(written)
    _check_values(written)
    return written.decode()


def _check_depth(written: bytes) -> None:
    """See to it that who reads a document can: one must not make everybody's lists fail.

    Python's parser goes as deep as its caller leaves it room.

    Raises:
        RecursionError: not everybody can.
    """
    # Of each document for itself: a list of hundreds has as many brackets, and none of them is deep.
    if written.count(b"[") + written.count(b"{") <= MAX_DEPTH:
        return
    depth = 0
    for found in _BRACKETS.finditer(written):
        depth += 1 if found[0] in {b"[", b"{"} else -1 if found[0] in {b"]", b"}"} else 0
        if depth > MAX_DEPTH:
            raise RecursionError


def _check_values(written: bytes) -> None:
    """Likewise of its numbers: Python reads those of 4,300 digits, and NaN, which stops every other reader.

    Args:
        written: a document, or several in a row.

    Raises:
        ValueError: not everybody can, or (of several in a row) it isn't sure.
    """
    if b"NaN" in written or b"Infinity" in written or _has_long_digits(written):
        json.loads(written, parse_constant=_refuse)


def _has_long_digits(written: bytes) -> bool:
    # A run of so many digits has one at a multiple of its length, so most texts are through at once.
    return any(
        written[place] in b"0123456789"
        and _DIGITS.search(written, max(0, place - _MOST_DIGITS + 1), place + _MOST_DIGITS)
        for place in range(_MOST_DIGITS - 1, len(written), _MOST_DIGITS)
    )


def _fields(value: object) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(by_alias=True)
    raise TypeError(type(value).__name__)


def _refuse(constant: str) -> None:
    raise ValueError(constant)
