"""Owners: each distinct (tenant, principal, attributes) is one row, and records carry its number.

Numbers are given under a lock, without gaps, so whoever has seen number n has seen all before it:
numbers are committed in their order. Each owner has a random mark. The newest owner's mark says in
one look whether this process knows all owners there are, and whether it is still the database it
knows them from: a backend's name may move to another one by a rotation, where the same numbers mean
other people. Every statement that relies on numbers carries that look, as a part of itself.

Number 0 is nobody, without a tenant: rows that were written past this package have it.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Select,
    Text,
    bindparam,
    func,
    literal_column,
    select,
    text,
    true,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from stackstore.access.users import User
from stackstore.schema import Component, Dialect, Migration, qualified
from stackstore.sql.columns import ColumnDefinition, ColumnType
from stackstore.sql.operations import Operations
from stackstore.sql.tables import Table

_READ_AT_ONCE = 2_000
"""Owners that are read and parsed between two turns of the event loop."""

NAME = "owners"
_OWNER_ID = literal_column("owner_id", BigInteger())
_MARK = literal_column("mark", Text())
MARK = "mark~"
"""The parameter that stands for the newest owner's mark; no column has such a name."""
TABLES = Component(
    "access",
    (
        Migration(
            postgresql=(
                'CREATE TABLE stackstore."owners" (owner_id bigint PRIMARY KEY, '
                "digest text NOT NULL UNIQUE, person text NOT NULL, owner_key bigint NOT NULL, "
                "mark text NOT NULL, identity text NOT NULL)",
                'CREATE INDEX "owners__person" ON stackstore."owners" (person)',
            ),
            sqlite=(
                'CREATE TABLE "stackstore_owners" (owner_id INTEGER PRIMARY KEY, '
                "digest TEXT NOT NULL UNIQUE, person TEXT NOT NULL, owner_key INTEGER NOT NULL, "
                "mark TEXT NOT NULL, identity TEXT NOT NULL)",
                'CREATE INDEX "stackstore_owners__person" ON "stackstore_owners" (person)',
            ),
        ),
    ),
)


@dataclass(frozen=True)
class Owner:
    """Whose a row is.

    Attributes:
        tenant: the tenant it was written in; None: in none.
        principal: who wrote it; None: nobody (authorization was off, or it was written past us).
        attributes: those that the writer had then.
    """

    tenant: str | None = None
    principal: str | None = None
    attributes: Mapping[str, frozenset[str]] = field(default_factory=dict)

    @classmethod
    def of(cls, user: User | None, tenant: str | None) -> Owner:
        """The owner of what a user writes; None: nobody's."""
        if user is None:
            return cls(tenant)
        attributes = {kind: frozenset(values) for kind, values in user.attributes.items()}
        return cls(tenant, user.principal, attributes)

    def __hash__(self) -> int:
        return hash(self.identity)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Owner) and self.identity == other.identity

    @cached_property
    def identity(self) -> str:
        """All of it, as one text: equal for equal owners. ASCII, so that any database takes it."""
        attributes = {kind: sorted(values) for kind, values in self.attributes.items()}
        return _json([self.tenant, self.principal, attributes])

    @classmethod
    def from_identity(cls, identity: str) -> Owner:
        """The way back from `identity`.

        Raises:
            ValueError, TypeError, AttributeError: it is none.
        """
        tenant, principal, attributes = json.loads(identity)
        values = {kind: frozenset(listed) for kind, listed in attributes.items()}
        return cls(tenant, principal, values)

    @cached_property
    def digest(self) -> str:
        """The same, short."""
        return _digest(self.identity)

    @cached_property
    def person(self) -> str:
        """Tenant and principal only, likewise."""
        return _json([self.tenant, self.principal])


NOBODY = Owner()


@dataclass(frozen=True, slots=True)
class Interned:
    """An owner's row.

    Attributes:
        id: its number; 0 for nobody without a tenant.
        key: the same for all owners of one tenant and principal; random, so that it tells nothing.
        mark: see the module.
    """

    id: int
    key: int
    mark: str


class Known:
    """The owners of one database, as far as this process has read them; it only grows.

    Attributes:
        newest: the newest one's number; all up to it are known.
        mark: its mark; empty while there is none.
        classes: for each number, the number of its class. Owners of a class differ in nothing
            but the principal, so most of a policy is decided once a class.
        samples: one owner of each class.
        principals: for each number, its principal.
        decided: what was decided about them; `stackstore.access.visible` keeps it here, for it is
            worth nothing in another database.
    """

    def __init__(self) -> None:
        self.newest = 0
        self.mark = ""
        self.classes = array("q", [0])
        self.samples: list[Owner] = [NOBODY]
        self.principals: list[str | None] = [None]
        self.decided: dict[Any, Any] = {}
        self._class_of: dict[tuple[str | None, bool, str], int] = {(None, True, _digest(",{}]")): 0}
        # By digests: an identity may be long.
        self._interned: dict[str, Interned] = {_digest(NOBODY.identity): Interned(0, 0, "")}
        self._keys = {NOBODY.person: 0}

    def interned(self, owner: Owner) -> Interned | None:
        """An owner's row, if it was read."""
        return self._interned.get(owner.digest)

    def key(self, tenant: str | None, principal: str | None) -> int | None:
        """The key of a tenant's principal, if it was read."""
        return self.key_of(Owner(tenant, principal).person)

    def key_of(self, person: str) -> int | None:
        """The same of what `Owner.person` says."""
        return self._keys.get(person)

    def owner(self, number: int) -> Owner:
        """A number's owner."""
        sample = self.samples[self.classes[number]]
        return Owner(sample.tenant, self.principals[number], sample.attributes)

    def add(self, number: int, key: int, mark: str, identity: str) -> None:
        """Learn of the next one."""
        tenant, principal, attributes = json.loads(identity)
        person = _json([tenant, principal])
        # What follows the principal in the text is the attributes, the same for the same ones.
        kind = tenant, principal is None, _digest(identity[len(person) - 1 :])
        class_ = self._class_of.setdefault(kind, len(self.samples))
        if class_ == len(self.samples):
            values = {kind: frozenset(listed) for kind, listed in attributes.items()}
            self.samples.append(Owner(tenant, principal, values))
        self.classes.append(class_)
        self.principals.append(principal)
        self._interned[_digest(identity)] = Interned(number, key, mark)
        self._keys[person] = key
        self.newest, self.mark = number, mark


class Owners:
    """The owners of a store's database.

    Attributes:
        known: what this process knows of them; another object when the database is another one.
    """

    def __init__(self, dialect: Dialect) -> None:
        self.known = Known()
        self.dialect = dialect
        # As text: in ON CONFLICT … WHERE SQLAlchemy leaves out the schema.
        self._from = text(qualified(dialect, NAME))
        self._table = Table(
            dialect,
            NAME,
            {
                "owner_id": ColumnDefinition(ColumnType.INTEGER, primary_key=True),
                "digest": ColumnDefinition(ColumnType.STRING, nullable=False),
                "person": ColumnDefinition(ColumnType.STRING, nullable=False),
                "owner_key": ColumnDefinition(ColumnType.INTEGER, nullable=False),
                "mark": ColumnDefinition(ColumnType.STRING, nullable=False),
                "identity": ColumnDefinition(ColumnType.TEXT, nullable=False),
            },
        )

    # -- what statements carry

    def are_all(self, known: Known) -> ColumnElement[bool]:
        """True where these are all owners there are."""
        newest = (
            select(_MARK).select_from(self._from).order_by(_OWNER_ID.desc()).limit(1)
        ).scalar_subquery()
        return func.coalesce(newest, literal_column("''")) == bindparam(
            MARK, known.mark, type_=Text()
        )

    def are_there(self, known: Known) -> ColumnElement[bool]:
        """True where these are owners, be there more or not."""
        if not known.newest:
            return true()
        return self.is_there(known.newest, known.mark)

    def is_there(self, number: int, mark: str) -> ColumnElement[bool]:
        """True where this number is still that owner; then all before it are, too."""
        if not number:
            return true()
        there = (
            select(_MARK)
            .select_from(self._from)
            .where(bindparam(None, number, type_=BigInteger(), unique=True) == _OWNER_ID)
        ).scalar_subquery()
        found: ColumnElement[bool] = there == bindparam(None, mark, type_=Text(), unique=True)
        return found

    # -- reading and writing them

    async def refresh(self, connection: AsyncConnection) -> None:
        """Read the owners that are new since; all of them, if the database is another one."""
        while True:
            known = self.known
            newest, mark = known.newest, known.mark
            rows = (await connection.execute(self._since(newest))).all()
            if known is not self.known:
                # Another task has found that the database is another one.
                continue
            if newest and (not rows or (rows[0][0], rows[0][2]) != (newest, mark)):
                self.forget()
                continue
            for row in rows:
                # Another task may have gone further meanwhile.
                if row[0] == known.newest + 1:
                    known.add(*row)
            if len(rows) < _READ_AT_ONCE:
                return

    async def intern(
        self, operations: Operations, table: str, owner: Owner, *, patient: bool = True
    ) -> Interned:
        """An owner's row; it is made if there is none.

        Args:
            operations: what to run statements on.
            table: what for, for messages.
            owner: whose.
            patient: it waits long for other processes' writes on SQLite; see `stackstore.sql.runner.How`.

        Raises:
            BackendUnavailableError: the database can't do it now.
        """
        found = self.known.interned(owner)
        if found is not None:
            return found
        found = await operations.run(
            table, lambda connection: self._found(connection, owner), writes=False
        )
        if found is None:
            found = await operations.run(
                table,
                lambda connection: self._make(connection, owner),
                writes=True,
                atomic=True,
                patient=patient,
            )
        # So that it is known the next time. Not in what made it, which might have been undone.
        await operations.run(table, self.refresh, writes=False)
        return found

    async def owner(self, connection: AsyncConnection, number: int) -> Owner:
        """The owner that has this number in the database now; nobody where there is none."""
        columns = self._table.core.c
        wanted = bindparam(None, number, type_=columns.owner_id.type, unique=True)
        statement = select(columns.identity).where(columns.owner_id == wanted)
        identity = (await connection.execute(statement)).scalar()
        if identity is None:
            return NOBODY
        tenant, principal, attributes = json.loads(identity)
        return Owner(
            tenant, principal, {kind: frozenset(some) for kind, some in attributes.items()}
        )

    def forget(self) -> None:
        """The database is another one now, or was set back."""
        self.known = Known()

    # -- inside

    def _since(self, newest: int) -> Select[Any]:
        columns = self._table.core.c
        return (
            select(columns.owner_id, columns.owner_key, columns.mark, columns.identity)
            .where(
                columns.owner_id
                >= bindparam(None, newest, type_=columns.owner_id.type, unique=True)
            )
            .order_by(columns.owner_id)
            .limit(_READ_AT_ONCE)
        )

    async def _found(self, connection: AsyncConnection, owner: Owner) -> Interned | None:
        columns = self._table.core.c
        statement = select(columns.owner_id, columns.owner_key, columns.mark).where(
            columns.digest == owner.digest
        )
        row = (await connection.execute(statement)).one_or_none()
        return None if row is None else Interned(*row)

    async def _make(self, connection: AsyncConnection, owner: Owner) -> Interned:
        if self.dialect == "postgresql":
            # Not an advisory one: in a database whose transactions are repeatable reads by default, a
            # SELECT would keep what was there before the wait. Readers are not in its way.
            table = qualified(self.dialect, NAME)
            await connection.exec_driver_sql(f"LOCK TABLE {table} IN SHARE ROW EXCLUSIVE MODE")
        # Read again: another process may have made it while this one waited.
        found = await self._found(connection, owner)
        if found is not None:
            return found
        columns = self._table.core.c
        person = _digest(owner.person)
        key = (
            await connection.execute(
                select(columns.owner_key).where(columns.person == person).limit(1)
            )
        ).scalar()
        newest = (await connection.execute(select(func.max(columns.owner_id)))).scalar() or 0
        made = Interned(
            newest + 1, secrets.randbits(62) + 1 if key is None else key, secrets.token_hex(8)
        )
        values = {
            "owner_id": made.id,
            "digest": owner.digest,
            "person": person,
            "owner_key": made.key,
            "mark": made.mark,
            "identity": owner.identity,
        }
        await connection.execute(self._table.core.insert(), values)
        return made


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _json(value: Sequence[Any]) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))
