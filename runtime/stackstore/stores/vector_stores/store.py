"""The records of vector stores."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Any

from stackstore.access import Action, AuthorizedSqlStore
from stackstore.errors import ConflictError, NotFoundError
from stackstore.sql.operations import Operations
from stackstore.sql.tables import Row
from stackstore.stores import clock
from stackstore.stores.claims import Claims
from stackstore.stores.documents import Document, plain, text
from stackstore.stores.ids import filled, minted
from stackstore.stores.listing import Listing, window
from stackstore.stores.vector_stores import documents
from stackstore.stores.vector_stores.batches import VectorStoreFileBatches
from stackstore.stores.vector_stores.rows import ORDER, VectorStoreRows, listing, missing
from stackstore.stores.wholes import key, refusal

_TRIES = 10
"""How often saving begins again because others make and delete the same one."""


class VectorStoresStore(VectorStoreFileBatches):
    """Vector stores with their files and batches, as documents of the server's API.

    The vectors themselves are elsewhere, in a provider's own database.

    Every method raises, besides what it says itself:
        AccessDeniedError: there is no user, or he may not do this with what he may read.
        BackendUnavailableError: the database can't do it now.

    Args:
        store: where the tables are, and who may see which vector stores.
        table_name: the vector stores' table; the other ones are `<table>__files`,
            `<table>__file_contents` and `<table>__file_batches`.
    """

    def __init__(self, store: AuthorizedSqlStore, table_name: str) -> None:
        self._rows = VectorStoreRows(store, table_name)
        self.claims = Claims(
            self._rows.tables,
            self._rows.batches,
            ("store_uid", "id"),
            "batch_data",
            self._worker,
        )

    async def create_vector_store(self, vector_store: Document) -> dict[str, Any]:
        """Make a vector store, and return it.

        Args:
            vector_store: what is known of it; `id` is minted where there is none. What its files
                decide (`file_counts`, `usage_bytes`) begins with nothing.

        Raises:
            ConflictError: the user has one of this id.
            InvalidArgumentError: it isn't a vector store.
        """
        return await self._insert(plain("a vector store", vector_store))

    async def save_vector_store(self, vector_store: Document) -> dict[str, Any]:
        """Make a vector store, or put its document in the place of the one that is there.

        What is counted and when it was made stay as they are.

        Raises:
            InvalidArgumentError: it isn't a vector store, or has no id.
        """
        given = plain("a vector store", vector_store)
        store_id = filled("a vector store's id", given.get("id"))

        async def replace(rows: Operations, whole: Row) -> dict[str, Any]:
            there = whole["store_data"]
            stays = ("created_at", "file_counts", "usage_bytes")
            after = documents.new_store(store_id, {**given, "created_at": 0}, 0)
            after.update({field: there[field] for field in stays})
            await self._rows.keep(rows, whole, after)
            return after

        for _ in range(_TRIES):
            try:
                return await self._rows.change(store_id, replace)
            except NotFoundError:
                pass
            try:
                return await self._insert(given)
            except ConflictError:
                continue
        raise ConflictError("the vector store is made and deleted all the time; try again")

    async def retrieve_vector_store(self, vector_store_id: str) -> dict[str, Any]:
        """A vector store.

        Raises:
            NotFoundError: there is none, or the user may not see it.
        """
        return dict((await self._rows.whole(vector_store_id))["store_data"])

    async def list_vector_stores(
        self,
        *,
        limit: int = 20,
        order: str = "desc",
        after: str | None = None,
        before: str | None = None,
        cursor: str | None = None,
    ) -> Listing:
        """A page of the vector stores that the user may see, by the time at which they were made.

        Args:
            limit: most vector stores, at least 1.
            order: "asc" or "desc".
            after: the id of one; the page begins behind it.
            before: likewise; the page ends in front of it.
            cursor: instead of both, the page before's `next_cursor`.

        Raises:
            NotFoundError: there is none of that id, or the user may not see it.
            InvalidArgumentError: an argument isn't possible.
        """
        store = await self._rows.tables.ready()
        page = await window(
            store,
            self._rows.stores,
            ORDER,
            order=order,
            limit=limit,
            after=after,
            before=before,
            cursor=cursor,
        )
        return listing(page, "store_data")

    async def update_vector_store(
        self,
        vector_store_id: str,
        changes: Document,
        *,
        expected: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Change fields of a vector store; all others stay, whoever else changes some now.

        Args:
            vector_store_id: which.
            changes: fields and their new values; `last_active_at` is set unless it is given.
            expected: fields that must have these values now.

        Raises:
            NotFoundError: there is none, or the user may not see it.
            ConflictError: it isn't as expected.
            InvalidArgumentError: a field can't be changed, or a value isn't possible.
        """
        active = {"last_active_at": clock.microseconds() // 1_000_000}
        given = {**active, **plain("a vector store's changes", changes)}
        wanted = plain("what is expected of a vector store", expected or {})

        async def update(rows: Operations, whole: Row) -> dict[str, Any]:
            after = documents.changed("vector store", whole["store_data"], given, wanted)
            await self._rows.keep(rows, whole, after)
            return after

        return await self._rows.change(vector_store_id, update)

    async def delete_vector_store(self, vector_store_id: str) -> dict[str, Any]:
        """Delete a vector store with its files, their contents and its batches.

        Raises:
            NotFoundError: there is none, or the user may not see it.
        """
        store = await self._rows.tables.ready()
        row = await self._rows.whole(vector_store_id)
        async with store.transaction() as began:
            # Whoever attaches a file at this moment has the row, or will find it gone.
            if not await began.delete(self._rows.stores, key(row)):
                none = missing(vector_store_id)
                raise await refusal(began, self._rows.stores, row, Action.DELETE, none)
            for table in (self._rows.contents, self._rows.files, self._rows.batches):
                await began.unguarded.delete(table, {"store_uid": row["uid"]})
        return {"id": vector_store_id, "object": "vector_store.deleted", "deleted": True}

    # -- inside

    async def _insert(self, given: Mapping[str, Any]) -> dict[str, Any]:
        store_id = minted("vs", 32) if given.get("id") is None else filled("id", given["id"])
        moment = clock.microseconds()
        made = documents.new_store(store_id, given, moment // 1_000_000)
        store = await self._rows.tables.ready()
        await store.insert(
            self._rows.stores,
            {
                "id": store_id,
                "uid": secrets.token_hex(16),
                "created_at": made["created_at"],
                "sequence": moment,
                "store_data": text("a vector store", made),
            },
        )
        return made
