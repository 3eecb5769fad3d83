"""The tables of one store: known at once, made before they are first used."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from stackstore.access import AuthorizedSqlStore
from stackstore.schema import Component
from stackstore.sql import ColumnDefinition, ColumnType
from stackstore.stores.once import Once

Term = str | tuple[str, str]

TEXT = ColumnDefinition(ColumnType.STRING, nullable=False)
NUMBER = ColumnDefinition(ColumnType.INTEGER, nullable=False)
JSON = ColumnDefinition(ColumnType.JSON, nullable=False)
TEXT_KEY = ColumnDefinition(ColumnType.STRING, primary_key=True)
NUMBER_KEY = ColumnDefinition(ColumnType.INTEGER, primary_key=True)
MAYBE_TEXT = ColumnDefinition(ColumnType.STRING)
MAYBE_JSON = ColumnDefinition(ColumnType.JSON)
"""What nearly all columns of the stores are; what isn't "maybe" is never NULL."""


@dataclass(frozen=True)
class TableDefinition:
    """One table.

    Attributes:
        name: its name.
        columns: its columns, with a primary key among them.
        indexes: columns of each index, or (column, "asc" | "desc"), by the index's name.
        per_owner: ids are unique per tenant and principal, not in the table.
        owned: its rows have owners. Otherwise they are parts of rows that have: each is keyed by
            what only its whole knows, and is reached through it alone, by `store.unguarded`, after the
            whole was read or changed as the current user. So a part is whose the whole is,
            whoever added it.
    """

    name: str
    columns: Mapping[str, ColumnDefinition]
    indexes: Mapping[str, Sequence[Term]] = field(default_factory=dict)
    per_owner: bool = True
    owned: bool = True


class StoreTables:
    """Sees to it that a store's tables are there.

    The store knows them from the start, so a database that isn't reached yet is in nobody's way:
    each use asks `ready()`, which makes them once the database is there, and costs nothing after.

    Args:
        store: whose tables.
        definitions: the tables.
        components: tables of ours that the store needs beside them.
    """

    def __init__(
        self,
        store: AuthorizedSqlStore,
        definitions: Sequence[TableDefinition],
        components: Sequence[Component] = (),
    ) -> None:
        self.store = store
        self._definitions = tuple(definitions)
        self._components: tuple[Component, ...] = tuple(components)
        self._made = Once(self._make)
        for one in definitions:
            if one.owned:
                store.declare(one.name, one.columns, per_owner=one.per_owner)
            else:
                store.unguarded.declare(one.name, one.columns)

    def include(self, component: Component) -> None:
        """Make these tables of ours too; for parts that are given a store's tables to work on."""
        if component not in self._components:
            self._components = (*self._components, component)
            # They may have been made without it.
            self._made = Once(self._make)

    async def ready(self) -> AuthorizedSqlStore:
        """The store, with its tables in the database.

        Raises:
            BackendUnavailableError: the database can't do it now; the next call tries again.
            InvalidArgumentError: a table of that name is there and differs.
        """
        await self._made()
        return self.store

    async def _make(self) -> None:
        for component in self._components:
            await self.store.require(component)
        for one in self._definitions:
            if one.owned:
                await self.store.create_table(one.name, one.columns, per_owner=one.per_owner)
            else:
                await self.store.unguarded.create_table(one.name, one.columns)
            maker = self.store if one.owned else self.store.unguarded
            for name, terms in one.indexes.items():
                await maker.create_index(name, one.name, terms)
