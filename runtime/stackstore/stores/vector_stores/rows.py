"""The tables of vector stores, and how one is read and changed as a whole.

A vector store is a whole, and its files, their contents and its batches are its parts (see
`stackstore.stores.wholes`): they are whose the vector store is, whoever attached them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from stackstore.access import AuthorizedSqlStore
from stackstore.errors import NotFoundError
from stackstore.sql.names import derived, shown
from stackstore.sql.operations import Operations, Page
from stackstore.sql.tables import Row
from stackstore.stores import claims
from stackstore.stores.documents import text
from stackstore.stores.ids import filled
from stackstore.stores.listing import Listing
from stackstore.stores.tables import (
    JSON,
    NUMBER,
    NUMBER_KEY,
    TEXT,
    TEXT_KEY,
    StoreTables,
    TableDefinition,
)
from stackstore.stores.wholes import holding, key

T = TypeVar("T")


ORDER = ["created_at", "sequence"]
"""Of lists: by seconds, as the server shows them, then by microseconds."""


class VectorStoreRows:
    """The tables.

    Args:
        store: where they are, and who may see which vector stores.
        table_name: the vector stores' table; the other ones' names are derived from it.
    """

    def __init__(self, store: AuthorizedSqlStore, table_name: str) -> None:
        self.stores = table_name
        self.files = derived(table_name, "files")
        self.contents = derived(table_name, "file_contents")
        self.batches = derived(table_name, "file_batches")
        self.tables = StoreTables(store, self._definitions())

    async def whole(self, store_id: str) -> Row:
        """A vector store's row.

        Raises:
            NotFoundError: there is none, or the user may not see it.
        """
        store = await self.tables.ready()
        where = {"id": filled("vector_store_id", store_id)}
        row = await store.fetch_one(self.stores, where, [("sequence", "desc")])
        if row is None:
            raise missing(store_id)
        return row

    async def change(self, store_id: str, work: Callable[[Operations, Row], Awaitable[T]]) -> T:
        """Do something to a vector store and its parts, alone and all or nothing.

        Args:
            store_id: which.
            work: what to do, in a transaction that has no owners, with the row as it is now; `asker`
                in it is the `owner_id` of who asks.

        Raises:
            NotFoundError: there is none, or the user may not see it.
            AccessDeniedError: he may see it but not change it.
        """
        row = await self.whole(store_id)
        store = await self.tables.ready()
        async with holding(store, self.stores, row, missing(store_id)) as (began, whole):
            return await work(began.unguarded, {**whole, "asker": began.owner_id})

    async def keep(self, rows: Operations, row: Row, store: dict[str, Any]) -> None:
        """Write a vector store's document, inside `change`."""
        await rows.update(self.stores, {"store_data": text("a vector store", store)}, key(row))

    def _definitions(self) -> list[TableDefinition]:
        time = {"created_at": NUMBER, "sequence": NUMBER}
        return [
            TableDefinition(
                self.stores,
                {"id": TEXT_KEY, "uid": TEXT, **time, "store_data": JSON},
                {derived(self.stores, "created"): ORDER},
            ),
            TableDefinition(
                self.files,
                {
                    "store_uid": TEXT_KEY,
                    "file_id": TEXT_KEY,
                    **time,
                    "status": TEXT,
                    "file_data": JSON,
                },
                {
                    derived(self.files, "created"): ["store_uid", *ORDER],
                    derived(self.files, "status"): ["store_uid", "status", *ORDER],
                },
                owned=False,
            ),
            TableDefinition(
                self.contents,
                {
                    "store_uid": TEXT_KEY,
                    "file_id": TEXT_KEY,
                    "chunk_index": NUMBER_KEY,
                    "chunk_data": JSON,
                },
                owned=False,
            ),
            TableDefinition(
                self.batches,
                {
                    "store_uid": TEXT_KEY,
                    "id": TEXT_KEY,
                    "vector_store_id": TEXT,
                    "status": TEXT,
                    "expires_at": NUMBER,
                    # The owner_id of who began it: only as him it is gone on with.
                    "begun_by": NUMBER,
                    **claims.COLUMNS,
                    "batch_data": JSON,
                },
                {
                    derived(self.batches, "due"): claims.INDEX,
                    derived(self.batches, "expires"): ["expires_at"],
                },
                owned=False,
            ),
        ]


def missing(store_id: str) -> NotFoundError:
    """There is none, or the user may not see it."""
    return NotFoundError(f"there is no vector store {shown(store_id)}")


def listing(page: Page, column: str) -> Listing:
    """A page of rows as a list of their documents."""
    data = [row[column] for row in page.data]
    return Listing.of(data, has_more=page.has_more, next_cursor=page.next_cursor)
