r"""Regular expressions of the portable subset: parsed here, so that they mean one thing everywhere.

Python's, Postgres' and SQLite's engines agree on none of `\d`, `.`, `$` and flags. So a pattern is
read into a tree; Postgres gets it written anew in what it surely understands, and Python and SQLite
get an automaton. That one takes one step a character whatever the pattern is: the ids it looks
at are chosen by users, and backtracking would let them stop the server.

A pattern speaks of the whole text. What it is made of: literals, `.` (any character), `[…]` and
`[^…]` of characters and ranges, `(…)` and `(?:…)`, `|`, `*` `+` `?` `{n}` `{n,}` `{n,m}`, a
backslash before punctuation, `^` at the very beginning and `$` at the very end of an alternative.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, field

MAX_REPEAT = 255
"""Postgres' bound."""
MAX_SIZE = 1000
"""Most characters and sets of a pattern, repetitions written out."""
_MAX_STEPS = 10_000
"""Steps that an automaton remembers before it forgets them all."""

_SPECIAL = set("\\^$.|?*+()[]{}")


class UnsupportedError(ValueError):
    """A construct outside the subset; the text names it."""


@dataclass(frozen=True)
class Characters:
    """One character out of ranges, or out of all others."""

    ranges: tuple[tuple[str, str], ...]
    negated: bool = False

    def holds(self, character: str) -> bool:
        """Whether it is one of them."""
        return any(low <= character <= high for low, high in self.ranges) != self.negated


@dataclass(frozen=True)
class Sequence:
    """One after the other."""

    parts: tuple[Node, ...]


@dataclass(frozen=True)
class Choice:
    """One of them."""

    parts: tuple[Node, ...]


@dataclass(frozen=True)
class Repeat:
    """`least` to `most` times; most None: any number."""

    part: Node
    least: int
    most: int | None


Node = Characters | Sequence | Choice | Repeat
_ANY = Characters((), negated=True)
_RESTS = (Repeat(_ANY, 0, None), Repeat(_ANY, 1, None))


@dataclass(frozen=True)
class Expression:
    """A pattern, understood.

    Attributes:
        text: as it was given.
        tree: what it is made of.
        says_its_end: every alternative ends in `$`, `.*` or `.+`; engines that look at beginnings only
            agree on such.
    """

    text: str
    tree: Node = field(repr=False)
    says_its_end: bool

    @functools.cached_property
    def postgres(self) -> str:
        """The same for Postgres' `~`."""
        return f"^(?:{_written(self.tree)})$"

    @functools.cached_property
    def automaton(self) -> Automaton:
        """What matches it in this process."""
        return Automaton(self.tree)


class Automaton:
    """Runs all ways through a pattern at once, and remembers what each step gave."""

    def __init__(self, tree: Node) -> None:
        self._silent: list[list[int]] = []
        self._loud: list[tuple[Characters, int] | None] = []
        self._end = self._state()
        self._start = self._closed({self._build(tree, self._end)})
        self._steps: dict[tuple[frozenset[int], str], frozenset[int]] = {}

    def begun(self, text: str) -> frozenset[int]:
        """Where it may be after a text; empty: nothing that begins so can match."""
        states = self._start
        steps = self._steps
        for character in text:
            found = steps.get((states, character))
            states = self._step(states, character) if found is None else found
            if not states:
                break
        return states

    def matches(self, text: str) -> bool:
        """Whether the whole text does."""
        return self._end in self.begun(text)

    def _step(self, states: frozenset[int], character: str) -> frozenset[int]:
        reached = set()
        for state in states:
            loud = self._loud[state]
            if loud is not None and loud[0].holds(character):
                reached.add(loud[1])
        if len(self._steps) >= _MAX_STEPS:
            self._steps.clear()
        found = self._steps[states, character] = self._closed(reached)
        return found

    def _state(self) -> int:
        self._silent.append([])
        self._loud.append(None)
        return len(self._silent) - 1

    def _closed(self, states: set[int]) -> frozenset[int]:
        todo, seen = list(states), set(states)
        while todo:
            for state in self._silent[todo.pop()]:
                if state not in seen:
                    seen.add(state)
                    todo.append(state)
        return frozenset(seen)

    def _build(self, node: Node, then: int) -> int:
        """The state from which the node leads to `then`."""
        if isinstance(node, Characters):
            state = self._state()
            self._loud[state] = (node, then)
            return state
        if isinstance(node, Sequence):
            for part in reversed(node.parts):
                then = self._build(part, then)
            return then
        if isinstance(node, Choice):
            state = self._state()
            self._silent[state] = [self._build(part, then) for part in node.parts]
            return state
        if node.most is None:
            loop = self._state()
            self._silent[loop] = [self._build(node.part, loop), then]
            state = loop
        else:
            state = then
            for _ in range(node.most - node.least):
                more = self._state()
                # Leaving early leads to the end of all of them.
                self._silent[more] = [self._build(node.part, state), then]
                state = more
        for _ in range(node.least):
            state = self._build(node.part, state)
        return state


@functools.lru_cache(maxsize=256)
def parsed(text: str) -> Expression:
    """Understand a pattern.

    Raises:
        UnsupportedError: it is no pattern of the subset; the text names the construct and the place.
    """
    return _Parser(text).whole()


class _Parser:
    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._depth = 0

    def whole(self) -> Expression:
        if "\0" in self._text or any("\ud800" <= character <= "\udfff" for character in self._text):
            raise UnsupportedError("a NUL or a lone surrogate, which no text in a database holds")
        branches, ends = [], []
        while True:
            self._take("^")
            branch = self._sequence()
            ends.append(
                self._take("$")
                or (
                    isinstance(branch, Sequence)
                    and branch.parts[-1:] in [(rest,) for rest in _RESTS]
                )
            )
            branches.append(branch)
            if not self._take("|"):
                break
        if self._at < len(self._text):
            raise self._unsupported("a ')' that closes nothing")
        tree = branches[0] if len(branches) == 1 else Choice(tuple(branches))
        if _size(tree) > MAX_SIZE:
            raise UnsupportedError(f"more than {MAX_SIZE} characters, repetitions written out")
        return Expression(self._text, tree, all(ends))

    def _unsupported(self, what: str) -> UnsupportedError:
        return UnsupportedError(f"{what} (at character {self._at + 1})")

    def _next(self) -> str:
        return self._text[self._at : self._at + 1]

    def _take(self, wanted: str) -> bool:
        if self._text.startswith(wanted, self._at):
            self._at += len(wanted)
            return True
        return False

    def _choice(self) -> Node:
        branches = [self._sequence()]
        while self._take("|"):
            branches.append(self._sequence())
        return branches[0] if len(branches) == 1 else Choice(tuple(branches))

    def _sequence(self) -> Node:
        parts = []
        while self._next() not in ("", "|", ")"):
            if (
                self._next() == "$"
                and self._depth == 0
                and self._text[self._at + 1 :][:1] in ("", "|")
            ):
                break
            parts.append(self._repeated(self._atom()))
        return Sequence(tuple(parts))

    def _atom(self) -> Node:
        character = self._next()
        if character == "(":
            return self._group()
        if character == "[":
            return self._set()
        if character == "\\":
            literal = self._escaped()
            return Characters(((literal, literal),))
        if character == ".":
            self._at += 1
            return _ANY
        if character in "^$":
            raise self._unsupported(f"a '{character}' in the middle")
        if character in "*+?{":
            raise self._unsupported(f"a '{character}' that repeats nothing")
        if character in "]}":
            raise self._unsupported(f"a bare '{character}'; write '\\{character}'")
        self._at += 1
        return Characters(((character, character),))

    def _group(self) -> Node:
        if self._text.startswith("(?", self._at) and not self._text.startswith("(?:", self._at):
            raise self._unsupported(_extension(self._text[self._at + 2 : self._at + 4]))
        if self._depth == 50:
            raise self._unsupported("groups nested more than 50 deep")
        self._take("(?:") or self._take("(")
        self._depth += 1
        inner = self._choice()
        self._depth -= 1
        if not self._take(")"):
            raise self._unsupported("a '(' that is never closed")
        return inner

    def _escaped(self) -> str:
        following = self._text[self._at + 1 : self._at + 2]
        if not following:
            raise self._unsupported("a backslash at the end")
        if following.isalnum() or following == "_" or not following.isascii():
            hint = {"d": "; write [0-9]", "w": "; write [A-Za-z0-9_]"}.get(following, "")
            kind = "a back reference" if following.isdigit() and following != "0" else "the escape"
            raise self._unsupported(f"{kind} '\\{following}'{hint}")
        self._at += 2
        return following

    def _set(self) -> Node:
        self._at += 1
        negated = self._take("^")
        ranges = []
        while not self._take("]"):
            low = self._member()
            high = low
            if self._next() == "-" and self._text[self._at + 1 : self._at + 2] not in ("]", ""):
                self._at += 1
                high = self._member()
                if high < low:
                    raise self._unsupported("a range that ends before it begins")
            ranges.append((low, high))
        if not ranges:
            raise self._unsupported("an empty set")
        return Characters(tuple(ranges), negated)

    def _member(self) -> str:
        character = self._next()
        if not character:
            raise self._unsupported("a '[' that is never closed")
        if character == "\\":
            return self._escaped()
        if character == "[":
            # [:alpha:] to some engines, a literal to others.
            raise self._unsupported("a bare '[' in a set; write '\\['")
        if self._text[self._at : self._at + 2] in ("&&", "||", "~~", "--"):
            raise self._unsupported(f"'{self._text[self._at : self._at + 2]}' in a set")
        self._at += 1
        return character

    def _repeated(self, atom: Node) -> Node:
        bounds = self._bounds()
        if bounds is None:
            return atom
        following = self._next()
        if following == "?":
            raise self._unsupported("a lazy repetition")
        if following == "+":
            raise self._unsupported("a possessive repetition")
        if following in ("*", "{") and following:
            raise self._unsupported("a repetition of a repetition; use a group")
        return Repeat(atom, *bounds)

    def _bounds(self) -> tuple[int, int | None] | None:
        for sign, bounds in (("*", (0, None)), ("+", (1, None)), ("?", (0, 1))):
            if self._take(sign):
                return bounds
        if self._next() != "{":
            return None
        inside, closed, _ = self._text[self._at + 1 :].partition("}")
        least, comma, most = inside.partition(",")
        wrong = not closed or not _number(least) or (most != "" and not _number(most))
        if wrong or int(most or least) > MAX_REPEAT or (most and int(most) < int(least)):
            raise self._unsupported(
                f"a repetition that is none of {{n}}, {{n,}}, {{n,m}} with n and m up to {MAX_REPEAT}"
            )
        self._at += len(inside) + 2
        if not comma:
            return int(least), int(least)
        return int(least), int(most) if most else None


def _number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 3


def _extension(after: str) -> str:
    named = {
        "=": "a look-ahead '(?='",
        "!": "a negative look-ahead '(?!'",
        "<=": "a look-behind '(?<='",
        "<!": "a negative look-behind '(?<!'",
        "P<": "a named group '(?P<'",
        "P=": "a back reference '(?P='",
        "#": "a comment '(?#'",
        ">": "an atomic group '(?>'",
        "(": "a conditional '(?('",
    }
    for begin in (after[:2], after[:1]):
        if begin in named:
            return named[begin]
    return f"flags '(?{after[:1]}'"


def _size(node: Node) -> int:
    if isinstance(node, Characters):
        return 1
    if isinstance(node, Repeat):
        return max(1, _size(node.part)) * max(1, node.most or node.least)
    return sum(map(_size, node.parts))


def _written(node: Node) -> str:
    if isinstance(node, Characters):
        return _set_written(node)
    if isinstance(node, Sequence):
        # Postgres wants something between | and |.
        return "".join(map(_written, node.parts)) or "(?:)"
    if isinstance(node, Choice):
        return f"(?:{'|'.join(map(_written, node.parts))})"
    most = "" if node.most is None else node.most
    return f"(?:{_written(node.part)}){{{node.least},{most}}}"


def _set_written(node: Characters) -> str:
    if not node.ranges:
        return "."
    if not node.negated and len(node.ranges) == 1 and node.ranges[0][0] == node.ranges[0][1]:
        character = node.ranges[0][0]
        return f"\\{character}" if character in _SPECIAL else character
    inside = "".join(
        _member_written(low) if low == high else f"{_member_written(low)}-{_member_written(high)}"
        for low, high in node.ranges
    )
    return f"[{'^' if node.negated else ''}{inside}]"


def _member_written(character: str) -> str:
    return f"\\{character}" if character in "\\]^-[" else character
