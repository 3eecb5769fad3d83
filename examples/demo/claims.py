"""What the demo claims, and whether it held."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Claim:
    """A sentence, whether it is so, and what was seen."""

    text: str
    holds: bool
    seen: str


class Claims:
    """All of one run."""

    def __init__(self) -> None:
        self.all: list[Claim] = []

    def add(self, text: str, holds: bool, seen: str) -> None:
        """Claim something that was looked at."""
        self.all.append(Claim(text, holds, seen))

    @property
    def hold(self) -> bool:
        """Whether there are any, and all of them are so."""
        return bool(self.all) and all(claim.holds for claim in self.all)

    def rows(self) -> list[tuple[str, str, str]]:
        """For a table."""
        return [
            ("", "CLAIM", "SEEN"),
            *(("✓" if claim.holds else "✗", claim.text, claim.seen) for claim in self.all),
        ]
