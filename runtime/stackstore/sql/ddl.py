"""How tables are in the database: reading it, and the statements that make it so."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from stackstore.errors import InvalidArgumentError
from stackstore.schema import SCHEMA, Dialect, qualified, table_name
from stackstore.sql.columns import ColumnDefinition, ColumnType, declared, encode
from stackstore.sql.names import quoted
from stackstore.sql.tables import Index, Table

_POSTGRES_COLUMNS = text("""
    SELECT a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, a.atthasdef,
           array_position(i.indkey::int2[], a.attnum)
    FROM pg_attribute a
    JOIN pg_class c ON c.oid = a.attrelid AND c.relkind IN ('r', 'p')
    JOIN pg_namespace n ON n.oid = c.relnamespace
    LEFT JOIN pg_index i ON i.indrelid = c.oid AND i.indisprimary
    WHERE n.nspname = :schema AND c.relname = :name AND a.attnum > 0 AND NOT a.attisdropped
    ORDER BY a.attnum
""")
_SQLITE_COLUMNS = text("""
    SELECT name, type, "notnull", dflt_value IS NOT NULL, nullif(pk, 0)
    FROM pragma_table_info(:name)
""")
_POSTGRES_INDEX = text("""
    SELECT t.relname, a.attname, i.indoption[a.attnum - 1] & 1
    FROM pg_index i
    JOIN pg_class c ON c.oid = i.indexrelid
    JOIN pg_namespace n ON n.oid = c.relnamespace
    JOIN pg_class t ON t.oid = i.indrelid
    JOIN pg_attribute a ON a.attrelid = i.indexrelid
    WHERE n.nspname = :schema AND c.relname = :name AND i.indisvalid
    ORDER BY a.attnum
""")
_SQLITE_INDEX = text("""
    SELECT m.tbl_name, x.name, x."desc"
    FROM sqlite_master m, pragma_index_xinfo(m.name) x
    WHERE m.type = 'index' AND m.name = :name AND x.key = 1
    ORDER BY x.seqno
""")


@dataclass(frozen=True)
class Found:
    """A column as the database has it; `key` is its place in the primary key."""

    name: str
    type: str
    not_null: bool
    has_default: bool
    key: int | None


async def read_columns(connection: AsyncConnection, dialect: Dialect, table: str) -> list[Found]:
    """A table's columns, in order; none if there is no such table."""
    schema, name = table_name(dialect, table)
    if schema is None:
        rows = await connection.execute(_SQLITE_COLUMNS, {"name": name})
    else:
        rows = await connection.execute(_POSTGRES_COLUMNS, {"schema": schema, "name": name})
    return [
        Found(str(row[0]), str(row[1]), bool(row[2]), bool(row[3]), row[4]) for row in rows.all()
    ]


def missing(table: Table, found: Sequence[Found]) -> list[str]:
    """The columns that are yet to be added to a table that is there.

    More than a table asks for is fine where rows can do without it: pods of two releases run side
    by side during a rollout.

    Raises:
        InvalidArgumentError: the table is another one, in a way that adding columns can't mend.
    """
    by_name = {column.name: column for column in found}
    key = [
        column.name
        for column in sorted(found, key=lambda column: column.key or 0)
        if column.key is not None
    ]
    if key != list(table.primary_key):
        raise _different(
            table, f"its primary key is ({', '.join(key)}), not ({', '.join(table.primary_key)})"
        )
    for name, defined in table.columns.items():
        there = by_name.pop(name, None)
        if there is None:
            if defined.nullable or defined.default is not None:
                continue
            raise _different(
                table,
                f"it has no column {name!r}, which can't be added to rows that are there unless it is "
                "nullable or has a default",
            )
        wanted = declared(table.dialect, defined.type)
        if there.type.lower() != wanted.lower():
            raise _different(table, f"its column {name!r} is {there.type}, not {wanted}")
        if there.not_null == table.nullable(name):
            raise _different(
                table, f"its column {name!r} is {'NOT NULL' if there.not_null else 'nullable'}"
            )
    for extra in by_name.values():
        if extra.not_null and not extra.has_default:
            raise _different(
                table, f"it also has a column {extra.name!r}, which is NOT NULL without a default"
            )
    present = {column.name for column in found}
    return [name for name in table.columns if name not in present]


def create(table: Table) -> str:
    """CREATE TABLE."""
    parts = [_column(table, name, defined) for name, defined in table.columns.items()]
    parts.append(f"PRIMARY KEY ({_names(table.primary_key)})")
    return f"CREATE TABLE {qualified(table.dialect, table.name)} ({', '.join(parts)})"


def add(table: Table, column: str) -> str:
    """ALTER TABLE … ADD COLUMN."""
    described = _column(table, column, table.columns[column])
    return f"ALTER TABLE {qualified(table.dialect, table.name)} ADD COLUMN {described}"


async def has_index(connection: AsyncConnection, table: Table, index: Index) -> bool:
    """Whether the index is there.

    Raises:
        InvalidArgumentError: there is one of that name, and it is another.
    """
    _, own = table_name(table.dialect, table.name)
    if table.dialect == "sqlite":
        found = await connection.execute(_SQLITE_INDEX, {"name": _index_name(table, index)})
    else:
        found = await connection.execute(_POSTGRES_INDEX, {"schema": SCHEMA, "name": index.name})
    rows = [(str(row[0]), str(row[1]), bool(row[2])) for row in found.all()]
    if not rows:
        return False
    there = ", ".join(f"{column} desc" if descending else column for _, column, descending in rows)
    if rows != [(own, column, descending) for column, descending in index.columns]:
        raise InvalidArgumentError(
            f"there is an index {index.name!r} already, of table {rows[0][0]!r} on ({there}); choose another "
            "name"
        )
    return True


def create_index(table: Table, index: Index) -> str:
    """CREATE INDEX, with NULLs where our orders have them."""
    columns = []
    for column, descending in index.columns:
        way = quoted(column) + (" DESC" if descending else "")
        if table.dialect == "postgresql" and table.nullable(column):
            way += " NULLS LAST" if descending else " NULLS FIRST"
        columns.append(way)
    return (
        f"CREATE INDEX {quoted(_index_name(table, index))} "
        f"ON {qualified(table.dialect, table.name)} ({', '.join(columns)})"
    )


def _index_name(table: Table, index: Index) -> str:
    # SQLite's indexes share one space with everybody's; Postgres' live in their table's schema.
    return table_name(table.dialect, index.name)[1]


def _column(table: Table, name: str, defined: ColumnDefinition) -> str:
    words = [quoted(name), declared(table.dialect, defined.type)]
    if table.dialect == "postgresql" and defined.type in (ColumnType.STRING, ColumnType.TEXT):
        # The order of bytes, as SQLite has it, whatever the database's locale is.
        words.append('COLLATE "C"')
    if not table.nullable(name):
        words.append("NOT NULL")
    if defined.default is not None:
        stored = encode("sqlite", name, defined.type, defined.default)
        words.append(f"DEFAULT {_literal(table.dialect, stored)}")
    return " ".join(words)


def _literal(dialect: Dialect, stored: object) -> str:
    """A value in a statement, for the one place that takes no parameters."""
    if isinstance(stored, bool):
        return str(stored).lower() if dialect == "postgresql" else str(int(stored))
    if isinstance(stored, int):
        return str(stored)
    if isinstance(stored, float):
        if dialect == "postgresql":
            return f"'{stored!r}'"
        return {"inf": "9e999", "-inf": "-9e999"}.get(repr(stored), repr(stored))
    doubled = str(stored).replace("'", "''")
    if dialect == "postgresql" and "\\" in doubled:
        # E: the same whatever standard_conforming_strings says.
        return "E'" + doubled.replace("\\", "\\\\") + "'"
    return f"'{doubled}'"


def _names(columns: Iterable[str]) -> str:
    return ", ".join(quoted(column) for column in columns)


def _different(table: Table, how: str) -> InvalidArgumentError:
    return InvalidArgumentError(
        f"table {table.name!r} is in the database already and differs: {how}; choose another name, or change "
        "the table by hand"
    )
