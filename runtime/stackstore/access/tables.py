"""Tables whose rows have owners: what is ours in them, and what callers see."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Text, cast

from stackstore.errors import InvalidArgumentError
from stackstore.sql.columns import ColumnDefinition, ColumnType
from stackstore.sql.names import derived, shown
from stackstore.sql.tables import Row, Table

OWNER_ID = "owner_id"
"""The owner's number; 0: nobody's, as whatever is written past us."""

OWNER_KEY = "owner_key"
"""In tables with ids per owner, the last part of the key: who is meant by an id, be it a tenant's
user or nobody. The same whatever attributes the user has."""

OURS = (OWNER_ID, OWNER_KEY)

_ID_TYPES = (ColumnType.STRING, ColumnType.TEXT, ColumnType.INTEGER)


@dataclass(frozen=True)
class Owned:
    """A table whose rows have owners.

    Attributes:
        table: as the database has it.
        per_owner: ids are unique per tenant and principal, not in the table.
    """

    table: Table
    per_owner: bool

    @property
    def key(self) -> tuple[str, ...]:
        """The primary key as the caller gave it."""
        return tuple(name for name in self.table.primary_key if name != OWNER_KEY)

    @property
    def owner(self) -> ColumnElement[int]:
        """The column of the owner's number."""
        return self.table.core.c[OWNER_ID]

    @property
    def id_columns(self) -> tuple[str, ...]:
        """The columns that make a row's id in its name: `id`, or else the primary key."""
        names = ("id",) if "id" in self.table.columns else self.key
        usable = all(self.table.columns[name].type in _ID_TYPES for name in names)
        return names if usable else ()

    @property
    def row_id(self) -> ColumnElement[str] | None:
        """A row's id as text, in a statement."""
        return self.row_id_of(self.table.core.c)

    def row_id_of(self, columns: Any) -> ColumnElement[str] | None:
        """The same of a selection that has the table's columns."""
        parts = [
            cast(columns[name], Text())
            if self.table.columns[name].type is ColumnType.INTEGER
            else columns[name]
            for name in self.id_columns
        ]
        if not parts:
            return None
        whole: ColumnElement[str] = parts[0]
        for part in parts[1:]:
            whole = whole.concat("::").concat(part)
        return whole

    def row_id_in(self, row: Mapping[str, Any]) -> str | None:
        """The same of a row as the driver takes it."""
        parts = [row[name] for name in self.id_columns]
        return "::".join(map(str, parts)) if parts and None not in parts else None

    def stamp(self, number: int, key: int) -> Row:
        """Our columns of a row of an owner."""
        return {OWNER_ID: number, OWNER_KEY: key} if self.per_owner else {OWNER_ID: number}

    def check_key(self, conflict_columns: Sequence[str]) -> None:
        """Only the primary key is unique, so only it can be in conflict.

        Raises:
            InvalidArgumentError: these columns are not it.
        """
        columns = [] if isinstance(conflict_columns, str) else list(conflict_columns)
        if sorted(map(str, columns)) != sorted(self.key):
            raise InvalidArgumentError(
                f"table {self.table.name!r}: conflict_columns are its primary key, [{', '.join(self.key)}]"
            )

    def refuse(self, columns: Iterable[object]) -> None:
        """See to it that a caller names none of our columns.

        Raises:
            InvalidArgumentError: one of them is ours.
        """
        for name in columns:
            if str(name).lower() in OURS:
                raise InvalidArgumentError(
                    f"table {self.table.name!r}: column {name!r} is the store's own; a row is his who "
                    "writes it"
                )

    def shown(self, rows: list[Row]) -> list[Row]:
        """Rows as callers see them, in place."""
        for row in rows:
            if OWNER_ID in row or OWNER_KEY in row:
                for name in OURS:
                    row.pop(name, None)
        return rows


def with_owner(name: object, given: object, *, per_owner: bool) -> dict[str, Any]:
    """A caller's columns and ours.

    Ours goes first: on SQLite what follows a long text is only reached through it.

    Raises:
        InvalidArgumentError: the caller has a column of such a name.
    """
    columns = dict(given) if isinstance(given, Mapping) else {}
    for column in columns:
        if str(column).lower() in OURS:
            raise InvalidArgumentError(
                f"table {shown(name)}: column {shown(column)} is the store's own; choose another name"
            )
    if not columns:
        return columns
    own = {OWNER_ID: ColumnDefinition(ColumnType.INTEGER, nullable=False, default=0)}
    last = {OWNER_KEY: ColumnDefinition(ColumnType.INTEGER, primary_key=True)} if per_owner else {}
    return {**own, **columns, **last}


def owner_index(name: str) -> str:
    """The name of the index that goes with another one, or with a table, for each owner's rows."""
    return derived(name, "owner")
