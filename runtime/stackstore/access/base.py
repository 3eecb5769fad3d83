"""What reading and writing rows that have owners stand on.

Each operation acts and checks in one statement: whose rows may be acted on is a condition of it.
The statement also carries a look at whether all owners are known. Where they weren't, it does
nothing; what is new is read, and it is run again.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import TypeVar

from sqlalchemy.ext.asyncio import AsyncConnection

from stackstore.access.access import Access, Asker
from stackstore.access.owners import Owners
from stackstore.access.resources import prepare
from stackstore.access.tables import Owned
from stackstore.access.visible import Question, View, view
from stackstore.access.writes import Guard
from stackstore.errors import NotFoundError
from stackstore.sql.conditions import Conditions, conditions
from stackstore.sql.operations import Operations, Where

T = TypeVar("T")


class BaseOperations:
    """Who asks, of which table, and a statement that asks for him.

    Args:
        operations: the store or transaction that has the rows.
        owners: the owners of its database.
        access: who may do what.
        per_owner: for each table that is known, whether its ids are unique per owner.
    """

    def __init__(
        self,
        operations: Operations,
        owners: Owners,
        access: Access,
        per_owner: dict[str, bool],
    ) -> None:
        self._operations = operations
        self._owners = owners
        self._access = access
        self._per_owner = per_owner

    def _owned(self, table: str) -> Owned:
        known = self._operations.table(table)
        if table not in self._per_owner:
            raise NotFoundError(
                f"table {table!r} was not made through this store, so its rows have no owners here; call "
                "create_table"
            )
        return Owned(known, self._per_owner[table])

    def _conditions(
        self, owned: Owned, where: Where | None, asker: Asker | None = None
    ) -> Conditions:
        if isinstance(where, Mapping):
            owned.refuse(where)
        found = conditions(owned.table, where)
        if asker is None:
            return found
        # A cursor is bound to who asks, so it is of no use to anybody else.
        canonical = [*found.canonical, asker.binding]
        return Conditions(found.clauses, canonical, found.shape, found.values)

    async def _seen(
        self,
        connection: AsyncConnection,
        question: Question,
        once: Callable[[AsyncConnection, View, Guard], Awaitable[T]],
    ) -> T:
        """Run a statement as one who knows all owners.

        Empty, it may have been stopped by its guard. Then what is new is read, and it is run again
        with what was known during this call: whoever came in between is not late.
        """
        if self._owners.dialect == "sqlite" and question.ruling.calls_matches:
            await prepare(connection)
        known, newest = self._owners.known, self._owners.known.newest
        seen = view(known, question, self._owners.dialect)
        result = await once(connection, seen, self._owners.are_all(known))
        while not result:
            await self._owners.refresh(connection)
            if self._owners.known is known and known.newest == newest:
                return result
            known, newest = self._owners.known, self._owners.known.newest
            seen = view(known, question, self._owners.dialect)
            result = await once(connection, seen, self._owners.are_there(known))
        return result
