"""Which login a pool uses: a pure state machine.

A *target* is everything that opening a connection depends on (address, login, TLS). The snapshot
lists them in order of preference: the current one, then the previous ones. The pool tells the
machine what it saw (`saw_snapshot`, `accepted`, `refused`) and asks what to do (`for_new`,
`to_prove`, `may_recycle`, `is_stale`, `retry_delay`). The machine does no I/O and knows no clock.

The rules:

- A target is proven by a connection that it opened. New connections use the proven target only.
- A more preferred target is proven before it replaces the proven one; then what the old one opened
  is stale and drains.
- A refusal (the database said no to the login) takes the word back: the target is no longer
  proven. Unreachable is no refusal and changes nothing.
- While nothing is proven, nothing is stale and nothing is recycled: a working connection may be the
  last one for a while.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field, replace
from typing import Generic, TypeVar

T = TypeVar("T", bound=Hashable)

_FIRST_DELAY = 0.1
_PATIENT_AFTER = 60
_PATIENT_DELAY = 5.0


@dataclass(frozen=True, slots=True)
class Machine(Generic[T]):
    """The state; every event returns a new one.

    Attributes:
        targets: what the newest snapshot offers, most preferred first, without repetition.
        proven: what new connections use; None while no target is known to work.
        refusals: how often in a row each target was refused since the snapshot last changed.
    """

    targets: tuple[T, ...] = ()
    proven: T | None = None
    refusals: dict[T, int] = field(default_factory=dict)

    # -- events

    def saw_snapshot(self, targets: tuple[T, ...]) -> Machine[T]:
        """A snapshot was read. The same content again changes nothing."""
        unique = tuple(dict.fromkeys(targets))
        if unique == self.targets:
            return self
        # Refusals are forgotten: whoever changed the snapshot may have changed the role as well.
        return replace(self, targets=unique, refusals={})

    def accepted(self, target: T) -> Machine[T]:
        """A connection was opened with `target`."""
        refusals = {other: count for other, count in self.refusals.items() if other != target}
        if target not in self.targets and self.proven is not None:
            return replace(self, refusals=refusals)
        if self.proven is not None and self._rank(target) > self._rank(self.proven):
            return replace(self, refusals=refusals)
        return replace(self, proven=target, refusals=refusals)

    def refused(self, target: T) -> Machine[T]:
        """The database refused `target`'s login."""
        refusals = {**self.refusals, target: self.refusals.get(target, 0) + 1}
        proven = None if target == self.proven else self.proven
        return replace(self, proven=proven, refusals=refusals)

    # -- decisions

    def for_new(self) -> T | None:
        """What a new connection uses; None: wait for a proof."""
        return self.proven

    def to_prove(self) -> T | None:
        """What to try next beside the proven one; None: nothing is to be proven.

        With a proven target only more preferred ones are tried. Without one all are, the least
        refused first and the more preferred before the others, so that a pod that starts in the
        middle of a rotation finds the working one in either order.
        """
        offered = self.targets
        if self.proven is not None and self.proven in offered:
            offered = offered[: offered.index(self.proven)]
        if not offered:
            return None
        if self.proven is not None:
            # Only the current one replaces a working one: an older previous would be a step back.
            return offered[0]
        return min(offered, key=lambda target: self.refusals.get(target, 0))

    def retry_delay(self, target: T) -> float:
        """Seconds to wait before `target` is tried again; grows with its refusals to 1 s, later 5 s."""
        count = self.refusals.get(target, 0)
        if count == 0:
            return 0.0
        if count > _PATIENT_AFTER:
            return _PATIENT_DELAY
        return float(min(_FIRST_DELAY * 2 ** (count - 1), 1.0))

    def is_stale(self, target: T) -> bool:
        """Whether a connection opened with `target` is to be drained."""
        return self.proven is not None and self._rank(target) > self._rank(self.proven)

    def may_recycle(self) -> bool:
        """Whether a working connection may be closed for its age alone."""
        return self.proven is not None

    def _rank(self, target: T) -> int:
        """Lower is preferred; what the snapshot no longer offers comes last."""
        try:
            return self.targets.index(target)
        except ValueError:
            return len(self.targets)
