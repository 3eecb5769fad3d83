"""Writing rows that have owners: creating is checked, changing acts and checks in one statement."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from sqlalchemy import case, select
from sqlalchemy.ext.asyncio import AsyncConnection

from stackstore.access.access import Asker
from stackstore.access.base import BaseOperations
from stackstore.access.owners import Interned, Owner
from stackstore.access.policy import Action
from stackstore.access.tables import Owned
from stackstore.access.writes import Change, Upsert, denied
from stackstore.errors import BackendUnavailableError, InvalidArgumentError
from stackstore.sql import statements
from stackstore.sql.arguments import check_some, given_rows, given_values
from stackstore.sql.conditions import Conditions
from stackstore.sql.operations import CHUNK_ROWS, DeleteOperation, Where, write_rows
from stackstore.sql.tables import Row

_MOVES = 3
"""How often an operation begins again because the database turned out to be another one."""


class WriteOperations(BaseOperations, ABC):
    """Writing rows as the current user; arguments as of `BaseOperations`."""

    @abstractmethod
    async def _interned(self, table: str, owner: Owner) -> Interned:
        """An owner's row."""

    async def insert(
        self, table: str, rows: Mapping[str, Any] | Sequence[Mapping[str, Any]]
    ) -> None:
        """Insert one row or many as the current user's: all or none.

        Raises:
            AccessDeniedError: the user may not create one of them, or there is no user.
            ConflictError: there is a row with the same primary key, whosever it is.
            InvalidArgumentError: a column or a value isn't possible.
            BackendUnavailableError: the database can't do it now.
        """
        owned = self._owned(table)
        asker = self._access.asker()
        given = given_rows(owned.table, rows)
        whole = [self._whole(owned, row) for row in given]
        if not all(map(self._may_create(owned, asker), whole)):
            raise denied(table, Action.CREATE)
        if not whole:
            return

        async def write(interned: Interned) -> bool:
            mine = [{**row, **owned.stamp(interned.id, interned.key)} for row in whole]
            insert = statements.insert(
                owned.table, only_if=self._owners.is_there(interned.id, interned.mark)
            )

            async def work(connection: AsyncConnection) -> bool:
                return await write_rows(connection, owned.table, mine, insert) == len(mine)

            return await self._operations.run(
                table, work, writes=True, atomic=len(mine) > CHUNK_ROWS
            )

        await self._as_owner(table, asker, write)

    async def upsert(
        self,
        table: str,
        data: Mapping[str, Any] | Sequence[Mapping[str, Any]],
        conflict_columns: Sequence[str],
        update_columns: Sequence[str] | None = None,
    ) -> None:
        """Insert rows as the current user's, or update those whose key is there: all or none.

        A row that is there keeps its owner, whoever updates it.

        Args:
            table: where.
            data: one row or many; of rows with the same key the later ones win.
            conflict_columns: the primary key's columns.
            update_columns: what to set on a row that is there; by default all that is given.

        Raises:
            AccessDeniedError: the user may not create or not update one of them, or there is no
                user. It is the same error whatever is there.
            InvalidArgumentError, BackendUnavailableError: as `insert`.
        """
        owned = self._owned(table)
        asker = self._access.asker()
        given = given_rows(owned.table, data)
        owned.check_key(conflict_columns)
        owned.refuse(update_columns or ())
        whole = [self._whole(owned, row) for row in given]
        changed = statements.changed(owned.table, given, update_columns)
        for name in owned.id_columns:
            if name in changed and name not in owned.key:
                raise InvalidArgumentError(
                    f"table {table!r}: {name!r} is what a row is called, and stays; give update_columns "
                    "without it"
                )
        if not whole:
            return
        question = self._access.question(Action.UPDATE, table, asker)
        may_create = self._may_create(owned, asker)

        async def write(interned: Interned) -> bool:
            mine = [{**row, **owned.stamp(interned.id, interned.key)} for row in whole]
            mine = statements.merged(owned.table, mine, changed)
            creates = [row for row in mine if may_create(row)]
            updates = [row for row in mine if not may_create(row)]
            there = self._owners.is_there(interned.id, interned.mark)
            upsert = Upsert(owned, creates, updates, changed, there)
            once = upsert.once if len(mine) == 1 else upsert.once_or_not_at_all

            async def work(connection: AsyncConnection) -> bool:
                return await self._seen(connection, question, once)

            return await self._operations.run(table, work, writes=True, atomic=len(mine) > 1)

        await self._as_owner(table, asker, write, Action.UPDATE)

    async def update(self, table: str, data: Mapping[str, Any], where: Where) -> int:
        """Set columns of those rows that `where` finds and the user may update.

        What the user may not update is as if it were not there. The primary key stays as it is.

        Returns:
            How many rows there were.

        Raises:
            AccessDeniedError: there is no user.
            InvalidArgumentError: `where` or `data` is empty or impossible.
            BackendUnavailableError: the database can't do it now.
        """
        owned = self._owned(table)
        asker = self._access.asker()
        owned.refuse(data)
        for name in {*owned.key, *owned.id_columns}:
            if name in data:
                raise InvalidArgumentError(
                    f"table {table!r}: {name!r} is what a row is called, and stays; insert another row and "
                    "delete this one"
                )
        values = given_values(owned.table, data)
        found = self._some(owned, where, "update")
        change = owned.table.core.update().values(values)
        return await self._change([Change(owned, found, change)], Action.UPDATE, asker)

    async def delete(self, table: str, where: Where) -> int:
        """Delete those rows that `where` finds and the user may delete; return how many.

        What the user may not delete is as if it were not there.

        Raises:
            AccessDeniedError: there is no user.
            InvalidArgumentError: `where` is empty or impossible.
            BackendUnavailableError: the database can't do it now.
        """
        return await self.delete_many([DeleteOperation(table, where)])

    async def delete_many(self, operations: Sequence[DeleteOperation]) -> int:
        """Delete from several tables, all or nothing; return how many rows there were.

        Raises:
            AccessDeniedError, InvalidArgumentError, BackendUnavailableError: as `delete`.
        """
        asker = self._access.asker()
        changes = []
        for operation in operations:
            owned = self._owned(operation.table)
            found = self._some(owned, operation.where, "delete")
            changes.append(Change(owned, found, owned.table.core.delete()))
        return await self._change(changes, Action.DELETE, asker) if changes else 0

    # -- inside

    def _whole(self, owned: Owned, row: object) -> Row:
        if not isinstance(row, Mapping):
            return owned.table.given(row)
        owned.refuse(row)
        return owned.table.whole({**row, **owned.stamp(0, 0)})

    def _some(self, owned: Owned, where: Where, verb: str) -> Conditions:
        return check_some(owned.table, owned.key, self._conditions(owned, where), verb)

    def _may_create(self, owned: Owned, asker: Asker) -> Callable[[Row], bool]:
        question = self._access.question(Action.CREATE, owned.table.name, asker)
        decision = question.decision(asker.owner)
        return lambda row: decision.of(owned.row_id_in(row))

    async def _as_owner(
        self,
        table: str,
        asker: Asker,
        write: Callable[[Interned], Awaitable[bool]],
        action: Action = Action.CREATE,
    ) -> None:
        """Write with the asker's number; once more if it was of another database."""
        for _ in range(_MOVES):
            interned = await self._interned(table, asker.owner)
            if await write(interned):
                return

            async def known(connection: AsyncConnection, interned: Interned = interned) -> bool:
                there = self._owners.is_there(interned.id, interned.mark)
                return bool((await connection.execute(select(case((there, 1), else_=0)))).scalar())

            if await self._operations.run(table, known, writes=False):
                raise denied(table, action)
            self._owners.forget()
        raise BackendUnavailableError(
            f"table {table!r}: the database changes to another one all the time; nothing was written, try "
            "again"
        )

    async def _change(self, changes: Sequence[Change], action: Action, asker: Asker) -> int:
        async def work(connection: AsyncConnection) -> int:
            done = 0
            for change in changes:
                question = self._access.question(action, change.owned.table.name, asker)
                done += await self._seen(connection, question, change.once)
            return done

        first = changes[0].owned.table.name
        return await self._operations.run(first, work, writes=True, atomic=len(changes) > 1)
