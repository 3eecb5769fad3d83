"""Histories: lists of documents that go on where another one ended; pure.

A response's input begins with all that was said before, and so do its messages. Of both a response
keeps only its own end, beside how far the beginning goes and a digest of it: a `Mark`. So that a
list begins with what came before shows without reading that.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from stackstore.errors import InvalidArgumentError
from stackstore.sql.columns import JsonText
from stackstore.stores.documents import text, texts


@dataclass(frozen=True, slots=True)
class Mark:
    """How far a list goes.

    Attributes:
        count: how many items it has.
        digest: of these items in this order; empty where they were never seen together.
    """

    count: int = 0
    digest: str = ""

    @classmethod
    def of(cls, texts: Sequence[str]) -> Mark:
        """A whole list's."""
        return cls(len(texts), digest_of(texts)) if texts else cls()

    def longer(self, texts: Sequence[str]) -> Mark | None:
        """The mark of a list that begins so, letter for letter; None: it doesn't."""
        if not self.count:
            return Mark.of(texts)
        if not self.digest or self.count > len(texts):
            return None
        seen = _hashed(",".join(texts[: self.count]))
        if seen.hexdigest() != self.digest:
            return None
        if self.count < len(texts):
            # Goes on where it was: each letter is read once.
            seen.update(f",{','.join(texts[self.count :])}".encode())
        return Mark(len(texts), seen.hexdigest())


@dataclass(frozen=True, slots=True)
class Contents:
    """What one response adds to a history.

    Attributes:
        inherited: the output of the response before, as it was then; it goes before the input, and
            is shown to those only who may see that response.
        input: its own input items, as JSON.
        messages: its own messages, likewise.
        first_input: nothing goes before its input.
        first_messages: nothing goes before its messages.
        input_mark, messages_mark: how far the history goes with it.
    """

    inherited: list[str] = field(default_factory=list)
    input: list[str] = field(default_factory=list)
    messages: list[str] = field(default_factory=list)
    first_input: bool = False
    first_messages: bool = False
    input_mark: Mark = Mark()
    messages_mark: Mark = Mark()


@dataclass(frozen=True, slots=True)
class Given:
    """What is handed over of a response's history.

    Attributes:
        input: the input's items, as JSON; None: as before.
        messages: likewise.
        incremental: the input is what is new only.
    """

    input: list[str] | None
    messages: list[str] | None
    incremental: bool = False


@dataclass(frozen=True, slots=True)
class Chain:
    """Where a history's parts are; kept with the row whose history it is.

    Attributes:
        tip: the last part.
        position: the tip's.
        owner: `owner_id` of the row.
        input, messages: how far they go up to the tip.
        given: a digest of the input as it was handed over.
        incremental: the input was handed over without what came before.
        silent: no messages were handed over, whatever came before.
        first: the first part of the row's own.
        base: the part that the row goes on from; None: it begins.
        base_position: the base's.
        base_input, base_messages: how far they go up to the base.
        base_all_of: `all_of` up to the base.
    """

    tip: str
    position: int
    owner: int
    input: Mark
    messages: Mark
    given: str
    incremental: bool
    silent: bool
    first: str
    base: str | None = None
    base_position: int = -1
    base_input: Mark = Mark()
    base_messages: Mark = Mark()
    base_all_of: int | None = None

    @property
    def all_of(self) -> int | None:
        """`owner_id` of all rows whose parts these are; None: they are of several, or it isn't known."""
        return self.owner if self.base is None or self.base_all_of == self.owner else None

    def plain(self) -> dict[str, Any]:
        """As JSON has it."""
        found = {name: getattr(self, name) for name in Chain.__slots__}
        return {
            name: [value.count, value.digest] if isinstance(value, Mark) else value
            for name, value in found.items()
        }

    @classmethod
    def of(cls, plain: Mapping[str, Any]) -> Chain:
        """The way back."""
        found: dict[str, Any] = {
            name: Mark(*value) if isinstance(value, list) else value
            for name, value in plain.items()
        }
        return cls(**found)


def written(what: str, documents: object) -> list[str]:
    """A list of documents as JSON, one by one.

    Args:
        what: what one of them is, for the message ("an input item").
        documents: models or mappings.

    Raises:
        InvalidArgumentError: it is no list, or holds what is no document.
    """
    if isinstance(documents, str | bytes) or not isinstance(documents, Sequence):
        raise InvalidArgumentError(
            f"a list is expected, each of it {what} (a model or a mapping), not a "
            f"{type(documents).__name__}"
        )
    return texts(what, documents)


def digest_of(texts: Sequence[str]) -> str:
    """A digest of a list."""
    return str(_hashed(",".join(texts)).hexdigest())


def joined(texts: Sequence[str]) -> JsonText:
    """A list of JSON texts as one."""
    return JsonText(f"[{','.join(texts)}]")


def texts_of(items: Sequence[Any]) -> list[str]:
    """Plain values as JSON, one by one."""
    return [text("an item", item) for item in items]


def joined_lists(lists: Iterable[Sequence[Any]]) -> list[Any]:
    """Lists that follow each other, as one."""
    return [item for some in lists for item in some]


def same(texts: Sequence[str], others: Sequence[str]) -> bool:
    """Whether lists of JSON texts say the same, whatever the order of their keys."""
    return len(texts) == len(others) and all(
        one == other or _canonical(one) == _canonical(other)
        for one, other in zip(texts, others, strict=True)
    )


def told(
    parts: Mapping[str, Mapping[str, Any]], tip: str, list_name: str
) -> tuple[list[Any], ...] | None:
    """A list of a history, from its beginning; the lists of its parts, as they follow each other.

    Args:
        parts: those that may be seen, by their keys.
        tip: the last one.
        list_name: "input" or "messages".

    Returns:
        The lists, not joined; None: the tip isn't there.
    """
    part = parts.get(tip)
    if part is None:
        return None
    found: list[list[Any]] = []
    while part is not None:
        found.append(part[list_name])
        if part[f"first_{list_name}"]:
            break
        before = parts.get(part["previous"])
        if before is not None and before["position"] >= part["position"]:
            # A circle, which nobody but somebody else made.
            break
        # Whoever may not see the response before doesn't see its output here.
        if list_name == "input" and before is not None:
            found.append(part["inherited"])
        part = before
    return tuple(reversed(found))


def _hashed(text: str) -> Any:
    return hashlib.sha256(text.encode(), usedforsecurity=False)


def _canonical(item: str) -> str:
    return json.dumps(json.loads(item), sort_keys=True)
