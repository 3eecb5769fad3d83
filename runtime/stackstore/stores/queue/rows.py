"""Rows on their way through a queue; pure.

JSON is written down when a row comes in, once: its size is known then, and what isn't JSON is refused
at once. Everything else is looked at when the row is written.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from stackstore.errors import InvalidArgumentError
from stackstore.sql import ColumnType
from stackstore.sql.columns import encode
from stackstore.sql.tables import Row, Table
from stackstore.stores.queue.records import Identity

_OVERHEAD_BYTES = 500
"""About what a record takes besides its values."""


class Rows:
    """The rows of one table.

    Args:
        table: as the store knows it now.
    """

    def __init__(self, table: Table) -> None:
        self.table = table
        self._json = [
            name for name, column in table.columns.items() if column.type is ColumnType.JSON
        ]
        self._plan = [
            (name, None if column.type is ColumnType.JSON else column.type)
            for name, column in table.columns.items()
        ]
        self._defaults = {
            name: table.encoded(name, column.default) for name, column in table.columns.items()
        }

    def identity(self, row: Mapping[str, Any]) -> Identity:
        """The values of the primary key.

        Raises:
            InvalidArgumentError: one is missing, or nothing that names a row.
        """
        values = tuple(row.get(column) for column in self.table.primary_key)
        for column, value in zip(self.table.primary_key, values, strict=True):
            if not isinstance(value, str | int):
                raise InvalidArgumentError(
                    f"table {self.table.name!r}: column {column!r} of its primary key has to be given, as a "
                    f"text or a whole number, not a {type(value).__name__}"
                )
        return values  # type: ignore[return-value]  # seen above

    def packed(self, row: Mapping[str, Any]) -> tuple[Row, int]:
        """A row as it waits: JSON columns hold their text. And how many bytes it takes, about.

        Raises:
            InvalidArgumentError: there is no such column, or a value isn't JSON where it has to be.
        """
        payload = dict(row)
        if not payload.keys() <= self.table.columns.keys():
            for column in payload:
                self.table.column(column)
        for column in self._json:
            value = payload.get(column)
            if value is not None:
                payload[column] = encode(self.table.dialect, column, ColumnType.JSON, value)
        return payload, _OVERHEAD_BYTES + sum(map(sys.getsizeof, payload.values()))

    def whole(self, payload: Row) -> Row:
        """A row as the driver wants it: every column, with defaults where nothing was given.

        Raises:
            InvalidArgumentError: a value isn't possible.
        """
        table = self.table
        dialect = table.dialect
        row: Row = {}
        for column, kind in self._plan:
            value = payload.get(column)
            if value is not None:
                row[column] = value if kind is None else encode(dialect, column, kind, value)
            elif column in payload or (value := self._defaults[column]) is None:
                if not table.nullable(column):
                    raise InvalidArgumentError(
                        f"table {table.name!r}: column {column!r} can't be NULL and has to be given"
                    )
                row[column] = None
            else:
                row[column] = value
        table.check_indexed(row)
        return row

    def dump(self, payload: Row) -> bytes:
        """A waiting row as JSON: texts of JSON as texts, moments in ISO's form.

        Raises:
            InvalidArgumentError: a value can't be written so.
        """
        trouble = ""
        try:
            return json.dumps(payload, default=_moment).encode()
        except (TypeError, ValueError, RecursionError) as error:
            trouble = type(error).__name__
        raise InvalidArgumentError(
            f"table {self.table.name!r}: the row can't be written down ({trouble}); allowed are texts, "
            "numbers, True, False, None, datetimes, and JSON in columns of that type"
        )

    def load(self, dumped: bytes) -> Row:
        """The way back.

        Raises:
            ValueError: they are no such bytes.
        """
        payload: Row = json.loads(dumped)
        for column, value in payload.items():
            # A column that a later release dropped is refused when it is written, by its name.
            defined = self.table.columns.get(column)
            if defined and defined.type is ColumnType.DATETIME and isinstance(value, str):
                payload[column] = datetime.fromisoformat(value)
        return payload


def shard_of(identity: Identity) -> str:
    """The shard of a row that has none of its own; two rows may share one."""
    first = identity[0]
    return first if len(identity) == 1 and isinstance(first, str) else "\n".join(map(str, identity))


def _moment(value: object) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    raise TypeError
