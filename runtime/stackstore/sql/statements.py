"""The statements that write rows; pure.

On Postgres many rows go in as one array a column (`INSERT … SELECT unnest($1), unnest($2)`): one
statement of the same text and number of parameters for any number of rows. On SQLite a prepared
statement is run row by row in one transaction, which is its fastest way.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, bindparam, cast, func, select
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.dialects.postgresql import Insert as PostgresInsert
from sqlalchemy.dialects.sqlite import Insert as SqliteInsert

from stackstore.errors import InvalidArgumentError
from stackstore.sql.tables import Row, Table

_Dialects = PostgresInsert | SqliteInsert


@dataclass(frozen=True)
class Insert:
    """An INSERT: `one` takes rows, `many` (Postgres only) what `columnwise` makes of them."""

    one: _Dialects
    many: _Dialects


def insert(
    table: Table, *, do_nothing: bool = False, only_if: ColumnElement[bool] | None = None
) -> Insert:
    """INSERT, or INSERT … ON CONFLICT DO NOTHING; no row goes in where `only_if` is not true."""
    one, many = _bare(table, only_if)
    if do_nothing:
        key = _key(table)
        return Insert(
            one.on_conflict_do_nothing(index_elements=key),
            many.on_conflict_do_nothing(index_elements=key),
        )
    return Insert(one, many)


def upsert(
    table: Table,
    changed: Sequence[str],
    *,
    only_if: ColumnElement[bool] | None = None,
    where: ColumnElement[bool] | None = None,
) -> Insert:
    """INSERT … ON CONFLICT DO UPDATE of the changed columns (DO NOTHING if there are none).

    Args:
        table: where.
        changed: what a row that is there gets.
        only_if: no row goes in where this is not true.
        where: a row that is there is left alone, and not counted, where this is not true of it.
            With it a row that gets nothing is counted all the same.
    """
    if not changed and where is None:
        return insert(table, do_nothing=True, only_if=only_if)
    key = _key(table)

    def updating(statement: _Dialects) -> _Dialects:
        values: dict[str, Any] = {column: statement.excluded[column] for column in changed}
        if not values:
            column = table.primary_key[0]
            values = {column: table.core.c[column]}
        return statement.on_conflict_do_update(index_elements=key, set_=values, where=where)

    one, many = _bare(table, only_if)
    return Insert(updating(one), updating(many))


def columnwise(table: Table, rows: Sequence[Row]) -> dict[str, list[Any]]:
    """Rows as one list a column."""
    return {column: [row[column] for row in rows] for column in table.columns}


def check_key(table: Table, conflict_columns: Sequence[str]) -> None:
    """Only the primary key is unique, so only it can be in conflict."""
    columns = [] if isinstance(conflict_columns, str) else list(conflict_columns)
    if sorted(map(str, columns)) != sorted(table.primary_key):
        raise InvalidArgumentError(
            f"table {table.name!r}: conflict_columns are its primary key, "
            f"[{', '.join(table.primary_key)}]"
        )


def changed(
    table: Table, rows: Sequence[Mapping[str, Any]], update_columns: Sequence[str] | None
) -> list[str]:
    """Which columns an upsert sets on a row that is there.

    Raises:
        InvalidArgumentError: rows give different columns, so that "all that is given" means
            nothing; or update_columns holds one that isn't given, or one of the key.
    """
    given = {frozenset(row) for row in rows}
    if len(given) > 1:
        raise InvalidArgumentError(
            f"table {table.name!r}: rows of one upsert give the same columns"
        )
    columns = next(iter(given), frozenset[str]())
    if update_columns is None:
        return [name for name in table.columns if name in columns - set(table.primary_key)]
    for name in update_columns:
        table.column(name)
        if name in table.primary_key or name not in columns:
            raise InvalidArgumentError(
                f"table {table.name!r}: update_columns are among the columns that are given, and not of the "
                f"primary key; {name!r} is not"
            )
    return list(dict.fromkeys(update_columns))


def merged(table: Table, rows: list[Row], changed: Sequence[str]) -> list[Row]:
    """One row a key, as if the rows had come one after another; one statement can't say that."""
    found: dict[tuple[Any, ...], Row] = {}
    for row in rows:
        key = tuple(row[column] for column in table.primary_key)
        first = found.setdefault(key, row)
        if first is not row:
            first.update({column: row[column] for column in changed})
    return list(found.values())


def _bare(table: Table, only_if: ColumnElement[bool] | None) -> tuple[_Dialects, _Dialects]:
    columns = [table.core.c[column] for column in table.columns]
    if table.dialect == "sqlite":
        one = SqliteInsert(table.core)
        if only_if is not None:
            values: list[ColumnElement[Any]] = [
                bindparam(column.name, type_=column.type) for column in columns
            ]
            one = one.from_select(columns, select(*values).where(only_if))
        return one, one
    arrays = [func.unnest(bindparam(column.name, type_=ARRAY(column.type))) for column in columns]
    if only_if is None:
        return PostgresInsert(table.core), PostgresInsert(table.core).from_select(
            columns, select(*arrays)
        )
    casts = [cast(bindparam(column.name, type_=column.type), column.type) for column in columns]
    return (
        PostgresInsert(table.core).from_select(columns, select(*casts).where(only_if)),
        PostgresInsert(table.core).from_select(columns, select(*arrays).where(only_if)),
    )


def _key(table: Table) -> list[Any]:
    return [table.core.c[column] for column in table.primary_key]
