"""Pages of what a user may see, without reading what is in between; statements only.

Four ways lead to a page, and none reads the table from end to end:

- `straight`: in the order asked for, for one owner or for all of them.
- `merge`: a page of each owner's rows, and of those the first; for a few owners.
- `walk`: the first rows in that order, up to a bound, and of those the user's. It fills a page
  quickly where much of the table is the user's, and says so when the bound cut it off.
- `heads`: each owner's first row out of the index (owner_id, order, key); then a page's worth of
  rows of those owners whose first rows come first. No other owner can have a row on the page.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import (
    ColumnElement,
    FromClause,
    Integer,
    Select,
    Subquery,
    UnaryExpression,
    and_,
    case,
    column,
    false,
    literal_column,
    null,
    select,
    union_all,
)

from stackstore.access.tables import OWNER_ID, OWNER_KEY, Owned
from stackstore.access.visible import View
from stackstore.schema import Dialect
from stackstore.sql.conditions import Conditions
from stackstore.sql.ordering import Order, direction, limited, number, page, ranges
from stackstore.sql.tables import Table

CUT = "stackstore_cut"
"""The column that says, in a row of its own, that a walk ended at its bound."""

_ROW = "stackstore_row"

# Seen with 1,000,000 rows and 50,000 owners; only the ratio matters.
_ROW_MICROSECONDS: dict[Dialect, float] = {"postgresql": 0.8, "sqlite": 0.3}
_HEAD_MICROSECONDS = 10.0


def bounds(view: View, limit: int) -> list[int]:
    """How far to walk, and how far next if that was too short; then `heads` are cheaper.

    Args:
        view: whose rows.
        limit: most rows of the page.
    """
    row = _ROW_MICROSECONDS[view.dialect]
    heads = view.count * _HEAD_MICROSECONDS + limit * limit * row
    # Where owners have equally many rows; thrice that, for they haven't.
    bound = 3 * limit * (view.newest + 1) // max(view.count, 1) + limit
    # Few different ones, for each is another statement.
    bound = 1 << (bound - 1).bit_length()
    found = []
    while bound * row < heads:
        found.append(bound)
        bound *= 8
    return found


@dataclass(frozen=True, slots=True)
class Wanted:
    """What page is asked for.

    Attributes:
        owned: of which table.
        where: which rows.
        order: how they come.
        limit: most rows; None: all.
        position: only what is beyond it.
    """

    owned: Owned
    where: Conditions
    order: Order
    limit: int | None
    position: Sequence[Any] | None = None

    def within(self, clause: ColumnElement[bool]) -> Wanted:
        """The same, of fewer rows."""
        where = Conditions((*self.where.clauses, clause), self.where.canonical)
        return replace(self, where=where)

    def page(self, limit: int | None, **more: Any) -> Select[Any]:
        """Its first rows, whosever they are."""
        return page(self.owned.table, self.where, self.order, self.position, limit, **more)

    def ranges(self, columns: Sequence[ColumnElement[Any]]) -> list[Select[Any]]:
        """All of it in disjoint parts; see `stackstore.sql.ordering.ranges`."""
        return ranges(self.owned.table, self.where, self.order, self.position, columns)

    def directions(self, columns: Any) -> list[UnaryExpression[Any]]:
        """ORDER BY, for what has the table's columns."""
        return [direction(self.owned.table, columns[term.column], term) for term in self.order]


def straight(wanted: Wanted, view: View) -> Select[Any]:
    """The page as one statement; how it is done is the database's choice."""
    owned = wanted.owned
    return wanted.within(view.permits(owned.owner, owned.row_id)).page(wanted.limit)


def merge(wanted: Wanted, view: View) -> Select[Any]:
    """The page out of the first rows of each of the few owners there are."""
    owned, table = wanted.owned, wanted.owned.table
    if not view.count:
        return wanted.within(false()).page(wanted.limit)
    ordered = [table.core.c[term.column] for term in wanted.order]
    columns = [*ordered, _rowid()] if table.dialect == "sqlite" else table.selected()
    parts = [
        part
        for owner, decision in view.merged()
        for part in wanted.within(
            and_(owned.owner == owner, view.passes(decision, owned.row_id))
        ).ranges(columns)
    ]
    if table.dialect == "sqlite":
        # It merges what is in order of itself, and reads no further than the page needs; with what is
        # in the index only, for it carries every column it selects.
        bare: dict[str, Any] = {term.column: column(term.column) for term in wanted.order}
        merged = union_all(*(part.order_by(None) for part in parts))
        first = (
            merged.order_by(*wanted.directions(bare)).limit(_limit(wanted.limit)).subquery("first")
        )
        return select(*table.selected()).select_from(_looked_up(first, table))
    # Without the limits it would rather read all there is of each, and sort that.
    each = (select(limited(part, wanted.limit).subquery()) for part in parts)
    rows = union_all(*each).subquery("united")
    page = select(*(rows.c[name] for name in table.columns)).order_by(*wanted.directions(rows.c))
    return limited(page, wanted.limit)


def walk(wanted: Wanted, view: View, bound: int) -> Any:
    """The user's among the first `bound` rows; with one row more, `CUT`, if there are others.

    Less than a page without that row is all there is.
    """
    owned, table = wanted.owned, wanted.owned.table
    tested = any(decision.tests for decision in view.some)
    if table.dialect == "sqlite":
        # It carries every column it selects through the walk, so it walks with what it needs. It
        # does not see that the walk is in order, and would take all of it to sort it again; but the
        # rows come as they were walked, for what is joined to each is one row.
        names = dict.fromkeys([*(owned.id_columns if tested else ()), OWNER_ID])
        columns = [_rowid(), *(table.core.c[name] for name in names)]
        walked = wanted.page(bound, columns=columns).subquery("walked")
        rows = select(*table.selected()).select_from(_looked_up(walked, table))
    else:
        walked = wanted.page(bound).subquery("walked")
        rows = select(*(walked.c[name] for name in table.columns)).order_by(
            *wanted.directions(walked.c)
        )
    row_id = owned.row_id_of(walked.c) if tested else None
    own = view.permits(walked.c[OWNER_ID], row_id, many=True)
    first = rows.where(own).limit(_limit(wanted.limit)).subquery("own")
    one: ColumnElement[Any] = literal_column("1").label("one")
    last = wanted.page(1, columns=[one], skip=bound).subquery("last")
    # The second part is only looked at when the first one didn't fill the page.
    return union_all(
        select(*(first.c[name] for name in table.columns), literal_column("0").label(CUT)),
        select(*(null().label(name) for name in table.columns), last.c.one.label(CUT)),
    ).limit(_limit(wanted.limit))


def heads(wanted: Wanted, view: View) -> Select[Any]:
    """The page out of each owner's own rows."""
    table = wanted.owned.table
    owners = select(view.owners().label(OWNER_ID)).subquery("owners")
    if table.dialect == "sqlite":
        # It has no LATERAL; but a subquery that is a value may look outside, and rowid is a value.
        found = _of("owners", wanted, view, 1, [_rowid()])
        row = select(found.subquery("r").c[_ROW]).correlate(None).scalar_subquery()
        head = select(owners.c[OWNER_ID], row.label("head")).subquery("heads")
        begins = head.join(table.core, _rowid_of(table) == head.c.head)
        first = _first(wanted, head, begins, table.core.c)
        found = _of("first", wanted, view, wanted.limit, [_rowid()])
        rows = select(found.subquery("r").c[_ROW]).correlate(None)
        ends = first.join(table.core, _rowid_of(table).in_(rows))
        ranked = (
            select(_rowid_of(table).label(_ROW))
            .select_from(ends)
            .order_by(*wanted.directions(table.core.c))
            .limit(_limit(wanted.limit))
            .subquery("ranked")
        )
        # It would carry every column through the sorting.
        return select(*table.selected()).select_from(_looked_up(ranked, table))
    ordered = [table.core.c[term.column] for term in wanted.order]
    lateral = _of("owners", wanted, view, 1, ordered).lateral("head")
    begins = owners.join(lateral, literal_column("true"))
    first = _first(wanted, owners, begins, lateral.c)
    each = _of("first", wanted, view, wanted.limit, table.selected()).lateral("rows")
    return (
        select(*(each.c[name] for name in table.columns))
        .select_from(first.join(each, literal_column("true")))
        .order_by(*wanted.directions(each.c))
        .limit(_limit(wanted.limit))
    )


def own_first(wanted: Wanted, view: View, keys: Sequence[int]) -> Select[Any]:
    """Of some rows of one id, those with these owner keys, then the others in order."""
    owned = wanted.owned
    visible = view.permits(owned.owner, owned.row_id)
    columns = owned.table.core.c
    own = case((columns[OWNER_KEY].in_(keys), literal_column("0")), else_=literal_column("1"))
    return (
        select(*owned.table.selected())
        .where(and_(*wanted.where.clauses, visible))
        .order_by(own, *wanted.directions(columns))
        .limit(_limit(wanted.limit))
    )


def says_one(where: Mapping[str, Any] | None, column: str) -> bool:
    """Whether a caller's `where` leaves one value of a column."""
    wanted = (where or {}).get(column)
    if isinstance(wanted, Mapping):
        return set(wanted) <= {"=", "=="} and None not in wanted.values()
    return wanted is not None and not isinstance(wanted, list | tuple | set | frozenset)


def _of(
    outside: str,
    wanted: Wanted,
    view: View,
    limit: int | None,
    columns: Sequence[ColumnElement[Any]],
) -> Select[Any]:
    """The first rows of the owner that a selection outside has."""
    owned = wanted.owned
    # A text, or SQLAlchemy would list the outside a second time inside.
    own = owned.owner == literal_column(f'"{outside}"."{OWNER_ID}"')
    tests = view.tests(owned.owner, owned.row_id)
    return wanted.within(and_(own, tests)).page(limit, columns=columns)


def _first(wanted: Wanted, owners: FromClause, begins: FromClause, columns: Any) -> Subquery:
    """The owners whose first rows come first."""
    return (
        select(owners.c[OWNER_ID])
        .select_from(begins)
        .order_by(*wanted.directions(columns))
        .limit(_limit(wanted.limit))
    ).subquery("first")


def _looked_up(rows: Subquery, table: Table) -> Any:
    """The rows of which a SQLite subquery has the rowids, as they come and as far as is asked for."""
    # Before an inner join it would first take all of them.
    return rows.join(table.core, _rowid_of(table) == rows.c[_ROW], isouter=True)


def _limit(limit: int | None) -> ColumnElement[int] | None:
    return None if limit is None else number(limit)


def _rowid() -> ColumnElement[Any]:
    return literal_column("rowid", Integer()).label(_ROW)


def _rowid_of(table: Table) -> ColumnElement[Any]:
    return literal_column(f'"{table.core.name}".rowid', Integer())
