"""The operator's command with short waits: `python -m tests.support.hasty run …`.

SIGUSR2 lets its event loop stand still for a while; SIGUSR1 lets the wall clock jump a day ahead, then
two back, then to where it should be.
"""

from __future__ import annotations

import functools
import itertools
import signal
import time

from stackstore_operator import main
from stackstore_operator.kube.watch import Pace
from stackstore_operator.reconcile.contest import Patience
from stackstore_operator.reconcile.rollout.course import Rhythm
from stackstore_operator.reconcile.waits import Waits
from stackstore_operator.telemetry.health import Limits

WAITS = Waits(
    contests=Patience(corrections=3, window=8, retry=2, calm=1),
    pace=Pace(whole=8, silence=5, relist=6),
    census=5,
    grace=2,
    rollout=Rhythm(quiet=0.8, at_most=4, unverified=1, stalled=4, recheck=0.5),
    limits=Limits(stall=3, outage=3),
)
STANDSTILL_SECONDS = 5
JUMPS = itertools.cycle((86_400, -86_400, 0))


def jump(*_: object) -> None:
    """The wall clock is what it is plus the next of the jumps."""
    ahead = next(JUMPS)
    time.time = lambda: time.time_ns() / 1e9 + ahead


if __name__ == "__main__":
    signal.signal(signal.SIGUSR1, jump)
    signal.signal(signal.SIGUSR2, lambda *_: time.sleep(STANDSTILL_SECONDS))
    main.Settings = functools.partial(main.Settings, waits=WAITS)
    main.app()
