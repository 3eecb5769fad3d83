"""How a history grows: what of the lists that are handed over is new, and where it goes."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from stackstore.access import AuthorizedSqlStore
from stackstore.sql.operations import Operations
from stackstore.stores.responses.history import (
    Chain,
    Contents,
    Given,
    Mark,
    digest_of,
    joined_lists,
    same,
    texts_of,
    told,
)
from stackstore.stores.responses.parts import Parts


@dataclass(frozen=True, slots=True)
class Before:
    """The response that another one goes on from.

    Attributes:
        chain: its history.
        output: its output, as JSON.
    """

    chain: Chain
    output: list[str]


@dataclass(frozen=True, slots=True)
class Growth:
    """A part to add, and the row's history with it.

    Attributes:
        contents: what is in the part.
        chain: the history; its tip is the part.
        previous: the part that it follows.
        replaces: the row's tip before, if there was one.
    """

    contents: Contents
    chain: Chain
    previous: str | None
    replaces: str | None

    def of(self, owner: int) -> Growth:
        """The same, of a row that is just being inserted, with this `owner_id`."""
        return replace(self, chain=replace(self.chain, owner=owner))

    async def write(self, rows: Operations, parts: Parts, row_id: str) -> None:
        """Add the part, in the transaction that changes the row.

        Raises:
            MovedError: what it follows isn't there any more.
        """
        await parts.add(
            rows,
            self.chain.tip,
            self.contents,
            owner={"id": row_id, "owner_id": self.chain.owner},
            previous=self.previous,
            position=self.chain.position,
            replaces=self.replaces,
        )


class Histories:
    """What rows' histories consist of.

    Args:
        parts: where their parts are.
    """

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    async def begun(
        self,
        store: AuthorizedSqlStore,
        given: Given,
        before: Before | None,
        instead: Chain | None = None,
    ) -> Growth:
        """A row's first part.

        Args:
            store: to read with, as the current user.
            given: what is handed over.
            before: the response that it goes on from, if there is one that the user sees.
            instead: the history that it replaces. Without one, the row is new, and its owner not
                known yet: see `Growth.of`.
        """
        chain = None if before is None else before.chain
        base = _Base.none() if chain is None else _Base.at(chain)
        output = [] if before is None else before.output
        contents = await self._input(store, given.input or [], given.incremental, base, output)
        contents = await self._messages(store, contents, given.messages or [], base)
        return _first(contents, given, base, instead)

    async def grown(
        self, store: AuthorizedSqlStore, rows: Operations, chain: Chain, given: Given
    ) -> tuple[Chain, Growth | None]:
        """A row's history after another write, and the part that this takes, if it takes one.

        Args:
            store: to read with, as the current user.
            rows: to read the row's own parts.
            chain: its history so far.
            given: what is handed over.

        Raises:
            MovedError: the row changed meanwhile.
        """
        same_input = given.input is None or (digest_of(given.input), given.incremental) == (
            chain.given,
            chain.incremental,
        )
        silent = chain.silent if given.messages is None else not given.messages
        if same_input:
            more = await self._more(store, chain, given.messages)
            if more is not None:
                return _appended(replace(chain, silent=silent), *more)
        base = _Base.under(chain)
        own = await self._parts.own(rows, chain.tip, chain.base)
        inherited = texts_of(own[0]["inherited"])
        if given.input is None or same_input:
            kept = texts_of(joined_lists([part["input"] for part in own]))
            first = own[0]["first_input"]
            contents = Contents(inherited, kept, first_input=first, input_mark=chain.input)
        else:
            contents = await self._input(store, given.input, given.incremental, base, inherited)
        if given.messages is None:
            kept = texts_of(joined_lists([part["messages"] for part in own]))
            first = own[0]["first_messages"]
            contents = replace(
                contents, messages=kept, first_messages=first, messages_mark=chain.messages
            )
        else:
            contents = await self._messages(store, contents, given.messages, base)
        growth = _first(contents, given, base, chain)
        whole = replace(growth.chain, silent=silent)
        return whole, replace(growth, chain=whole)

    async def _more(
        self, store: AuthorizedSqlStore, chain: Chain, messages: list[str] | None
    ) -> tuple[list[str], Mark] | None:
        """The messages that are new, and how far all go; None: these don't go on from the others."""
        if messages is None or (not messages and chain.messages == chain.base_messages):
            return [], chain.messages
        found = await self._beginning(
            store, messages, _End(chain.tip, chain.messages, chain.all_of), "messages"
        )
        return None if found is None else (messages[found[0] :], found[1])

    async def _input(
        self,
        store: AuthorizedSqlStore,
        given: list[str],
        incremental: bool,
        base: _Base,
        output: list[str],
    ) -> Contents:
        if base.tip is None:
            return Contents(input=given, first_input=True, input_mark=Mark.of(given))
        if incremental:
            count = base.input.count + len(output) + len(given)
            return Contents(output, given, input_mark=Mark(count))
        found = await self._beginning(
            store, given, _End(base.tip, base.input, base.all_of), "input"
        )
        if found is None:
            return Contents(input=given, first_input=True, input_mark=Mark.of(given))
        count, mark = found
        rest = given[count:]
        if same(rest[: len(output)], output):
            return Contents(output, rest[len(output) :], input_mark=mark)
        return Contents(input=rest, input_mark=mark)

    async def _messages(
        self, store: AuthorizedSqlStore, contents: Contents, given: list[str], base: _Base
    ) -> Contents:
        if base.tip is not None and not given:
            return replace(contents, messages_mark=base.messages)
        found = None
        if base.tip is not None:
            found = await self._beginning(
                store, given, _End(base.tip, base.messages, base.all_of), "messages"
            )
        if found is None:
            mark = Mark.of(given)
            return replace(contents, messages=given, first_messages=True, messages_mark=mark)
        count, mark = found
        return replace(contents, messages=given[count:], messages_mark=mark)

    async def _beginning(
        self, store: AuthorizedSqlStore, given: list[str], end: _End, name: str
    ) -> tuple[int, Mark] | None:
        """How much of a list came before, and how far it goes; None: it begins otherwise."""
        longer = end.mark.longer(given)
        if longer is not None and (not end.mark.count or await self._sees(store, end, name)):
            return end.mark.count, longer
        if not given:
            return None
        # Slowly: as the user sees it, and whatever the order of keys is.
        lists = told(await self._parts.read(store, [end.tip]), end.tip, name)
        # A long history takes a second, and others have the loop meanwhile.
        before = await asyncio.to_thread(_matching, lists or (), given)
        if not before:
            return None
        if before == end.mark.count:
            return before, Mark.of(given)
        # He doesn't see all of it, and so hasn't said how all of it begins.
        return before, Mark(end.mark.count + len(given) - before)

    async def _sees(self, store: AuthorizedSqlStore, end: _End, name: str) -> bool:
        """Whether the user may see all of a list, so that its digest tells him nothing new.

        Otherwise whoever may go on from it would learn by guessing what lies behind.
        """
        if end.all_of is not None and end.all_of == await store.owner_id():
            return True
        return await self._parts.sees_all(store, end.tip, name)


@dataclass(frozen=True, slots=True)
class _End:
    """Where a list ends that another one may go on from.

    Attributes:
        tip: its last part.
        mark: how far it goes.
        all_of: as of `Chain`.
    """

    tip: str
    mark: Mark
    all_of: int | None


@dataclass(frozen=True, slots=True)
class _Base:
    """Where a row's own parts begin."""

    tip: str | None
    position: int
    input: Mark
    messages: Mark
    all_of: int | None

    @classmethod
    def none(cls) -> _Base:
        return cls(None, -1, Mark(), Mark(), None)

    @classmethod
    def at(cls, chain: Chain) -> _Base:
        return cls(chain.tip, chain.position, chain.input, chain.messages, chain.all_of)

    @classmethod
    def under(cls, chain: Chain) -> _Base:
        return cls(
            chain.base,
            chain.base_position,
            chain.base_input,
            chain.base_messages,
            chain.base_all_of,
        )


def _first(contents: Contents, given: Given, base: _Base, instead: Chain | None) -> Growth:
    if contents.first_input and contents.first_messages:
        # Nothing of what came before is needed.
        base = _Base.none()
    tip = Parts.key()
    # All of it was handed over, so that is known already.
    as_given = "" if given.incremental else contents.input_mark.digest
    chain = Chain(
        tip=tip,
        position=base.position + 1,
        owner=0 if instead is None else instead.owner,
        input=contents.input_mark,
        messages=contents.messages_mark,
        given=as_given or digest_of(given.input or []),
        incremental=given.incremental,
        silent=not given.messages,
        first=tip,
        base=base.tip,
        base_position=base.position,
        base_input=base.input,
        base_messages=base.messages,
        base_all_of=base.all_of,
    )
    return Growth(contents, chain, base.tip, None if instead is None else instead.tip)


def _appended(chain: Chain, messages: list[str], mark: Mark) -> tuple[Chain, Growth | None]:
    if not messages:
        return chain, None
    tip = Parts.key()
    whole = replace(chain, tip=tip, position=chain.position + 1, messages=mark)
    return whole, Growth(Contents(messages=messages), whole, chain.tip, chain.tip)


def _matching(lists: Sequence[Sequence[Any]], given: list[str]) -> int:
    """How many items a list begins with that are those of others in a row; 0: it begins otherwise."""
    before = texts_of(joined_lists(lists))
    return len(before) if same(given[: len(before)], before) else 0
