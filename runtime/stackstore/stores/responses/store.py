"""Responses: each is stored with what it adds to the one before."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from stackstore.access import Action, AuthorizedSqlStore
from stackstore.errors import ConflictError, NotFoundError
from stackstore.sql.names import derived, shown
from stackstore.sql.operations import Operations
from stackstore.sql.tables import Row
from stackstore.stores.clock import microseconds
from stackstore.stores.documents import Document
from stackstore.stores.listing import Listing, window
from stackstore.stores.responses import conversations, items, memory, parts, rows
from stackstore.stores.responses.conversations import ConversationMessages, refused_or_moved
from stackstore.stores.responses.growth import Before, Growth, Histories
from stackstore.stores.responses.history import Chain, Given, texts_of, written
from stackstore.stores.responses.memory import Memory
from stackstore.stores.responses.parts import MovedError, Parts
from stackstore.stores.responses.rows import (
    StoredResponse,
    columns_of,
    document_of,
    missing,
    retried,
    shown_response,
)
from stackstore.stores.retention import MICROSECONDS, Ageing
from stackstore.stores.tables import StoreTables

__all__ = ["ResponsesStore", "StoredResponse"]


class ResponsesStore(ConversationMessages, Memory):
    """The responses of one table, and what the Responses API keeps beside them.

    A response names the one before, and has only what it adds to it. Its whole input is put together
    when it is read: what the reader may see of the responses before, and of their output at the
    time. What is deleted is neither listed nor read, but stays part of what was answered on it; it
    goes with the last of these.

    Args:
        store: the database, with its users.
        table_name: the responses' table; the others' names begin with it.
        has_conversation: whether a conversation is there, whosever it is; None: nobody knows.
    """

    def __init__(
        self,
        store: AuthorizedSqlStore,
        table_name: str,
        *,
        has_conversation: Callable[[str], Awaitable[bool]] | None = None,
    ) -> None:
        self._table = table_name
        self._has_conversation = has_conversation
        pieces = derived(table_name, "parts")
        self._tables = StoreTables(
            store,
            [
                rows.definition(table_name),
                parts.definition(pieces),
                parts.notes(pieces),
                conversations.definition(table_name),
                *memory.definitions(table_name),
            ],
        )
        self._parts = Parts(pieces, table_name)
        self._messages = Parts(pieces, conversations.name_of(table_name))
        self._histories = Histories(self._parts)

    @property
    def ageings(self) -> list[Ageing]:
        """A response is as old as it says, messages and memory records as their last change.

        What later responses went on from stays part of them.
        """

        async def release(change: Operations, row: Row) -> bool:
            # What it leaves is noted in another table.
            await self._parts.release(change, row["chain"]["tip"])
            return False

        messages = conversations.name_of(self._table)
        return [
            Ageing(self._table, "created_at", goodbye=release, reads=("chain",)),
            Ageing(messages, "updated_at", MICROSECONDS, goodbye=release, reads=("chain",)),
            memory.ageing(self._table),
        ]

    @property
    def expiries(self) -> list[Ageing]:
        """What was given up of histories and is not freed yet."""
        return [self._parts.expiry]

    async def ready(self) -> object:
        """See to it that its tables are there; every method does.

        Raises:
            BackendUnavailableError: the database can't do it now.
        """
        return await self._tables.ready()

    async def store_response_object(
        self,
        response_object: Document,
        input: Sequence[Document],  # noqa: A002 - the server's own name
        messages: Sequence[Document],
        incremental_input: bool = False,
    ) -> None:
        """Store a new response, unless it says `store: false`.

        Args:
            response_object: the response.
            input: its input's items: all of them, or with `incremental_input` what is new.
            messages: all messages up to and with this response. They, and the input, take no more
                room than what they add to the response before, if they begin with that one's.
            incremental_input: the input is what is new since the previous response and its output.

        Raises:
            AccessDeniedError: the user may not create it, or there is no user.
            ConflictError: the user has a response of this id.
            InvalidArgumentError: the response or an item isn't possible.
            BackendUnavailableError: the database can't do it now.
        """
        document = document_of(response_object)
        given = _given(input, messages, incremental_input)
        if document.get("store") is False:
            return
        store = await self._tables.ready()
        await retried(lambda: self._create(store, document, given))

    async def upsert_response_object(
        self,
        response_object: Document,
        input: Sequence[Document],  # noqa: A002 - the server's own name
        messages: Sequence[Document],
        incremental_input: bool = False,
    ) -> None:
        """Store a response, or what it has become; nothing that stayed the same is written again.

        Only the user's own response of this id counts; another user's stays as it is.

        Args:
            response_object: the response.
            input: see `store_response_object`; so are the others.
            messages: all messages so far.
            incremental_input: the input is what is new.

        Raises:
            AccessDeniedError: the user may not create or update it, or there is no user.
            ConflictError: others change it all the time.
            InvalidArgumentError, BackendUnavailableError: as `store_response_object`.
        """
        document = document_of(response_object)
        given = _given(input, messages, incremental_input)
        if document.get("store") is False:
            return
        store = await self._tables.ready()

        async def attempt() -> None:
            row = await store.fetch_one(self._table, {"id": document["id"]}, own=True)
            if row is not None:
                await self._change(store, row, document, given)
                return
            try:
                await self._create(store, document, given)
            except MovedError:
                raise
            except ConflictError:
                raise MovedError("it was stored meanwhile") from None

        await retried(attempt)

    async def update_response_object(
        self,
        response_object: Document,
        input: Sequence[Document] | None = None,  # noqa: A002 - the server's own name
        *,
        version: str | None = None,
    ) -> None:
        """Replace a response that is there; its messages, and what it goes on from, stay.

        Args:
            response_object: the response. As `get_response_object` gave it, it is replaced only
                while that is the newest version.
            input: its input anew; None: that stays, too.
            version: the version that it was made from, where the object doesn't know it any more.
                Without any, the last one wins.

        Raises:
            NotFoundError: it isn't there, or may not be seen.
            ConflictError: it is another version by now; read it again.
            AccessDeniedError: the user may not update it, or there is no user.
            InvalidArgumentError, BackendUnavailableError: as `store_response_object`.
        """
        document = document_of(response_object)
        made_from = version or getattr(response_object, "version", None)
        said = None if input is None else written("an input item", input)
        store = await self._tables.ready()

        async def attempt() -> None:
            row = await self._found(store, document["id"])
            if made_from is not None and row["version"] != made_from:
                raise ConflictError(
                    f"response {shown(document['id'])} was changed since it was read; nothing was written, "
                    "read it again"
                )
            given = Given(said, None, Chain.of(row["chain"]).incremental)
            # What it goes on from is settled when it is stored.
            if "previous_response_id" in row["response_object"]:
                document["previous_response_id"] = row["previous_response_id"]
            else:
                document.pop("previous_response_id", None)
            await self._change(store, row, document, given)

        await retried(attempt)

    async def get_response_object(
        self, response_id: str, reconstruct_input: bool = True
    ) -> StoredResponse:
        """A response, with `input` and `messages`.

        Of several users' responses of this id the reader's own comes first, then the newest.

        Args:
            response_id: which.
            reconstruct_input: False: `input` is only what the response itself added, and `messages`
                None; enough to look at its status, at any length of the chain.

        Raises:
            NotFoundError: it isn't there, or may not be seen.
            AccessDeniedError: there is no user.
            BackendUnavailableError: the database can't do it now.
        """
        store = await self._tables.ready()

        async def attempt() -> StoredResponse:
            row = await self._found(store, response_id)
            chain = Chain.of(row["chain"])
            if not reconstruct_input:
                part = await self._parts.one(store.unguarded, chain.first)
                if part is None:
                    raise MovedError("it changed meanwhile")
                found = rows.with_history(row, part["input"])
                found["messages"] = None
                return found
            whole = shown_response(row, await self._parts.read(store, [chain.tip]))
            if whole is None:
                raise MovedError("it changed meanwhile")
            return whole

        return await retried(attempt)

    async def list_responses(
        self,
        after: str | None = None,
        limit: int = 50,
        model: str | None = None,
        order: str | None = "desc",
        *,
        cursor: str | None = None,
    ) -> Listing:
        """A page of responses by their time, each with its whole `input`.

        Items that several of them have in common are the same objects in each.

        Args:
            after: an id; the page begins behind it.
            limit: most responses, at least 1.
            model: only those of this model.
            order: "asc" or "desc".
            cursor: instead of `after`, the page before's `next_cursor`.

        Raises:
            NotFoundError: the response of `after` isn't there, or isn't among these.
            InvalidArgumentError: an argument isn't possible.
            AccessDeniedError: there is no user.
            BackendUnavailableError: the database can't do it now.
        """
        store = await self._tables.ready()
        where = {"model": model} if model else None
        page = await window(
            store,
            self._table,
            rows.ORDER,
            where=where,
            order=order or "desc",
            limit=limit,
            after=after or None,
            cursor=cursor,
        )
        tips = [row["chain"]["tip"] for row in page.data]
        seen = await self._parts.read(store, tips, messages=False)
        data = []
        for row in page.data:
            found = shown_response(row, seen, messages=False)
            # Missing: it changed, or went, between the two reads.
            found = found or await self._reread(row["id"])
            if found is not None:
                data.append(found)
        first, last = (page.data[0]["id"], page.data[-1]["id"]) if page.data else ("", "")
        return Listing(list(data), page.has_more, first, last, page.next_cursor)

    async def list_response_input_items(  # noqa: PLR0917 - the server's own arguments
        self,
        response_id: str,
        after: str | None = None,
        before: str | None = None,
        include: Sequence[Any] | None = None,
        limit: int = 20,
        order: str | None = "desc",
    ) -> Listing:
        """A page of the items that a response was answered on.

        Args:
            response_id: whose.
            after: an item's id; the page begins behind it.
            before: likewise; the page ends in front of it, and `has_more` speaks of items further
                ahead.
            include: what to show beside the usual, in the words of the server's API.
            limit: most items, at least 1.
            order: "asc" or "desc".

        Raises:
            NotFoundError: there is no such response or item, or it may not be seen.
            InvalidArgumentError: an argument isn't possible.
            AccessDeniedError: there is no user.
            BackendUnavailableError: the database can't do it now.
        """
        included = items.asked_for(include)
        items.listed([], included, after=None, before=None, limit=limit, order=order or "desc")
        store = await self._tables.ready()

        async def attempt() -> list[dict[str, Any]]:
            row = await self._found(store, response_id)
            tip = row["chain"]["tip"]
            seen = await self._parts.read(store, [tip], messages=False)
            whole = shown_response(row, seen, messages=False)
            if whole is None:
                raise MovedError("it changed meanwhile")
            found: list[dict[str, Any]] = whole["input"]
            return found

        return items.listed(
            await retried(attempt),
            included,
            after=after or None,
            before=before or None,
            limit=limit,
            order=order or "desc",
        )

    async def delete_response_object(self, response_id: str) -> dict[str, Any]:
        """Delete a response; those that went on from it keep what they were answered on.

        What nobody needs any more of a long history is freed later, see `expiries`.

        Raises:
            NotFoundError: it isn't there, or may not be seen.
            AccessDeniedError: the user may not delete it, or there is no user.
            BackendUnavailableError: the database can't do it now.
        """
        store = await self._tables.ready()

        async def attempt() -> None:
            row = await self._found(store, response_id)
            seen = {"id": response_id, "version": row["version"]}
            async with store.transaction() as change:
                if not await change.delete(self._table, seen):
                    await refused_or_moved(change, self._table, seen, Action.DELETE)
                await self._parts.release(change.unguarded, row["chain"]["tip"])

        await retried(attempt)
        return {"id": response_id, "object": "response", "deleted": True}

    async def _seen(self, store: AuthorizedSqlStore, response_id: str) -> Row | None:
        newest = [(column, "desc") for column in rows.ORDER]
        return await store.fetch_one(self._table, {"id": response_id}, newest)

    async def _found(self, store: AuthorizedSqlStore, response_id: str) -> Row:
        row = await self._seen(store, response_id)
        if row is None:
            raise missing(response_id)
        return row

    async def _before(self, store: AuthorizedSqlStore, document: dict[str, Any]) -> Before | None:
        """What a response goes on from, if the user sees it."""
        previous = document.get("previous_response_id")
        row = None if previous is None else await self._seen(store, previous)
        if row is None:
            return None
        output = row["response_object"].get("output")
        return Before(Chain.of(row["chain"]), texts_of(output if isinstance(output, list) else []))

    async def _create(
        self, store: AuthorizedSqlStore, document: dict[str, Any], given: Given
    ) -> None:
        row = {
            "id": document["id"],
            "stored_at": microseconds(),
            "previous_response_id": document.get("previous_response_id"),
            "chain": {},
            **columns_of(document),
        }
        begun = await self._histories.begun(store, given, await self._before(store, document))
        async with store.transaction() as change:
            growth = begun.of(change.owner_id)
            await change.insert(self._table, {**row, "chain": growth.chain.plain()})
            await growth.write(change.unguarded, self._parts, document["id"])

    async def _change(
        self, store: AuthorizedSqlStore, row: Row, document: dict[str, Any], given: Given
    ) -> None:
        chain = Chain.of(row["chain"])
        growth: Growth | None
        previous = document.get("previous_response_id")
        if previous == row["previous_response_id"]:
            chain, growth = await self._histories.grown(store, store.unguarded, chain, given)
        else:
            before = await self._before(store, document)
            growth = await self._histories.begun(store, given, before, chain)
            chain = growth.chain
        data = {
            **columns_of(document),
            "previous_response_id": previous,
            "chain": chain.plain(),
        }
        seen = {"id": row["id"], "version": row["version"]}
        if growth is None:
            if not await store.update(self._table, data, seen):
                await refused_or_moved(store, self._table, seen)
            return
        async with store.transaction() as change:
            if not await change.update(self._table, data, seen):
                await refused_or_moved(change, self._table, seen)
            await growth.write(change.unguarded, self._parts, row["id"])

    async def _reread(self, response_id: str) -> StoredResponse | None:
        try:
            found = await self.get_response_object(response_id)
        except NotFoundError:
            return None
        del found["messages"]
        return found


def _given(said: Sequence[Document], messages: Sequence[Document], incremental: bool) -> Given:
    return Given(written("an input item", said), written("a message", messages), bool(incremental))
