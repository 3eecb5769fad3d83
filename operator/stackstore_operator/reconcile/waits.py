"""How long a reconciler waits for what; the defaults are those of a cluster."""

from __future__ import annotations

from dataclasses import dataclass, field

from stackstore_operator.kube.watch import Pace
from stackstore_operator.reconcile.contest import Patience
from stackstore_operator.reconcile.rollout.course import Rhythm
from stackstore_operator.telemetry.health import Limits


@dataclass(frozen=True, slots=True)
class Waits:
    """All waits that tests shorten.

    Attributes:
        contests: how often to put back what somebody else keeps changing.
        pace: how patient watches are.
        census: after how many seconds everything of our own kinds is listed anew.
        grace: how many seconds later than a list a watch may tell of a change.
        limits: what is no longer alive, or not ready.
        rollout: how long to wait before and during restarts.
    """

    contests: Patience = field(default_factory=Patience)
    pace: Pace = field(default_factory=Pace)
    census: float = 60.0
    grace: float = 30.0
    limits: Limits = field(default_factory=Limits)
    rollout: Rhythm = field(default_factory=Rhythm)
