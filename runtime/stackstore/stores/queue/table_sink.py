"""A sink for a table of a SqlStore: rows are upserted or deleted by the primary key."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import BigInteger, TextClause, bindparam, delete, text, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from stackstore.errors import BackendUnavailableError
from stackstore.schema import qualified
from stackstore.sql import SqlStore, statements
from stackstore.sql.operations import write_rows
from stackstore.sql.runner import T, Work
from stackstore.sql.tables import Row
from stackstore.stores.queue.records import Entry, Identity, Mark, Record, named
from stackstore.stores.queue.rows import Rows, shard_of
from stackstore.stores.queue.tables import DEAD_LETTERS, MARKS, QUEUES

KEEP_SECONDS = 86_400
"""How long the marks of a queue without a journal outlive their last use."""

DELETE_BYTES = 500
"""About what a record takes that deletes."""

DELETES = 500
"""Most keys of one DELETE."""


class TableSink:
    """Writes to one table. A record's identity is its primary key, in the key's order.

    Args:
        store: knows the table (`create_table`).
        table: its name.
    """

    def __init__(self, store: SqlStore, table: str) -> None:
        self._store = store
        self._name = table
        self._encoder: Rows | None = None
        self._making: asyncio.Future[None] | None = None
        marks = qualified(store.dialect, MARKS)
        letters = qualified(store.dialect, DEAD_LETTERS)
        self._move = _statement(
            f"INSERT INTO {marks} AS held (queue, writers, lane, sequence, durable, touched) "  # noqa: S608 - our own name
            "VALUES (:queue, :writers, :lane, :sequence, :durable, :touched) "
            "ON CONFLICT (queue, writers, lane) DO UPDATE "
            "SET sequence = excluded.sequence, touched = excluded.touched "
            "WHERE held.sequence = :previous"
        )
        self._look = _statement(
            f"SELECT sequence FROM {marks} "  # noqa: S608 - likewise
            "WHERE queue = :queue AND writers = :writers AND lane = :lane"
        )
        self._all = _statement(f"SELECT writers, lane, sequence FROM {marks} WHERE queue = :queue")  # noqa: S608 - likewise
        self._forget = _statement(f"DELETE FROM {marks} WHERE queue = :queue")  # noqa: S608 - likewise
        self._tidy = _statement(f"DELETE FROM {marks} WHERE NOT durable AND touched < :edge")  # noqa: S608 - likewise
        self._letter = _statement(
            f"INSERT INTO {letters} (queue, sequence, name, identity, owner, reason, deletes, "  # noqa: S608 - likewise
            "payload, created) VALUES (:queue, :sequence, :name, :identity, :owner, :reason, "
            ":deletes, :payload, :created)"
        )

    async def create(self) -> None:
        """Make the tables of all queues now, rather than at the first write.

        Raises:
            BackendUnavailableError: the database can't do it now.
        """
        await self._ready()

    # -- making records

    def upsert(self, user: str, row: Mapping[str, Any], *, shard: str | None = None) -> Record:
        """A record that writes a whole row; columns that aren't given get their defaults.

        JSON is written down here, once, so what isn't JSON is refused at once. Other values are
        looked at when they are written.

        Args:
            user: on whose behalf.
            row: columns and values.
            shard: what keeps its order; by default the row.

        Raises:
            InvalidArgumentError: the key is incomplete, or a value isn't JSON where it has to be.
        """
        rows = self._rows
        identity = rows.identity(row)
        payload, size = rows.packed(row)
        return Record(shard or shard_of(identity), identity, user, size, payload)

    def delete(self, user: str, key: Mapping[str, Any], *, shard: str | None = None) -> Record:
        """A record that deletes a row, if it is there.

        Raises:
            InvalidArgumentError: the key is incomplete.
        """
        identity = self._rows.identity(key)
        return Record(shard or shard_of(identity), identity, user, DELETE_BYTES, None)

    # -- a sink

    async def write(self, records: Sequence[Record], mark: Mark) -> int | None:
        """Upsert and delete, with the mark."""
        encoder = self._rows
        table = encoder.table
        rows = [encoder.whole(one.payload) for one in records if one.payload is not None]
        keys = [self._key(one.identity) for one in records if one.payload is None]
        changed = [column for column in table.columns if column not in table.primary_key]
        upsert = statements.upsert(table, changed)
        columns = [table.core.c[column] for column in table.primary_key]

        async def write(connection: AsyncConnection) -> None:
            if rows:
                await write_rows(connection, table, rows, upsert)
            for start in range(0, len(keys), DELETES):
                some = keys[start : start + DELETES]
                await connection.execute(delete(table.core).where(tuple_(*columns).in_(some)))

        return await self._marked(mark, write)

    async def set_aside(
        self, entry: Entry, reason: str, mark: Mark, *, with_payload: bool = True
    ) -> int | None:
        """Put a record into table dead_letters, with the mark."""
        record = entry.record
        payload: bytes | None = None
        if with_payload and record.payload is not None:
            payload = self.dump(record.payload)
        values = {
            "queue": entry.queue,
            "sequence": entry.sequence,
            "name": self._name,
            "identity": named(record.identity),
            "owner": _printable(record.user),
            "reason": _printable(reason),
            "deletes": record.payload is None,
            "payload": payload,
            "created": time.time_ns() // 1000,
        }

        async def write(connection: AsyncConnection) -> None:
            await connection.execute(self._letter, values)

        return await self._marked(mark, write)

    async def marks(self, queue: str) -> Sequence[Mark]:
        """How far a queue got."""

        async def work(connection: AsyncConnection) -> list[Mark]:
            rows = await connection.execute(self._all, {"queue": queue})
            return [Mark(queue, row[0], row[1], row[2], durable=True) for row in rows]

        return await self._atomically(work)

    async def forget(self, queue: str) -> None:
        """Delete a queue's marks."""

        async def work(connection: AsyncConnection) -> None:
            await connection.execute(self._forget, {"queue": queue})

        await self._atomically(work)

    async def tidy(self) -> None:
        """Delete marks of processes that are long gone and had no journal."""
        edge = int(time.time()) - KEEP_SECONDS

        async def work(connection: AsyncConnection) -> None:
            await connection.execute(self._tidy, {"edge": edge})

        await self._atomically(work)

    def dump(self, payload: Any) -> bytes:
        """A waiting row as bytes."""
        return self._rows.dump(payload)

    def load(self, dumped: bytes) -> Row:
        """The way back."""
        return self._rows.load(dumped)

    # -- inside

    @property
    def _rows(self) -> Rows:
        table = self._store.table(self._name)
        if self._encoder is None or self._encoder.table is not table:
            self._encoder = Rows(table)
        return self._encoder

    def _key(self, identity: Identity) -> tuple[Any, ...]:
        table = self._store.table(self._name)
        return tuple(
            table.encoded(column, value)
            for column, value in zip(table.primary_key, identity, strict=True)
        )

    async def _marked(self, mark: Mark, write: Work[None]) -> int | None:
        """Move the mark and write, or find that it was moved before and write nothing."""
        values = {
            "queue": mark.queue,
            "writers": mark.writers,
            "lane": mark.lane,
            "sequence": mark.sequence,
            "previous": mark.previous,
            "durable": mark.durable,
            "touched": int(time.time()),
        }

        async def work(connection: AsyncConnection) -> int | None:
            # First, so that an attempt that was believed lost, and still goes on, is waited for here.
            moved = await connection.execute(self._move, values)
            if moved.rowcount:
                await write(connection)
                return None
            place = {name: values[name] for name in ("queue", "writers", "lane")}
            return int((await connection.execute(self._look, place)).scalar_one())

        return await self._atomically(work)

    async def _atomically(self, work: Work[T]) -> T:
        await self._ready()
        return await self._store.atomically(self._name, work)

    async def _ready(self) -> None:
        """Have our tables made: by one of those who ask, and to the end whoever is cancelled.

        On SQLite it may wait long for another process, and no cancellation ends such a wait.
        """
        making = self._making
        if making is None or (making.done() and (making.cancelled() or making.exception())):
            making = self._making = asyncio.ensure_future(self._store.require(QUEUES))
        await asyncio.wait([making])
        if making.cancelled():
            raise BackendUnavailableError(f"table {self._name!r}: the event loop is ending")
        if error := making.exception():
            # One exception each: raised in several tasks, one would collect all their traces.
            raise BackendUnavailableError(str(error))


def _statement(words: str) -> TextClause:
    """Text with parameters; on Postgres a whole number would be one of 32 bits by itself."""
    numbers = re.findall(r":(writers|lane|sequence|previous|touched|edge|created)\b", words)
    return text(words).bindparams(*(bindparam(name, type_=BigInteger()) for name in set(numbers)))


def _printable(value: str) -> str:
    return value.encode("utf-8", "backslashreplace").decode().replace("\0", "\\0")
