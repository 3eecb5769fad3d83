"""The records of batches: whose they are, how far they got, and who works on them."""

from __future__ import annotations

import contextlib
import hashlib
import secrets
from collections.abc import Mapping
from typing import Any

from stackstore.access import Action, AuthorizedSqlStore, User
from stackstore.access.writes import denied
from stackstore.errors import ConflictError, NotFoundError
from stackstore.sql.names import shown
from stackstore.sql.tables import Row
from stackstore.stores import claims, clock
from stackstore.stores.batches.rows import asked_of, definition
from stackstore.stores.batches.status import finished, merged
from stackstore.stores.claims import Claim, Claims
from stackstore.stores.documents import Document, plain, text
from stackstore.stores.ids import filled, minted
from stackstore.stores.listing import Listing, window
from stackstore.stores.tables import StoreTables
from stackstore.stores.wholes import key, refusal

_TRIES = 100
"""How often a change begins again because others changed the same batch; one of them did each time."""

_COMPARED = ("uid", "version", "claim")
"""Where they are the same, nobody else has changed the batch."""


class BatchesStore:
    """Batches, as documents of the server's API.

    Every method raises, besides what it says itself:
        AccessDeniedError: there is no user, or he may not do this with a batch that he may read.
        BackendUnavailableError: the database can't do it now.

    Args:
        store: where the table is, and who may see which rows.
        table_name: its name.

    Attributes:
        claims: who works on which batch; for workers, which are no user.
    """

    def __init__(self, store: AuthorizedSqlStore, table_name: str) -> None:
        self._table = table_name
        self._tables = StoreTables(store, [definition(table_name)])
        self.claims = Claims(self._tables, table_name, ("id", "uid"), "batch_data", self._user_of)

    async def create_batch(
        self,
        *,
        input_file_id: str,
        endpoint: str,
        completion_window: str = "24h",
        metadata: Mapping[str, str] | None = None,
        idempotency_key: str | None = None,
    ) -> dict[str, Any]:
        """Make a batch, `validating`, and return it.

        Args:
            input_file_id: the file with its requests.
            endpoint: where they go.
            completion_window: how long it may take.
            metadata: whatever goes with it, texts by texts.
            idempotency_key: the same key of the same user gives the same batch, whoever asks first.

        Raises:
            ConflictError: the user has used the key for another batch.
            InvalidArgumentError: an argument isn't possible.
        """
        asked = asked_of(input_file_id, endpoint, completion_window, metadata)
        if idempotency_key is None:
            return await self._insert(minted("batch", 16), asked)
        key = filled("idempotency_key", idempotency_key).encode("utf-8", "surrogatepass")
        batch_id = f"batch_{hashlib.sha256(key).hexdigest()[:24]}"
        for _ in range(_TRIES):
            with contextlib.suppress(ConflictError):
                return await self._insert(batch_id, asked)
            try:
                # One's own goes first in a read, so it is the one that was in the way.
                found = await self.retrieve_batch(batch_id)
            except NotFoundError:
                # Deleted meanwhile.
                continue
            if {name: found.get(name) for name in asked} == asked:
                return found
            raise ConflictError(
                "the idempotency key was used for a batch of other parameters; use another key, or the same "
                "parameters"
            )
        raise ConflictError("the idempotency key was used for a batch that the user may not read")

    async def retrieve_batch(self, batch_id: str) -> dict[str, Any]:
        """A batch.

        Raises:
            NotFoundError: there is none, or the user may not see it.
        """
        return dict((await self._row(batch_id))["batch_data"])

    async def list_batches(
        self, *, after: str | None = None, limit: int = 20, cursor: str | None = None
    ) -> Listing:
        """A page of the batches that the user may see, the newest first.

        Args:
            after: the last batch's id of the page before.
            limit: most batches, at least 1.
            cursor: instead of `after`, the page before's `next_cursor`.

        Raises:
            NotFoundError: the batch of `after` isn't there, or the user may not see it.
            InvalidArgumentError: an argument isn't possible.
        """
        store = await self._tables.ready()
        page = await window(
            store, self._table, ["sequence"], limit=limit, after=after, cursor=cursor
        )
        data = [row["batch_data"] for row in page.data]
        return Listing.of(data, has_more=page.has_more, next_cursor=page.next_cursor)

    async def update_batch(
        self,
        batch_id: str,
        changes: Document,
        *,
        expected: Mapping[str, Any] | None = None,
        claim: Claim | None = None,
    ) -> dict[str, Any]:
        """Change fields of a batch; all others stay, whoever else changes some at this moment.

        See `stackstore.stores.batches.status.merged` for how a status may change.

        Args:
            batch_id: which.
            changes: fields and their new values.
            expected: fields that must have these values now.
            claim: what the worker has that does it.

        Returns:
            The batch as it is now.

        Raises:
            NotFoundError: there is none, or the user may not see it.
            ConflictError: its status can't change so (a cancelled one isn't completed), it isn't
                as expected, or somebody else has claimed it.
            InvalidArgumentError: a field can't be changed, or a value isn't possible.
        """
        given = plain("a batch's changes", changes)
        wanted = plain("what is expected of a batch", expected or {})
        seen: Row | None = None
        for _ in range(_TRIES):
            row = await self._row(batch_id)
            if claim is not None and row["claim"] != claim.token:
                raise claims.lost()
            if seen is not None and all(row[name] == seen[name] for name in _COMPARED):
                raise denied(self._table, Action.UPDATE)
            seen, batch = row, row["batch_data"]
            for name, value in wanted.items():
                if batch.get(name) != value:
                    raise ConflictError(f"{shown(name)} of the batch isn't as expected")
            changed = merged(batch, given, clock.microseconds() // 1_000_000)
            if await self._replace(row, changed, claim):
                return changed
        raise ConflictError("others change the batch all the time; nothing was written, try again")

    async def cancel_batch(self, batch_id: str) -> dict[str, Any]:
        """Have a batch cancelled; one that is already comes back as it is.

        Raises:
            NotFoundError: there is none, or the user may not see it.
            ConflictError: it has ended otherwise.
        """
        batch = await self.retrieve_batch(batch_id)
        if batch["status"] in ("cancelling", "cancelled"):
            return batch
        try:
            return await self.update_batch(batch_id, {"status": "cancelling"})
        except ConflictError:
            batch = await self.retrieve_batch(batch_id)
            if batch["status"] == "cancelled":
                return batch
            raise

    async def delete_batch(self, batch_id: str) -> None:
        """Delete a batch; whoever works on it is told by his next write.

        Raises:
            NotFoundError: there is none, or the user may not see it.
        """
        store = await self._tables.ready()
        row = await self._row(batch_id)
        if not await store.delete(self._table, key(row)):
            raise await refusal(store, self._table, row, Action.DELETE, _missing(batch_id))

    # -- working on them

    async def claim_batch(self, batch_id: str, *, seconds: float = 60.0) -> Claim:
        """Claim a batch to work on it, as the user who made it does with a new one.

        Raises:
            NotFoundError: there is none, or the user may not see it.
            ConflictError: another process has claimed it, or it has ended.
            InvalidArgumentError: a claim can't last for so long.
        """
        now = clock.microseconds()
        until = claims.ending(seconds, now)
        row = await self._row(batch_id)
        store = await self._tables.ready()
        # Who may not change a batch has no business to work on it. It changes nothing.
        if not await store.update(self._table, {"created_at": row["created_at"]}, key(row)):
            raise await refusal(store, self._table, row, Action.UPDATE, _missing(batch_id))
        whole = await store.unguarded.fetch_one(self._table, key(row))
        if whole is None or whole["due"] > now:
            raise claims.lost()
        return await self.claims.take(whole, until)

    # -- inside

    async def _row(self, batch_id: str) -> Row:
        store = await self._tables.ready()
        where = {"id": filled("batch_id", batch_id)}
        row = await store.fetch_one(self._table, where, [("sequence", "desc")])
        if row is None:
            raise _missing(batch_id)
        return row

    async def _insert(self, batch_id: str, asked: Mapping[str, Any]) -> dict[str, Any]:
        store = await self._tables.ready()
        now = clock.microseconds()
        created = now // 1_000_000
        batch = {"id": batch_id, "object": "batch", **asked, "status": "validating"}
        batch["created_at"] = created
        await store.insert(
            self._table,
            {
                "id": batch_id,
                "created_at": created,
                "sequence": now,
                "status": batch["status"],
                "uid": secrets.token_hex(16),
                "version": 0,
                **claims.WAITING,
                "batch_data": text("a batch", batch),
            },
        )
        return batch

    async def _replace(self, row: Row, batch: Mapping[str, Any], claim: Claim | None) -> int:
        store = await self._tables.ready()
        return await store.update(
            self._table,
            {
                "status": batch["status"],
                "version": row["version"] + 1,
                "batch_data": text("a batch", batch),
                **(claims.FINISHED if finished(batch["status"]) else {}),
            },
            {
                **key(row),
                "version": row["version"],
                **({} if claim is None else {"claim": claim.token}),
            },
        )

    async def _user_of(self, row: Row) -> User | None:
        store = await self._tables.ready()
        return await store.user_of(self._table, row["owner_id"])


def _missing(batch_id: str) -> NotFoundError:
    return NotFoundError(f"there is no batch {shown(batch_id)}")
