"""The files of vector stores, and their contents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from stackstore.errors import InvalidArgumentError, NotFoundError
from stackstore.sql.columns import JsonText
from stackstore.sql.names import choices, shown
from stackstore.sql.operations import Operations
from stackstore.sql.tables import Row
from stackstore.stores import clock
from stackstore.stores.documents import Document, plain, text
from stackstore.stores.ids import filled
from stackstore.stores.listing import Listing, window
from stackstore.stores.vector_stores import documents
from stackstore.stores.vector_stores.documents import STATUSES
from stackstore.stores.vector_stores.rows import ORDER, VectorStoreRows, listing


class VectorStoreFiles:
    """The part of `VectorStoresStore` that is about files.

    Reading a file needs the right to read its vector store, all else the right to update that.
    """

    _rows: VectorStoreRows

    async def attach_file(
        self,
        vector_store_id: str,
        file_id: str,
        file: Document,
        chunks: Sequence[Document] = (),
    ) -> dict[str, Any]:
        """Attach a file with its contents, or put it in the place of the one of its id.

        The vector store's `file_counts` and `usage_bytes` follow, in the same transaction.

        Args:
            vector_store_id: to which.
            file_id: its id.
            file: the rest of it: `status` ("in_progress" by default), `usage_bytes`, `attributes`, …
            chunks: its contents, in order; nothing stays of those that were there.

        Returns:
            The file as it is kept.

        Raises:
            NotFoundError: there is no such vector store, or the user may not see it.
            InvalidArgumentError: an argument isn't possible.
        """
        wanted = plain("a file", file)
        file_id = filled("file_id", file_id)
        pieces = _pieces(chunks)
        moment = clock.microseconds()

        async def attach(rows: Operations, whole: Row) -> dict[str, Any]:
            where = {"store_uid": whole["uid"], "file_id": file_id}
            there = await rows.fetch_one(self._rows.files, where)
            before = None if there is None else there["file_data"]
            after = documents.new_file(whole["id"], file_id, wanted, before, moment // 1_000_000)
            await rows.upsert(
                self._rows.files,
                {
                    **where,
                    **_columns(after),
                    "sequence": moment if there is None else there["sequence"],
                },
                ["store_uid", "file_id"],
            )
            await rows.delete(self._rows.contents, where)
            numbered = [
                {**where, "chunk_index": index, "chunk_data": piece}
                for index, piece in enumerate(pieces)
            ]
            await rows.insert(self._rows.contents, numbered)
            await self._rows.keep(rows, whole, documents.moved(whole["store_data"], before, after))
            return after

        return await self._rows.change(vector_store_id, attach)

    async def retrieve_file(self, vector_store_id: str, file_id: str) -> dict[str, Any]:
        """A file.

        Raises:
            NotFoundError: it isn't in the vector store, or the user may not see that.
        """
        whole = await self._rows.whole(vector_store_id)
        rows = self._rows.tables.store.unguarded
        return dict((await self._file(rows, whole, file_id))["file_data"])

    async def list_files(
        self,
        vector_store_id: str,
        *,
        limit: int = 20,
        order: str = "desc",
        after: str | None = None,
        before: str | None = None,
        filter: str | None = None,  # noqa: A002 - as the server says
        cursor: str | None = None,
    ) -> Listing:
        """A page of a vector store's files, by the time at which they were attached.

        Args:
            vector_store_id: whose.
            limit: most files, at least 1.
            order: "asc" or "desc".
            after: the id of a file; the page begins behind it.
            before: likewise; the page ends in front of it.
            filter: only files of this status.
            cursor: instead of both, the page before's `next_cursor`.

        Raises:
            NotFoundError: there is no such vector store or file, or the user may not see it.
            InvalidArgumentError: an argument isn't possible.
        """
        whole = await self._rows.whole(vector_store_id)
        return await self._listed(
            whole, {}, limit, order, after=after, before=before, filter=filter, cursor=cursor
        )

    async def file_contents(self, vector_store_id: str, file_id: str) -> list[dict[str, Any]]:
        """A file's chunks, in order.

        Raises:
            NotFoundError: the file isn't in the vector store, or the user may not see that.
        """
        whole = await self._rows.whole(vector_store_id)
        rows = self._rows.tables.store.unguarded
        await self._file(rows, whole, file_id)
        where = {"store_uid": whole["uid"], "file_id": file_id}
        page = await rows.fetch_all(self._rows.contents, where, "chunk_index")
        return [row["chunk_data"] for row in page.data]

    async def update_file(
        self,
        vector_store_id: str,
        file_id: str,
        changes: Document,
        *,
        expected: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Change fields of a file; all others stay, whoever else changes some at this moment.

        Args:
            vector_store_id: whose.
            file_id: which.
            changes: fields and their new values.
            expected: fields that must have these values now.

        Raises:
            NotFoundError: it isn't in the vector store, or the user may not see that.
            ConflictError: it isn't as expected.
            InvalidArgumentError: a field can't be changed, or a value isn't possible.
        """
        given = plain("a file's changes", changes)
        wanted = plain("what is expected of a file", expected or {})

        async def update(rows: Operations, whole: Row) -> dict[str, Any]:
            there = (await self._file(rows, whole, file_id))["file_data"]
            after = documents.changed("file", there, given, wanted)
            where = {"store_uid": whole["uid"], "file_id": file_id}
            await rows.update(self._rows.files, _columns(after), where)
            await self._rows.keep(rows, whole, documents.moved(whole["store_data"], there, after))
            return after

        return await self._rows.change(vector_store_id, update)

    async def delete_file(self, vector_store_id: str, file_id: str) -> dict[str, Any]:
        """Take a file with its contents out of a vector store.

        Raises:
            NotFoundError: it isn't in the vector store, or the user may not see that.
        """

        async def delete(rows: Operations, whole: Row) -> None:
            there = (await self._file(rows, whole, file_id))["file_data"]
            where = {"store_uid": whole["uid"], "file_id": file_id}
            await rows.delete(self._rows.contents, where)
            await rows.delete(self._rows.files, where)
            await self._rows.keep(rows, whole, documents.moved(whole["store_data"], there, None))

        await self._rows.change(vector_store_id, delete)
        return {"id": file_id, "object": "vector_store.file.deleted", "deleted": True}

    # -- inside

    async def _file(self, rows: Operations, whole: Row, file_id: str) -> Row:
        where = {"store_uid": whole["uid"], "file_id": filled("file_id", file_id)}
        row = await rows.fetch_one(self._rows.files, where)
        if row is None:
            raise NotFoundError(
                f"there is no file {shown(file_id)} in vector store {shown(whole['id'])}"
            )
        return row

    async def _listed(
        self,
        whole: Row,
        where: Mapping[str, Any],
        limit: int,
        order: str,
        *,
        after: str | None,
        before: str | None,
        filter: str | None,  # noqa: A002 - as the server says
        cursor: str | None,
    ) -> Listing:
        one = {"store_uid": whole["uid"]}
        found = {**one, **where}
        if filter is not None:
            # The server's own statuses are Enums whose members are texts.
            found["status"] = getattr(filter, "value", filter)
            if found["status"] not in STATUSES:
                raise InvalidArgumentError(
                    f"there is no status {shown(found['status'])}; {choices(filter, STATUSES)}"
                )
        page = await window(
            self._rows.tables.store.unguarded,
            self._rows.files,
            ORDER,
            where=found,
            order=order,
            limit=limit,
            after=None if after is None else {**one, "file_id": filled("after", after)},
            before=None if before is None else {**one, "file_id": filled("before", before)},
            cursor=cursor,
        )
        return listing(page, "file_data")


def _pieces(chunks: object) -> list[JsonText]:
    if isinstance(chunks, str | bytes) or not isinstance(chunks, Sequence):
        raise InvalidArgumentError("chunks are a list of documents")
    return [text("a chunk", chunk) for chunk in chunks]


def _columns(file: dict[str, Any]) -> dict[str, Any]:
    return {
        "created_at": file["created_at"],
        "status": file["status"],
        "file_data": text("a file", file),
    }
