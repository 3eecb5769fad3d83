"""What time it is, for who deletes by it: a clock that is set wrongly must not take everybody's rows."""

from __future__ import annotations

import time
from collections.abc import Callable

TOLERANCE_SECONDS = 60
"""By how much the wall clock may get ahead between two looks."""

PROOF_SECONDS = 3_600
"""How long it has to stay further ahead than that until it is believed."""


class CautiousClock:
    """The wall clock; a leap ahead is believed an hour later, a leap back at once.

    How much time passes is also told by a clock that nobody sets. It stands still while the machine
    sleeps, so a leap may well be right; then rows go an hour late.

    Args:
        wall: nanoseconds since 1970.
        steady: nanoseconds since some moment.
    """

    def __init__(
        self,
        wall: Callable[[], int] = time.time_ns,
        steady: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._wall = wall
        self._steady = steady
        self._anchor = (wall(), steady())
        self._leapt: int | None = None

    def wall(self) -> int:
        """What the wall clock says, in microseconds since 1970."""
        return self._wall() // 1_000

    def now(self) -> int:
        """What is believed, in microseconds since 1970."""
        wall, steady = self._wall(), self._steady()
        expected = self._anchor[0] + steady - self._anchor[1]
        if wall > expected + TOLERANCE_SECONDS * 1_000_000_000:
            if self._leapt is None:
                self._leapt = steady
            if steady - self._leapt < PROOF_SECONDS * 1_000_000_000:
                return expected // 1_000
        self._anchor = (wall, steady)
        self._leapt = None
        return wall // 1_000
