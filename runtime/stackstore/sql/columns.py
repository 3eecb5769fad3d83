"""Columns: their types, and how values go into the database and come back.

The engines differ in what they let through (SQLite stores a text in an integer column, and NaN as
NULL; Postgres knows no NUL). So every value is looked at here, and both engines see the same.
"""

from __future__ import annotations

import contextlib
import json
import math
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from typing import Any

from sqlalchemy import BigInteger, Boolean, Double, Text
from sqlalchemy.dialects.postgresql import TIMESTAMP
from sqlalchemy.types import TypeEngine, UserDefinedType

from stackstore.errors import InvalidArgumentError, StoreError
from stackstore.schema import Dialect

_INT64 = 2**63


class ColumnType(Enum):
    """What a column holds. The names are the server's."""

    INTEGER = "INTEGER"
    """A whole number of 64 bits."""
    STRING = "STRING"
    """Text without NUL, in the order of its UTF-8 bytes."""
    TEXT = "TEXT"
    """The same; by custom for longer ones."""
    FLOAT = "FLOAT"
    """A 64-bit float, infinities included, NaN excluded."""
    BOOLEAN = "BOOLEAN"
    """True or False."""
    JSON = "JSON"
    """Any JSON value; None is NULL. Kept as text, so `\\u0000` and the order of keys survive."""
    DATETIME = "DATETIME"
    """A moment, to the microsecond; naive ones mean UTC, and aware UTC comes back."""


class JsonText(str):
    """A JSON column's value that is written as JSON already: goes into the column as it is."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class ColumnDefinition:
    """A column of `create_table`.

    Attributes:
        type: what it holds.
        primary_key: part of the primary key, in the order of the columns; never NULL then.
        nullable: whether it may be NULL.
        default: what a row gets that doesn't give the column; also the rows that are there when
            the column is added.
    """

    type: ColumnType
    primary_key: bool = False
    nullable: bool = True
    default: Any = None


class _Json(UserDefinedType[str]):
    """Postgres' `json`, handed through as text."""

    cache_ok = True

    def get_col_spec(self, **_: Any) -> str:
        return "JSON"


_POSTGRES: dict[ColumnType, tuple[str, TypeEngine[Any]]] = {
    ColumnType.INTEGER: ("bigint", BigInteger()),
    ColumnType.STRING: ("text", Text()),
    ColumnType.TEXT: ("text", Text()),
    ColumnType.FLOAT: ("double precision", Double()),
    ColumnType.BOOLEAN: ("boolean", Boolean()),
    ColumnType.JSON: ("json", _Json()),
    ColumnType.DATETIME: ("timestamp with time zone", TIMESTAMP(timezone=True)),
}

# SQLite takes any word as a type and keeps it; TEXT in it makes the column keep texts as they are.
_SQLITE: dict[ColumnType, tuple[str, TypeEngine[Any]]] = {
    ColumnType.INTEGER: ("BIGINT", BigInteger()),
    ColumnType.STRING: ("TEXT", Text()),
    ColumnType.TEXT: ("TEXT", Text()),
    ColumnType.FLOAT: ("DOUBLE", Double()),
    ColumnType.BOOLEAN: ("BOOLEAN", Boolean()),
    ColumnType.JSON: ("JSON_TEXT", Text()),
    ColumnType.DATETIME: ("DATETIME_TEXT", Text()),
}

_LEAST: dict[ColumnType, Any] = {
    ColumnType.INTEGER: -_INT64,
    ColumnType.STRING: "",
    ColumnType.TEXT: "",
    ColumnType.FLOAT: -math.inf,
    ColumnType.BOOLEAN: False,
    ColumnType.DATETIME: "",
}


def declared(dialect: Dialect, kind: ColumnType) -> str:
    """The type's name as the database shows it."""
    return (_POSTGRES if dialect == "postgresql" else _SQLITE)[kind][0]


def core_type(dialect: Dialect, kind: ColumnType) -> TypeEngine[Any]:
    """The type for SQLAlchemy's statements."""
    return (_POSTGRES if dialect == "postgresql" else _SQLITE)[kind][1]


def least(kind: ColumnType) -> Any:
    """What no value of the type is below, as SQLite stores it."""
    return _LEAST[kind]


def encode(dialect: Dialect, column: str, kind: ColumnType, value: Any) -> Any:
    """A value as the driver wants it.

    Raises:
        InvalidArgumentError: not a value of the type. The text says what is wrong with it, never
            what it is.
    """
    if value is None:
        return None
    if kind is ColumnType.INTEGER:
        return _integer(column, value)
    if kind is ColumnType.STRING or kind is ColumnType.TEXT:
        return _text(column, kind, value)
    if kind is ColumnType.FLOAT:
        return _float(column, value)
    if kind is ColumnType.BOOLEAN:
        if not isinstance(value, bool):
            raise _wrong(column, kind, value, "True or False")
        return value
    if kind is ColumnType.JSON:
        return _json(column, value)
    moment = _moment(column, value)
    return moment if dialect == "postgresql" else moment.isoformat(timespec="microseconds")


def decode(column: str, kind: ColumnType, stored: Any) -> Any:
    """A value as it comes out of the database, for callers.

    Raises:
        StoreError: the database holds what this store never writes.
    """
    if stored is None:
        return None
    if kind is ColumnType.JSON:
        trouble = None
        try:
            return json.loads(stored)
        except (ValueError, TypeError, RecursionError) as error:
            trouble = type(error).__name__
        raise StoreError(f"column {column!r} holds what is not readable JSON ({trouble})")
    if kind is ColumnType.DATETIME:
        if isinstance(stored, str):
            return datetime.fromisoformat(stored)
        # asyncpg gives the infinities of Postgres as naive extremes.
        return stored if stored.tzinfo is UTC else stored.replace(tzinfo=UTC)
    return stored


def neutral(kind: ColumnType, stored: Any) -> Any:
    """A driver's value as JSON for a cursor; `denatured` is the way back."""
    if isinstance(stored, datetime):
        return decode("", kind, stored).isoformat(timespec="microseconds")
    return stored.hex() if kind is ColumnType.FLOAT and stored is not None else stored


def denatured(dialect: Dialect, kind: ColumnType, value: Any) -> Any:
    """A value of a cursor as the driver wants it."""
    if value is None:
        return None
    if kind is ColumnType.FLOAT:
        return float.fromhex(value)
    if kind is ColumnType.DATETIME and dialect == "postgresql":
        return datetime.fromisoformat(value)
    return value


def _wrong(column: str, kind: ColumnType, value: Any, wanted: str) -> InvalidArgumentError:
    return InvalidArgumentError(
        f"column {column!r} is {kind.name}: it takes {wanted}, not a {type(value).__name__}"
    )


def _integer(column: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise _wrong(column, ColumnType.INTEGER, value, "an int")
    if not -_INT64 <= value < _INT64:
        raise InvalidArgumentError(f"column {column!r} is INTEGER: the number exceeds 64 bits")
    return int(value)


def _float(column: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _wrong(column, ColumnType.FLOAT, value, "a float or an int")
    try:
        number = float(value)
    except OverflowError:
        number = math.nan
    if math.isnan(number):
        raise InvalidArgumentError(
            f"column {column!r} is FLOAT: it takes neither NaN nor an int beyond floats"
        )
    # SQLite can't tell -0.0 from 0.0.
    return number + 0.0


def _text(column: str, kind: ColumnType, value: Any) -> str:
    if not isinstance(value, str):
        raise _wrong(column, kind, value, "a str")
    text = str.__str__(value)
    if "\0" in text:
        raise InvalidArgumentError(
            f"column {column!r} is {kind.name}: the text holds a NUL, which Postgres does not store"
        )
    if not _is_unicode(text):
        raise InvalidArgumentError(
            f"column {column!r} is {kind.name}: the text holds a lone surrogate, which no database stores"
        )
    return text


def _is_unicode(text: str) -> bool:
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


_WRITER = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))
"""Made once: `json.dumps` makes one a call, which takes as long as writing a small value."""


def _json(column: str, value: Any) -> str:
    if isinstance(value, JsonText):
        return str.__str__(value)
    trouble = None
    try:
        text = _WRITER.encode(value)
        # A lone surrogate has no UTF-8, but it has an escape.
        return text if _is_unicode(text) else json.dumps(value, separators=(",", ":"))
    except (TypeError, ValueError, RecursionError) as error:
        trouble = type(error).__name__
    raise InvalidArgumentError(
        f"column {column!r} is JSON: the value can't be written as JSON ({trouble}); allowed are dicts "
        "with text keys, lists, texts, numbers without NaN and infinity, True, False and None, not nested "
        "too deeply"
    )


def _moment(column: str, value: Any) -> datetime:
    if not isinstance(value, datetime):
        raise _wrong(column, ColumnType.DATETIME, value, "a datetime")
    if value.tzinfo is None:
        return value.replace(tzinfo=UTC)
    with contextlib.suppress(OverflowError, ValueError):
        return value.astimezone(UTC)
    raise InvalidArgumentError(
        f"column {column!r} is DATETIME: the moment is not within the years 1 to 9999 of UTC"
    )
