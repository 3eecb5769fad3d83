"""Order and position: ORDER BY with its tie-break, and the rows beyond a given one; pure.

NULL is the smallest value on both engines. A position is the values of all order columns, the
primary key's among them, so it is unique and needs no row to be there.

"Beyond a position" as one OR is not bounded by any index. Where one row value comparison says it
all, it is one. Where directions differ, or NULLs are in play, it is split into disjoint ranges,
each of which an index bounds, and each range gives at most a page: `UNION ALL` of a few pages.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    BindParameter,
    ColumnElement,
    Integer,
    Select,
    UnaryExpression,
    and_,
    bindparam,
    literal_column,
    select,
    tuple_,
    union_all,
)

from stackstore.sql.columns import least
from stackstore.sql.conditions import Conditions
from stackstore.sql.tables import Table, ordered

Clause = ColumnElement[bool]


@dataclass(frozen=True)
class Term:
    """One column of an order."""

    column: str
    descending: bool
    nullable: bool


Order = tuple[Term, ...]
OrderBy = str | Sequence[str | tuple[str, str]]


def order(table: Table, order_by: Any) -> Order:
    """Understand an `order_by`; None is the primary key's order.

    Raises:
        InvalidArgumentError: a column or a direction there isn't, a JSON column.
    """
    given: Sequence[Any]
    if order_by is None:
        given = ()
    elif isinstance(order_by, str) or (
        isinstance(order_by, tuple)
        and len(order_by) == 2
        and order_by[1] in ("asc", "desc")
        and order_by[1] not in table.columns
    ):
        given = [order_by]
    elif isinstance(order_by, Sequence):
        given = order_by
    else:
        # Named as the wrong column that it is.
        given = [order_by]
    return tuple(
        Term(column, descending, table.nullable(column))
        for column, descending in ordered(table, given)
    )


def canonical(order: Order) -> list[Any]:
    """An order as JSON; cursors are bound to it."""
    return [[term.column, term.descending] for term in order]


def page(
    table: Table,
    where: Conditions,
    order: Order,
    position: Sequence[Any] | None,
    limit: int | None,
    *,
    columns: Sequence[ColumnElement[Any]] | None = None,
    skip: int | None = None,
) -> Select[Any]:
    """The statement for a page.

    Args:
        table: where the rows are.
        where: which of them.
        order: how they come.
        position: the driver's values of the order's columns, or parameters for them; only rows
            beyond it come.
        limit: most rows; None for all.
        columns: what is selected, by default every column.
        skip: how many rows to leave out first.
    """
    selected = table.selected() if columns is None else list(columns)
    names = [column.name for column in selected]
    found = ranges(table, where, order, position, selected)
    if len(found) == 1:
        return limited(found[0], limit, skip)
    # Each range has to give as many as might be left out, too.
    most = None if limit is None else limit + (skip or 0)
    inner = [*selected, *(table.core.c[term.column] for term in order if term.column not in names)]
    # Wrapped one by one: SQLite takes no LIMIT in a bare member of a UNION.
    parts = [
        select(limited(part, most).subquery())
        for part in ranges(table, where, order, position, inner)
    ]
    united = union_all(*parts).subquery()
    statement = select(*(united.c[name] for name in names)).order_by(
        *(direction(table, united.c[term.column], term) for term in order)
    )
    return limited(statement, limit, skip)


def ranges(
    table: Table,
    where: Conditions,
    order: Order,
    position: Sequence[Any] | None,
    columns: Sequence[ColumnElement[Any]],
) -> list[Select[Any]]:
    """The rows beyond a position in disjoint parts, each in order and bounded by an index."""
    found = [()] if position is None else beyond(table, order, position)
    return [_select(table, where, order, clauses, columns) for clauses in found]


def beyond(table: Table, order: Order, position: Sequence[Any]) -> list[tuple[Clause, ...]]:
    """Disjoint ranges that together are the rows after a position.

    Each is a conjunction that an index on the order's columns bounds: equal columns, then one
    comparison or a test for NULL.
    """
    columns = [table.core.c[term.column] for term in order]
    values = [
        value
        if isinstance(value, BindParameter)
        else bindparam(None, value, type_=column.type, unique=True)
        for column, value in zip(columns, position, strict=True)
    ]
    one_way = len({term.descending for term in order}) == 1
    row_value = one_way and not any(value is None for value in position)
    ranges: list[tuple[Clause, ...]] = []
    if row_value:
        descending = order[0].descending
        if len(columns) == 1:
            ranges.append((columns[0] < values[0] if descending else columns[0] > values[0],))
        else:
            here, there = tuple_(*columns), tuple_(*values)
            ranges.append((here < there if descending else here > there,))
    # From the last column to the first: equal up to it, and beyond in it.
    for place in range(len(order) - 1, -1, -1):
        term, column = order[place], columns[place]
        equal = tuple(
            columns[i].is_(None) if position[i] is None else columns[i] == values[i]
            for i in range(place)
        )
        null = position[place] is None
        if not row_value and not null:
            nearer = column < values[place] if term.descending else column > values[place]
            ranges.append((*equal, nearer))
        if null and not term.descending:
            # Not every build of SQLite bounds an index by IS NOT NULL; by where values begin, each.
            some = (
                column.is_not(None)
                if table.dialect == "postgresql"
                else column
                >= bindparam(
                    None, least(table.column(term.column).type), type_=column.type, unique=True
                )
            )
            ranges.append((*equal, some))
        if term.nullable and term.descending and not null:
            ranges.append((*equal, column.is_(None)))
    return ranges


def direction(table: Table, column: ColumnElement[Any], term: Term) -> UnaryExpression[Any]:
    """A term of ORDER BY, for a column that has a term's values."""
    way = column.desc() if term.descending else column.asc()
    if not term.nullable or table.dialect == "sqlite":
        # Nothing to say about NULLs, and Postgres matches an order to an index to the letter.
        return way
    return way.nulls_last() if term.descending else way.nulls_first()


def _select(
    table: Table,
    where: Conditions,
    order: Order,
    clauses: tuple[Clause, ...],
    columns: Sequence[ColumnElement[Any]],
) -> Select[Any]:
    statement = select(*columns).select_from(table.core)
    every = (*where.clauses, *clauses)
    if every:
        statement = statement.where(and_(*every))
    return statement.order_by(
        *(direction(table, table.core.c[term.column], term) for term in order)
    )


def limited(statement: Select[Any], limit: int | None, skip: int | None = None) -> Select[Any]:
    """The first rows of a statement."""
    # As numbers, not parameters: a plan for any limit is one for a tenth of the table.
    first = statement if limit is None else statement.limit(number(limit))
    return first if skip is None else first.offset(number(skip))


def number(value: int) -> ColumnElement[int]:
    """A whole number that is part of a statement's text."""
    return literal_column(str(int(value)), Integer())
