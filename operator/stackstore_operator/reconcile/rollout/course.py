"""How long a rollout waits, and what one look remembers for the next."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from stackstore_operator.kube.workloads import WorkloadName


@dataclass(frozen=True, slots=True)
class Rhythm:
    """How long to wait; in seconds.

    Attributes:
        quiet: nothing must have changed for so long before anything is restarted.
        at_most: unless it has been changing for so long.
        unverified: how long to wait for a login that nobody can verify; refused ones wait for ever.
        stalled: how long a consumer may make no progress, when its controller has no deadline.
        recheck: how often to look at a rollout when nothing tells of it.
    """

    quiet: float = 5
    at_most: float = 30
    unverified: float = 120
    stalled: float = 900
    recheck: float = 15


@dataclass(frozen=True, slots=True)
class Course:
    """What one look remembers for the next, in this process only; monotonic seconds.

    Nothing is lost with it: a new process waits once more for quiet.

    Attributes:
        revision: what is to be rolled out.
        changed: since when it is that.
        behind: since when some consumer has been behind; None: none is.
        mark: how far the consumer is that is waited for.
        moved: since when it is that far.
        held: how many looks in a row ended because a login isn't verified.
    """

    revision: str
    changed: float
    behind: float | None = None
    mark: str = ""
    moved: float = 0.0
    held: int = 0


@dataclass(frozen=True, slots=True)
class Observed:
    """What a look knows of a rollout beside the objects.

    Attributes:
        started: epoch seconds at which the oldest running container of a workload started; no entry:
            nobody has looked.
        contested: workloads from which somebody keeps taking what was written.
        course: what the last look remembered.
        now: monotonic seconds.
        pace: how long to wait.
    """

    started: Mapping[WorkloadName, int | None] = field(default_factory=dict)
    contested: frozenset[WorkloadName] = frozenset()
    course: Course | None = None
    now: float = 0.0
    pace: Rhythm = field(default_factory=Rhythm)
