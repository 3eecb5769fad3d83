"""Rows on their way through a queue; pure.

JSON is written down when a row comes in, once: its size is known then, and what isn't JSON is refused
at once. Everything else is looked at when the row is written, a column of a whole batch at a time.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from operator import itemgetter
from sys import getsizeof
from typing import Any, NamedTuple

from stackstore.access.owners import Owner
from stackstore.errors import InvalidArgumentError
from stackstore.sql import ColumnType, JsonText
from stackstore.sql.columns import encode
from stackstore.sql.tables import MAX_INDEXED_BYTES, Table
from stackstore.stores.queue.records import Identity

_OVERHEAD_BYTES = 700
"""About what a record takes besides its values."""

_INT63 = 2**63

_TEXTS = (ColumnType.STRING, ColumnType.TEXT)


class Waiting(NamedTuple):
    """A row that waits to be written.

    Attributes:
        owner: who wrote it, and so whose it is.
        columns: those of the values, as the table was known when the row came.
        values: JSON as its text, the others as they were given.
    """

    owner: Owner
    columns: tuple[str, ...]
    values: tuple[Any, ...]


class Rows:
    """The rows of one table.

    Args:
        table: as the store knows it now.
        columns: those that callers give, in order.
        key: those of them that are the primary key as callers have it.
    """

    def __init__(self, table: Table, columns: tuple[str, ...], key: tuple[str, ...]) -> None:
        self.table = table
        self.columns = columns
        self.key = key
        self.names = set(columns)
        self._texts = [
            (place, table.columns[name].type is ColumnType.JSON)
            for place, name in enumerate(columns)
            if table.columns[name].type in (*_TEXTS, ColumnType.JSON)
        ]
        self._defaults = {name: table.columns[name].default for name in columns}
        # With one name it would give a value instead of a tuple.
        self._values = itemgetter(*columns, columns[0])

    def identity(self, row: Mapping[str, Any]) -> Identity:
        """The values of the primary key.

        Raises:
            InvalidArgumentError: one is missing, or nothing that names a row.
        """
        values = tuple([row.get(column) for column in self.key])
        for value in values:
            if type(value) is not str and not isinstance(value, str | int):
                raise InvalidArgumentError(
                    f"table {self.table.name!r}: its primary key ({', '.join(self.key)}) has to be given, "
                    f"each column as a text or a whole number, not a {type(value).__name__}"
                )
        return values  # type: ignore[return-value]  # seen above

    def whole(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """A row with defaults where nothing was given.

        Raises:
            InvalidArgumentError: there is no such column.
        """
        self._check_names(row)
        return {**self._defaults, **row}

    def packed(self, owner: Owner, row: Mapping[str, Any]) -> tuple[Waiting, int]:
        """A whole row as it waits, and about how many bytes it takes.

        Raises:
            InvalidArgumentError: a value isn't JSON where it has to be.
        """
        values = list(self._values(row))
        values.pop()
        size = _OVERHEAD_BYTES
        for place, is_json in self._texts:
            value = values[place]
            if value is None:
                continue
            kind = type(value)
            if is_json:
                # JsonText stays what it is: the drivers take it, and it may be long to copy.
                if kind is not JsonText:
                    value = values[place] = encode(
                        self.table.dialect, self.columns[place], ColumnType.JSON, value
                    )
                size += len(value) if value.isascii() else getsizeof(value)
            elif kind is str and value.isascii():
                size += len(value)
            else:
                size += getsizeof(value)
        return Waiting(owner, self.columns, tuple(values)), size

    def columnwise(self, waiting: Sequence[Waiting]) -> list[list[Any]]:
        """Rows as one list a column, with values as the driver wants them.

        Raises:
            InvalidArgumentError: a value isn't possible.
        """
        given = [
            one.values if one.columns is self.columns else self._as_now(one) for one in waiting
        ]
        found = [
            self._encoded(name, values)
            for name, values in zip(self.columns, zip(*given, strict=True), strict=True)
        ]
        self._check_indexed(found)
        return found

    def dump(self, waiting: Waiting) -> bytes:
        """A row as JSON, for people and for the journal: JSON as text, moments in ISO's form.

        Raises:
            InvalidArgumentError: a value can't be written so.
        """
        return self._dumped(dict(zip(waiting.columns, waiting.values, strict=True)))

    def dump_owned(self, owner: Owner, waiting: Waiting | None) -> bytes:
        """The same with who wrote it; without a row, who deletes one.

        Raises:
            InvalidArgumentError: as `dump`.
        """
        row = None
        if waiting is not None:
            row = dict(zip(waiting.columns, waiting.values, strict=True))
        return self._dumped([owner.identity, row])

    def load_owned(self, dumped: bytes) -> tuple[Owner, Waiting | None]:
        """The way back.

        Raises:
            ValueError, TypeError, AttributeError: they are no such bytes.
        """
        identity, row = json.loads(dumped)
        owner = _owner(identity)
        if row is None:
            return owner, None
        for column, value in row.items():
            # A column that a later release dropped is refused when it is written, by its name.
            defined = self.table.columns.get(column)
            if defined and defined.type is ColumnType.DATETIME and isinstance(value, str):
                row[column] = datetime.fromisoformat(value)
        columns = tuple(row)
        return owner, Waiting(
            owner, self.columns if columns == self.columns else columns, tuple(row.values())
        )

    # -- inside

    def _check_names(self, row: Mapping[str, Any]) -> None:
        for column in row:
            if column not in self.names:
                self.table.column(column)
                raise InvalidArgumentError(
                    f"table {self.table.name!r}: column {column!r} is the store's own; a row is his who "
                    "writes it"
                )

    def _as_now(self, waiting: Waiting) -> tuple[Any, ...]:
        """A row's values in today's columns: it came from a journal, or the table has grown."""
        row = dict(zip(waiting.columns, waiting.values, strict=True))
        values: tuple[Any, ...] = self._values(self.whole(row))
        return values[:-1]

    def _encoded(self, column: str, values: Sequence[Any]) -> list[Any]:
        kind, dialect = self.table.columns[column].type, self.table.dialect
        if kind is ColumnType.JSON:
            found = list(values)
        elif kind in _TEXTS:
            # Nearly all are plain; only the others are looked at closely.
            found = [
                value
                if type(value) is str and value.isascii() and "\0" not in value
                else encode(dialect, column, kind, value)
                for value in values
            ]
        elif kind is ColumnType.INTEGER:
            found = [
                value
                if type(value) is int and -_INT63 <= value < _INT63
                else encode(dialect, column, kind, value)
                for value in values
            ]
        else:
            found = [encode(dialect, column, kind, value) for value in values]
        if not self.table.nullable(column) and None in found:
            raise InvalidArgumentError(
                f"table {self.table.name!r}: column {column!r} can't be NULL and has to be given"
            )
        return found

    def _check_indexed(self, columns: Sequence[Sequence[Any]]) -> None:
        longest = 0
        for name, values in zip(self.columns, columns, strict=True):
            if self.table.columns[name].type in _TEXTS:
                longest += max((len(value) for value in values if value is not None), default=0)
        # A character has at most 4 bytes, so most batches are through after adding up lengths.
        if longest * 4 > MAX_INDEXED_BYTES:
            for row in zip(*columns, strict=True):
                self.table.check_indexed(dict(zip(self.columns, row, strict=True)))

    def _dumped(self, value: object) -> bytes:
        trouble = ""
        try:
            return json.dumps(value, default=_moment).encode()
        except (TypeError, ValueError, RecursionError) as error:
            trouble = type(error).__name__
        raise InvalidArgumentError(
            f"table {self.table.name!r}: the row can't be written down ({trouble}); allowed are texts, "
            "numbers, True, False, None, datetimes, and JSON in columns of that type"
        )


def shard_of(identity: Identity) -> str:
    """The shard of a row that has none of its own; two rows may share one."""
    first = identity[0]
    return first if len(identity) == 1 and isinstance(first, str) else "\n".join(map(str, identity))


@lru_cache(1_000)
def _owner(identity: str) -> Owner:
    # Kept, or a journal of one user's rows would have him once a row.
    return Owner.from_identity(identity)


def _moment(value: object) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    raise TypeError
