"""Cursors: where a page ended, as an opaque text; pure.

A cursor carries the order's values of the page's last row, so it outlives that row. It is signed
together with the table, the conditions and the order it was made for: one that was changed, or
belongs to another question or database, is refused. What it carries is not secret; it is the
caller's own data.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import json
from collections.abc import Sequence
from typing import Any

from stackstore.errors import InvalidArgumentError
from stackstore.sql.columns import ColumnType, denatured, neutral
from stackstore.sql.conditions import Conditions
from stackstore.sql.ordering import Order, canonical
from stackstore.sql.tables import Table

_MAC_BYTES = 16

# Made once: json.dumps with arguments makes one for each call.
_ASCII = json.JSONEncoder(separators=(",", ":"))
_AS_IT_IS = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))


def question(table: Table, where: Conditions, order: Order) -> bytes:
    """What a cursor is bound to: which rows of what, in which order; not how many a page."""
    form = [1, table.name, where.canonical, canonical(order)]
    return _ASCII.encode(form).encode()


def sign(key: bytes, asked: bytes, kinds: Sequence[ColumnType], position: Sequence[Any]) -> str:
    """The cursor of a position.

    Args:
        key: the database's.
        asked: the `question`.
        kinds: the types of the order's columns.
        position: the driver's values of them.
    """
    values = [neutral(kind, value) for kind, value in zip(kinds, position, strict=True)]
    payload = _AS_IT_IS.encode(values).encode()
    return _text(_mac(key, asked, payload) + payload)


def signed_by(key: bytes, asked: bytes, cursor: object) -> bytes | None:
    """The payload of a cursor that was signed by this key for this question; None otherwise."""
    if not isinstance(cursor, str) or not cursor.isascii():
        return None
    try:
        padded = cursor + "=" * (-len(cursor) % 4)
        raw = base64.b64decode(padded.encode(), altchars=b"-_", validate=True)
    except (ValueError, binascii.Error):
        return None
    if _text(raw) != cursor:
        # Base64 has several texts for the same bytes; one of them is a cursor.
        return None
    mac, payload = raw[:_MAC_BYTES], raw[_MAC_BYTES:]
    return payload if hmac.compare_digest(mac, _mac(key, asked, payload)) else None


def position(table: Table, order: Order, payload: bytes) -> list[Any]:
    """The driver's values that a payload carries (it was signed, so it is well formed)."""
    values = json.loads(payload)
    return [
        denatured(table.dialect, table.columns[term.column].type, value)
        for term, value in zip(order, values, strict=True)
    ]


def refused() -> InvalidArgumentError:
    """The one error for every cursor that can't be used, whatever is wrong with it."""
    return InvalidArgumentError(
        "the cursor can't be used: it was changed or cut, or it belongs to another table, where, order_by or "
        "database; use next_cursor as it came and ask the same question, or start without a cursor"
    )


def _text(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _mac(key: bytes, asked: bytes, payload: bytes) -> bytes:
    # The question's length keeps the two apart.
    head = len(asked).to_bytes(8, "big")
    return hmac.digest(key, head + asked + payload, "sha256")[:_MAC_BYTES]
