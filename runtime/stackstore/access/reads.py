"""Reading a page: the statements of `stackstore.access.pages`, one after the other if need be."""

from __future__ import annotations

from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from stackstore.access import pages
from stackstore.access.pages import Wanted
from stackstore.access.visible import Question, View, view
from stackstore.access.writes import Guard
from stackstore.sql.tables import Row


async def page(
    connection: AsyncConnection, wanted: Wanted, seen: View, guard: Guard, question: Question
) -> list[Row]:
    """The rows of a page; each way to it that is tried is one statement, and gives all or nothing."""
    guarded = wanted.within(guard)
    if wanted.limit is None or seen.all or seen.count <= 1:
        return await rows(connection, pages.straight(guarded, seen))
    for bound in pages.bounds(seen, wanted.limit):
        found = await rows(connection, pages.walk(guarded, seen, bound))
        cut = [row for row in found if row.pop(pages.CUT)]
        if not cut:
            return found
        # Another task may have learned of owners meanwhile.
        seen = view(seen.known, question, seen.dialect)
    return await rows(connection, pages.heads(wanted, seen).where(guard))


async def rows(connection: AsyncConnection, statement: Any) -> list[Row]:
    """What a statement gives, as the driver has it."""
    return [dict(row) for row in (await connection.execute(statement)).mappings()]
