"""What of a store grows old, and what goes with it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from stackstore.sql.operations import Operations
from stackstore.sql.tables import Row

SECONDS = 1
MICROSECONDS = 1_000_000

Goodbye = Callable[[Operations, Row], Awaitable[bool]]
"""Undoes what a row had elsewhere, in the transaction that deletes the row; whether more rows came of it."""


@dataclass(frozen=True)
class Part:
    """A further table whose rows belong to rows of the first.

    Attributes:
        table: its name.
        columns: its columns that lead to the row, and the row's columns that they equal. The first of
            them has to be the beginning of an index, or each row that goes reads the table.
    """

    table: str
    columns: Mapping[str, str]


@dataclass(frozen=True)
class Ageing:
    """The rows of one table, and how they grow old.

    Attributes:
        table: its name.
        column: when a row was made; an index begins with it. NULL: the row never grows old.
        per_second: of how many units of the column a second is: `SECONDS` or `MICROSECONDS`.
        parts: what is deleted with a row.
        goodbye: for what no columns lead to; gets the transaction, the row's primary key and `reads`.
            A batch may be tried again, so it does nothing but speak to the transaction. True: there
            are new rows in this table that can go at once.
        reads: columns of the row that `goodbye` needs besides.
        has_letters: what could not be written of the table is in `dead_letters`, and goes at that
            age as well.
    """

    table: str
    column: str
    per_second: int = SECONDS
    parts: tuple[Part, ...] = ()
    goodbye: Goodbye | None = None
    reads: tuple[str, ...] = ()
    has_letters: bool = False
    read: tuple[str, ...] = field(init=False)
    """Columns besides the primary key that have to be read of a row."""

    def __post_init__(self) -> None:
        leading = [column for part in self.parts for column in part.columns.values()]
        object.__setattr__(self, "read", tuple(dict.fromkeys([*leading, *self.reads, self.column])))

    def edge(self, now: int, seconds: int) -> int:
        """In the column's unit: what is smaller has reached the age.

        Args:
            now: microseconds since 1970.
            seconds: the age.
        """
        # Rounded down, so that a row of whole seconds doesn't go before its last moment's time.
        return now * self.per_second // 1_000_000 - seconds * self.per_second
