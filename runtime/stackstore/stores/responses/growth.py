"""How a history grows: what of the lists that are handed over is new, and where it goes."""

from __future__ import annotations

from dataclasses import dataclass, replace

from stackstore.access.operations import AuthorizedOperations
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
        store: AuthorizedOperations,
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
        self, store: AuthorizedOperations, rows: Operations, chain: Chain, given: Given
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
        self, store: AuthorizedOperations, chain: Chain, messages: list[str] | None
    ) -> tuple[list[str], Mark] | None:
        """The messages that are new, and how far all go; None: these don't go on from the others."""
        if messages is None or (not messages and chain.messages == chain.base_messages):
            return [], chain.messages
        found = await self._beginning(store, messages, chain.messages, chain.tip, "messages")
        return None if found is None else (messages[found[0] :], found[1])

    async def _input(
        self,
        store: AuthorizedOperations,
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
        found = await self._beginning(store, given, base.input, base.tip, "input")
        if found is None:
            return Contents(input=given, first_input=True, input_mark=Mark.of(given))
        count, mark = found
        rest = given[count:]
        if same(rest[: len(output)], output):
            return Contents(output, rest[len(output) :], input_mark=mark)
        return Contents(input=rest, input_mark=mark)

    async def _messages(
        self, store: AuthorizedOperations, contents: Contents, given: list[str], base: _Base
    ) -> Contents:
        if base.tip is not None and not given:
            return replace(contents, messages_mark=base.messages)
        found = None
        if base.tip is not None:
            found = await self._beginning(store, given, base.messages, base.tip, "messages")
        if found is None:
            mark = Mark.of(given)
            return replace(contents, messages=given, first_messages=True, messages_mark=mark)
        count, mark = found
        return replace(contents, messages=given[count:], messages_mark=mark)

    async def _beginning(
        self, store: AuthorizedOperations, given: list[str], mark: Mark, tip: str, name: str
    ) -> tuple[int, Mark] | None:
        """How much of a list came before, and how far it goes; None: it begins otherwise."""
        longer = mark.longer(given)
        if longer is not None:
            return mark.count, longer
        if not given:
            return None
        # Slowly: as the user sees it, and whatever the order of keys is.
        lists = told(await self._parts.read(store, [tip]), tip, name)
        before = texts_of(joined_lists(lists or ()))
        if not before or not same(given[: len(before)], before):
            return None
        if len(before) == mark.count:
            return mark.count, Mark.of(given)
        # He doesn't see all of it, and so hasn't said how all of it begins.
        return len(before), Mark(mark.count + len(given) - len(before))


@dataclass(frozen=True, slots=True)
class _Base:
    """Where a row's own parts begin."""

    tip: str | None
    position: int
    input: Mark
    messages: Mark

    @classmethod
    def none(cls) -> _Base:
        return cls(None, -1, Mark(), Mark())

    @classmethod
    def at(cls, chain: Chain) -> _Base:
        return cls(chain.tip, chain.position, chain.input, chain.messages)

    @classmethod
    def under(cls, chain: Chain) -> _Base:
        return cls(chain.base, chain.base_position, chain.base_input, chain.base_messages)


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
    )
    return Growth(contents, chain, base.tip, None if instead is None else instead.tip)


def _appended(chain: Chain, messages: list[str], mark: Mark) -> tuple[Chain, Growth | None]:
    if not messages:
        return chain, None
    tip = Parts.key()
    whole = replace(chain, tip=tip, position=chain.position + 1, messages=mark)
    return whole, Growth(Contents(messages=messages), whole, chain.tip, chain.tip)
