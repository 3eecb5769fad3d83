"""What can be done with rows, on a store or in a transaction of it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, TypeVar

from sqlalchemy import and_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from stackstore.errors import NotFoundError
from stackstore.sql import cursors, statements
from stackstore.sql.arguments import (
    check_limit,
    check_some,
    check_start,
    given_rows,
    given_values,
    nowhere,
    row_of,
)
from stackstore.sql.columns import ColumnType, decode
from stackstore.sql.conditions import Conditions, conditions
from stackstore.sql.names import choices, shown
from stackstore.sql.ordering import Order, OrderBy, order, page
from stackstore.sql.runner import READS, WRITES, How, Work
from stackstore.sql.tables import Row, Table

T = TypeVar("T")

Where = Mapping[str, Any]

CHUNK_ROWS = 5_000
"""Most rows of one statement; more are several statements in one transaction."""


@dataclass(frozen=True, slots=True)
class Page:
    """A page of rows.

    Attributes:
        data: the rows, in order.
        has_more: whether there are rows beyond.
        next_cursor: where to go on; None when there is nothing beyond.
    """

    data: list[Row]
    has_more: bool
    next_cursor: str | None


@dataclass(frozen=True, slots=True)
class DeleteOperation:
    """One of `delete_many`."""

    table: str
    where: Where


class Operations(ABC):
    """Reading and writing rows of the tables that a store was told of."""

    def __init__(self, tables: dict[str, Table]) -> None:
        self._tables = tables

    @abstractmethod
    async def _run(self, table: Table, work: Work[T], how: How) -> T:
        """Do it on a connection; nothing of the driver's errors comes out."""

    @abstractmethod
    async def _cursor_key(self, *, fresh: bool = False) -> bytes:
        """The key of cursors; `fresh`: read again if that is possible here."""

    async def insert(
        self, table: str, rows: Mapping[str, Any] | Sequence[Mapping[str, Any]]
    ) -> None:
        """Insert one row or many: all or none. No rows is nothing to do.

        Raises:
            ConflictError: there is a row with the same primary key.
            InvalidArgumentError: a column or a value isn't possible.
            BackendUnavailableError: the database can't do it now.
        """
        await self._insert(table, rows, do_nothing=False)

    async def insert_do_nothing(
        self, table: str, rows: Mapping[str, Any] | Sequence[Mapping[str, Any]]
    ) -> int:
        """Insert those of the rows whose primary key is new; return how many were.

        Raises:
            InvalidArgumentError, BackendUnavailableError: as `insert`.
        """
        return await self._insert(table, rows, do_nothing=True)

    async def upsert(
        self,
        table: str,
        data: Mapping[str, Any] | Sequence[Mapping[str, Any]],
        conflict_columns: Sequence[str],
        update_columns: Sequence[str] | None = None,
    ) -> None:
        """Insert rows, or update those whose key is there already: all or none.

        Args:
            table: where.
            data: one row or many; of rows with the same key the later ones win.
            conflict_columns: the primary key's columns.
            update_columns: what to set on a row that is there; by default all that is given.

        Raises:
            InvalidArgumentError, BackendUnavailableError: as `insert`.
        """
        known = self._table(table)
        given = given_rows(known, data)
        statements.check_key(known, conflict_columns)
        if not given:
            return
        whole = [known.whole(row) for row in given]
        changed = statements.changed(known, given, update_columns)
        rows = statements.merged(known, whole, changed)
        await self._write(known, rows, statements.upsert(known, changed))

    async def update(self, table: str, data: Mapping[str, Any], where: Where) -> int:
        """Set columns of the rows that `where` finds; return how many there were.

        It compares and sets: with the old value in `where`, 0 means that somebody was faster.

        Raises:
            ConflictError: a new primary key is another row's.
            InvalidArgumentError: `where` or `data` is empty or impossible.
            BackendUnavailableError: the database can't do it now.
        """
        known = self._table(table)
        found = self._some(known, where, "update")
        values = given_values(known, data)
        statement = known.core.update().where(and_(*found.clauses)).values(values)

        async def work(connection: AsyncConnection) -> int:
            return (await connection.execute(statement)).rowcount

        return await self._run(known, work, WRITES)

    async def delete(self, table: str, where: Where) -> int:
        """Delete the rows that `where` finds; return how many there were.

        Raises:
            InvalidArgumentError: `where` is empty or impossible.
            BackendUnavailableError: the database can't do it now.
        """
        return await self.delete_many([DeleteOperation(table, where)])

    async def delete_many(self, operations: Sequence[DeleteOperation]) -> int:
        """Delete from several tables, all or nothing; return how many rows there were.

        Raises:
            InvalidArgumentError, BackendUnavailableError: as `delete`.
        """
        if not operations:
            return 0
        deletes = []
        for operation in operations:
            known = self._table(operation.table)
            found = self._some(known, operation.where, "delete")
            deletes.append(known.core.delete().where(and_(*found.clauses)))

        async def work(connection: AsyncConnection) -> int:
            return sum([(await connection.execute(delete)).rowcount for delete in deletes])

        first = self._table(operations[0].table)
        return await self._run(first, work, How(writes=True, atomic=len(deletes) > 1))

    async def fetch_one(
        self, table: str, where: Where | None = None, order_by: OrderBy | None = None
    ) -> Row | None:
        """The first row that `where` finds; None if there is none.

        Raises:
            InvalidArgumentError, BackendUnavailableError: as `fetch_all`.
        """
        known = self._table(table)
        statement = page(known, conditions(known, where), order(known, order_by), None, 1)

        async def work(connection: AsyncConnection) -> list[Row]:
            return [dict(row) for row in (await connection.execute(statement)).mappings()]

        rows = decoded(known, await self._run(known, work, READS))
        return rows[0] if rows else None

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
        """A page of the rows that `where` finds, in a stable order.

        Args:
            table: where.
            where: which rows, see `stackstore.sql.conditions`.
            order_by: a column, or a list of columns and (column, "asc" | "desc"). The primary key
                breaks ties, in the direction of the last column. NULL is the smallest value.
            limit: most rows of the page; None: all.
            cursor: `next_cursor` of the page before, for the same table, where and order.
            after: instead of a cursor, the primary key of a row: its value, or a mapping.

        Raises:
            NotFoundError: the row of `after` isn't there, or not among those of `where`.
            InvalidArgumentError: an argument isn't possible, or the cursor isn't one of this query.
            BackendUnavailableError: the database can't do it now.
        """
        known = self._table(table)
        found = conditions(known, where)
        ordered = order(known, order_by)
        check_limit(limit)
        check_start(cursor, after)
        position: Sequence[Any] | None = None
        if cursor is not None:
            position = await self.position(known, found, ordered, cursor)
        elif after is not None:
            position = await self._position_of_row(known, found, ordered, after)
        statement = page(known, found, ordered, position, None if limit is None else limit + 1)

        async def work(connection: AsyncConnection) -> list[Row]:
            return [dict(row) for row in (await connection.execute(statement)).mappings()]

        rows = await self._run(known, work, READS)
        return await self.paged(known, found, ordered, rows, limit)

    # -- for what is built on it

    def table(self, name: object) -> Table:
        """A table as it is known.

        Raises:
            NotFoundError: this store wasn't told of it.
        """
        return self._table(name)

    async def run(
        self,
        table: str,
        work: Work[T],
        *,
        writes: bool,
        atomic: bool = False,
        patient: bool = True,
    ) -> T:
        """Run statements of one's own; errors come as of this class's own.

        Args:
            table: a known table, for messages; it is made again when it is gone.
            work: an async function of a connection. It may run more than once, so it does nothing
                but speak to its connection.
            writes: whether it changes anything.
            atomic: it is several statements that belong together.
            patient: it waits long for other processes' writes on SQLite; see `How`.
        """
        return await self._run(
            self._table(table), work, How(writes=writes, atomic=atomic, patient=patient)
        )

    async def position(
        self, table: Table, where: Conditions, order: Order, cursor: str
    ) -> list[Any]:
        """The position that a cursor of this table, where and order stands for.

        Raises:
            InvalidArgumentError: it isn't one.
        """
        asked = cursors.question(table, where, order)
        payload = cursors.signed_by(await self._cursor_key(), asked, cursor)
        if payload is None:
            # The name may have moved to another database since the key was read.
            payload = cursors.signed_by(await self._cursor_key(fresh=True), asked, cursor)
        if payload is None:
            raise cursors.refused()
        return cursors.position(table, order, payload)

    async def paged(
        self, table: Table, where: Conditions, order: Order, rows: list[Row], limit: int | None
    ) -> Page:
        """A page of the driver's rows; one more than the limit says that there are more."""
        if limit is None or len(rows) <= limit:
            return Page(decoded(table, rows), has_more=False, next_cursor=None)
        last = rows[limit - 1]
        following = cursors.sign(
            await self._cursor_key(),
            cursors.question(table, where, order),
            [table.columns[term.column].type for term in order],
            [last[term.column] for term in order],
        )
        return Page(decoded(table, rows[:limit]), has_more=True, next_cursor=following)

    # -- inside

    def _table(self, name: object) -> Table:
        found = self._tables.get(name) if isinstance(name, str) else None
        if found is None:
            # Not looked up in the database: it does not say everything that create_table does, and a
            # misspelt name would be an error or not by what else lives there.
            raise NotFoundError(
                f"this store knows no table {shown(name)}; create_table makes it known (and leaves one that "
                f"is there as it is); {choices(name, self._tables)}"
            )
        return found

    def _some(self, table: Table, where: Where | None, verb: str) -> Conditions:
        return check_some(table, table.primary_key, conditions(table, where), verb)

    async def _insert(self, name: str, rows: Any, *, do_nothing: bool) -> int:
        table = self._table(name)
        whole = [table.whole(row) for row in given_rows(table, rows)]
        return await self._write(table, whole, statements.insert(table, do_nothing=do_nothing))

    async def _write(self, table: Table, rows: list[Row], write: statements.Insert) -> int:
        if not rows:
            return 0

        async def work(connection: AsyncConnection) -> int:
            return await write_rows(connection, table, rows, write)

        return await self._run(table, work, How(writes=True, atomic=len(rows) > CHUNK_ROWS))

    async def _position_of_row(
        self, table: Table, where: Conditions, order: Order, after: Any
    ) -> list[Any]:
        key = row_of(table, table.primary_key, after)
        columns = [table.core.c[term.column] for term in order]
        statement = select(*columns).where(and_(*where.clauses, *key.clauses))

        async def work(connection: AsyncConnection) -> Sequence[Any] | None:
            return (await connection.execute(statement)).one_or_none()

        row = await self._run(table, work, READS)
        if row is None:
            raise nowhere(table)
        return list(row)


async def write_rows(
    connection: AsyncConnection, table: Table, rows: list[Row], write: statements.Insert
) -> int:
    """Write rows as the driver wants them; returns how many were written."""
    # In one order everywhere, so that two writers of the same keys don't lock each other out.
    rows.sort(key=itemgetter(*table.primary_key))
    done = 0
    for start in range(0, len(rows), CHUNK_ROWS):
        chunk = rows[start : start + CHUNK_ROWS]
        if len(chunk) == 1:
            result = await connection.execute(write.one, chunk[0])
        elif table.dialect == "postgresql":
            result = await connection.execute(write.many, statements.columnwise(table, chunk))
        else:
            result = await connection.execute(write.one, chunk)
        done += result.rowcount
    return done


def decoded(table: Table, rows: list[Row]) -> list[Row]:
    """The driver's rows as callers get them, in place."""
    for column, defined in table.columns.items():
        if defined.type in (ColumnType.JSON, ColumnType.DATETIME):
            for row in rows:
                row[column] = decode(column, defined.type, row[column])
    return rows
