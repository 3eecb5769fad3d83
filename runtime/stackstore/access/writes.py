"""Writing rows that have owners: each statement acts and checks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, and_, bindparam
from sqlalchemy.ext.asyncio import AsyncConnection

from stackstore.access.errors import AccessDeniedError
from stackstore.access.policy import Action
from stackstore.access.tables import OWNER_ID, Owned
from stackstore.access.visible import View
from stackstore.sql import statements
from stackstore.sql.conditions import Conditions
from stackstore.sql.operations import write_rows
from stackstore.sql.tables import Row

Guard = ColumnElement[bool]
"""A look at the owners that a statement carries; where it isn't true, nothing happens."""


@dataclass(frozen=True, slots=True)
class Change:
    """An UPDATE or DELETE.

    Attributes:
        owned: of which table.
        where: of which rows.
        statement: what is done to them.
    """

    owned: Owned
    where: Conditions
    statement: Any

    async def once(self, connection: AsyncConnection, seen: View, guard: Guard) -> int:
        """Do it to those that may be seen; returns how many there were."""
        may = seen.permits(self.owned.owner, self.owned.row_id)
        whole = self.statement.where(and_(*self.where.clauses, may, guard))
        return int((await connection.execute(whole)).rowcount)


@dataclass(frozen=True, slots=True)
class Upsert:
    """An INSERT … ON CONFLICT DO UPDATE.

    Attributes:
        owned: into which table.
        creates: rows that may be made, or updated if they are there.
        updates: rows that may only be updated.
        changed: what a row that is there gets.
        only_if: no row is made where this is not true.
    """

    owned: Owned
    creates: Sequence[Row]
    updates: Sequence[Row]
    changed: Sequence[str]
    only_if: Guard

    async def once(self, connection: AsyncConnection, seen: View, guard: Guard) -> bool:
        """Write; whether all could be written."""
        may = and_(seen.permits(self.owned.owner, self.owned.row_id), guard)
        done = 0
        if self.creates:
            upsert = statements.upsert(
                self.owned.table, self.changed, only_if=self.only_if, where=may
            )
            done += await write_rows(connection, self.owned.table, list(self.creates), upsert)
        for row in self.updates:
            # What may not be made is written only where it is there.
            done += await self._update(connection, row, may)
        return done == len(self.creates) + len(self.updates)

    async def once_or_not_at_all(
        self, connection: AsyncConnection, seen: View, guard: Guard
    ) -> bool:
        """The same in a transaction, and undone where not all could be written."""
        undo = await connection.begin_nested()
        try:
            whole = await self.once(connection, seen, guard)
        except BaseException:
            await undo.rollback()
            raise
        await (undo.commit() if whole else undo.rollback())
        return whole

    async def _update(self, connection: AsyncConnection, row: Row, may: Guard) -> int:
        columns = self.owned.table.core.c

        def value(name: str) -> ColumnElement[Any]:
            return bindparam(None, row[name], type_=columns[name].type, unique=True)

        key = [columns[name] == value(name) for name in self.owned.table.primary_key]
        values = {name: value(name) for name in self.changed} or {OWNER_ID: columns[OWNER_ID]}
        statement = self.owned.table.core.update().values(values).where(and_(*key, may))
        return int((await connection.execute(statement)).rowcount)


def denied(table: str, action: Action) -> AccessDeniedError:
    """The one refusal of a write, whatever is there and whosever it is."""
    return AccessDeniedError(f"table {table!r}: the user may not {action.value} such a row")
