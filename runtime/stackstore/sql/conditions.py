"""`where`: which rows; pure.

A mapping from columns to what their values must be; all of them must hold:

    {"model": "a"}                  equal; None: is NULL
    {"created": {">=": 5}}          one operator: = == != > < >= <=
    {"model": ["a", "b", None]}     one of them; an empty list: no row

NULL is a value here as in Python: `!=` also finds the NULLs, `{"!=": None}` what is not NULL.
The other comparisons never find a NULL.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from operator import ge, gt, le, lt
from typing import Any

from sqlalchemy import ColumnElement, bindparam, false, or_

from stackstore.errors import InvalidArgumentError
from stackstore.sql.columns import ColumnType, neutral
from stackstore.sql.names import shown
from stackstore.sql.tables import Table

MAX_LIST = 10_000
"""Most values of a list; the engines' limits of parameters are about three times that."""

_COMPARISONS: dict[str, Callable[[Any, Any], ColumnElement[bool]]] = {
    ">": gt,
    "<": lt,
    ">=": ge,
    "<=": le,
}
_OPERATORS = ("=", "==", "!=", *_COMPARISONS)


@dataclass(frozen=True)
class Conditions:
    """A `where`, understood.

    Attributes:
        clauses: to be joined by AND.
        canonical: the same as JSON, equal for equal conditions; cursors are bound to it.
    """

    clauses: tuple[ColumnElement[bool], ...]
    canonical: list[Any]


def conditions(table: Table, where: Mapping[str, Any] | None) -> Conditions:
    """Understand a `where`; None and an empty one are every row.

    Raises:
        InvalidArgumentError: a column there isn't, an operator there isn't, a value that doesn't
            fit.
    """
    if where is None:
        return Conditions((), [])
    if not isinstance(where, Mapping):
        raise InvalidArgumentError(
            f"table {table.name!r}: where is a mapping from columns to values, not a {type(where).__name__}"
        )
    clauses = []
    canonical = []
    for column, wanted in where.items():
        table.column(column)
        clause, form = _condition(table, column, wanted)
        clauses.append(clause)
        canonical.append([column, *form])
    return Conditions(tuple(clauses), sorted(canonical, key=lambda form: str(form[0])))


def _condition(table: Table, column: str, wanted: Any) -> tuple[ColumnElement[bool], list[Any]]:
    if isinstance(wanted, Mapping):
        if len(wanted) != 1:
            raise InvalidArgumentError(
                f"where of column {column!r}: one operator, not {len(wanted)}; allowed are "
                f"{' '.join(_OPERATORS)}"
            )
        ((operator, value),) = wanted.items()
        if operator not in _OPERATORS:
            raise InvalidArgumentError(
                f"where of column {column!r}: there is no operator {shown(operator)}; allowed are "
                f"{' '.join(_OPERATORS)}"
            )
        if operator in _COMPARISONS:
            return _comparison(table, column, operator, value)
        return _equality(table, column, value, negated=operator == "!=")
    if isinstance(wanted, list | tuple | set | frozenset):
        return _membership(table, column, list(wanted))
    return _equality(table, column, wanted, negated=False)


def _equality(
    table: Table, column: str, value: Any, *, negated: bool
) -> tuple[ColumnElement[bool], list[Any]]:
    target = table.core.c[column]
    operator = "!=" if negated else "="
    if value is None:
        return (target.is_not(None) if negated else target.is_(None)), [operator, None]
    stored = _stored(table, column, value)
    bound = _bound(table, column, stored)
    if not negated:
        clause: ColumnElement[bool] = target == bound
    elif table.nullable(column):
        clause = or_(target != bound, target.is_(None))
    else:
        clause = target != bound
    return clause, [operator, neutral(table.column(column).type, stored)]


def _comparison(
    table: Table, column: str, operator: str, value: Any
) -> tuple[ColumnElement[bool], list[Any]]:
    if value is None:
        raise InvalidArgumentError(
            f"where of column {column!r}: None is neither more nor less than anything; compare it by = or !="
        )
    stored = _stored(table, column, value)
    clause = _COMPARISONS[operator](table.core.c[column], _bound(table, column, stored))
    return clause, [operator, neutral(table.column(column).type, stored)]


def _membership(
    table: Table, column: str, values: list[Any]
) -> tuple[ColumnElement[bool], list[Any]]:
    if len(values) > MAX_LIST:
        raise InvalidArgumentError(
            f"where of column {column!r}: a list of {len(values)}; allowed are at most {MAX_LIST}"
        )
    target = table.core.c[column]
    kind = table.column(column).type
    stored = [_stored(table, column, value) for value in values if value is not None]
    clause: ColumnElement[bool] = target.in_(stored) if stored else false()
    if len(stored) < len(values):
        clause = or_(clause, target.is_(None))
    members = sorted({str(neutral(kind, value)) for value in stored})
    return clause, ["in", members, len(stored) < len(values)]


def _stored(table: Table, column: str, value: Any) -> Any:
    if table.column(column).type is ColumnType.JSON:
        raise InvalidArgumentError(
            f"where of column {column!r}: it is JSON, which can only be compared with None; give what you "
            "look for a column of its own"
        )
    return table.encoded(column, value)


def _bound(table: Table, column: str, stored: Any) -> ColumnElement[Any]:
    # Bound by hand, or SQLAlchemy would write True and False into the statement.
    return bindparam(None, stored, type_=table.core.c[column].type, unique=True)
