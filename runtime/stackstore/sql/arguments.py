"""What callers hand over, checked; refused in the same words whether rows have owners or not. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from stackstore.errors import InvalidArgumentError, NotFoundError
from stackstore.sql.conditions import Conditions, conditions
from stackstore.sql.tables import Table

MAX_LIMIT = 1_000_000_000


def given_rows(table: Table, data: object) -> list[Mapping[str, Any]]:
    """One row or many, as a list.

    Raises:
        InvalidArgumentError: it is neither.
    """
    if isinstance(data, Mapping):
        return [data]
    if isinstance(data, Sequence) and not isinstance(data, str | bytes):
        return list(data)
    raise InvalidArgumentError(
        f"table {table.name!r}: a row is a mapping from columns to values, and many are a list of them; "
        f"this is a {type(data).__name__}"
    )


def given_values(table: Table, data: object) -> dict[str, Any]:
    """The columns that an update sets, as the driver wants them.

    Raises:
        InvalidArgumentError: there are none, or one isn't possible.
    """
    values = table.given(data)
    if not values:
        raise InvalidArgumentError(f"table {table.name!r}: update needs at least one column to set")
    return values


def check_some(table: Table, key: Sequence[str], found: Conditions, verb: str) -> Conditions:
    """Refuse to change or delete all rows by a `where` that was forgotten.

    Args:
        table: where.
        key: its primary key as callers know it.
        found: what `where` says.
        verb: what would be done to the rows.

    Raises:
        InvalidArgumentError: it says nothing.
    """
    if not found.clauses:
        raise InvalidArgumentError(
            f"table {table.name!r}: {verb} needs a where; to mean every row, say "
            f"{{{key[0]!r}: {{'!=': None}}}}"
        )
    return found


def check_limit(limit: object) -> None:
    """Refuse what is no limit of a page.

    Raises:
        InvalidArgumentError: it isn't one.
    """
    if limit is None:
        return
    if isinstance(limit, bool) or not isinstance(limit, int) or not 1 <= limit <= MAX_LIMIT:
        raise InvalidArgumentError(
            f"limit is a whole number from 1 to {MAX_LIMIT}, or None for all rows"
        )


def check_start(cursor: object, after: object) -> None:
    """Refuse a page that is to begin in two places.

    Raises:
        InvalidArgumentError: both are given.
    """
    if cursor is not None and after is not None:
        raise InvalidArgumentError("cursor and after exclude each other")


def row_of(table: Table, key: Sequence[str], after: object) -> Conditions:
    """Which row a page begins behind.

    Args:
        table: where.
        key: its primary key as callers know it.
        after: the key of the row: its value, or a mapping.

    Raises:
        InvalidArgumentError: it is no key.
    """
    if not isinstance(after, Mapping) and len(key) == 1:
        after = {key[0]: after}
    if not isinstance(after, Mapping) or set(after) != set(key):
        raise InvalidArgumentError(
            f"table {table.name!r}: after is the primary key of a row, a mapping of {', '.join(key)}"
        )
    # Plain values only: a comparison or a list would find rows, but not one row.
    return conditions(table, {column: {"=": value} for column, value in after.items()})


def nowhere(table: Table) -> NotFoundError:
    """The row to begin behind isn't there, or may not be seen."""
    return NotFoundError(
        f"table {table.name!r}: there is no row to go on after; it was deleted, or it is not among those "
        "asked for"
    )
