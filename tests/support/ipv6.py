"""Whether loopback speaks IPv6 here; in some containers it doesn't."""

from __future__ import annotations

import functools
import socket

import pytest


@functools.cache
def on_loopback() -> bool:
    """Whether ::1 can be listened on."""
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


needed = pytest.mark.skipif(not on_loopback(), reason="nothing can listen on ::1 on this machine")
