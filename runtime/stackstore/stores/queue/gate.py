"""Who may enter a queue that has bounds; pure, without a clock."""

from __future__ import annotations

from typing import Generic, TypeVar

from stackstore.errors import InvalidArgumentError

T = TypeVar("T")


class Gate(Generic[T]):
    """Counts rows and bytes, and keeps those in a line who found no room.

    Strictly first come, first served: a small one does not pass a large one that waits, or the
    large one would wait for ever.

    Attributes:
        rows: how many are inside.
        size: their bytes.
        max_rows: most rows inside.
        max_bytes: most bytes inside.
    """

    def __init__(self, max_rows: int, max_bytes: int) -> None:
        for what, bound in (("max_rows", max_rows), ("max_bytes", max_bytes)):
            if bound < 1:
                raise InvalidArgumentError(f"{what} of a write queue is a whole number from 1")
        self.rows = 0
        self.size = 0
        self.max_rows = max_rows
        self.max_bytes = max_bytes
        self._line: dict[T, int] = {}

    @property
    def waiting(self) -> int:
        """How many stand in line."""
        return len(self._line)

    def enter(self, size: int) -> bool:
        """Enter, if there is room and nobody waits for it."""
        rows, total = self.rows + 1, self.size + size
        if rows > self.max_rows or total > self.max_bytes or self._line:
            return False
        self.rows, self.size = rows, total
        return True

    def force(self, size: int) -> None:
        """Enter whatever the bounds are: it was acknowledged before this process began."""
        self.rows += 1
        self.size += size

    def wait(self, size: int, ticket: T) -> None:
        """Stand in line."""
        self._line[ticket] = size

    def waits(self, ticket: T) -> bool:
        """Whether it stands in line."""
        return ticket in self._line

    def leave(self, rows: int, size: int) -> list[T]:
        """So many left; returns whose turn came by that. Those are inside now."""
        self.rows -= rows
        self.size -= size
        return self._move_up()

    def abandon(self, ticket: T) -> list[T]:
        """Leave the line, if in it; returns whose turn came by that."""
        if self._line.pop(ticket, None) is None:
            return []
        return self._move_up()

    def close(self) -> list[T]:
        """Send the line away; returns who stood there."""
        line, self._line = list(self._line), {}
        return line

    def _fits(self, size: int) -> bool:
        return self.rows < self.max_rows and self.size + size <= self.max_bytes

    def _move_up(self) -> list[T]:
        entered = []
        for ticket, size in self._line.items():
            if not self._fits(size):
                break
            self.rows += 1
            self.size += size
            entered.append(ticket)
        for ticket in entered:
            del self._line[ticket]
        return entered
