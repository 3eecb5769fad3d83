"""How long to wait between two visits to one database. Pure; all times are in seconds."""

from __future__ import annotations

LONGEST_PAUSE = 30.0
_RESTLESS_VISITS = 24
"""So many visits in quick succession, about ten minutes; then who waits is seen once a period."""


def pause(period: float, failures: int, restless: int | None) -> float:
    """The time from the end of a visit to the next.

    Args:
        period: the usual one.
        failures: how many visits in a row have not got in, the last one included.
        restless: None when nothing is waited for; else how many visits were made since processes
            began to take up the present login.
    """
    if failures:
        return min(2.0 ** min(failures - 1, 10), LONGEST_PAUSE)
    if restless is not None and restless < _RESTLESS_VISITS:
        return min(2.0 ** min(max(restless, 1), 10), LONGEST_PAUSE, period)
    return period
