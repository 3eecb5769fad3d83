"""How many rows a batch has: as many as can be deleted before anybody minds; pure."""

from __future__ import annotations

FIRST = 32
MOST = 1_000

BUDGET_SECONDS = 0.05
"""How long a batch may take. On SQLite everybody else who writes waits for so long."""

PAUSE_SECONDS = 0.05
"""How long others have the database to themselves after a batch, at least."""


class Pace:
    """The size of the next batch.

    Attributes:
        size: rows of the first table; what goes with them isn't counted, but takes its time.
    """

    def __init__(self) -> None:
        self.size = FIRST

    def took(self, seconds: float) -> float:
        """A full batch took so long; returns how many seconds to rest."""
        if seconds > BUDGET_SECONDS:
            self.size = max(1, int(self.size * BUDGET_SECONDS / seconds))
        elif seconds < BUDGET_SECONDS / 2:
            self.size = min(MOST, self.size * 2)
        return max(PAUSE_SECONDS, seconds)

    def failed(self) -> None:
        """A batch failed; perhaps it was too much at once."""
        self.size = max(1, self.size // 2)
