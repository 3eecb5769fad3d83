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
from types import NoneType
from typing import Any, TypeAlias

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


Waiting: TypeAlias = tuple[Any, ...]
"""A row that waits to be written: its owner (`Owner.identity`), the names of its columns, as the
table was known when it came, and then its values, JSON as text and the others as they were given.

Of plain values alone, so that Python's garbage collector looks at it once and never again: of these
there may be ten thousand.
"""

_COLUMNS, _VALUES = 1, 2


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
        self._only = key[0] if len(key) == 1 else None
        self._texts = [
            (place, table.columns[name].type is ColumnType.JSON)
            for place, name in enumerate(columns, _VALUES)
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
        if self._only is not None and type(row.get(self._only)) is str:
            return (row[self._only],)
        values = tuple([row.get(column) for column in self.key])
        for value in values:
            if not isinstance(value, str | int):
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
        waiting = [owner.identity, self.columns, *self._values(row)]
        waiting.pop()
        size = _OVERHEAD_BYTES
        for place, is_json in self._texts:
            value = waiting[place]
            if value is None:
                continue
            kind = type(value)
            if is_json:
                # JsonText stays what it is: the drivers take it, and it may be long to copy.
                if kind is not JsonText:
                    column = self.columns[place - _VALUES]
                    value = encode(self.table.dialect, column, ColumnType.JSON, value)
                    waiting[place] = value
                size += len(value) if value.isascii() else getsizeof(value)
            elif kind is str and value.isascii():
                size += len(value)
            else:
                size += getsizeof(value)
        return tuple(waiting), size

    def columnwise(self, waiting: Sequence[Waiting]) -> tuple[Sequence[str], list[Sequence[Any]]]:
        """The rows' owners, and one list a column, with values as the driver wants them.

        Raises:
            InvalidArgumentError: a value isn't possible.
        """
        now = self.columns
        if not all([one[_COLUMNS] is now for one in waiting]):  # noqa: C419 - much quicker
            waiting = [one if one[_COLUMNS] is now else self._as_now(one) for one in waiting]
        owners, _, *given = zip(*waiting, strict=True)
        found = [self._encoded(name, values) for name, values in zip(now, given, strict=True)]
        self._check_indexed(found)
        return owners, found

    def dump(self, waiting: Waiting) -> bytes:
        """A row as JSON, for people: JSON as text, moments in ISO's form.

        Raises:
            InvalidArgumentError: a value can't be written so.
        """
        return self._dumped(_row(waiting))

    def dump_owned(self, payload: Waiting | str) -> bytes:
        """The same with its owner, for the journal; or who deletes one.

        Raises:
            InvalidArgumentError: as `dump`.
        """
        if isinstance(payload, str):
            return self._dumped([payload, None])
        return self._dumped([payload[0], _row(payload)])

    def load_owned(self, dumped: bytes) -> Waiting | str:
        """The way back.

        Raises:
            ValueError, TypeError, AttributeError: they are no such bytes.
        """
        identity, row = json.loads(dumped)
        # Seen now to be one: by the time it is written nobody could say where it came from.
        owner = owner_of(identity).identity
        if row is None:
            return owner
        for column, value in row.items():
            # A column that a later release dropped is refused when it is written, by its name.
            defined = self.table.columns.get(column)
            if defined and defined.type is ColumnType.DATETIME and isinstance(value, str):
                row[column] = datetime.fromisoformat(value)
        columns = tuple(row)
        return (owner, self.columns if columns == self.columns else columns, *row.values())

    # -- inside

    def _check_names(self, row: Mapping[str, Any]) -> None:
        for column in row:
            if column not in self.names:
                self.table.column(column)
                raise InvalidArgumentError(
                    f"table {self.table.name!r}: column {column!r} is the store's own; a row is his who "
                    "writes it"
                )

    def _as_now(self, waiting: Waiting) -> Waiting:
        """The same in today's columns: it came from a journal, or the table has grown."""
        values = self._values(self.whole(_row(waiting)))[:-1]
        return (waiting[0], self.columns, *values)

    def _encoded(self, column: str, values: Sequence[Any]) -> Sequence[Any]:
        kind, dialect = self.table.columns[column].type, self.table.dialect
        types = set(map(type, values))
        found = values
        if kind is not ColumnType.JSON and not _are_plain(kind, types, values):
            found = [encode(dialect, column, kind, value) for value in values]
        if NoneType in types and not self.table.nullable(column):
            raise InvalidArgumentError(
                f"table {self.table.name!r}: column {column!r} can't be NULL and has to be given"
            )
        return found

    def _check_indexed(self, columns: Sequence[Sequence[Any]]) -> None:
        longest = 0
        for name, values in zip(self.columns, columns, strict=True):
            if self.table.columns[name].type in _TEXTS:
                longest += max(map(len, filter(None, values)), default=0)
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


def _are_plain(kind: ColumnType, types: set[type], values: Sequence[Any]) -> bool:
    """Whether a column's values are all as any driver wants them; seen as a whole, for nearly all are."""
    if kind in _TEXTS and types == {str}:
        whole = "".join(values)
        return whole.isascii() and "\0" not in whole
    if kind is ColumnType.INTEGER and types == {int}:
        least, most = min(values), max(values)
        return bool(least >= -_INT63 and most < _INT63)
    return False


def shard_of(identity: Identity) -> str:
    """The shard of a row that has none of its own; two rows may share one."""
    first = identity[0]
    return first if len(identity) == 1 and isinstance(first, str) else "\n".join(map(str, identity))


@lru_cache(1_000)
def owner_of(identity: str) -> Owner:
    """The owner that a payload names.

    Raises:
        ValueError, TypeError, AttributeError: it names none.
    """
    return Owner.from_identity(identity)


def _row(waiting: Waiting) -> dict[str, Any]:
    return dict(zip(waiting[_COLUMNS], waiting[_VALUES:], strict=True))


def _moment(value: object) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    raise TypeError
