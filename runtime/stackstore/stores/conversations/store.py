"""The store of conversations: what was said, in exact order, whoever adds to it at once."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from stackstore.access import Action, AuthorizedSqlStore, AuthorizedTransaction
from stackstore.errors import NotFoundError
from stackstore.sql.names import derived
from stackstore.sql.tables import Row
from stackstore.stores.clock import microseconds
from stackstore.stores.conversations import rows as made
from stackstore.stores.conversations.incoming import Incoming
from stackstore.stores.documents import Document
from stackstore.stores.ids import minted
from stackstore.stores.listing import Listing, check, window
from stackstore.stores.retention import Ageing, Part
from stackstore.stores.tables import StoreTables
from stackstore.stores.wholes import held, holding, key, refusal

_Chosen = list[tuple[dict[str, Any], int]]
_Choose = Callable[[Incoming, list[dict[str, Any]]], Awaitable[_Chosen]]


class ConversationsStore:
    """Conversations and their items, as documents of the server's API.

    Items are parts of their conversation, whoever added them. Who may read it reads all of them, and
    who may update it adds and deletes some; nobody else reaches one in any way. A policy speaks of
    conversations.

    Every method raises, besides what it says itself:
        AccessDeniedError: there is no user, or he may not do this with what he may read.
        BackendUnavailableError: the database can't do it now.

    Args:
        store: where the tables are, and who may see which rows.
        table_name: the name of the conversations' table; the items' one ends in `__items`.
        also_delete: deletes what another store keeps of a conversation, as far as the user may.
    """

    def __init__(
        self,
        store: AuthorizedSqlStore,
        table_name: str,
        *,
        also_delete: Callable[[str], Awaitable[object]] | None = None,
    ) -> None:
        self._table = table_name
        self._also_delete = also_delete
        self._items = derived(table_name, "items")
        self._tables = StoreTables(
            store, [made.conversations_table(table_name), made.items_table(table_name)]
        )

    @property
    def ageings(self) -> list[Ageing]:
        """A conversation is as old as its beginning; its items go with it."""
        items = Part(self._items, {"conversation": "uid"})
        return [Ageing(self._table, "created_at", parts=(items,))]

    async def ready(self) -> object:
        """See to it that its tables are there; every method does.

        Raises:
            BackendUnavailableError: the database can't do it now.
        """
        return await self._tables.ready()

    async def create_conversation(
        self,
        *,
        metadata: Mapping[str, str] | None = None,
        items: Sequence[Document] | None = None,
    ) -> dict[str, Any]:
        """Make a conversation with its first items, all or nothing, and return it.

        Args:
            metadata: whatever goes with it, texts by texts.
            items: as in `add_items`.

        Raises:
            InvalidArgumentError: an argument isn't possible.
        """
        given = made.few(items or [])
        now = microseconds()
        row = {
            "id": minted("conv"),
            "created_at": now // 1_000_000,
            "uid": secrets.token_hex(16),
            "next_place": len(given),
            "metadata": None if metadata is None else made.metadata(metadata),
        }
        store = await self._tables.ready()
        if given:
            async with store.transaction() as rows:
                await rows.insert(self._table, row)
                chosen = await self._incoming(rows, row, now).resolved(given)
                await self._put(rows, row, 0, chosen)
        else:
            await store.insert(self._table, row)
        return made.shown_conversation(row)

    async def get_conversation(self, conversation_id: str) -> dict[str, Any]:
        """A conversation, without its items.

        Raises:
            NotFoundError: there is none, or the user may not see it.
            InvalidArgumentError: it is no id of a conversation.
        """
        return made.shown_conversation(await self._row(conversation_id))

    async def has_conversation(self, conversation_id: str) -> bool:
        """Whether it is there, whosever it is: for what another store keeps of it. No policy is asked.

        Raises:
            BackendUnavailableError: the database can't do it now.
        """
        store = await self._tables.ready()
        return await store.unguarded.fetch_one(self._table, {"id": conversation_id}) is not None

    async def update_conversation(
        self, conversation_id: str, *, metadata: Mapping[str, str]
    ) -> dict[str, Any]:
        """Replace a conversation's metadata, and return it.

        Raises:
            NotFoundError: there is none, or the user may not see it.
            InvalidArgumentError: an argument isn't possible.
        """
        given = made.metadata(metadata)
        row = await self._row(conversation_id)
        store = await self._tables.ready()
        if not await store.update(self._table, {"metadata": given}, key(row)):
            raise await self._refusal(row, Action.UPDATE)
        return made.shown_conversation({**row, "metadata": given})

    async def delete_conversation(self, conversation_id: str) -> dict[str, Any]:
        """Delete a conversation and its items, also those that are being added at this moment.

        Returns:
            The server's word for it: `id`, `object` and `deleted`.

        Raises:
            NotFoundError: there is none, or the user may not see it.
            InvalidArgumentError: it is no id of a conversation.
        """
        try:
            row = await self._row(conversation_id)
        except NotFoundError:
            # What another store has may be left of a deletion that was cut off.
            await self._delete_elsewhere(conversation_id)
            raise
        store = await self._tables.ready()
        async with store.transaction() as rows:
            # First: it waits for whoever is adding, and from then on nobody can.
            deleted = await rows.delete(self._table, key(row))
            if deleted:
                await rows.unguarded.delete(self._items, {"conversation": row["uid"]})
        if not deleted:
            raise await self._refusal(row, Action.DELETE)
        await self._delete_elsewhere(conversation_id)
        return {"id": row["id"], "object": "conversation.deleted", "deleted": True}

    async def _delete_elsewhere(self, conversation_id: str) -> None:
        if self._also_delete is not None:
            await self._also_delete(conversation_id)

    # -- items

    async def add_items(self, conversation_id: str, items: Sequence[Document]) -> Listing:
        """Put items at the end of a conversation, side by side and in order, all or none.

        The store gives them their ids. An id that is given may only name an item of another
        conversation, which is copied as it is stored there, if the user may read it; any other is
        replaced.

        Args:
            conversation_id: which.
            items: at most 20.

        Returns:
            The items as they were stored.

        Raises:
            NotFoundError: there is no such conversation, or the user may not see it.
            InvalidArgumentError: an argument isn't possible, or an item is in the conversation
                already.
        """
        given = made.few(items)
        chosen = await self._append(conversation_id, given, Incoming.resolved)
        return Listing.of([document for document, _ in chosen])

    async def sync_items(self, conversation_id: str, items: Sequence[Document]) -> None:
        """Put the server's own items at the end of a conversation; those that are there stay.

        They keep their ids, so it is nothing for what a client may call. It may be repeated.

        Args:
            conversation_id: which.
            items: any number.

        Raises:
            NotFoundError: there is no such conversation, or the user may not see it.
            InvalidArgumentError: an argument isn't possible.
        """
        await self._append(conversation_id, made.documents(items), Incoming.new)

    async def list_items(
        self,
        conversation_id: str,
        *,
        after: str | None = None,
        limit: int | None = 20,
        order: str | None = "desc",
        include: Sequence[str] | None = None,
        cursor: str | None = None,
    ) -> Listing:
        """A page of a conversation's items.

        Args:
            conversation_id: which.
            after: the last item's id of the page before.
            limit: most items, at least 1; None: 20.
            order: "asc" as they were said, "desc" (also None) the last one first.
            include: what the server's API knows; items always come whole.
            cursor: instead of `after`, the page before's `next_cursor`; its item may be deleted.

        Raises:
            NotFoundError: there is no such conversation, or the user may not see it; or there is
                no item `after` in it.
            InvalidArgumentError: an argument isn't possible.
        """
        del include
        limit, order = 20 if limit is None else limit, "desc" if order is None else order
        check(limit, order)
        row = await self._row(conversation_id)
        store = await self._tables.ready()
        try:
            page = await window(
                store.unguarded,
                self._items,
                ["place"],
                where={"conversation": row["uid"]},
                order=order,
                limit=limit,
                after=None
                if after is None
                else {"conversation": row["uid"], "id": made.item_id(after)},
                cursor=cursor,
            )
        except NotFoundError:
            page = None
        if page is None or not page.data:
            # Deleted meanwhile, it had no empty page either.
            await self._row(conversation_id)
        if page is None:
            raise made.no_item(str(after), row["id"])
        data = [item["item_data"] for item in page.data]
        return Listing.of(data, has_more=page.has_more, next_cursor=page.next_cursor)

    async def retrieve_item(self, conversation_id: str, item_id: str) -> dict[str, Any]:
        """An item of a conversation.

        Raises:
            NotFoundError: there is no such conversation, or the user may not see it; or there is
                no such item in it.
            InvalidArgumentError: it is no id of a conversation or of an item.
        """
        wanted = made.item_id(item_id)
        row = await self._row(conversation_id)
        store = await self._tables.ready()
        where = {"conversation": row["uid"], "id": wanted}
        found = await store.unguarded.fetch_one(self._items, where)
        if found is None:
            raise made.no_item(wanted, row["id"])
        document: dict[str, Any] = found["item_data"]
        return document

    async def delete_item(self, conversation_id: str, item_id: str) -> dict[str, Any]:
        """Delete an item of a conversation, and return the conversation.

        Raises:
            NotFoundError: there is no such conversation, or the user may not see it; or there is
                no such item in it.
            InvalidArgumentError: it is no id of a conversation or of an item.
        """
        wanted = made.item_id(item_id)
        row = await self._row(conversation_id)
        store = await self._tables.ready()
        missing = made.no_conversation(row["id"])
        async with holding(store, self._table, row, missing) as (rows, whole):
            where = {"conversation": row["uid"], "id": wanted}
            if not await rows.unguarded.delete(self._items, where):
                raise made.no_item(wanted, row["id"])
        return made.shown_conversation(whole)

    # -- inside

    async def _row(self, conversation_id: object) -> Row:
        wanted = made.conversation_id(conversation_id)
        store = await self._tables.ready()
        row = await store.fetch_one(self._table, {"id": wanted})
        if row is None:
            raise made.no_conversation(wanted)
        return row

    async def _append(
        self, conversation_id: str, given: list[dict[str, Any]], choose: _Choose
    ) -> _Chosen:
        row = await self._row(conversation_id)
        if not given:
            return []
        store = await self._tables.ready()
        chosen: _Chosen = []
        async with store.transaction() as rows:
            place = await self._reserved(rows, row, len(given))
            if place is not None:
                chosen = await choose(self._incoming(rows, row, microseconds()), given)
                await self._put(rows, row, place, chosen)
        if place is None:
            raise await self._refusal(row, Action.UPDATE)
        return chosen

    async def _reserved(self, rows: AuthorizedTransaction, row: Row, count: int) -> int | None:
        """The first of so many places; the conversation is held until the transaction is over.

        None: it is gone, or the user may not update it.
        """
        place: int = row["next_place"]
        as_read = {**key(row), "next_place": place}
        if await rows.update(self._table, {"next_place": place + count}, as_read):
            return place
        # Somebody added something since it was read.
        whole = await held(rows, self._table, row)
        if whole is None:
            return None
        place = whole["next_place"]
        await rows.update(self._table, {"next_place": place + count}, key(row))
        return place

    def _incoming(self, rows: AuthorizedTransaction, row: Row, now: int) -> Incoming:
        return Incoming(rows, self._table, self._items, row["uid"], now)

    async def _put(
        self, rows: AuthorizedTransaction, row: Row, place: int, chosen: _Chosen
    ) -> None:
        new = [
            made.item_row(row["uid"], place + number, moment, document)
            for number, (document, moment) in enumerate(chosen)
        ]
        await rows.unguarded.insert(self._items, new)

    async def _refusal(self, row: Row, action: Action) -> Exception:
        store = await self._tables.ready()
        missing = made.no_conversation(row["id"])
        return await refusal(store, self._table, row, action, missing)
