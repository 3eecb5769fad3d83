"""What one look leaves behind: its id, and what it wrote."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar

current: ContextVar[str] = ContextVar("look", default="")
"""The id of the look under way; every log line of it carries it."""

_writes: ContextVar[list[str] | None] = ContextVar("writes", default=None)


@contextlib.contextmanager
def following(identity: str) -> Iterator[list[str]]:
    """Within the block, everything is of this look; gives the list of what it writes.

    The id stays when it is left: who worked on it may still tell that it failed.
    """
    current.set(identity)
    writes: list[str] = []
    token = _writes.set(writes)
    try:
        yield writes
    finally:
        _writes.reset(token)


def wrote(what: str) -> None:
    """Something was written, such as "apply Secret"."""
    writes = _writes.get()
    if writes is not None:
        writes.append(what)
