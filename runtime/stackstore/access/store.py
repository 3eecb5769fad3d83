"""A SqlStore whose rows have owners, and that shows each user what a policy lets him see."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any
from weakref import WeakKeyDictionary

from stackstore.access.access import Access, Asker, Unowned
from stackstore.access.deferred import Deferred
from stackstore.access.hot import Hot
from stackstore.access.operations import AuthorizedOperations
from stackstore.access.owners import TABLES, Interned, Owner, Owners
from stackstore.access.policy import Action, Policy
from stackstore.access.tables import OWNER_ID, owner_index, with_owner
from stackstore.access.tenancy import Tenancy
from stackstore.access.users import User
from stackstore.errors import BackendUnavailableError, InvalidArgumentError, StoreError
from stackstore.schema import Component
from stackstore.sql.columns import ColumnDefinition, ColumnType
from stackstore.sql.store import SqlStore
from stackstore.sql.tables import ordered
from stackstore.sql.transactions import Transaction

_OWNERS: WeakKeyDictionary[SqlStore, Owners] = WeakKeyDictionary()
"""What is known of a database's owners is known once, however many stores look through it."""


class AuthorizedSqlStore(AuthorizedOperations):
    """The tables of one database, as the current user may see and change them.

    Args:
        sql_store: the tables.
        policy: rules as the run config has them; none: OGX's default policy. Or a preset's name.
        auth: whether there are users. With False everything is public, explicitly.
        tenancy: whether there are tenants; by default there are none.
        unowned: rows that belong to nobody: "deny" or "policy".

    Raises:
        InvalidArgumentError: the policy can't be used; the text lists all that is wrong with it.
    """

    def __init__(
        self,
        sql_store: SqlStore,
        policy: Policy | Sequence[Any] | str | None = None,
        *,
        auth: bool = True,
        tenancy: Tenancy | None = None,
        unowned: Unowned = "deny",
    ) -> None:
        owners = _OWNERS.setdefault(sql_store, Owners(sql_store.dialect))
        access = Access(policy, auth=auth, tenancy=tenancy, unowned=unowned)
        super().__init__(sql_store, owners, access, {})
        self._hot = Hot(sql_store, owners)
        self._store = sql_store

    async def create_table(
        self,
        table_name: str,
        schema: Mapping[str, ColumnDefinition | ColumnType],
        *,
        per_owner: bool = False,
    ) -> None:
        """Make a table, unless it is there, and know it from now on.

        It gets a column for the owner. Rows that are there already are nobody's.

        Args:
            table_name: its name.
            schema: its columns, with a primary key among them.
            per_owner: ids are unique per tenant and principal: two users may have a row of the same
                key, and neither learns of the other's. Otherwise a key is one row's, whosever it is.

        Raises:
            InvalidArgumentError: a name or a definition isn't possible, or the table is there and
                differs.
            BackendUnavailableError: the database can't do it now.
        """
        columns = with_owner(table_name, schema, per_owner=per_owner)
        await self._store.require(TABLES)
        await self._store.create_table(table_name, columns)
        await self._store.create_index(owner_index(table_name), table_name, [OWNER_ID])
        self._per_owner[table_name] = per_owner

    def declare(
        self,
        table_name: str,
        schema: Mapping[str, ColumnDefinition | ColumnType],
        *,
        per_owner: bool = False,
    ) -> None:
        """Know a table from now on without asking the database, which may not be there yet.

        Raises:
            InvalidArgumentError: a name or a definition isn't possible.
        """
        self._store.declare(table_name, with_owner(table_name, schema, per_owner=per_owner))
        self._per_owner[table_name] = per_owner

    @property
    def unguarded(self) -> SqlStore:
        """The same database without owners or checks.

        For parts of rows that are found through a row that was checked, and for what a process does
        of its own accord; see `stackstore.stores.tables`.
        """
        return self._store

    def may_read_system(self, table: str) -> Callable[[str], bool]:
        """Which ids of what the configuration made, beside a table's rows, the current user may see.

        It is nobody's on purpose, and there in every tenant: the policy decides as about what is
        unowned.

        Raises:
            AccessDeniedError: there is no user.
        """
        asker = self._access.asker()
        return self._access.question(Action.READ, table, asker).of_system.of

    async def user_of(self, table: str, number: int) -> User | None:
        """As whom to go on with what the owner of this number began; None: authorization is off.

        Args:
            table: where his rows are.
            number: `owner_id` of one of them, read just now.

        Raises:
            AccessDeniedError: it is nobody's, or of a tenant that isn't there.
            BackendUnavailableError: the database can't do it now.
        """
        # From the database: what is known may be of another one, where the number means somebody else.
        owner = await self._operations.run(
            table, lambda connection: self._owners.owner(connection, number), writes=False
        )
        return self._access.user_of(owner)

    async def owner_id(self) -> int:
        """What the rows that the current user inserts have as their `owner_id`.

        Raises:
            AccessDeniedError: there is no user.
            BackendUnavailableError: the database can't do it now.
        """
        return (await self._interned(self._any_table(), self._access.asker().owner)).id

    def deferred(self, table: str) -> Deferred:
        """Its half of a queue that writes a table's rows later; see `stackstore.access.deferred`.

        Raises:
            NotFoundError: this store knows no such table.
            InvalidArgumentError: the table's ids are not unique per owner.
        """
        return Deferred(self._store, self._owners, self._access, self._per_owner, table)

    async def require(self, component: Component) -> None:
        """Make tables of ours that are beside the store's; see `SqlStore.require`.

        Raises:
            BackendUnavailableError: the database can't do it now.
        """
        await self._store.require(component)

    async def create_index(
        self, name: str, table: str, columns: Sequence[str | tuple[str, str]]
    ) -> None:
        """Make the indexes that serve orders by these columns: one of all rows, one by owner.

        Args:
            name: the name of the first; the other one's ends in `__owner`.
            table: whose.
            columns: columns, or (column, "asc" | "desc").

        Raises:
            InvalidArgumentError: a name or a column isn't possible, or an index of that name is
                another.
            BackendUnavailableError: the database can't do it now.
        """
        owned = self._owned(table)
        listed = [columns] if isinstance(columns, str) else list(columns)
        owned.refuse(
            part for term in listed for part in (term if isinstance(term, tuple | list) else [term])
        )
        terms = [
            (column, "desc" if descending else "asc")
            for column, descending in ordered(owned.table, listed)
        ]
        # With the owner at its end a walk needs nothing but the index.
        await self._store.create_index(name, table, [*terms, OWNER_ID])
        await self._store.create_index(owner_index(name), table, [OWNER_ID, *terms])

    async def add_column_if_not_exists(
        self,
        table: str,
        column_name: str,
        column_type: ColumnType,
        nullable: bool = True,
        default: Any = None,
    ) -> None:
        """Add a column, unless it is there; rows that are there get the default.

        Raises:
            InvalidArgumentError: it isn't possible, or the column is there and differs.
            BackendUnavailableError: the database can't do it now.
        """
        self._owned(table).refuse([column_name])
        await self._store.add_column_if_not_exists(
            table, column_name, column_type, nullable, default
        )

    @contextlib.asynccontextmanager
    async def transaction(self) -> AsyncIterator[AuthorizedTransaction]:
        """Do several things at once, as one user: all or nothing.

        The object it yields has the store's methods for rows. See `SqlStore.transaction`.

        Raises:
            AccessDeniedError: there is no user.
            BackendUnavailableError: it could not begin, or could not be completed.
        """
        asker = self._access.asker()
        # Before it begins: a number must not be undone with it, nor wait for another writer.
        interned = await self._interned(self._any_table(), asker.owner)
        async with self._store.transaction() as began:
            yield AuthorizedTransaction(self, began, asker, interned)

    def _any_table(self) -> str:
        if not self._per_owner:
            raise InvalidArgumentError("the store knows no table yet; call create_table first")
        return next(iter(self._per_owner))

    async def _interned(self, table: str, owner: Owner) -> Interned:
        return await self._owners.intern(self._store, table, owner)


class AuthorizedTransaction(AuthorizedOperations):
    """Operations of one user, all or nothing; made by `AuthorizedSqlStore.transaction()`."""

    def __init__(
        self, store: AuthorizedSqlStore, began: Transaction, asker: Asker, interned: Interned
    ) -> None:
        super().__init__(began, store._owners, store._access, store._per_owner)  # noqa: SLF001 - its own
        self._asker = asker
        self._own = interned
        self.owner_id = interned.id
        """What the rows that are inserted in it have as their `owner_id`."""
        self.unguarded = began
        """The same transaction without owners or checks; see `AuthorizedSqlStore.unguarded`."""

    @property
    def own_keys(self) -> list[int]:
        """`owner_key` of the user's own rows, in what is read by `unguarded`."""
        return self._keys(self._asker)

    async def _interned(self, table: str, owner: Owner) -> Interned:
        if owner != self._asker.owner:
            raise StoreError(
                f"table {table!r}: a transaction writes as the user who began it; begin another one"
            )
        known = self._owners.known.interned(owner)
        if known is not None and known != self._own:
            raise BackendUnavailableError(
                f"table {table!r}: the database is another one than when the transaction began; nothing was "
                "written, so repeat the transaction"
            )
        return self._own
