"""Where a queue writes to, and what its errors mean."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from stackstore.errors import StackstoreError, StoreError
from stackstore.stores.queue.records import Entry, Mark, Write


class Sink(Protocol):
    """Where records go.

    Each write is one transaction that first moves the lane's mark from `mark.previous` to
    `mark.sequence`. If the mark is elsewhere, an attempt that was believed lost has happened: then
    nothing is written, and the answer is where it is. None: it is done.

    A BackendUnavailableError means "try again"; the attempt may have happened. A StoreError, or any
    exception that is not ours, means that the records can't be written as they are.
    """

    def lanes(self, writers: int) -> int:
        """How many of so many writers are of use."""

    async def write(self, records: Sequence[Write], mark: Mark) -> int | None:
        """Write records, at most one of each identity, or delete. None: look how far the lane is."""

    async def set_aside(
        self, entry: Entry, reason: str, mark: Mark, *, with_payload: bool = True
    ) -> int | None:
        """Keep a record that can't be written where people find it."""

    async def marks(self, queue: str) -> Sequence[Mark]:
        """How far the lanes of a queue are, of all processes so far."""

    async def forget(self, queue: str) -> None:
        """The marks of this queue are needed no more."""

    async def tidy(self) -> None:
        """Remove the marks of queues that ended without a word."""

    def dump(self, payload: Any) -> bytes:
        """A payload for the journal.

        Raises:
            InvalidArgumentError: it can't be written down.
        """

    def load(self, dumped: bytes) -> Any:
        """The way back."""


def is_transient(error: Exception) -> bool:
    """Whether the same records may go through later."""
    if isinstance(error, StackstoreError):
        return not isinstance(error, StoreError)
    return isinstance(error, OSError)


def reason(error: Exception) -> str:
    """Why, in words that hold no value: only our own errors are known not to."""
    return str(error) if isinstance(error, StackstoreError) else type(error).__name__
