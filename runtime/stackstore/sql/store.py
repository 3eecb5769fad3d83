"""One database's tables, for stores: typed rows, stable pages, errors that can be shown."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any

from sqlalchemy import CompoundSelect, Select
from sqlalchemy.ext.asyncio import AsyncConnection

from stackstore.errors import BackendUnavailableError, InvalidArgumentError, StoreError
from stackstore.pools.database import Database
from stackstore.schema import Component, Dialect, migrate
from stackstore.sql.columns import ColumnDefinition, ColumnType
from stackstore.sql.cursor_key import CursorKey
from stackstore.sql.errors import CAUGHT, Fault, MissingError, Outcome
from stackstore.sql.making import Making
from stackstore.sql.operations import Operations, T
from stackstore.sql.ready import Ready, ready
from stackstore.sql.runner import READS, Direct, Done, How, Runner, Work
from stackstore.sql.tables import Table, definition, index, table
from stackstore.sql.transactions import Transaction

logger = logging.getLogger(__name__)

_INSISTENT = How(writes=True, atomic=True, patient=False)
_DIRECT = How(writes=True, atomic=True, patient=False, direct=True)
_READS_DIRECTLY = How(writes=False, direct=True)


class SqlStore(Operations):
    """The tables of one database.

    It knows the tables that `create_table` was called for in this process; calling it costs one
    query when the table is there.

    Args:
        database: the pool; its engine is asked for anew each time, for a rotation may change it.
    """

    def __init__(self, database: Database) -> None:
        super().__init__({})
        self._database = database
        self._runner = Runner(database)
        self._making = Making(database, self._runner)
        self._key = CursorKey(database)
        self._required: list[Component] = []

    @property
    def dialect(self) -> Dialect:
        """Which SQL its database speaks."""
        return self._database.dialect

    @property
    def trouble(self) -> str:
        """Why its database can't be reached, without secrets; empty: it can, or it isn't known."""
        return self._database.trouble

    async def require(self, component: Component) -> None:
        """Make tables that are beside the store's own: now, and again when any table is gone.

        Raises:
            BackendUnavailableError: the database can't do it now.
        """
        if component not in self._required:
            await migrate(self._database, component)
            self._required.append(component)

    async def create_table(
        self, table_name: str, schema: Mapping[str, ColumnDefinition | ColumnType]
    ) -> None:
        """Make a table, unless it is there, and know it from now on.

        One that is there gets the columns it lacks, where they are nullable or have a default.
        Any number of processes may do this at once.

        Raises:
            InvalidArgumentError: a name or a definition isn't possible, or the table is there and
                differs otherwise.
            BackendUnavailableError: the database can't do it now.
        """
        wanted = self._wanted(table_name, schema)
        await self._making.table(wanted)
        self._learn(wanted)

    def declare(self, table_name: str, schema: Mapping[str, ColumnDefinition | ColumnType]) -> None:
        """Know a table from now on without asking the database, which may not be there yet.

        It is made by the first operation that finds it missing.

        Raises:
            InvalidArgumentError: a name or a definition isn't possible.
        """
        self._learn(self._wanted(table_name, schema))

    async def create_index(
        self, name: str, table: str, columns: Sequence[str | tuple[str, str]]
    ) -> None:
        """Make an index, unless it is there. It serves orders by these columns, in both directions.

        Args:
            name: its name, among all indexes of the database.
            table: whose.
            columns: columns, or (column, "asc" | "desc"). The primary key is added at their end:
                it is every order's tie-break.

        Raises:
            InvalidArgumentError: a name or a column isn't possible, or an index of that name is
                another.
            BackendUnavailableError: the database can't do it now.
        """
        known = self._table(table)
        wanted = index(known, name, columns)
        await self._making.index(known, wanted)
        self._learn(self._table(table).with_index(wanted))

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
        known = self._table(table)
        defined = definition(
            table, column_name, ColumnDefinition(column_type, nullable=nullable, default=default)
        )
        if not nullable and default is None and column_name not in known.columns:
            raise InvalidArgumentError(
                f"table {table!r}: column {column_name!r} has to be nullable or have a default: what would "
                "the rows get that are there?"
            )
        # Through the same checks as a new table's columns.
        self._known(table)
        wanted = known.with_columns(self._parsed(table, {**known.columns, column_name: defined}))
        await self._making.table(wanted)
        self._learn(self._table(table).with_columns(wanted.columns))

    async def table_exists(self, table: str) -> bool:
        """Whether the database has it, known to this store or not."""
        return bool(await self._making.found(table))

    async def primary_key_columns(self, table: str) -> list[str] | None:
        """The primary key that a table has in the database; None if there is no such table."""
        found = await self._making.found(table)
        key = sorted((column.key, column.name) for column in found if column.key is not None)
        return [name for _, name in key] if found else None

    @contextlib.asynccontextmanager
    async def transaction(self) -> AsyncIterator[Transaction]:
        """Do several things at once: all or nothing.

        The object it yields has the store's methods for rows. Leaving with an exception undoes
        everything. After an operation that failed in the database nothing more is possible.

        Raises:
            BackendUnavailableError: it could not begin, or could not be completed; where that is
                unknown, the text says so.
            StoreError: an operation failed and the block went on all the same.
        """
        if self._key.known() is None:
            # Now: to make it later would need a second connection, and on SQLite a second writer.
            await self._cursor_key()
        began: Transaction | None = None
        try:
            async with self._runner.turn(writes=True):
                connection = await self._runner.connect()
                try:
                    await self._runner.guarded(connection.begin())
                    began = Transaction(self._tables, connection, self._database.name, self._key)
                    try:
                        yield began
                    except BaseException:
                        with contextlib.suppress(*CAUGHT):
                            await connection.rollback()
                        raise
                    if began.failed is not None:
                        await self._runner.guarded(connection.rollback())
                        raise StoreError(
                            f"backend {self._database.name!r}: the transaction was undone, because an "
                            f"operation in it had failed: {began.failed}"
                        )
                    await self._runner.guarded(connection.commit())
                finally:
                    if began is not None:
                        began.over = True
                    with contextlib.suppress(*CAUGHT):
                        await connection.close()
        finally:
            if began is not None and began.missing is not None:
                await self._heal(began.missing)

    async def atomically(self, table: str, work: Work[T]) -> T:
        """`run` in one transaction, for who does not ask again with other values.

        That tables aren't as they have to be is BackendUnavailableError here: nothing is wrong with
        the values then.
        """
        return await self._insistently(table, work, _INSISTENT)

    async def directly(self, table: str, work: Direct[T]) -> T:
        """The same on the driver's own connection, in autocommit: work sees to its transaction."""
        return await self._insistently(table, work, _DIRECT)

    async def _insistently(self, table: str, work: Work[T] | Direct[T], how: How) -> T:
        known = self._table(table)
        trouble: str

        async def heal() -> None:
            try:
                await self._heal(known)
            except StoreError as error:
                raise MissingError(str(error)) from None

        try:
            return await self._runner.run(known.name, known.primary_key, work, how, heal=heal)
        except MissingError as error:
            trouble = str(error)
        raise BackendUnavailableError(trouble)

    def ready(
        self,
        statement: Select[Any] | CompoundSelect[Any],
        width: int,
        variable: Callable[[str], bool],
    ) -> Ready:
        """Compile a statement for `read_directly`; see `stackstore.sql.ready`."""
        return ready(self._database.engine.dialect, statement, width, variable)

    async def read_directly(
        self, table: str, statement: Ready, arguments: list[Any]
    ) -> Sequence[Sequence[Any]]:
        """Run a SELECT on the driver's own connection.

        Returns:
            The driver's rows, for `Ready.rows`.

        Raises:
            StackstoreError: as of the store's own reads.
        """
        known = self._table(table)

        async def heal() -> None:
            await self._heal(known)

        if self.dialect == "postgresql":

            async def work(driver: Any) -> Any:
                return await driver.fetch(statement.text, *arguments)

        else:

            async def work(driver: Any) -> Any:
                return await driver.execute_fetchall(statement.text, arguments)

        found: Sequence[Sequence[Any]] = await self._runner.run(
            known.name, known.primary_key, work, _READS_DIRECTLY, heal=heal
        )
        return found

    def within(self, connection: AsyncConnection) -> Transaction:
        """The store's methods for rows, on a connection that `atomically` has in a transaction."""
        return Transaction(self._tables, connection, self._database.name, self._key)

    async def _run(self, table: Table, work: Work[T], how: How) -> T:
        async def heal() -> None:
            await self._heal(table)

        return await self._runner.run(table.name, table.primary_key, work, how, heal=heal)

    # -- inside: tables

    def _known(self, name: str) -> Table | None:
        """The table of that name, if it is known.

        Raises:
            InvalidArgumentError: one is known that SQLite couldn't tell from it.
        """
        for other in self._tables:
            if other != name and other.lower() == name.lower():
                raise InvalidArgumentError(
                    f"tables {other!r} and {name!r} differ in case only, which SQLite does not see"
                )
        return self._tables.get(name)

    def _wanted(self, name: str, schema: Mapping[str, ColumnDefinition | ColumnType]) -> Table:
        wanted = table(self._database.dialect, name, schema)
        known = self._known(wanted.name)
        return wanted if known is None else known.with_columns(wanted.columns)

    def _parsed(self, name: str, schema: Mapping[str, Any]) -> Mapping[str, ColumnDefinition]:
        return table(self._database.dialect, name, schema).columns

    def _learn(self, known: Table) -> None:
        self._tables[known.name] = known

    async def _heal(self, missed: Table) -> None:
        """Make a table again that is gone: the name now stands for another database."""
        known = self._tables.get(missed.name, missed)
        logger.warning(
            "backend %s: table %s was missing or lacked columns; it is made again",
            self._database.name,
            known.name,
        )
        self._key.forget()
        for component in self._required:
            await migrate(self._database, component)
        await self._making.table(known)
        for wanted in known.indexes:
            await self._making.index(known, wanted)

    # -- inside: cursors

    async def _cursor_key(self, *, fresh: bool = False) -> bytes:
        key = None if fresh else self._key.known()
        if key is not None:
            return key
        made = False
        while True:
            ended = await self._runner.attempt("cursor_keys", (), self._key.read, READS)
            if isinstance(ended, Fault) and (ended.outcome is not Outcome.MISSING or made):
                raise ended.error
            if isinstance(ended, Done) and ended.result is not None:
                return ended.result
            await self._make_key()
            made = True

    async def _make_key(self) -> None:
        async with self._runner.turn(writes=True):
            await self._runner.guarded(self._key.make())
