"""The inference store: completions that were answered, with what was asked."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from stackstore.access import AuthorizedSqlStore
from stackstore.errors import BackendUnavailableError, InvalidArgumentError, NotFoundError
from stackstore.sql.names import derived, shown
from stackstore.stores.clock import microseconds
from stackstore.stores.documents import Document
from stackstore.stores.inference import messages
from stackstore.stores.inference.completions import COLUMNS, ORDER, document, is_unwanted, row
from stackstore.stores.listing import Listing, window
from stackstore.stores.once import Once
from stackstore.stores.queue import QueueStats, Record, Remains, TableSink, WriteQueue
from stackstore.stores.queue.queue import MAX_BYTES, MAX_ROWS
from stackstore.stores.retention import Ageing
from stackstore.stores.tables import StoreTables, TableDefinition

_PAGE = 50
_MESSAGES = 20
_NEWEST = [(column, "desc") for column in ORDER]


class InferenceStore:
    """Chat completions, each its user's.

    Writes go through a queue of this process and are acknowledged before the database has them; see
    docs/durability.md for what that promises. Reads wait until what their own user was acknowledged
    in this process is there. It belongs to one event loop: the one of its first call.

    Args:
        store: where they are kept.
        table_name: in which table.
        name: of the queue, for logs and the journal's files; the same in every process.
        max_write_queue_size: most completions in the queue.
        max_write_queue_bytes: most bytes of them.
        num_writers: how many write at the same time.
        journal: a directory on a volume; what is acknowledged is on its disk then. None: in memory.
        enqueue_timeout_seconds: how long a write waits for room in the queue.
        read_timeout_seconds: how long a read waits for its user's own writes.

    Raises:
        InvalidArgumentError: a name or a number isn't possible.
    """

    def __init__(
        self,
        store: AuthorizedSqlStore,
        table_name: str,
        *,
        name: str = "inference",
        max_write_queue_size: int = MAX_ROWS,
        max_write_queue_bytes: int = MAX_BYTES,
        num_writers: int = 4,
        journal: Path | None = None,
        enqueue_timeout_seconds: float = 30.0,
        read_timeout_seconds: float = 10.0,
    ) -> None:
        self._table = table_name
        self._enqueue_seconds = _seconds("enqueue_timeout_seconds", enqueue_timeout_seconds)
        self._read_seconds = _seconds("read_timeout_seconds", read_timeout_seconds)
        indexes = {
            derived(table_name, "created"): ORDER,
            derived(table_name, "model"): ("model", *ORDER),
        }
        self._tables = StoreTables(store, [TableDefinition(table_name, COLUMNS, indexes)])
        self._sink = TableSink(self._tables, table_name, order_by=_NEWEST)
        self._queue = WriteQueue(
            self._sink,
            name=name,
            writers=num_writers,
            max_rows=max_write_queue_size,
            max_bytes=max_write_queue_bytes,
            journal=journal,
        )
        self._begin = Once(self._queue.start)
        self._is_ending = False
        self._arrived = 0

    @property
    def ageings(self) -> list[Ageing]:
        """A completion is as old as it says; what could not be written of it as its dead letter."""
        return [Ageing(self._table, "created", has_letters=True)]

    async def ready(self) -> object:
        """See to it that its tables are there; every method does.

        Raises:
            BackendUnavailableError: the database can't do it now.
        """
        return await self._tables.ready()

    async def initialize(self) -> None:
        """Begin to write, also what earlier processes left in the journal.

        The database need not be there yet. Every other method sees to it too.

        Raises:
            BackendUnavailableError: the journal can't be used; the text says why.
        """
        if not self._is_ending:
            await self._begin()

    async def store_chat_completion(
        self,
        completion: Document,
        input_messages: Sequence[Document],
        *,
        store: bool | None = None,
    ) -> None:
        """Keep a completion as the current user's. When this returns it is acknowledged.

        A completion of his with the same id is replaced; another owner's is another one.

        Args:
            completion: what the model was answered; it comes back whole, as it went in.
            input_messages: what it was asked.
            store: the request's word; False: nothing is stored, as if the completion itself says so.

        Raises:
            AccessDeniedError: there is no user, or he may not create it.
            InvalidArgumentError: it has no usable id, time or model, it isn't JSON, or it is larger
                than the whole queue.
            StoreBusyError: there was no room in the queue in time.
            BackendUnavailableError: the store was shut down, or the journal's disk takes nothing.
            All of them mean: it is not stored.
        """
        if is_unwanted(completion, store):
            return
        record = self._sink.upsert(row(completion, input_messages, self._now()))
        if not self._begin.is_done:
            await self.initialize()
        await self._put(record)

    async def list_chat_completions(
        self,
        after: str | None = None,
        limit: int | None = _PAGE,
        model: str | None = None,
        order: str | None = "desc",
        *,
        before: str | None = None,
        cursor: str | None = None,
    ) -> Listing:
        """A page of the completions that the current user may read.

        They come by `created`, those of one second as they were stored. Each is the completion as it went
        in, with `input_messages`.

        Args:
            after: a completion's id; the page begins behind it.
            limit: most completions of the page; None: 50.
            model: only those of this model.
            order: "desc", newest first, or "asc"; None: "desc".
            before: instead of `after`, a completion's id; the page ends in front of it.
            cursor: instead of both, the page before's `next_cursor`.

        Raises:
            InvalidArgumentError: an argument isn't possible.
            NotFoundError: the one to go on after isn't there, or may not be read.
            AccessDeniedError: there is no user.
            BackendUnavailableError: the database can't do it now, or has not taken yet what the
                user stored before.
        """
        page = await window(
            await self._settled(),
            self._table,
            ORDER,
            where=None if model is None else {"model": {"=": model}},
            order="desc" if order is None else order,
            limit=_PAGE if limit is None else limit,
            after=after,
            before=before,
            cursor=cursor,
        )
        data = [document(found) for found in page.data]
        return Listing.of(data, has_more=page.has_more, next_cursor=page.next_cursor)

    async def get_chat_completion(self, completion_id: str) -> dict[str, Any]:
        """A completion as it went in, with `input_messages`.

        Where several owners' have that id, the user's own, or else the newest that he may read.

        Raises:
            NotFoundError: it isn't there, or may not be read.
            AccessDeniedError, BackendUnavailableError: as `list_chat_completions`.
        """
        store = await self._settled()
        found = await store.fetch_one(self._table, {"id": {"=": completion_id}}, _NEWEST)
        if found is None:
            raise _not_found(completion_id)
        return document(found)

    async def list_chat_completion_messages(
        self,
        completion_id: str,
        after: str | None = None,
        limit: int | None = _MESSAGES,
        order: str | None = "asc",
    ) -> Listing:
        """The messages of a completion: those that it was asked, then those of its choices.

        Args:
            completion_id: whose, as in `get_chat_completion`.
            after: a message's id; the page begins behind it.
            limit: most messages of the page; None: 20.
            order: "asc", as they were said, or "desc"; None: "asc".

        Raises:
            InvalidArgumentError: an argument isn't possible.
            NotFoundError: the completion or the message isn't there, or may not be read.
            AccessDeniedError, BackendUnavailableError: as `list_chat_completions`.
        """
        return messages.listed(
            completion_id,
            await self.get_chat_completion(completion_id),
            after=after,
            limit=_MESSAGES if limit is None else limit,
            order="asc" if order is None else order,
        )

    async def delete_chat_completion(self, completion_id: str) -> None:
        """Delete a completion. When this returns it is acknowledged, in order with the writes.

        Where several owners' have that id, the user's own, or else the newest that he may delete.

        Raises:
            NotFoundError: it isn't there, or may not be deleted.
            AccessDeniedError, BackendUnavailableError: as `list_chat_completions`.
            StoreBusyError: there was no room in the queue in time; it is not deleted.
        """
        await self._settled()
        record = await self._sink.deletion({"id": completion_id})
        if record is None:
            raise _not_found(completion_id)
        await self._put(record)

    async def flush(self, timeout_seconds: float = 30.0) -> bool:
        """Wait until all that was acknowledged in this process, by whomever, is written or set aside.

        Returns:
            Whether it is; False: not in time.
        """
        await self.initialize()
        return not self._begin.is_done or await self._queue.flush(_deadline(timeout_seconds))

    async def shutdown(self, grace: float = 5.0) -> Remains:
        """Take nothing more, write what is there, and end within the grace.

        Args:
            grace: seconds.

        Returns:
            What could not be written. A second call returns the same.
        """
        self._is_ending = True
        loop = asyncio.get_running_loop()
        end = loop.time() + grace
        # What is half begun would go on by itself.
        await self._begin.ended(grace)
        return await self._queue.shutdown(max(0.0, end - loop.time()))

    def stats(self) -> QueueStats:
        """How the queue stands, and what it counted."""
        return self._queue.stats()

    # -- inside

    async def _put(self, record: Record) -> None:
        await self._queue.put(record, _deadline(self._enqueue_seconds))

    async def _settled(self) -> AuthorizedSqlStore:
        """The store, once it has what its current user was acknowledged here."""
        person = self._sink.person()
        await self.initialize()
        if self._begin.is_done and not await self._queue.wait_for(
            person, _deadline(self._read_seconds)
        ):
            raise BackendUnavailableError(
                f"table {self._table!r}: what the user stored before was not written within "
                f"{self._read_seconds:g} s, and an answer without it would be wrong; try again"
                f"{self._trouble()}"
            )
        return await self._tables.ready()

    def _trouble(self) -> str:
        failed = self._queue.stats().last_trouble
        if failed:
            return f"; the last write failed: {failed}"
        # The first write still waits for a connection, for longer than a read does.
        unreachable = self._tables.store.unguarded.trouble
        return f"; the database can't be reached: {unreachable}" if unreachable else ""

    def _now(self) -> int:
        """Microseconds since 1970, each only once."""
        self._arrived = max(self._arrived + 1, microseconds())
        return self._arrived


def _deadline(seconds: float) -> float:
    return asyncio.get_running_loop().time() + seconds


def _seconds(what: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
        raise InvalidArgumentError(f"{what} is a number of seconds from 0")
    return float(value)


def _not_found(completion_id: str) -> NotFoundError:
    return NotFoundError(f"there is no chat completion {shown(completion_id)}")
