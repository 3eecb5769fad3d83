"""What becomes of items that are added: which ids they get, and whose content."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from stackstore.access import AuthorizedTransaction
from stackstore.errors import InvalidArgumentError
from stackstore.sql.names import shown
from stackstore.sql.tables import Row
from stackstore.stores.conversations.rows import named

_AT_ONCE = 100
_MOST_LOOKED_AT = 500
"""Of how many conversations' items of one id it is asked which one is meant: anybody may make more."""


@dataclass(frozen=True, slots=True)
class Incoming:
    """Items on their way into a conversation.

    Attributes:
        rows: the transaction that holds the conversation.
        conversations: the table of conversations.
        items: the table of items.
        uid: which conversation.
        now: in microseconds.
    """

    rows: AuthorizedTransaction
    conversations: str
    items: str
    uid: str
    now: int

    async def resolved(
        self, documents: Sequence[dict[str, Any]]
    ) -> list[tuple[dict[str, Any], int]]:
        """The items of a user, none of whose ids is trusted; each with when it was made.

        An id of an item that the user may read in another conversation means a copy of that item, as
        it is stored there. Any other id is replaced.

        Raises:
            InvalidArgumentError: an item is in the conversation already.
        """
        there = await self.present(documents)
        strange: set[str] = set()
        found = []
        for document in documents:
            wanted = document.get("id")
            if wanted in there:
                raise InvalidArgumentError(f"item {shown(wanted)} is already in the conversation")
            known = await self._readable(wanted) if wanted and wanted not in strange else None
            if known is None:
                strange.add(wanted or "")
                found.append((named(document), self.now))
            else:
                there.add(known["id"])
                found.append((known["item_data"], known["made"]))
        return found

    async def new(self, documents: Sequence[dict[str, Any]]) -> list[tuple[dict[str, Any], int]]:
        """The items of the server, which keep their ids, without those that are there already."""
        there = await self.present(documents)
        found = []
        for document in documents:
            wanted = document.get("id")
            if wanted in there:
                continue
            if wanted:
                there.add(wanted)
            found.append((document if wanted else named(document), self.now))
        return found

    async def present(self, documents: Sequence[dict[str, Any]]) -> set[str]:
        """Those of the items' ids that are in the conversation."""
        ids = list({document["id"] for document in documents if document.get("id")})
        found: set[str] = set()
        for start in range(0, len(ids), _AT_ONCE):
            where = {"conversation": self.uid, "id": ids[start : start + _AT_ONCE]}
            page = await self.rows.unguarded.fetch_all(self.items, where)
            found.update(row["id"] for row in page.data)
        return found

    async def _readable(self, item_id: str) -> Row | None:
        """The item of this id in a conversation that the user may read.

        His own conversations go first, then the oldest: a copy is never older than its original, and
        who puts another item of the same id into his own conversation does not come before it.
        """
        first: Row | None = None
        cursor: str | None = None
        for _ in range(_MOST_LOOKED_AT // _AT_ONCE):
            page = await self.rows.unguarded.fetch_all(
                self.items, {"id": item_id}, ["made"], _AT_ONCE, cursor
            )
            own, others = await self._readers({row["conversation"] for row in page.data})
            for row in page.data:
                if row["conversation"] in own:
                    return row
                if first is None and row["conversation"] in others:
                    first = row
            cursor = page.next_cursor
            if cursor is None:
                break
        return first

    async def _readers(self, uids: set[str]) -> tuple[set[str], set[str]]:
        """Which of these conversations are the user's own, and which others he may read."""
        seen = await self.rows.fetch_all(self.conversations, {"uid": list(uids)})
        visible = [row["uid"] for row in seen.data]
        whole = await self.rows.unguarded.fetch_all(self.conversations, {"uid": visible})
        keys = self.rows.own_keys
        own = {row["uid"] for row in whole.data if row["owner_key"] in keys}
        return own, set(visible) - own
