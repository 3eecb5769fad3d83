"""Lists as the server's API has them: a page, whether there is more, and the ids at its ends."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from stackstore.access.operations import AuthorizedOperations
from stackstore.errors import InvalidArgumentError
from stackstore.sql import Page
from stackstore.sql.names import shown
from stackstore.sql.operations import Operations, Where

MAX_PAGE = 1_000
"""Most rows of a page: one request must not take all memory."""

Direction = Literal["asc", "desc"]
_TURNED = {"asc": "desc", "desc": "asc"}


@dataclass(frozen=True, slots=True)
class Listing:
    """A page of documents.

    Attributes:
        data: the documents, in order.
        has_more: whether there are more in the direction in which the pages go.
        first_id: the first one's id; empty where there is none.
        last_id: the last one's, which the next page goes on `after`.
        next_cursor: likewise, for `cursor`: exact also where several owners' documents of one id
            are seen, and where the last one is deleted meanwhile. None when there is no more.
    """

    data: list[dict[str, Any]]
    has_more: bool
    first_id: str
    last_id: str
    next_cursor: str | None = None

    @classmethod
    def of(
        cls,
        data: list[dict[str, Any]],
        *,
        has_more: bool = False,
        next_cursor: str | None = None,
        id: str = "id",  # noqa: A002 - the field's own name
    ) -> Listing:
        """A page whose documents have their ids in the field `id`."""
        first, last = (data[0][id], data[-1][id]) if data else ("", "")
        return cls(data, has_more, first, last, next_cursor)


async def window(
    operations: AuthorizedOperations | Operations,
    table: str,
    columns: Sequence[str],
    *,
    where: Where | None = None,
    order: str = "desc",
    limit: int,
    after: Any = None,
    before: Any = None,
    cursor: str | None = None,
) -> Page:
    """A page of a table's rows, in one direction.

    Args:
        operations: where the table is.
        table: its name.
        columns: what it is ordered by; the primary key breaks ties, in the same direction.
        where: which rows.
        order: "asc" or "desc".
        limit: most rows of the page, at least 1.
        after: the primary key of a row; the page begins behind it.
        before: likewise; the page ends in front of it, and `has_more` speaks of rows further ahead.
        cursor: instead of both, the page before's `next_cursor`.

    Raises:
        InvalidArgumentError: an argument isn't possible.
        NotFoundError: the row of `after` or `before` isn't there, or may not be seen.
        AccessDeniedError: there is no user.
        BackendUnavailableError: the database can't do it now.
    """
    forwards = check(limit, order)
    if sum(given is not None for given in (after, before, cursor)) > 1:
        raise InvalidArgumentError("after, before and cursor exclude each other")
    backwards = before is not None
    direction = _TURNED[forwards] if backwards else forwards
    page = await operations.fetch_all(
        table,
        where,
        [(column, direction) for column in columns],
        limit,
        cursor,
        after=before if backwards else after,
    )
    if not backwards:
        return page
    # What it would lead to lies in the other direction.
    return Page(page.data[::-1], page.has_more, None)


def check(limit: object, order: object) -> Direction:
    """See to it that a page's size and direction are possible; returns the direction.

    Raises:
        InvalidArgumentError: they aren't. A limit of 0 isn't "no limit": what was asked for is
            a page, and an unbounded one would be the whole table.
    """
    if not isinstance(limit, int) or isinstance(limit, bool) or not 1 <= limit <= MAX_PAGE:
        raise InvalidArgumentError(
            f"limit is a whole number from 1 to {MAX_PAGE}, not {_number(limit)}"
        )
    # The server's own Order is an Enum whose members are texts.
    word = getattr(order, "value", order)
    if word not in ("asc", "desc"):
        raise InvalidArgumentError(f'order is "asc" or "desc", not {shown(word)}')
    return word


def _number(value: object) -> str:
    return str(value) if type(value) is int and abs(value) < 10**20 else f"a {type(value).__name__}"
