"""The parts of histories in their table, and who still needs them.

A part never changes. It is needed by the parts that follow it, and by the row whose tip it is;
`uses` counts both, and a part that nobody needs goes with the last who did. So a response that is
deleted in the middle of a chain takes with it what only it had.

Of a long chain that nobody needs any more a transaction frees only some. The rest of it is noted, and
freed in the same bites by who looks for notes (`Parts.expiry`); nobody reaches it meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from stackstore.access.chains import Links
from stackstore.access.operations import AuthorizedOperations
from stackstore.errors import ConflictError
from stackstore.sql import ColumnDefinition, ColumnType
from stackstore.sql.names import derived
from stackstore.sql.operations import Operations
from stackstore.sql.tables import Row
from stackstore.stores.clock import microseconds
from stackstore.stores.ids import minted
from stackstore.stores.responses.history import Contents, joined
from stackstore.stores.retention import MICROSECONDS, Ageing
from stackstore.stores.tables import JSON, MAYBE_TEXT, NUMBER, TEXT, TEXT_KEY, TableDefinition

FREED_AT_ONCE = 100
"""Most parts that one transaction frees; each takes about a millisecond."""

_STARTS_AT_ONCE = 500
_MESSAGES = ("messages",)
_WHOLE = (
    "part", "previous", "position", "first_input", "first_messages", "inherited", "input", *_MESSAGES,
)  # fmt: skip


def definition(table: str) -> TableDefinition:
    """The parts' table."""
    return TableDefinition(
        table,
        {
            "part": TEXT_KEY,
            # Of the row it belongs to: they decide who sees it, and outlive that row.
            "id": TEXT,
            "owner_id": NUMBER,
            "previous": MAYBE_TEXT,
            "position": NUMBER,
            "uses": NUMBER,
            "first_input": ColumnDefinition(ColumnType.BOOLEAN, nullable=False),
            "first_messages": ColumnDefinition(ColumnType.BOOLEAN, nullable=False),
            "inherited": JSON,
            "input": JSON,
            "messages": JSON,
        },
        owned=False,
    )


def notes(table: str) -> TableDefinition:
    """The table of what was given up and is not freed yet."""
    name = _notes_of(table)
    return TableDefinition(
        name,
        # Two chains that were given up may end in one part, so that is no key.
        {"note": TEXT_KEY, "part": TEXT, "since": NUMBER},
        {derived(name, "since"): ["since"]},
        owned=False,
    )


class MovedError(ConflictError):
    """What was read changed before something could be written to it; read again."""


class Parts:
    """The parts in one table.

    Args:
        table: its name.
        rows: the table of the rows that they belong to.
    """

    def __init__(self, table: str, rows: str) -> None:
        self._table = table
        self._rows = rows
        self._links = Links(table, "previous")

    @staticmethod
    def key() -> str:
        """A new part's key; nobody can guess it."""
        return minted("part", 32)

    async def read(
        self, store: AuthorizedOperations, tips: Iterable[str], *, messages: bool = True
    ) -> dict[str, Row]:
        """The parts of the histories that end at some tips, as far as the user may see, by key."""
        columns = [name for name in _WHOLE if messages or name not in _MESSAGES]
        found: dict[str, Row] = {}
        starts = sorted(set(tips))
        for begin in range(0, len(starts), _STARTS_AT_ONCE):
            some = starts[begin : begin + _STARTS_AT_ONCE]
            for row in await store.fetch_chain(self._rows, self._links, some, columns):
                found[row["part"]] = row
        return found

    async def one(self, rows: Operations, part: str) -> Row | None:
        """A part of a row that may be seen."""
        return await rows.fetch_one(self._table, {"part": part})

    async def own(self, rows: Operations, tip: str, base: str | None) -> list[Row]:
        """A row's own parts, in order: those from behind the base to the tip.

        Raises:
            MovedError: one was given up meanwhile.
        """
        found: list[Row] = []
        key: str | None = tip
        while key is not None and key != base:
            part = await self.one(rows, key)
            if part is None:
                raise MovedError("the response changed meanwhile")
            found.append(part)
            key = part["previous"]
        return found[::-1]

    async def add(
        self,
        rows: Operations,
        part: str,
        contents: Contents,
        *,
        owner: dict[str, Any],
        previous: str | None,
        position: int,
        replaces: str | None = None,
    ) -> None:
        """Add a part, as a row's tip, in a transaction that has the row.

        Args:
            rows: the transaction.
            part: its key.
            contents: what is in it.
            owner: `id` and `owner_id` of the row.
            previous: the part it follows.
            position: its position.
            replaces: the row's tip so far, if it has one.

        Raises:
            MovedError: `previous` isn't there any more.
        """
        if previous is not None and previous != replaces:
            await self._use(rows, previous)
        await rows.insert(
            self._table,
            {
                "part": part,
                **owner,
                "previous": previous,
                "position": position,
                "uses": 1,
                "first_input": contents.first_input,
                "first_messages": contents.first_messages,
                "inherited": joined(contents.inherited),
                "input": joined(contents.input),
                "messages": joined(contents.messages),
            },
        )
        if replaces is not None and replaces != previous:
            await self.release(rows, replaces)

    @property
    def expiry(self) -> Ageing:
        """What was noted goes as soon as somebody looks."""
        return Ageing(
            _notes_of(self._table),
            "since",
            MICROSECONDS,
            goodbye=lambda change, note: self.release(change, note["part"]),
            reads=("part",),
        )

    async def release(self, rows: Operations, tip: str) -> bool:
        """Give up a row's tip, in the transaction that takes it from the row.

        Returns:
            Whether there is more of the chain, which was noted.
        """
        key: str | None = tip
        for _ in range(FREED_AT_ONCE):
            if key is None:
                return False
            part = await self.one(rows, key)
            if part is None:
                return False
            seen = {"part": key, "uses": part["uses"]}
            # By compare-and-set: another one may go on from it, or leave it, at the same time.
            if part["uses"] > 1:
                if await rows.update(self._table, {"uses": part["uses"] - 1}, seen):
                    return False
            elif await rows.delete(self._table, seen):
                key = part["previous"]
        if key is None:
            return False
        note = {"note": minted("note", 32), "part": key, "since": microseconds()}
        await rows.insert(_notes_of(self._table), note)
        return True

    async def sees_all(self, store: AuthorizedOperations, tip: str, list_name: str) -> bool:
        """Whether the user may see a list of a history from its beginning.

        Args:
            store: to read with, as the current user.
            tip: the history's last part.
            list_name: "input" or "messages".
        """
        first = f"first_{list_name}"
        columns = ("part", "previous", first)
        reached = await store.fetch_chain(self._rows, self._links, [tip], columns)
        seen = {part["part"]: part for part in reached}
        key: str | None = tip
        while key is not None:
            part = seen.pop(key, None)
            if part is None:
                return False
            key = None if part[first] else part["previous"]
        return True

    async def _use(self, rows: Operations, key: str) -> None:
        while True:
            part = await self.one(rows, key)
            if part is None:
                raise MovedError("what the response goes on from changed meanwhile")
            seen = {"part": key, "uses": part["uses"]}
            if await rows.update(self._table, {"uses": part["uses"] + 1}, seen):
                return


def _notes_of(table: str) -> str:
    return derived(table, "freed")
