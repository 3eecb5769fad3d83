"""Which login a pool uses: a pure state machine.

A *target* is everything that opening a connection depends on (address, login, TLS). The snapshot
lists them in order of preference: the current one, then the previous ones. The pool tells the
machine what it saw (`saw_snapshot`, `accepted`, `refused`, `unreachable`) and asks what to do
(`for_new`, `to_prove`, `may_recycle`, `is_stale`, `retry_delay`). The machine does no I/O and knows
no clock.

The rules:

- A target is proven by a connection that it opened. New connections use the proven target only.
- A more preferred target is proven before it replaces the proven one; then what the old one opened
  is stale and drains.
- A refusal (the database said no to the login) takes the word back: the target is no longer
  proven. Unreachable is no refusal: what is proven stays proven.
- While nothing is proven, nothing is stale and nothing is recycled: a working connection may be the
  last one for a while. All targets are tried in turn, whatever failed before.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field, replace
from typing import Generic, TypeVar

T = TypeVar("T", bound=Hashable)

_FIRST_DELAY = 0.1
_LONGEST_DELAY = 1.0
_PATIENT_AFTER = 60
_PATIENT_DELAY = 5.0


@dataclass(frozen=True, slots=True)
class Machine(Generic[T]):
    """The state; every event returns a new one.

    Attributes:
        targets: what the newest snapshot offers, most preferred first, without repetition.
        proven: what new connections use; None while no target is known to work.
        refusals: how often in a row each target was refused since the snapshot last changed.
        absences: the same of attempts that got no answer.
    """

    targets: tuple[T, ...] = ()
    proven: T | None = None
    refusals: Mapping[T, int] = field(default_factory=dict)
    absences: Mapping[T, int] = field(default_factory=dict)

    # -- events

    def saw_snapshot(self, targets: tuple[T, ...]) -> Machine[T]:
        """A snapshot was read. The same content again changes nothing."""
        unique = tuple(dict.fromkeys(targets))
        if unique == self.targets:
            return self
        # Failures are forgotten: whoever changed the snapshot may have changed the role as well.
        return replace(self, targets=unique, refusals={}, absences={})

    def accepted(self, target: T) -> Machine[T]:
        """A connection was opened with `target`."""
        calmed = replace(
            self, refusals=_without(self.refusals, target), absences=_without(self.absences, target)
        )
        if self.proven is not None and self._rank(target) >= self._rank(self.proven):
            return calmed
        return replace(calmed, proven=target)

    def refused(self, target: T) -> Machine[T]:
        """The database refused `target`'s login."""
        proven = None if target == self.proven else self.proven
        return replace(self, proven=proven, refusals=_counted(self.refusals, target))

    def unreachable(self, target: T) -> Machine[T]:
        """An attempt with `target` got no answer that says anything about its login."""
        return replace(self, absences=_counted(self.absences, target))

    # -- decisions

    def for_new(self) -> T | None:
        """What a new connection uses; None: wait for a proof."""
        return self.proven

    def to_prove(self) -> T | None:
        """What to try next beside the proven one; None: nothing is to be proven.

        With a proven target only the current one is tried: an older previous would be a step back.
        Without one all are, the one that failed least first and the more preferred before the
        others, so that a pod that starts in the middle of a rotation finds the working one in
        either order, and behind a host that isn't there.
        """
        if not self.targets or self.proven == self.targets[0]:
            return None
        if self.proven is not None:
            return self.targets[0]
        return min(self.targets, key=self._failures)

    def is_untried(self, target: T) -> bool:
        """Whether nothing is known of it since the snapshot changed."""
        return target != self.proven and self._failures(target) == 0

    def retry_delay(self, target: T) -> float:
        """Seconds to wait before `target` is tried again; they grow with its failures to 1 s.

        After a minute of refusals they are 5 s: servers lock accounts and fill logs.
        """
        failures = self._failures(target)
        if failures == 0:
            return 0.0
        if self.refusals.get(target, 0) > _PATIENT_AFTER:
            return _PATIENT_DELAY
        return float(min(_FIRST_DELAY * 2 ** min(failures - 1, 10), _LONGEST_DELAY))

    def is_stale(self, target: T) -> bool:
        """Whether a connection opened with `target` is to be drained."""
        return self.proven is not None and self._rank(target) > self._rank(self.proven)

    def may_recycle(self) -> bool:
        """Whether a working connection may be closed for its age alone."""
        return self.proven is not None

    def _failures(self, target: T) -> int:
        return self.refusals.get(target, 0) + self.absences.get(target, 0)

    def _rank(self, target: T) -> int:
        """Lower is preferred; what the snapshot no longer offers comes last."""
        try:
            return self.targets.index(target)
        except ValueError:
            return len(self.targets)


def _counted(counts: Mapping[T, int], target: T) -> dict[T, int]:
    return {**counts, target: counts.get(target, 0) + 1}


def _without(counts: Mapping[T, int], target: T) -> Mapping[T, int]:
    if target not in counts:
        return counts
    return {other: count for other, count in counts.items() if other != target}
