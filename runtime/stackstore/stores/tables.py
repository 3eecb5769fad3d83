"""The tables of one store: known at once, made before they are first used."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from stackstore.access import AuthorizedSqlStore
from stackstore.errors import BackendUnavailableError
from stackstore.schema import Component
from stackstore.sql import ColumnDefinition

Term = str | tuple[str, str]


@dataclass(frozen=True)
class TableDefinition:
    """One table.

    Attributes:
        name: its name.
        columns: its columns, with a primary key among them.
        indexes: columns of each index, or (column, "asc" | "desc"), by the index's name.
        per_owner: ids are unique per tenant and principal, not in the table.
    """

    name: str
    columns: Mapping[str, ColumnDefinition]
    indexes: Mapping[str, Sequence[Term]] = field(default_factory=dict)
    per_owner: bool = True


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
        self._components = tuple(components)
        self._making: asyncio.Future[None] | None = None
        for one in definitions:
            store.declare(one.name, one.columns, per_owner=one.per_owner)

    async def ready(self) -> AuthorizedSqlStore:
        """The store, with its tables in the database.

        Raises:
            BackendUnavailableError: the database can't do it now; the next call tries again.
            InvalidArgumentError: a table of that name is there and differs.
        """
        making = self._making
        if making is not None and making.done():
            if not making.cancelled() and making.exception() is None:
                return self.store
            making = None
        if making is None or making.get_loop() is not asyncio.get_running_loop():
            # A task of its own: on SQLite it may wait long for another process, and whoever is
            # cancelled meanwhile must not take the others' tables along.
            making = self._making = asyncio.ensure_future(self._make())
        await asyncio.wait([making])
        if making.cancelled():
            raise BackendUnavailableError("the event loop is ending")
        if error := making.exception():
            # One exception each: raised in several tasks, one would collect all their traces.
            raise type(error)(str(error))
        return self.store

    async def _make(self) -> None:
        for component in self._components:
            await self.store.require(component)
        for one in self._definitions:
            await self.store.create_table(one.name, one.columns, per_owner=one.per_owner)
            for name, terms in one.indexes.items():
                await self.store.create_index(name, one.name, terms)
