"""Tables as this process knows them: pure, immutable, checked when made."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from sqlalchemy import Column, ColumnElement, MetaData, Text, cast
from sqlalchemy import Table as CoreTable

from stackstore.errors import InvalidArgumentError
from stackstore.schema import Dialect, table_name
from stackstore.sql.columns import ColumnDefinition, ColumnType, core_type, encode
from stackstore.sql.names import RESERVED, choices, identifier, shown

Row = dict[str, Any]

MAX_INDEXED_BYTES = 2500
"""Most bytes of texts in one entry of an index; Postgres' pages bound it, so SQLite follows."""


@dataclass(frozen=True)
class Index:
    """An index: its name and its columns with their directions, the primary key at the end."""

    name: str
    columns: tuple[tuple[str, bool], ...]
    """(column, descending)."""


@dataclass(frozen=True)
class Table:
    """One table.

    Attributes:
        dialect: which SQL it is for.
        name: as the caller has it; the database's name has our schema or prefix.
        columns: all of them, in order.
        indexes: those that were asked for in this process.
        core: for SQLAlchemy's statements.
        primary_key: the key's columns, in order.
    """

    dialect: Dialect
    name: str
    columns: Mapping[str, ColumnDefinition]
    indexes: tuple[Index, ...] = ()
    core: CoreTable = field(init=False, compare=False, repr=False)
    primary_key: tuple[str, ...] = field(init=False, compare=False)

    def __post_init__(self) -> None:
        schema, name = table_name(self.dialect, self.name)
        core = CoreTable(
            name,
            MetaData(),
            *(
                Column(
                    column,
                    core_type(self.dialect, defined.type),
                    primary_key=defined.primary_key,
                    autoincrement=False,
                    quote=True,
                )
                for column, defined in self.columns.items()
            ),
            schema=schema,
            implicit_returning=False,
            quote=True,
        )
        key = tuple(name for name, defined in self.columns.items() if defined.primary_key)
        object.__setattr__(self, "core", core)
        object.__setattr__(self, "primary_key", key)

    def column(self, name: object) -> ColumnDefinition:
        """A column's definition.

        Raises:
            InvalidArgumentError: there is none of that name.
        """
        found = self.columns.get(name) if isinstance(name, str) else None
        if found is None:
            raise InvalidArgumentError(
                f"table {self.name!r} has no column {shown(name)}; {choices(name, self.columns)}"
            )
        return found

    def nullable(self, name: str) -> bool:
        """Whether a column may hold NULL."""
        defined = self.columns[name]
        return defined.nullable and not defined.primary_key

    def selected(self) -> list[ColumnElement[Any]]:
        """What a SELECT lists: every column, JSON as its text (the driver would parse it)."""
        return [
            cast(self.core.c[name], Text()).label(name)
            if defined.type is ColumnType.JSON
            else self.core.c[name]
            for name, defined in self.columns.items()
        ]

    def encoded(self, column: str, value: Any) -> Any:
        """A value of a column as the driver wants it."""
        return encode(self.dialect, column, self.column(column).type, value)

    def given(self, data: object) -> Row:
        """What a caller gives of a row, as the driver wants it.

        Raises:
            InvalidArgumentError: it names no column, or one there isn't, or a value doesn't fit.
        """
        if not isinstance(data, Mapping):
            raise InvalidArgumentError(
                f"table {self.name!r}: a row is a mapping from columns to values, "
                f"not a {type(data).__name__}"
            )
        row = {column: self.encoded(column, value) for column, value in data.items()}
        for column, value in row.items():
            if value is None and not self.nullable(column):
                raise self._not_null(column)
        self.check_indexed(row)
        return row

    def whole(self, data: object) -> Row:
        """A row to insert: every column, with defaults where the caller gives nothing."""
        row = self.given(data)
        for column, defined in self.columns.items():
            if column not in row:
                if defined.default is None and not self.nullable(column):
                    raise self._not_null(column)
                row[column] = self.encoded(column, defined.default)
        self.check_indexed(row)
        return row

    def with_columns(self, columns: Mapping[str, ColumnDefinition]) -> Table:
        """The same table with more columns; those known keep their definitions.

        Raises:
            InvalidArgumentError: a known column is defined differently.
        """
        for name, defined in columns.items():
            known = self.columns.get(name)
            if known is not None and known != defined:
                raise InvalidArgumentError(
                    f"table {self.name!r}: column {name!r} was defined as {_described(known)} before, and "
                    f"now as {_described(defined)}"
                )
        return replace(self, columns=_checked(self.name, {**self.columns, **columns}))

    def with_index(self, index: Index) -> Table:
        """The same table, knowing of one index more."""
        others = tuple(known for known in self.indexes if known.name != index.name)
        return replace(self, indexes=(*others, index))

    def _not_null(self, column: str) -> InvalidArgumentError:
        return InvalidArgumentError(
            f"table {self.name!r}: column {column!r} can't be NULL and has to be given"
        )

    def check_indexed(self, row: Row) -> None:
        """Refuse a row whose texts are too long for an index.

        Raises:
            InvalidArgumentError: they are.
        """
        entries: list[Iterable[str]] = [self.primary_key]
        entries += [[column for column, _ in index.columns] for index in self.indexes]
        for columns in entries:
            texts = [row[column] for column in columns if isinstance(row.get(column), str)]
            # A character has at most 4 bytes, so most rows are through after adding up lengths.
            if sum(map(len, texts)) * 4 > MAX_INDEXED_BYTES and (
                sum(len(text.encode()) for text in texts) > MAX_INDEXED_BYTES
            ):
                raise InvalidArgumentError(
                    f"table {self.name!r}: the texts in {', '.join(columns)} are indexed together and may "
                    f"have {MAX_INDEXED_BYTES} bytes in all"
                )


def table(dialect: Dialect, name: object, schema: object) -> Table:
    """A table from what a caller says of it.

    Args:
        dialect: which SQL it is for.
        name: the table's name.
        schema: a mapping from columns to `ColumnDefinition`, or to a bare `ColumnType`.

    Raises:
        InvalidArgumentError: a name, a definition or a default isn't possible, or there is no
            primary key (pages and cursors are built on it).
    """
    safe = table_identifier(name)
    if not isinstance(schema, Mapping) or not schema:
        raise InvalidArgumentError(
            f"table {safe!r}: its schema is a mapping of at least one column"
        )
    columns = {
        identifier("column", column): definition(safe, column, defined)
        for column, defined in schema.items()
    }
    made = Table(dialect, safe, _checked(safe, columns))
    for column, defined in columns.items():
        made.encoded(column, defined.default)
    return made


def table_identifier(name: object) -> str:
    """A name that a store's table may have."""
    return _free("table", name)


def definition(table: str, column: object, defined: object) -> ColumnDefinition:
    """A column's definition, checked."""
    if isinstance(defined, ColumnType):
        defined = ColumnDefinition(defined)
    if not isinstance(defined, ColumnDefinition) or not isinstance(defined.type, ColumnType):
        raise InvalidArgumentError(
            f"table {table!r}: column {shown(column)} is defined by a ColumnDefinition or a ColumnType, "
            f"not by a {type(defined).__name__}"
        )
    if defined.primary_key and defined.type is ColumnType.JSON:
        raise InvalidArgumentError(f"table {table!r}: column {shown(column)} is JSON and so no key")
    return defined


def index(table: Table, name: object, columns: Sequence[object]) -> Index:
    """An index from what a caller says of it.

    The primary key follows its columns: it is every order's tie-break, so pages need it there.

    Raises:
        InvalidArgumentError: a name isn't possible, or a column can't be indexed.
    """
    # An index takes a name from the tables: the one that Stackstore needs next, if it is let.
    safe = _free("index", name)
    if isinstance(columns, str) or not columns:
        raise InvalidArgumentError(f"index {safe!r}: its columns are a list of at least one")
    terms = ordered(table, columns)
    return Index(safe, tuple((column, descending) for column, descending in terms))


def ordered(table: Table, columns: Sequence[object]) -> tuple[tuple[str, bool], ...]:
    """(column, descending) of each, then of the primary key's columns that are not among them.

    The key goes in the direction of the last column, so that one index serves both ways.
    """
    terms: dict[str, bool] = {}
    for given in columns:
        column: Any
        column, direction = (
            given if isinstance(given, tuple | list) and len(given) == 2 else (given, "asc")
        )
        kind = table.column(column).type
        if direction not in ("asc", "desc"):
            raise InvalidArgumentError(
                f'table {table.name!r}: the order of column {column!r} is "asc" or "desc", '
                f"not {shown(direction)}"
            )
        if kind is ColumnType.JSON:
            raise InvalidArgumentError(
                f"table {table.name!r}: column {column!r} is JSON, which has no order; give what you sort by "
                "a column of its own"
            )
        if column in terms:
            raise InvalidArgumentError(f"table {table.name!r}: column {column!r} is there twice")
        terms[column] = direction == "desc"
    last = next(reversed(terms.values()), False)
    for column in table.primary_key:
        terms.setdefault(column, last)
    return tuple(terms.items())


def _free(kind: str, name: object) -> str:
    safe = identifier(kind, name)
    if safe.casefold() in RESERVED:
        raise InvalidArgumentError(
            f"{kind} {safe!r} has the name of one of Stackstore's own tables; allowed is any name but "
            f"{', '.join(sorted(RESERVED))}"
        )
    return safe


def _checked(name: str, columns: Mapping[str, ColumnDefinition]) -> Mapping[str, ColumnDefinition]:
    folded: dict[str, str] = {}
    for column in columns:
        other = folded.setdefault(column.lower(), column)
        if other != column:
            raise InvalidArgumentError(
                f"table {name!r}: columns {other!r} and {column!r} differ in case only, which SQLite "
                "does not see"
            )
    if not any(defined.primary_key for defined in columns.values()):
        raise InvalidArgumentError(
            f"table {name!r} has no primary key; mark at least one column with primary_key=True"
        )
    return dict(columns)


def _described(defined: ColumnDefinition) -> str:
    words = [defined.type.name]
    if defined.primary_key:
        words.append("primary key")
    elif not defined.nullable:
        words.append("not nullable")
    if defined.default is not None:
        words.append("with a default")
    return " ".join(words)
