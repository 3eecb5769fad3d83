"""Reading rows that have owners: pages, single rows, chains and counts, as far as the user may see."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import and_, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from stackstore.access import chains, pages, reads
from stackstore.access.access import Access, Asker
from stackstore.access.base import BaseOperations
from stackstore.access.chains import Links
from stackstore.access.hot import Hot
from stackstore.access.owners import Owners
from stackstore.access.pages import Wanted, says_one
from stackstore.access.policy import Action
from stackstore.access.tables import OWNER_KEY, Owned
from stackstore.access.visible import View
from stackstore.access.writes import Guard
from stackstore.sql.arguments import check_limit, check_start, nowhere, row_of
from stackstore.sql.operations import Operations, Page, Where, decoded
from stackstore.sql.ordering import Order, OrderBy, order
from stackstore.sql.tables import Row

_MOST_ORDERS = 1_000
"""Of how many orders it is kept how they are understood."""


class ReadOperations(BaseOperations):
    """Reading the rows that the current user may read; arguments as of `BaseOperations`."""

    def __init__(
        self,
        operations: Operations,
        owners: Owners,
        access: Access,
        per_owner: dict[str, bool],
    ) -> None:
        super().__init__(operations, owners, access, per_owner)
        self._hot: Hot | None = None
        self._orders: dict[Hashable, Order] = {}

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
        check_start(cursor, after)
        wanted = Wanted(owned, found, ordered, None if limit is None else limit + 1)
        if cursor is not None:
            position = await self._operations.position(owned.table, found, ordered, cursor)
            wanted = replace(wanted, position=position)
        elif after is not None:
            wanted = replace(wanted, position=await self._position_of_row(wanted, asker, after))
        rows = await self._rows(wanted, asker)
        paged = await self._operations.paged(owned.table, found, ordered, rows, limit)
        owned.shown(paged.data)
        return paged

    # -- inside: arguments

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

    def _keys(self, asker: Asker) -> list[int]:
        """Those of the asker's own rows, also of what was written without a tenant."""
        tenants = {asker.tenant, None} if self._access.tenancy.default_tenant else {asker.tenant}
        keys = [
            self._owners.known.key(tenant, asker.owner.principal)
            for tenant in tenants
            if self._access.tenancy.belongs(tenant) == asker.tenant
        ]
        return [key for key in keys if key is not None]

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

    async def _position_of_row(self, wanted: Wanted, asker: Asker, after: Any) -> list[Any]:
        owned = wanted.owned
        key = row_of(owned.table, owned.key, after)
        one = replace(wanted.within(and_(*key.clauses)), limit=1)
        rows = await self._rows(one, asker, one_id=owned.per_owner)
        if not rows:
            raise nowhere(owned.table)
        return [rows[0][term.column] for term in wanted.order]
