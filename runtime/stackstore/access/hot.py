"""Pages by statements that are ready: the hot path of reading.

To build, compile and run a page's statement by SQLAlchemy takes ten times as long as the database
needs for it. So one is built once for everything that its text depends on, and run on the driver's
own connection with each call's parameters.

Beside the page it gives a row of its own where its guard isn't true, so that an empty page needs no
second look at whether all owners are known. What is to be done then, and what can't be said by a
statement that is ready, is left to `stackstore.access.reads`.
"""

from __future__ import annotations

import itertools
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from dataclasses import replace
from typing import Any

from sqlalchemy import ColumnElement, bindparam, literal_column, not_, null, select, union_all

from stackstore.access import pages
from stackstore.access.owners import MARK, Owners
from stackstore.access.pages import CUT, Wanted
from stackstore.access.tables import OURS
from stackstore.access.visible import (
    MAX_MERGED,
    Question,
    View,
    is_named,
    named,
    parameter_of,
    view,
)
from stackstore.sql.conditions import Conditions, clause
from stackstore.sql.ready import Ready
from stackstore.sql.store import SqlStore
from stackstore.sql.tables import Row

MAX_KEPT = 500
"""Most statements that are kept ready; there are few tables, orders and sizes of pages."""

_WHERE = "where~"
_POSITION = "position~"
_EACH = tuple(named(("each", number)) for number in range(MAX_MERGED))
_UNKNOWN = 2
"""In the column `CUT`: there are owners that aren't known here."""

Way = tuple[str, int]
"""How a page is reached, and how far is walked."""


class Hot:
    """Reads pages of a store's tables."""

    def __init__(self, store: SqlStore, owners: Owners) -> None:
        self._store = store
        self._owners = owners
        self._ready: OrderedDict[Hashable, Ready] = OrderedDict()

    async def page(self, wanted: Wanted, question: Question) -> list[Row] | None:
        """The rows of a page as the driver has them; None: it has to be read the long way.

        They lack our columns, but for those of the order in the last row that is shown.

        Raises:
            StackstoreError: as `SqlStore.fetch_all`.
        """
        dialect = self._owners.dialect
        if wanted.limit is None or wanted.where.shape is None:
            return None
        if dialect == "sqlite" and question.ruling.calls_matches:
            return None
        seen = view(self._owners.known, question, dialect)
        for way in _ways(seen, wanted.limit):
            ready = self._statement(wanted, seen, way)
            found = await self._store.read_directly(
                wanted.owned.table.name, ready, ready.arguments(_values(wanted, seen))
            )
            sign = found[-1][-1] if found else 0
            if sign == _UNKNOWN:
                return None
            if not sign:
                rows = ready.rows(found)
                # The one that a cursor may be made of.
                last = max(wanted.limit - 2, 0)
                if last < len(rows):
                    rows[last] = ready.whole(found[last])
                    del rows[last][CUT]
                return rows
            # Another task may have learned of owners meanwhile.
            seen = view(seen.known, question, dialect)
        raise AssertionError(way)

    def _statement(self, wanted: Wanted, seen: View, way: Way) -> Ready:
        position = wanted.position
        key = (
            wanted.owned.table.core,
            wanted.where.shape,
            wanted.order,
            wanted.limit,
            None if position is None else tuple(value is None for value in position),
            way,
            seen.decided.shape,
        )
        ready = self._ready.get(key)
        if ready is not None:
            self._ready.move_to_end(key)
            return ready
        statement = _build(_with_parameters(wanted), seen, way, self._owners.are_all(seen.known))
        width = len(_names(wanted)[0])
        ready = self._ready[key] = self._store.ready(statement, width, _is_variable)
        while len(self._ready) > MAX_KEPT:
            self._ready.popitem(last=False)
        return ready


def _ways(seen: View, limit: int) -> Iterator[Way]:
    """The ways to a page, to be tried in turn."""
    if seen.all or seen.count == 1:
        yield "straight", 0
    elif seen.count <= MAX_MERGED:
        yield "merge", 0
    else:
        yield from (("walk", bound) for bound in pages.bounds(seen, limit))
        yield "heads", 0


def _build(wanted: Wanted, seen: View, way: Way, guard: ColumnElement[bool]) -> Any:
    """A way's statement, with `CUT` as its last column."""
    names = list(itertools.chain(*_names(wanted)))
    guarded = wanted.within(guard)
    row: ColumnElement[Any] = literal_column("0").label(CUT)
    match way:
        case "straight", _:
            found = pages.straight(guarded, seen)
        case "merge", _:
            found = pages.merge(wanted, seen).where(guard)
        case "walk", bound:
            found = pages.walk(guarded, seen, bound)
            row = literal_column(CUT)
        case _:
            found = pages.heads(wanted, seen).where(guard)
    sign: ColumnElement[Any] = literal_column(str(_UNKNOWN)).label(CUT)
    unknown = select(*(null().label(name) for name in names), sign).where(not_(guard))
    if way[0] == "merge" and seen.dialect == "sqlite" and seen.count:
        # It has neither order nor limit at its end, so it can be a part; a layer more costs time.
        columns = {column.name: column for column in wanted.owned.table.selected()}
        return union_all(found.with_only_columns(*(columns[name] for name in names), row), unknown)
    page = found.subquery("page")
    return union_all(select(*(page.c[name] for name in names), row), unknown)


def _names(wanted: Wanted) -> tuple[list[str], list[str]]:
    """The columns of a page: those that callers see, and the order's others."""
    shown = [name for name in wanted.owned.table.columns if name not in OURS]
    return shown, [term.column for term in wanted.order if term.column not in shown]


def _with_parameters(wanted: Wanted) -> Wanted:
    """The same page, with parameters for the values of its conditions and of its position."""
    table = wanted.owned.table
    clauses = []
    numbers = iter(range(len(wanted.where.values)))
    for column, operator, is_null in wanted.where.shape or ():
        kind = table.core.c[column].type
        bound = None if is_null else bindparam(f"{_WHERE}{next(numbers)}", type_=kind)
        clauses.append(clause(table, column, operator, bound))
    position = wanted.position
    if position is not None:
        position = [
            None
            if value is None
            else bindparam(f"{_POSITION}{place}", type_=table.core.c[term.column].type)
            for place, (term, value) in enumerate(zip(wanted.order, position, strict=True))
        ]
    where = Conditions(tuple(clauses), wanted.where.canonical)
    return replace(wanted, where=where, position=position)


def _is_variable(name: str) -> bool:
    return name == MARK or name.startswith((_WHERE, _POSITION)) or is_named(name)


def _values(wanted: Wanted, seen: View) -> Callable[[str], Any]:
    """A statement's parameters, by their names."""
    given: dict[str, Any] = dict(zip(_EACH, seen.decided.each, strict=False))
    given[MARK] = seen.mark
    for number, found in enumerate(wanted.where.values):
        given[f"{_WHERE}{number}"] = found
    for number, found in enumerate(wanted.position or ()):
        given[f"{_POSITION}{number}"] = found

    def value(name: str) -> Any:
        return given[name] if name in given else seen.value(parameter_of(name))

    return value
