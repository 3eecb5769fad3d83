"""The time, as the stores note it."""

from __future__ import annotations

import time


def microseconds() -> int:
    """Now, in microseconds since 1970."""
    return time.time_ns() // 1000
