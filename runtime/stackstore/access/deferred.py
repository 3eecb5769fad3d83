"""A table's rows on behalf of users, written later than they were asked for: the write queue's part.

Who asks is captured, and whether he may create a row is decided, when he asks; that needs no
database. Owners get their numbers when their rows are written, in whatever database that is then.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from operator import attrgetter
from typing import Any, NamedTuple

from sqlalchemy import false, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from stackstore.access.access import Access, Asker
from stackstore.access.errors import AccessDeniedError
from stackstore.access.operations import AuthorizedOperations
from stackstore.access.owners import NOBODY, Interned, Known, Owner, Owners
from stackstore.access.pages import Wanted
from stackstore.access.policy import Action, Decision
from stackstore.access.tables import OURS, OWNER_ID, OWNER_KEY
from stackstore.access.users import User, current_user
from stackstore.access.visible import View
from stackstore.access.writes import Change, Guard, denied
from stackstore.errors import BackendUnavailableError, InvalidArgumentError
from stackstore.sql.conditions import Conditions
from stackstore.sql.operations import Operations
from stackstore.sql.ordering import OrderBy
from stackstore.sql.tables import Row, Table

MOST_KEYS = 500
"""Most keys of one DELETE."""

_MOST_KEPT = 1_000
"""Of how many users it is remembered what they may create, and their numbers."""

MOVES = 3
"""How often to begin again because the database turned out to be another one."""

_number = attrgetter("id")


class Stamps(NamedTuple):
    """Owners as a database has them.

    Attributes:
        of: each owner's number and key, by `Owner.identity`.
        number: the newest of the numbers; 0: there is nobody but nobody.
        mark: its mark. A statement that writes the numbers looks whether the database has it still;
            where it hasn't, the database is another one, and they mean other people there.
    """

    of: Mapping[str, Interned]
    number: int
    mark: str


def restless(table: str) -> BackendUnavailableError:
    """After `MOVES` tries: the database turned out to be another one each time."""
    return BackendUnavailableError(
        f"table {table!r}: the database changes to another one all the time; nothing was written, "
        "try again"
    )


class Deferred(AuthorizedOperations):
    """What a queue needs to write a table's rows as their users'; made by `AuthorizedSqlStore`.

    Args:
        operations: the store that has the table.
        owners: the owners of its database.
        access: who may do what.
        per_owner: for each table that is known, whether its ids are unique per owner.
        table: the table's name.

    Raises:
        InvalidArgumentError: its ids aren't unique per owner, so that one's row could turn out to be
            somebody else's by the time it is written.
    """

    def __init__(
        self,
        operations: Operations,
        owners: Owners,
        access: Access,
        per_owner: dict[str, bool],
        table: str,
    ) -> None:
        super().__init__(operations, owners, access, per_owner)
        self._name = table
        # Whose numbers are known, of those owners that this object is good for.
        self._stamped: dict[str, Interned] = {}
        self._stamped_by: Known | None = None
        self._creators: dict[User | None, tuple[Owner, Decision]] = {}
        if not self._owned(table).per_owner:
            raise InvalidArgumentError(
                f"table {table!r}: rows are written later only where ids are unique per owner; make it with "
                "per_owner=True"
            )

    async def _interned(self, table: str, owner: Owner) -> Interned:
        return await self._owners.intern(self._operations, table, owner, patient=False)

    @property
    def table(self) -> Table:
        """The table as it is known now."""
        return self._operations.table(self._name)

    @property
    def key(self) -> tuple[str, ...]:
        """The primary key as callers have it."""
        return self._owned(self._name).key

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns as callers have them, in order."""
        return tuple(name for name in self.table.columns if name not in OURS)

    # -- when it is asked for

    def asker(self) -> Owner:
        """Who asks now, as the owner of what he writes.

        Raises:
            AccessDeniedError: there is no user.
        """
        return self._access.asker().owner

    def creator(self, row: Mapping[str, Any]) -> Owner:
        """Who asks now, and may create this row; it holds at least what makes its id.

        Raises:
            AccessDeniedError: he may not, or there is no user.
        """
        # The policy is asked once for each user.
        found = self._creators.get(current_user() if self._access.auth else None)
        owner, decision = self._creator() if found is None else found
        if not decision.always and not self._passes(decision, row):
            raise denied(self._name, Action.CREATE)
        return owner

    def _creator(self) -> tuple[Owner, Decision]:
        asker = self._access.asker()
        question = self._access.question(Action.CREATE, self._name, asker)
        found = asker.owner, question.decision(asker.owner)
        if len(self._creators) >= _MOST_KEPT:
            self._creators.clear()
        self._creators[asker.user] = found
        return found

    def _passes(self, decision: Decision, row: Mapping[str, Any]) -> bool:
        owned = self._owned(self._name)
        return decision.of(owned.row_id_in({name: row.get(name) for name in owned.id_columns}))

    async def whose(self, key: Mapping[str, Any], order_by: OrderBy | None = None) -> str | None:
        """Whose row of a key the current user may delete (`Owner.person`); None: there is none.

        Args:
            key: the values of the primary key.
            order_by: of several, his own goes first, then the first in this order.

        Raises:
            AccessDeniedError: there is no user.
            InvalidArgumentError: the key isn't possible.
            BackendUnavailableError: the database can't do it now.
        """
        owned = self._owned(self._name)
        asker = self._access.asker()
        found = self._conditions(owned, {name: {"=": value} for name, value in key.items()})
        wanted = Wanted(owned, found, self._order(owned, order_by), 1)
        rows = await self._rows(wanted, asker, one_id=True, action=Action.DELETE)
        if not rows:
            return None
        number, known = rows[0][OWNER_ID], self._owners.known
        if number > known.newest:
            raise BackendUnavailableError(
                f"table {self._name!r}: the database is another one meanwhile; try again"
            )
        return known.owner(number).person if number else NOBODY.person

    # -- when it is written

    async def stamps(self, identities: Collection[str]) -> Stamps:
        """The numbers of some owners, at least one; those that are new here get theirs.

        Args:
            identities: the owners, by `Owner.identity`.

        Raises:
            BackendUnavailableError: the database can't do it now.
        """
        for _ in range(MOVES):
            known = self._owners.known
            if self._stamped_by is not known:
                self._stamped_by, self._stamped = known, {}
            elif len(self._stamped) > _MOST_KEPT:
                self._stamped = {}
            stamped = self._stamped
            for identity in identities:
                if identity not in stamped:
                    owner = Owner.from_identity(identity)
                    stamped[identity] = await self._interned(self._name, owner)
            if self._owners.known is known:
                found = {identity: stamped[identity] for identity in identities}
                newest = max(found.values(), key=_number)
                return Stamps(found, newest.id, newest.mark)
            # Some of them are another database's. Then none of what was kept is worth anything.
            self._stamped_by = None
        raise restless(self._name)

    def forget(self) -> None:
        """The database turned out to be another one."""
        self._owners.forget()

    async def delete_as(
        self, connection: AsyncConnection, owner: Owner, rows: Sequence[tuple[str, Row]]
    ) -> int:
        """Delete rows as a user who asked earlier; what he may not delete now is left alone.

        Args:
            connection: in a transaction.
            owner: who asked.
            rows: for each, whose it is (`Owner.person`), and its primary key as the driver wants it.

        Returns:
            How many there were.
        """
        try:
            user = self._access.user_of(owner)
        except AccessDeniedError:
            # The settings are others now: it is of a tenant that isn't there, or authorization was off.
            return 0
        tenant = self._access.tenancy.belongs(owner.tenant)
        question = self._access.question(Action.DELETE, self._name, Asker(user, tenant, owner))
        owned = self._owned(self._name)
        columns = tuple_(*(owned.table.core.c[name] for name in (*owned.key, OWNER_KEY)))
        done = 0
        for start in range(0, len(rows), MOST_KEYS):
            some = rows[start : start + MOST_KEYS]

            async def once(
                connection: AsyncConnection,
                seen: View,
                guard: Guard,
                some: Sequence[tuple[str, Row]] = some,
            ) -> int:
                # Who isn't known has no row here, or the guard fails and he is read.
                keys = [
                    (*(row[name] for name in owned.key), number)
                    for person, row in some
                    if (number := seen.known.key_of(person)) is not None
                ]
                found = columns.in_(keys) if keys else false()
                change = Change(owned, Conditions((found,), []), owned.table.core.delete())
                return await change.once(connection, seen, guard)

            done += await self._seen(connection, question, once)
        return done
