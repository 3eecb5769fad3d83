"""What a pool holds: one open connection each, and the two ways in which opening one fails."""

from __future__ import annotations

import time
from collections.abc import Hashable
from typing import Any, Generic, Protocol, TypeVar

from stackstore.pools.faults import Fault

T = TypeVar("T", bound=Hashable)


class _NotOpenedError(Exception):
    def __init__(self, message: str, fault: Fault = Fault.OTHER) -> None:
        super().__init__(message)
        self.fault = fault


class LoginRefusedError(_NotOpenedError):
    """The database answered and said no: to the login, to the database's name or to the TLS."""


class UnreachableError(_NotOpenedError):
    """No answer that says anything about the login: down, starting, full, cut off."""


class Connection(Protocol):
    """What the pool needs of a driver's connection (asyncpg's has it)."""

    def is_closed(self) -> bool:
        """Whether it is gone."""

    async def close(self) -> None:
        """Say goodbye, and wait until the server has let go of it."""

    def terminate(self) -> None:
        """Drop it without a word."""

    async def execute(self, query: str) -> object:
        """Run a statement."""


class Slot(Generic[T]):
    """One open connection and what the pool remembers of it; all times are monotonic.

    Attributes:
        expires: when it is old enough to be replaced.
        returned: when it was last given back (at first: when it was opened).
        discard: it must not be lent again.
        sqlalchemy: SQLAlchemy's record of it, made when SQLAlchemy first borrows it.
    """

    __slots__ = ("connection", "discard", "expires", "opened", "returned", "sqlalchemy", "target")

    def __init__(self, connection: Any, target: T, seconds: float) -> None:
        self.connection = connection
        self.target = target
        self.opened = self.returned = time.monotonic()
        self.expires = self.opened + seconds
        self.discard = False
        self.sqlalchemy: Any = None
