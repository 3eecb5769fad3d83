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
_LIST = "in"


Form = tuple[str, str, bool]
"""Column, operator, and whether it speaks of NULL."""


@dataclass(frozen=True)
class Conditions:
    """A `where`, understood.

    Attributes:
        clauses: to be joined by AND.
        canonical: the same as JSON, equal for equal conditions; cursors are bound to it.
        shape: for each, column, operator and whether it speaks of NULL; what differs in values only
            has the same. None: a list is among them.
        values: those of the conditions that have one, in order, as the driver wants them.
    """

    clauses: tuple[ColumnElement[bool], ...]
    canonical: list[Any]
    shape: tuple[Form, ...] | None = None
    values: tuple[Any, ...] = ()


def conditions(table: Table, where: Mapping[str, Any] | None) -> Conditions:
    """Understand a `where`; None and an empty one are every row.

    Raises:
        InvalidArgumentError: a column there isn't, an operator there isn't, a value that doesn't
            fit.
    """
    if where is None:
        return Conditions((), [], ())
    if not isinstance(where, Mapping):
        raise InvalidArgumentError(
            f"table {table.name!r}: where is a mapping from columns to values, not a {type(where).__name__}"
        )
    clauses = []
    canonical = []
    shape: list[Form] = []
    values = []
    for column, wanted in where.items():
        table.column(column)
        found, form, stored = _condition(table, column, wanted)
        clauses.append(found)
        canonical.append([column, *form])
        shape.append((column, str(form[0]), stored is None))
        if stored is not None:
            values.append(stored)
    listed = any(operator == _LIST for _, operator, _ in shape)
    return Conditions(
        tuple(clauses),
        sorted(canonical, key=lambda form: str(form[0])),
        None if listed else tuple(shape),
        tuple(values),
    )


def clause(
    table: Table, column: str, operator: str, bound: ColumnElement[Any] | None
) -> ColumnElement[bool]:
    """One condition.

    Args:
        table: whose column.
        column: which.
        operator: one of `=`, `!=`, `>`, `<`, `>=` and `<=`.
        bound: what it is compared with; None: NULL, with `=` and `!=`.
    """
    target = table.core.c[column]
    if bound is None:
        return target.is_(None) if operator == "=" else target.is_not(None)
    if operator == "=":
        return target == bound
    if operator == "!=":
        unlike = target != bound
        return or_(unlike, target.is_(None)) if table.nullable(column) else unlike
    return _COMPARISONS[operator](target, bound)


def _condition(
    table: Table, column: str, wanted: Any
) -> tuple[ColumnElement[bool], list[Any], Any]:
    """The clause, its canonical form, and its value as the driver wants it, if it has one."""
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
        return _compared(table, column, "=" if operator == "==" else operator, value)
    if isinstance(wanted, list | tuple | set | frozenset):
        return *_membership(table, column, list(wanted)), None
    return _compared(table, column, "=", wanted)


def _compared(
    table: Table, column: str, operator: str, value: Any
) -> tuple[ColumnElement[bool], list[Any], Any]:
    if value is None:
        if operator in _COMPARISONS:
            raise InvalidArgumentError(
                f"where of column {column!r}: None is neither more nor less than anything; compare it by = "
                "or !="
            )
        return clause(table, column, operator, None), [operator, None], None
    stored = _stored(table, column, value)
    found = clause(table, column, operator, _bound(table, column, stored))
    return found, [operator, neutral(table.column(column).type, stored)], stored


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
    found: ColumnElement[bool] = target.in_(stored) if stored else false()
    if len(stored) < len(values):
        found = or_(found, target.is_(None))
    members = sorted({str(neutral(kind, value)) for value in stored})
    return found, [_LIST, members, len(stored) < len(values)]


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
