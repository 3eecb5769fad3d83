"""What callers give, as the tables take it: checked, bounded, in bytes and whole numbers. Pure.

No message quotes what it refuses: a key or a value is nobody's business but the caller's.
"""

from __future__ import annotations

import datetime as dt

from stackstore.errors import InvalidArgumentError

MAX_NAMESPACE_BYTES = 1024
MAX_KEY_BYTES = 1536
"""A row of a Postgres index holds 2,704 bytes: both, and some 30 of its own, must fit."""

MAX_VALUE_BYTES = 256 * 1024 * 1024
"""What one call may carry. A Postgres field and message end at 1 GB, and every copy costs memory."""

INTEGER_MIN, INTEGER_MAX = -(2**63), 2**63 - 1

_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_MICROSECOND = dt.timedelta(microseconds=1)


def namespace_bytes(namespace: object) -> bytes:
    """A namespace in UTF-8; the empty one is a namespace like any other."""
    return _bounded(_utf8(namespace, "namespace"), "namespace", MAX_NAMESPACE_BYTES)


def key_bytes(key: object) -> bytes:
    """A key in UTF-8; it may be empty and may hold NUL."""
    return _bounded(_utf8(key, "key"), "key", MAX_KEY_BYTES)


def bound_bytes(bound: object) -> bytes:
    """An end of a range in UTF-8; nothing is stored under it, so it has any length."""
    return _utf8(bound, "an end of a range")


def value_bytes(value: object) -> bytes:
    """A value in UTF-8; it may be empty and may hold NUL."""
    return _bounded(_utf8(value, "value"), "value", MAX_VALUE_BYTES)


def microseconds(expiration: object) -> int | None:
    """A moment as microseconds since 1970 in UTC; a naive one means UTC.

    Counted by subtraction: converting to UTC overflows near the first and the last year.
    """
    if expiration is None:
        return None
    if not isinstance(expiration, dt.datetime):
        raise InvalidArgumentError(
            f"expiration must be a datetime or None, not {type(expiration).__name__}"
        )
    if expiration.utcoffset() is None:
        expiration = expiration.replace(tzinfo=dt.UTC)
    return (expiration - _EPOCH) // _MICROSECOND


def step(by: object) -> int:
    """What a counter is moved by."""
    if isinstance(by, bool) or not isinstance(by, int):
        raise InvalidArgumentError(f"by must be an int, not {type(by).__name__}")
    if not INTEGER_MIN <= by <= INTEGER_MAX:
        raise InvalidArgumentError("by must fit a signed 64-bit integer")
    return by


def row_limit(limit: object) -> int | None:
    """How many rows a range may answer with; None: all."""
    if limit is None:
        return None
    if isinstance(limit, bool) or not isinstance(limit, int):
        raise InvalidArgumentError(f"limit must be an int or None, not {type(limit).__name__}")
    if not 1 <= limit <= INTEGER_MAX:
        raise InvalidArgumentError("limit must be at least 1 and fit 64 bits; None means no limit")
    return limit


def _utf8(text: object, what: str) -> bytes:
    if not isinstance(text, str):
        raise InvalidArgumentError(f"{what} must be a str, not {type(text).__name__}")
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        place = error.start
    # Raised out here: the codec's error carries the whole text.
    raise InvalidArgumentError(
        f"{what} has a lone surrogate at character {place}, which UTF-8 can't hold; "
        "repair the text, or encode bytes as base64"
    )


def _bounded(encoded: bytes, what: str, bound: int) -> bytes:
    if len(encoded) > bound:
        raise InvalidArgumentError(
            f"{what} takes {len(encoded):,} bytes in UTF-8; at most {bound:,} are allowed"
        )
    return encoded
