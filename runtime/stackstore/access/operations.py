"""What can be done with rows that have owners, on a store or in a transaction of it.

Each operation acts and checks in one statement: whose rows may be acted on is a condition of it.
The statement also carries a look at whether all owners are known. Where they weren't, it does
nothing; what is new is read, and it is run again.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Hashable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from sqlalchemy import and_, case, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from stackstore.access import chains, pages, reads
from stackstore.access.access import Access, Asker
from stackstore.access.chains import Links
from stackstore.access.hot import Hot
from stackstore.access.owners import Interned, Owner, Owners
from stackstore.access.pages import Wanted, says_one
from stackstore.access.policy import Action
from stackstore.access.resources import prepare
from stackstore.access.tables import OWNER_KEY, Owned
from stackstore.access.visible import Question, View, view
from stackstore.access.writes import Change, Guard, Upsert, denied
from stackstore.errors import BackendUnavailableError, InvalidArgumentError, NotFoundError
from stackstore.sql import statements
from stackstore.sql.conditions import Conditions, conditions
from stackstore.sql.operations import (
    CHUNK_ROWS,
    DeleteOperation,
    Operations,
    Page,
    Where,
    check_limit,
    decoded,
    given_rows,
    write_rows,
)
from stackstore.sql.ordering import Order, OrderBy, order
from stackstore.sql.tables import Row

T = TypeVar("T")

_MOST_ORDERS = 1_000
"""Of how many orders it is kept how they are understood."""

_MOVES = 3
"""How often an operation begins again because the database turned out to be another one."""


class AuthorizedOperations(ABC):
    """Reading and writing the rows that the current user may read and write.

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
        self._hot: Hot | None = None
        self._orders: dict[Hashable, Order] = {}

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
        values = owned.table.given(data)
        if not values:
            raise InvalidArgumentError(f"table {table!r}: update needs at least one column to set")
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

    async def count(self, table: str, where: Where | None = None) -> int:
        """How many of the rows that `where` finds the user may read.

        Raises:
            AccessDeniedError: there is no user.
            InvalidArgumentError: `where` is impossible.
            BackendUnavailableError: the database can't do it now.
        """
        owned = self._owned(table)
        asker = self._access.asker()
        found = self._conditions(owned, where)
        question = self._access.question(Action.READ, table, asker)

        async def once(connection: AsyncConnection, seen: View, guard: Guard) -> int:
            visible = seen.permits(owned.owner, owned.row_id)
            statement = (
                select(func.count())
                .select_from(owned.table.core)
                .where(and_(*found.clauses, visible, guard))
            )
            return int((await connection.execute(statement)).scalar_one())

        async def work(connection: AsyncConnection) -> int:
            return await self._seen(connection, question, once)

        return await self._operations.run(table, work, writes=False)

    async def fetch_one(
        self,
        table: str,
        where: Where | None = None,
        order_by: OrderBy | None = None,
        *,
        own: bool = False,
    ) -> Row | None:
        """The first row that `where` finds among those the user may read; None if there is none.

        Where ids are unique per owner and `where` says one: the user's own row goes first, then
        `order_by`.

        Args:
            table: where; with ids per owner, if `own`.
            where: which rows.
            order_by: which of them is the first.
            own: only the user's own count: those that an upsert of his would change.

        Raises:
            AccessDeniedError: there is no user.
            InvalidArgumentError, BackendUnavailableError: as `fetch_all`.
        """
        owned = self._owned(table)
        asker = self._access.asker()
        ordered = self._order(owned, order_by)
        wanted = Wanted(owned, self._conditions(owned, where), ordered, 1)
        one_id = owned.per_owner and all(says_one(where, name) for name in owned.key)
        rows = decoded(owned.table, await self._rows(wanted, asker, one_id=one_id, own=own))
        return owned.shown(rows)[0] if rows else None

    async def fetch_chain(
        self, table: str, links: Links, starts: Sequence[str], columns: Sequence[str]
    ) -> list[Row]:
        """The parts of rows that some parts lead to, themselves included, as far as the user may read.

        A part may be read by whom its row may, or might if it were still there. Nothing lies behind
        one that may not be read. Each comes once, in no order.

        Args:
            table: whose rows' parts they are.
            links: how they hang together.
            starts: keys of those to begin with.
            columns: what is wanted of each.

        Raises:
            AccessDeniedError: there is no user.
            BackendUnavailableError: the database can't do it now.
        """
        parts = self._operations.table(links.table)
        question = self._access.question(Action.READ, table, self._access.asker())

        async def once(connection: AsyncConnection, seen: View, guard: Guard) -> list[Row]:
            statement = chains.reached(parts, links, starts, columns, view=seen, guard=guard)
            return await reads.rows(connection, statement)

        async def work(connection: AsyncConnection) -> list[Row]:
            return await self._seen(connection, question, once)

        rows = await self._operations.run(links.table, work, writes=False)
        return chains.decoded_part(parts, rows)

    async def fetch_all(
        self,
        table: str,
        where: Where | None = None,
        order_by: OrderBy | None = None,
        limit: int | None = None,
        cursor: str | None = None,
        *,
        after: Any = None,
    ) -> Page:
        """A page of the rows that `where` finds and the user may read, in a stable order.

        Pages are full, and `has_more` speaks of the user's own view. A cursor is one user's.

        Args:
            table: where.
            where: which rows, see `stackstore.sql.conditions`.
            order_by: a column, or a list of columns and (column, "asc" | "desc"). The primary key
                breaks ties, in the direction of the last column. NULL is the smallest value.
            limit: most rows of the page; None: all.
            cursor: `next_cursor` of the page before, of the same user, table, where and order.
            after: instead of a cursor, the primary key of a row: its value, or a mapping.

        Raises:
            AccessDeniedError: there is no user.
            NotFoundError: the row of `after` isn't there, or the user may not read it, or it is not
                among those of `where`.
            InvalidArgumentError: an argument isn't possible, or the cursor isn't one of this query.
            BackendUnavailableError: the database can't do it now.
        """
        owned = self._owned(table)
        asker = self._access.asker()
        found = self._conditions(owned, where, asker)
        ordered = self._order(owned, order_by)
        check_limit(limit)
        wanted = Wanted(owned, found, ordered, None if limit is None else limit + 1)
        if cursor is not None:
            if after is not None:
                raise InvalidArgumentError("cursor and after exclude each other")
            position = await self._operations.position(owned.table, found, ordered, cursor)
            wanted = replace(wanted, position=position)
        elif after is not None:
            wanted = replace(wanted, position=await self._position_of_row(wanted, asker, after))
        rows = await self._rows(wanted, asker)
        paged = await self._operations.paged(owned.table, found, ordered, rows, limit)
        owned.shown(paged.data)
        return paged

    # -- inside: arguments

    def _owned(self, table: str) -> Owned:
        known = self._operations.table(table)
        if table not in self._per_owner:
            raise NotFoundError(
                f"table {table!r} was not made through this store, so its rows have no owners here; call "
                "create_table"
            )
        return Owned(known, self._per_owner[table])

    def _whole(self, owned: Owned, row: object) -> Row:
        if not isinstance(row, Mapping):
            return owned.table.given(row)
        owned.refuse(row)
        return owned.table.whole({**row, **owned.stamp(0, 0)})

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

    def _some(self, owned: Owned, where: Where, verb: str) -> Conditions:
        found = self._conditions(owned, where)
        if not found.clauses:
            raise InvalidArgumentError(
                f"table {owned.table.name!r}: {verb} needs a where; to mean every row, say "
                f"{{{owned.key[0]!r}: {{'!=': None}}}}"
            )
        return found

    def _order(self, owned: Owned, order_by: OrderBy | None) -> Order:
        # A tuple may be one term; a list is several.
        terms = (tuple(order_by),) if isinstance(order_by, list) else order_by
        key = owned.table.core, terms
        try:
            found = self._orders.get(key)
        except TypeError:
            # No order there is, so it is refused.
            return self._checked_order(owned, order_by)
        if found is None:
            found = self._checked_order(owned, order_by)
            if len(self._orders) >= _MOST_ORDERS:
                self._orders.clear()
            self._orders[key] = found
        return found

    def _checked_order(self, owned: Owned, order_by: OrderBy | None) -> Order:
        given = [order_by] if isinstance(order_by, str | tuple) else order_by
        if isinstance(given, Sequence):
            owned.refuse(
                name
                for term in given
                for name in (term if isinstance(term, tuple | list) else [term])
            )
        return order(owned.table, order_by)

    # -- inside: who

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

    # -- inside: rows

    async def _rows(
        self,
        wanted: Wanted,
        asker: Asker,
        *,
        one_id: bool = False,
        own: bool = False,
        action: Action = Action.READ,
    ) -> list[Row]:
        question = self._access.question(action, wanted.owned.table.name, asker)
        if self._hot is not None and not own and not one_id:
            found = await self._hot.page(wanted, question)
            if found is not None:
                return found

        async def once(connection: AsyncConnection, seen: View, guard: Guard) -> list[Row]:
            if own:
                # Which keys are his is known for sure only where the guard holds, so after it.
                key = wanted.owned.table.core.c[OWNER_KEY]
                mine = wanted.within(and_(guard, key.in_(self._keys(asker))))
                return await reads.rows(connection, pages.straight(mine, seen))
            if one_id:
                statement = pages.own_first(wanted.within(guard), seen, self._keys(asker))
                return await reads.rows(connection, statement)
            return await reads.page(connection, wanted, seen, guard, question)

        async def work(connection: AsyncConnection) -> list[Row]:
            return await self._seen(connection, question, once)

        return await self._operations.run(wanted.owned.table.name, work, writes=False)

    def _keys(self, asker: Asker) -> list[int]:
        """Those of the asker's own rows, also of what was written without a tenant."""
        tenants = {asker.tenant, None} if self._access.tenancy.default_tenant else {asker.tenant}
        keys = [
            self._owners.known.key(tenant, asker.owner.principal)
            for tenant in tenants
            if self._access.tenancy.belongs(tenant) == asker.tenant
        ]
        return [key for key in keys if key is not None]

    async def _position_of_row(self, wanted: Wanted, asker: Asker, after: Any) -> list[Any]:
        owned = wanted.owned
        if not isinstance(after, Mapping) and len(owned.key) == 1:
            after = {owned.key[0]: after}
        if not isinstance(after, Mapping) or set(after) != set(owned.key):
            raise InvalidArgumentError(
                f"table {owned.table.name!r}: after is the primary key of a row, a mapping of "
                f"{', '.join(owned.key)}"
            )
        # Plain values only: a comparison or a list would find rows, but not one row.
        key = conditions(owned.table, {column: {"=": value} for column, value in after.items()})
        one = replace(wanted.within(and_(*key.clauses)), limit=1)
        rows = await self._rows(one, asker, one_id=owned.per_owner)
        if not rows:
            raise NotFoundError(
                f"table {owned.table.name!r}: there is no row to go on after; it was deleted, or it is not "
                "among those asked for"
            )
        return [rows[0][term.column] for term in wanted.order]

    async def _change(self, changes: Sequence[Change], action: Action, asker: Asker) -> int:
        async def work(connection: AsyncConnection) -> int:
            done = 0
            for change in changes:
                question = self._access.question(action, change.owned.table.name, asker)
                done += await self._seen(connection, question, change.once)
            return done

        first = changes[0].owned.table.name
        return await self._operations.run(first, work, writes=True, atomic=len(changes) > 1)
