"""What a pool counts, as plain values for whoever shows them."""

from __future__ import annotations

from dataclasses import dataclass

from stackstore.pools.standing import State


@dataclass(slots=True)
class Counters:
    """They only go up while the pool lives.

    Attributes:
        lends: connections that were lent.
        waits: callers who found none idle.
        waited_seconds: how long those waited, together.
        timeouts: callers who went away with none.
        opened: connections that were opened.
        closed: connections that were closed, or found dead.
        refused: attempts to which the database said no.
        unreachable: attempts that got no answer.
    """

    lends: int = 0
    waits: int = 0
    waited_seconds: float = 0.0
    timeouts: int = 0
    opened: int = 0
    closed: int = 0
    refused: int = 0
    unreachable: int = 0


@dataclass(frozen=True, slots=True)
class PoolStats:
    """A pool at one moment.

    Attributes:
        size: how many connections are kept.
        max_overflow: how many there may be beyond.
        idle: connections that nobody uses.
        lent: connections that somebody uses.
        opening: attempts under way.
        closing: connections that the server has not let go of yet.
        waiting: callers who wait for one; None where it isn't known (SQLite).
        counters: a copy; on SQLite only `opened` and `closed` are counted.
    """

    size: int
    max_overflow: int
    idle: int
    lent: int
    opening: int
    closing: int
    waiting: int | None
    counters: Counters

    @property
    def overflow(self) -> int:
        """How many there are beyond `size`."""
        return max(0, self.idle + self.lent + self.opening + self.closing - self.size)


@dataclass(frozen=True, slots=True)
class BackendStats:
    """A backend at one moment.

    Attributes:
        name: its name in the run config.
        type: `kv_postgres` and its like.
        pool: the name of the pool that serves it: the first of the backends that share it.
        state: which of its logins is used.
        revision: of the login that is proven, empty where it has none; None: none is proven.
    """

    name: str
    type: str
    pool: str
    state: State
    revision: str | None
