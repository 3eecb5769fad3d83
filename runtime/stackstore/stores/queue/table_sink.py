"""A sink for a table whose rows have owners: rows are written and deleted as who asked for it."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from stackstore.access.deferred import MOVES, Stamps, restless
from stackstore.access.tables import OWNER_ID, OWNER_KEY
from stackstore.errors import BackendUnavailableError, StoreError
from stackstore.sql.ordering import OrderBy
from stackstore.sql.runner import T, Work
from stackstore.sql.tables import Row
from stackstore.stores.clock import microseconds
from stackstore.stores.queue.marking import (
    Marking,
    OtherDatabaseError,
    Step,
    on_postgres,
    on_sqlite,
)
from stackstore.stores.queue.records import Entry, Mark, Record, Write, named
from stackstore.stores.queue.rows import Rows, owner_of, shard_of
from stackstore.stores.queue.tables import QUEUES
from stackstore.stores.tables import StoreTables

KEEP_SECONDS = 86_400
"""How long the marks of a queue without a journal outlive their last use."""

DELETE_BYTES = 500
"""About what a record takes that deletes."""

_NOBODY = Stamps({}, 0, "")


class TableSink:
    """Writes to one table, each row as the user who put it.

    A record's identity is the person whose row it is (`Owner.person`) and the primary key. A row
    that its own user writes again is replaced, the attributes that he had included.

    Args:
        tables: the store's, with this one among them; its ids are unique per owner.
        table: its name.
        order_by: of several owners' rows of one key, which goes first to be deleted, after the
            user's own: as the store's reads have it.

    Raises:
        InvalidArgumentError: the table's ids are not unique per owner.
    """

    def __init__(self, tables: StoreTables, table: str, *, order_by: OrderBy | None = None) -> None:
        tables.include(QUEUES)
        self._tables = tables
        self._name = table
        self._order_by = order_by
        self._sql = tables.store.unguarded
        self._deferred = tables.store.deferred(table)
        self._marking = Marking(self._sql.dialect)
        self._known = self._look(())

    # -- making records

    def upsert(self, row: Mapping[str, Any], *, shard: str | None = None) -> Record:
        """A record that writes a whole row as the current user's; what isn't given gets its default.

        That he may create it is seen here and now, without the database. JSON is written down here,
        once, so what isn't JSON is refused at once; `JsonText` goes as it is. Other values are
        looked at when they are written.

        Args:
            row: columns and values.
            shard: what keeps its order; by default the key, whosever the row is.

        Raises:
            AccessDeniedError: the user may not create it, or there is no user.
            InvalidArgumentError: the key is incomplete, there is no such column, or a value isn't
                JSON where it has to be.
        """
        rows = self._known
        if row.keys() != rows.names:
            # Of the table as it is now; a column may have been added.
            rows = self._rows
            row = rows.whole(row)
        key = rows.identity(row)
        owner = self._deferred.creator(row)
        waiting, size = rows.packed(owner, row)
        person = owner.person
        return Record(shard or shard_of(key), (person, *key), person, size, waiting)

    async def deletion(self, key: Mapping[str, Any], *, shard: str | None = None) -> Record | None:
        """A record that deletes a row as the current user: one that is in the database.

        Of several owners' rows, his own goes first. When it is written, that he may delete it is
        looked at again, and if he may not it does nothing.

        Args:
            key: the primary key.
            shard: that of the writes to this row.

        Returns:
            None: there is no such row that he may delete.

        Raises:
            AccessDeniedError: there is no user.
            InvalidArgumentError: the key is incomplete or impossible.
            BackendUnavailableError: the database can't do it now.
        """
        rows = self._rows
        identity = rows.identity(key)
        owner = self._deferred.asker()
        await self._ready()
        person = await self._deferred.whose(
            dict(zip(rows.key, identity, strict=True)), self._order_by
        )
        if person is None:
            return None
        return Record(
            shard or shard_of(identity),
            (person, *identity),
            owner.person,
            DELETE_BYTES,
            owner.identity,
            deletes=True,
        )

    def person(self) -> str:
        """The current user as records have him, to wait for what he put.

        Raises:
            AccessDeniedError: there is no user.
        """
        return self._deferred.asker().person

    # -- a sink

    def lanes(self, writers: int) -> int:
        """One on SQLite, which has one writer at a time: several would share its turns, and rows."""
        return writers if self._sql.dialect == "postgresql" else 1

    async def write(self, records: Sequence[Write], mark: Mark) -> int | None:
        """Upsert, or delete, with the mark."""
        if not records:
            return await self._marked(mark, self._marking.alone, ())
        if records[0].deletes:
            return await self._delete(records, mark)
        rows = self._rows
        owners, columns = rows.columnwise([record.payload for record in records])
        distinct = set(owners)
        for _ in range(MOVES):
            stamps = await self._stamps(distinct)
            interned = [stamps.of[owner] for owner in owners]
            stamped = [[one.id for one in interned], *columns, [one.key for one in interned]]
            try:
                return await self._marked(mark, self._upsert, self._values(stamped), stamps)
            except OtherDatabaseError:
                self._deferred.forget()
        raise restless(self._name)

    async def set_aside(
        self, entry: Entry, reason: str, mark: Mark, *, with_payload: bool = True
    ) -> int | None:
        """Put a record into table dead_letters, with the mark."""
        payload: bytes | None = None
        if with_payload and not entry.deletes:
            payload = self._rows.dump(entry.payload)
        values = (
            entry.queue,
            entry.sequence,
            self._name,
            named(entry.identity),
            _printable(entry.user),
            _printable(reason),
            entry.deletes,
            payload,
            microseconds(),
        )
        letter = values if self._sql.dialect == "postgresql" else [values]
        return await self._marked(mark, self._marking.letter, letter)

    async def marks(self, queue: str) -> Sequence[Mark]:
        """How far a queue got."""

        async def work(connection: AsyncConnection) -> list[Mark]:
            found: Any = await connection.exec_driver_sql(self._marking.all, (queue,))
            return [Mark(queue, row[0], row[1], row[2], durable=True) for row in found]

        return await self._atomically(work)

    async def forget(self, queue: str) -> None:
        """Delete a queue's marks."""

        async def work(connection: AsyncConnection) -> None:
            await connection.exec_driver_sql(self._marking.forget, (queue,))

        await self._atomically(work)

    async def tidy(self) -> None:
        """Delete marks of processes that are long gone and had no journal."""
        edge = int(time.time()) - KEEP_SECONDS

        async def work(connection: AsyncConnection) -> None:
            await connection.exec_driver_sql(self._marking.tidy, (edge,))

        await self._atomically(work)

    def dump(self, payload: Any) -> bytes:
        """A payload as bytes."""
        return self._rows.dump_owned(payload)

    def load(self, dumped: bytes) -> Any:
        """The way back."""
        return self._rows.load_owned(dumped)

    # -- inside

    @property
    def _rows(self) -> Rows:
        if self._known.table is not self._deferred.table:
            self._known = self._look(self._known.columns)
        return self._known

    def _look(self, before: tuple[str, ...]) -> Rows:
        """Prepare for the table as it is known now.

        Args:
            before: the columns that it had; equal ones stay the same object, for what waits has them.
        """
        table, columns = self._deferred.table, self._deferred.columns
        rows = Rows(table, before if before == columns else columns, self._deferred.key)
        stamped = (OWNER_ID, *rows.columns, OWNER_KEY)
        self._upsert = self._marking.upsert(table, stamped)
        return rows

    def _values(self, columns: Sequence[Sequence[Any]]) -> Sequence[Any]:
        """What an upsert takes.

        In the order in which they came. Sorted, two processes that write several of the same rows at
        the same time would lock them in one order; that is rare, and one of them is told by the
        database to try again.
        """
        if self._sql.dialect == "postgresql":
            return columns
        return list(zip(*columns, strict=True))

    async def _stamps(self, owners: Collection[str]) -> Stamps:
        await self._ready()
        trouble: str
        try:
            return await self._deferred.stamps(owners)
        except StoreError as error:
            # Of a table of ours that isn't as it should be; nothing is wrong with the records.
            trouble = str(error)
        raise BackendUnavailableError(trouble)

    async def _marked(
        self, mark: Mark, step: Step, values: Sequence[Any], stamps: Stamps = _NOBODY
    ) -> int | None:
        """Move the mark and take a step, or find that it was moved before and write nothing."""
        await self._ready()
        moving = self._marking.moving(mark, stamps.number, stamps.mark)
        take = on_postgres if self._sql.dialect == "postgresql" else on_sqlite

        async def work(driver: Any) -> int | None:
            return await take(driver, self._marking, step, moving, values)

        return await self._sql.directly(self._name, work)

    async def _delete(self, records: Sequence[Write], mark: Mark) -> int | None:
        """Delete with the mark: what may be deleted is for the access layer's own statements."""
        rows, table = self._rows, self._deferred.table
        by_user: defaultdict[str, list[tuple[str, Row]]] = defaultdict(list)
        for record in records:
            person, *key = record.identity
            values = {
                name: table.encoded(name, value) for name, value in zip(rows.key, key, strict=True)
            }
            by_user[record.payload].append((str(person), values))

        async def work(connection: AsyncConnection) -> int | None:
            # First, so that an attempt that was believed lost, and still goes on, is waited for here.
            moved = await connection.exec_driver_sql(self._marking.move, self._marking.moving(mark))
            if not moved.rowcount:
                place = self._marking.looking(mark)
                found = await connection.exec_driver_sql(self._marking.look, place)
                return int(found.one()[0])
            for owner, some in by_user.items():
                await self._deferred.delete_as(connection, owner_of(owner), some)
            return None

        return await self._atomically(work)

    async def _atomically(self, work: Work[T]) -> T:
        await self._ready()
        return await self._sql.atomically(self._name, work)

    async def _ready(self) -> None:
        trouble: str
        try:
            await self._tables.ready()
        except StoreError as error:
            trouble = str(error)
        else:
            return
        # Nothing is wrong with the records, so it is not as one that would set them aside.
        raise BackendUnavailableError(trouble)


def _printable(value: str) -> str:
    return value.encode("utf-8", "backslashreplace").decode().replace("\0", "\\0")
