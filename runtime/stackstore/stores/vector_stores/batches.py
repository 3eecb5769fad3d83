"""Batches of files that are being attached to a vector store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from stackstore.access import AccessDeniedError, User
from stackstore.errors import NotFoundError
from stackstore.sql.names import shown
from stackstore.sql.operations import Operations
from stackstore.sql.tables import Row
from stackstore.stores import claims, clock
from stackstore.stores.claims import Claim, Claims
from stackstore.stores.documents import Document, plain, text
from stackstore.stores.ids import filled, minted
from stackstore.stores.listing import Listing
from stackstore.stores.retention import Ageing
from stackstore.stores.vector_stores import documents
from stackstore.stores.vector_stores.files import VectorStoreFiles


class VectorStoreFileBatches(VectorStoreFiles):
    """The part of `VectorStoresStore` that is about batches of files.

    Reading one needs the right to read its vector store, all else the right to update that. A batch
    is gone when it expires, after seven days.

    Attributes:
        claims: who works on which batch; for workers, which are no user.
    """

    claims: Claims

    @property
    def expiries(self) -> list[Ageing]:
        """A batch says itself when it goes."""
        return [Ageing(self._rows.batches, "expires_at")]

    async def ready(self) -> object:
        """See to it that the tables are there; every method does.

        Raises:
            BackendUnavailableError: the database can't do it now.
        """
        return await self._rows.tables.ready()

    async def create_file_batch(
        self,
        vector_store_id: str,
        file_ids: Sequence[str],
        *,
        attributes: Mapping[str, Any] | None = None,
        chunking_strategy: Document | None = None,
    ) -> dict[str, Any]:
        """Make a batch, `in_progress`, and return it.

        Raises:
            NotFoundError: there is no such vector store, or the user may not see it.
            InvalidArgumentError: an argument isn't possible.
        """
        more = plain("a batch", {"attributes": attributes, "chunking_strategy": chunking_strategy})

        async def create(rows: Operations, whole: Row) -> dict[str, Any]:
            now = clock.microseconds() // 1_000_000
            batch = documents.new_batch(minted("batch", 32), whole["id"], file_ids, more, now)
            await rows.insert(
                self._rows.batches,
                {
                    "store_uid": whole["uid"],
                    "id": batch["id"],
                    "vector_store_id": whole["id"],
                    "status": batch["status"],
                    "expires_at": batch["expires_at"],
                    "begun_by": whole["asker"],
                    **claims.WAITING,
                    "batch_data": text("a batch", batch),
                },
            )
            return batch

        return await self._rows.change(vector_store_id, create)

    async def retrieve_file_batch(self, batch_id: str, vector_store_id: str) -> dict[str, Any]:
        """A batch.

        Raises:
            NotFoundError: the vector store has none of this id, or the user may not see that.
        """
        whole = await self._rows.whole(vector_store_id)
        rows = self._rows.tables.store.unguarded
        return dict((await self._batch(rows, whole, batch_id))["batch_data"])

    async def list_files_in_file_batch(
        self,
        batch_id: str,
        vector_store_id: str,
        *,
        after: str | None = None,
        before: str | None = None,
        filter: str | None = None,  # noqa: A002 - as the server says
        limit: int = 20,
        order: str = "desc",
        cursor: str | None = None,
    ) -> Listing:
        """A page of those of a batch's files that are attached; as `list_files`.

        Raises:
            NotFoundError: there is no such batch or file, or the user may not see it.
            InvalidArgumentError: an argument isn't possible.
        """
        whole = await self._rows.whole(vector_store_id)
        rows = self._rows.tables.store.unguarded
        batch = (await self._batch(rows, whole, batch_id))["batch_data"]
        where = {"file_id": batch["file_ids"]}
        return await self._listed(
            whole, where, limit, order, after=after, before=before, filter=filter, cursor=cursor
        )

    async def update_file_batch(
        self,
        batch_id: str,
        vector_store_id: str,
        changes: Document,
        *,
        expected: Mapping[str, Any] | None = None,
        claim: Claim | None = None,
    ) -> dict[str, Any]:
        """Change fields of a batch; all others stay, whoever else changes some at this moment.

        Its status changes once: from "in_progress" to "completed", "failed" or "cancelled".

        Args:
            batch_id: which.
            vector_store_id: whose.
            changes: fields and their new values.
            expected: fields that must have these values now.
            claim: what the worker has that does it.

        Raises:
            NotFoundError: there is no such batch, or the user may not see it.
            ConflictError: its status can't change so (a cancelled one isn't completed), it isn't
                as expected, or somebody else has claimed it.
            InvalidArgumentError: a field can't be changed, or a value isn't possible.
        """
        given = plain("a batch's changes", changes)
        wanted = plain("what is expected of a batch", expected or {})

        async def update(rows: Operations, whole: Row) -> dict[str, Any]:
            there = await self._batch(rows, whole, batch_id)
            after = documents.changed("batch", there["batch_data"], given, wanted)
            ended = after["status"] != "in_progress"
            held = {} if claim is None else {"claim": claim.token}
            written = await rows.update(
                self._rows.batches,
                {
                    "status": after["status"],
                    "batch_data": text("a batch", after),
                    **(claims.FINISHED if ended else {}),
                },
                {"store_uid": whole["uid"], "id": batch_id, **held},
            )
            if not written:
                raise claims.lost()
            return after

        return await self._rows.change(vector_store_id, update)

    async def cancel_file_batch(self, batch_id: str, vector_store_id: str) -> dict[str, Any]:
        """Cancel a batch; one that is already comes back as it is.

        Raises:
            NotFoundError: there is no such batch, or the user may not see it.
            ConflictError: it has ended otherwise.
        """
        return await self.update_file_batch(batch_id, vector_store_id, {"status": "cancelled"})

    async def claim_file_batch(
        self, batch_id: str, vector_store_id: str, *, seconds: float = 60.0
    ) -> Claim:
        """Claim a batch to work on it, as the user who made it does with a new one.

        Raises:
            NotFoundError: there is no such batch, or the user may not see it.
            ConflictError: another process has claimed it, or it has ended.
            InvalidArgumentError: a claim can't last for so long.
        """
        now = clock.microseconds()
        until = claims.ending(seconds, now)

        async def look(rows: Operations, whole: Row) -> Row:
            return await self._batch(rows, whole, batch_id)

        # Who may not change a vector store has no business to work on it.
        row = await self._rows.change(vector_store_id, look)
        if row["due"] > now:
            raise claims.lost()
        return await self.claims.take(row, until)

    # -- inside

    async def _batch(self, rows: Operations, whole: Row, batch_id: str) -> Row:
        where = {"store_uid": whole["uid"], "id": filled("batch_id", batch_id)}
        row = await rows.fetch_one(self._rows.batches, where)
        if row is None or row["expires_at"] <= clock.microseconds() // 1_000_000:
            raise NotFoundError(
                f"there is no batch of files {shown(batch_id)} in vector store {shown(whole['id'])}"
            )
        return row

    async def _worker(self, row: Row) -> User | None:
        store = await self._rows.tables.ready()
        whole = await store.unguarded.fetch_one(
            self._rows.stores, {"id": row["vector_store_id"], "uid": row["store_uid"]}
        )
        if whole is None:
            raise AccessDeniedError("the vector store is gone")
        # Not the vector store's owner: whoever may change it would read that one's files.
        return await store.user_of(self._rows.stores, row["begun_by"])
