"""Names of tables, columns and indexes: what is allowed, and what a misspelt one may have meant."""

from __future__ import annotations

import difflib
import hashlib
import re
from collections.abc import Iterable

from stackstore.config.schema import RESERVED_TABLES
from stackstore.errors import InvalidArgumentError

_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}")

RESERVED = RESERVED_TABLES
"""Tables and indexes of ours that share the place with those of the stores; casefolded."""


def identifier(kind: str, name: object) -> str:
    """A name that is safe in any statement.

    Args:
        kind: what it names ("table", "column", "index"), for the message.
        name: the name; quoting alone would let in what no other tool can type.

    Raises:
        InvalidArgumentError: it is not a letter or _, then letters, digits and _, at most 63.
    """
    if not isinstance(name, str) or not _IDENTIFIER.fullmatch(name):
        article = "an" if kind[0] in "aeiou" else "a"
        raise InvalidArgumentError(
            f"{shown(name)} is no name for {article} {kind}: allowed are a letter or _, then letters, "
            "digits and _, at most 63 in all"
        )
    return str(name)


def derived(name: str, part: str) -> str:
    """The name of something that goes with a table or an index: `<name>__<part>`, cut to fit."""
    suffix = f"__{part}"
    if len(name) + len(suffix) <= 63:
        return name + suffix
    kept = 63 - len(suffix) - 9
    return f"{name[:kept]}_{hashlib.sha256(name.encode()).hexdigest()[:8]}{suffix}"


def quoted(name: str) -> str:
    """An identifier as SQL; all of them are quoted, so that none is a keyword or folded."""
    return '"' + name.replace('"', '""') + '"'


def shown(name: object) -> str:
    """A name in a message, cut: a wrong one may be anything."""
    text = ascii(name) if isinstance(name, str) else f"a {type(name).__name__}"
    return text if len(text) <= 80 else text[:76] + "…'"


def choices(wrong: object, right: Iterable[str]) -> str:
    """The end of a message about a misspelt name: all there are, and the nearest."""
    known = sorted(right)
    listed = ", ".join(known) or "none"
    near = difflib.get_close_matches(wrong, known, 1, 0.6) if isinstance(wrong, str) else []
    return f"there are: {listed}" + (f"; did you mean {near[0]!r}?" if near else "")
