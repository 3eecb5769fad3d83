"""The messages of conversations, as the model was told them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from stackstore.access import Action, AuthorizedSqlStore
from stackstore.access.operations import AuthorizedOperations
from stackstore.access.writes import denied
from stackstore.errors import ConflictError, NotFoundError
from stackstore.sql.names import derived, shown
from stackstore.stores.clock import microseconds
from stackstore.stores.documents import Document
from stackstore.stores.ids import minted
from stackstore.stores.responses.growth import Histories
from stackstore.stores.responses.history import Chain, Given, joined_lists, told, written
from stackstore.stores.responses.parts import MovedError, Parts
from stackstore.stores.responses.rows import retried
from stackstore.stores.tables import JSON, NUMBER, TEXT, TEXT_KEY, StoreTables, TableDefinition


def name_of(table: str) -> str:
    """The table's name."""
    return derived(table, "conversation_messages")


def definition(table: str) -> TableDefinition:
    """The table of what conversations have messages."""
    return TableDefinition(
        name_of(table),
        {
            "conversation_id": TEXT_KEY,
            "updated_at": NUMBER,
            "version": TEXT,
            "chain": JSON,
        },
        {derived(name_of(table), "updated"): ["updated_at"]},
    )


class ConversationMessages:
    """The methods of a responses store that are about conversations' messages."""

    _tables: StoreTables
    _table: str
    _messages: Parts
    _has_conversation: Callable[[str], Awaitable[bool]] | None

    async def store_conversation_messages(
        self, conversation_id: str, messages: list[Document]
    ) -> None:
        """Keep a conversation's messages, all of them, in place of those that were there.

        Where they go on from those, only what is new is written. They are the current user's own:
        another user's messages of the same conversation stay as they are.

        Raises:
            AccessDeniedError: the user may not, or there is no user.
            InvalidArgumentError: a message isn't JSON.
            NotFoundError: the conversation is gone, where that can be known.
            ConflictError: others change them all the time.
            BackendUnavailableError: the database can't do it now.
        """
        given = Given(None, written("a message", messages))
        store = await self._tables.ready()

        async def attempt() -> None:
            key = {"conversation_id": conversation_id}
            row = await store.fetch_one(name_of(self._table), key, own=True)
            if row is None:
                await self._begin_messages(store, conversation_id, given)
            else:
                await self._go_on(store, key, row, given)

        await retried(attempt)
        # Afterwards: who deletes it from now on finds these messages.
        if self._has_conversation is not None and not await self._has_conversation(conversation_id):
            await self.delete_conversation_messages(conversation_id)
            raise NotFoundError(f"there is no conversation {shown(conversation_id)}")

    async def get_conversation_messages(self, conversation_id: str) -> list[dict[str, Any]] | None:
        """A conversation's messages; None: none were stored, or none may be seen.

        Of several users' messages that may be seen the reader's own come first, then the newest.
        """
        store = await self._tables.ready()
        newest = [("updated_at", "desc")]

        async def attempt() -> list[dict[str, Any]] | None:
            key = {"conversation_id": conversation_id}
            row = await store.fetch_one(name_of(self._table), key, newest)
            if row is None:
                return None
            tip = Chain.of(row["chain"]).tip
            found = told(await self._messages.read(store, [tip]), tip, "messages")
            if found is None:
                raise MovedError("the messages changed meanwhile")
            return joined_lists(found)

        return await retried(attempt)

    async def delete_conversation_messages(self, conversation_id: str) -> int:
        """Delete a conversation's messages: all that the user may delete, whoever stored them.

        Returns:
            Of how many users they were.

        Raises:
            AccessDeniedError: there is no user.
            BackendUnavailableError: the database can't do it now.
        """
        store = await self._tables.ready()
        table = name_of(self._table)
        key = {"conversation_id": conversation_id}

        async def attempt() -> int:
            done = left = 0
            for row in (await store.fetch_all(table, key)).data:
                seen = {**key, "version": row["version"]}
                async with store.transaction() as rows:
                    if await rows.delete(table, seen):
                        await self._messages.release(rows.unguarded, Chain.of(row["chain"]).tip)
                        done += 1
                    else:
                        left += await rows.count(table, seen) == 0
            if left:
                raise MovedError("the messages changed meanwhile")
            return done

        return await retried(attempt)

    async def _begin_messages(
        self, store: AuthorizedSqlStore, conversation_id: str, given: Given
    ) -> None:
        table = name_of(self._table)
        row = {"conversation_id": conversation_id, "updated_at": microseconds()}
        row |= {"version": minted("v", 24), "chain": {}}
        begun = await Histories(self._messages).begun(store, given, None)
        try:
            async with store.transaction() as rows:
                growth = begun.of(rows.owner_id)
                await rows.insert(table, {**row, "chain": growth.chain.plain()})
                await growth.write(rows.unguarded, self._messages, conversation_id)
        except ConflictError:
            raise MovedError("the messages were stored meanwhile") from None

    async def _go_on(
        self, store: AuthorizedSqlStore, key: dict[str, Any], row: dict[str, Any], given: Given
    ) -> None:
        table = name_of(self._table)
        histories = Histories(self._messages)
        chain, growth = await histories.grown(store, store.unguarded, Chain.of(row["chain"]), given)
        change = {"updated_at": microseconds(), "version": minted("v", 24)}
        seen = {**key, "version": row["version"]}
        async with store.transaction() as rows:
            if not await rows.update(table, {**change, "chain": chain.plain()}, seen):
                await refused_or_moved(rows, table, seen)
            if growth is not None:
                await growth.write(rows.unguarded, self._messages, key["conversation_id"])


async def refused_or_moved(
    rows: AuthorizedOperations, table: str, seen: dict[str, Any], action: Action = Action.UPDATE
) -> None:
    """Say why a row that was read could not be changed.

    Raises:
        AccessDeniedError: it is as it was, so the user may not.
        MovedError: somebody was faster.
    """
    if await rows.count(table, seen):
        raise denied(table, action)
    raise MovedError("it changed meanwhile")
