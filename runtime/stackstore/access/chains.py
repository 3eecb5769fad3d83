"""Chains: parts that each name the one before, read in one statement as far as a user may see."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import CTE, ColumnElement, Select, and_, literal_column, select, true

from stackstore.access.tables import OWNER_ID
from stackstore.access.visible import View
from stackstore.access.writes import Guard
from stackstore.sql.columns import decode
from stackstore.sql.tables import Row, Table

_CHAIN = "chain"


@dataclass(frozen=True, slots=True)
class Links:
    """How a chain's parts hang together.

    A part has the columns `id` and `owner_id` of the row that it belongs to, so it is seen by whom
    that row is, also after the row is gone.

    Attributes:
        table: where the parts are; its key is one column, and minted.
        previous: the column that has the key of the part before; NULL: there is none.
    """

    table: str
    previous: str


def reached(
    parts: Table,
    links: Links,
    starts: Sequence[str],
    columns: Sequence[str],
    *,
    view: View,
    guard: Guard,
) -> Select[Any]:
    """The parts that some lead to, themselves included; each once, in no order.

    Nothing lies behind a part that may not be seen.

    Args:
        parts: where they are.
        links: how they hang together.
        starts: keys of those to begin with.
        columns: what is wanted of each.
        view: whose parts may be seen.
        guard: where it isn't true, nothing is.
    """
    own = parts.core.c
    (name,) = parts.primary_key
    links_of = [own[name].label("key"), own[links.previous].label("previous")]
    seen = view.permits(own[OWNER_ID], own["id"], many=True)
    begin = select(*links_of).where(and_(own[name].in_(list(starts)), seen, guard))
    chain = begin.cte(_CHAIN, recursive=True)
    # UNION: what several lead to is walked once, and a circle as well.
    before = and_(_is(own[name], "previous"), seen)
    chain = chain.union(_each(parts, chain, links_of, before))
    wanted = [column for column in parts.selected() if column.name in columns]
    return _each(parts, chain, wanted, _is(own[name], "key"))


def _each(
    parts: Table, chain: CTE, columns: Sequence[ColumnElement[Any]], where: ColumnElement[bool]
) -> Select[Any]:
    """For each row of the chain the one part that is meant."""
    if parts.dialect == "sqlite":
        return select(*columns).select_from(chain.join(parts.core, where))
    # With a limit, or it may be a join that reads the whole table.
    part = select(*columns).select_from(parts.core).where(where).limit(1).lateral("part")
    return select(*part.c).select_from(chain.join(part, true()))


def _is(key: ColumnElement[Any], column: str) -> ColumnElement[bool]:
    # Not "=", where SQLite reads the whole table once to know beforehand what is in it.
    return key.in_([_of(column)])


def _of(column: str) -> ColumnElement[Any]:
    # A text, or SQLAlchemy would list the chain a second time inside.
    return literal_column(f'"{_CHAIN}"."{column}"')


def decoded_part(parts: Table, rows: list[Row]) -> list[Row]:
    """Rows of some columns as callers get them, in place."""
    for row in rows:
        for name in row:
            row[name] = decode(name, parts.columns[name].type, row[name])
    return rows
