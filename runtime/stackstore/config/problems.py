"""What is wrong with a run config: where, what is allowed instead, and how to fix it.

No text of this module quotes a value, unless it can't be a credential (see `shown`).
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass

from stackstore.config.env import Substituted
from stackstore.errors import ConfigError

Path = tuple[str | int, ...]
"""The way to a node: keys of mappings and indexes of lists, from the top."""

_PLAIN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,62}")


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong.

    Attributes:
        path: as people write it, `storage.stores.inference.backend`; empty for the whole file.
        line: counted from 1; 0 when there is no line to point at.
    """

    path: str
    line: int
    message: str
    allowed: str = ""
    hint: str = ""

    def text(self, source: str) -> str:
        """The problem in one line, in the form that editors jump by."""
        where = f"{source}:{self.line}" if self.line else source
        parts = [": ".join(part for part in (where, self.path, self.message) if part)]
        if self.allowed:
            parts.append(f"allowed: {self.allowed}")
        if self.hint:
            parts.append(self.hint)
        return "; ".join(parts)


class InvalidConfigError(ConfigError):
    """A run config that can't be used.

    Attributes:
        source: the file.
        problems: all that was found, in the order of the lines.
    """

    def __init__(self, source: str, problems: Iterable[Problem]) -> None:
        self.source = source
        self.problems = tuple(sorted(problems, key=lambda problem: problem.line))
        super().__init__("\n".join(problem.text(source) for problem in self.problems))


def dotted(path: Path) -> str:
    """The path as people write it: `providers.files[0].config.metadata_store`."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            # A key with blanks in it may be a line whose colon was forgotten: `password hunter2`.
            plain = re.fullmatch(r"[A-Za-z0-9_.:-]{1,63}", part)
            text += ("." if text else "") + (part if plain else "<key>")
    return text


def shown(value: object) -> str:
    """The value in quotes with a blank before it, or nothing where it could be a credential.

    Only short plain words that stand in the file itself are shown: a URI may hold a password, and
    what came from the environment may be anything.
    """
    if isinstance(value, Substituted) or not isinstance(value, str):
        return ""
    return f" '{value}'" if _PLAIN.fullmatch(value) else ""


def nearest(word: object, candidates: Iterable[str]) -> str:
    """A hint that names the candidate nearest to a misspelt word, or nothing."""
    if not isinstance(word, str):
        return ""
    by_folded = {candidate.casefold().replace("-", "_"): candidate for candidate in candidates}
    matches = difflib.get_close_matches(
        word[:100].casefold().replace("-", "_"), by_folded, n=1, cutoff=0.7
    )
    return f"did you mean '{by_folded[matches[0]]}'?" if matches else ""
