"""Whether the operator is alive and ready, by signs that its parts give. Read by another thread.

Only a restart heals what makes it not alive, so an API server that is away never does.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

_PULSE_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Limits:
    """How patient to be, in seconds.

    Attributes:
        stall: how long the event loop may do nothing else than one thing.
        silence: how long a watch of ours may neither hear anything nor try to.
        outage: how long there may be no good answer from the API server.
        deaf: how often in a row a list may find what a watch has not told of, while nothing else
            is heard of that watch.
    """

    stall: float = 60.0
    silence: float = 480.0
    outage: float = 15.0
    deaf: int = 3


class Health:
    """What is known of the process; written in the event loop, read anywhere.

    Args:
        limits: how patient to be.
        clock: monotonic seconds.
    """

    def __init__(
        self, limits: Limits | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._limits = limits or Limits()
        self._clock = clock
        self._pulse = clock()
        self._signs: dict[tuple[str, str | None], float] = {}
        self._awaited: set[str] = {"the first list"}
        self._missed: dict[str, int] = {}
        self._reached = clock()
        self._failed = 0.0

    # -- signs

    async def beat(self) -> None:
        """Show that the event loop goes on; for ever."""
        while True:
            self._pulse = self._clock()
            await asyncio.sleep(_PULSE_SECONDS)

    def expect(self, what: str) -> None:
        """Not ready before this has begun."""
        self._awaited.add(what)

    def begun(self, what: str) -> None:
        """It has."""
        self._awaited.discard(what)

    def heard(self, kind: str, namespace: str | None = None) -> None:
        """A watch has heard something, or tries to."""
        self._signs[kind, namespace] = self._clock()

    def told(self, kind: str) -> None:
        """A watch of this kind has told of a change."""
        self._missed.pop(kind, None)

    def missed(self, kind: str) -> None:
        """A list has found what the watch of this kind should have told of long ago."""
        self._missed[kind] = self._missed.get(kind, 0) + 1

    def answered(self, good: bool) -> None:
        """The API server has answered, or hasn't."""
        if good:
            self._reached = self._clock()
        else:
            self._failed = self._clock()

    # -- questions

    def ages(self) -> dict[str, float]:
        """By kind, for how many seconds nothing was heard of the most silent of its watches."""
        now = self._clock()
        found: dict[str, float] = {}
        for (kind, _), when in list(self._signs.items()):
            found[kind] = max(found.get(kind, 0.0), now - when)
        return found

    def ails(self) -> list[str]:
        """What only a restart heals; empty when it is alive."""
        limits, now = self._limits, self._clock()
        found = []
        if now - self._pulse > limits.stall:
            found.append(f"the event loop has stood still for {now - self._pulse:.0f} s")
        if self._reachable():
            found += [
                f"the watch of {kind} has been silent for {age:.0f} s"
                for kind, age in self.ages().items()
                if age > limits.silence
            ]
            found += [
                f"the watch of {kind} misses what lists show"
                for kind, times in list(self._missed.items())
                if times >= limits.deaf
            ]
        return found

    def lacks(self) -> list[str]:
        """Why it is not ready; empty when it is."""
        found = [f"{what} is not there yet" for what in sorted(self._awaited)]
        if not self._reachable():
            found.append("the API server does not answer")
        return found + self.ails()

    def _reachable(self) -> bool:
        """Whether the last answer was good, or a good one is not long ago."""
        if self._reached >= self._failed:
            return True
        return self._clock() - self._reached <= self._limits.outage
