"""What a benchmark answers with: rows that set ours beside a limit, for people and for programs."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True, slots=True)
class Row:
    """One measure. Made by `beside`, `at_most` or `within`.

    Attributes:
        ours: what we reach, in `unit`.
        limit: what the machine can do at the same work, or the bound that ours must keep.
        ratio: ours / limit; None where the limit is 0.
        bar: what the ratio is held against; None where only ours against the limit counts.
        holds: whether the claim holds.
        less: less is better, so the bar is the most that the ratio may be.
    """

    measure: str
    ours: float
    limit: float
    ratio: float | None
    bar: float | None
    holds: bool
    unit: str
    less: bool = False

    @classmethod
    def beside(cls, measure: str, ours: float, limit: float, *, bar: float, unit: str) -> Row:
        """More is better: ours must reach `bar` times the limit."""
        ratio = ours / limit
        return cls(measure, ours, limit, ratio, bar, ratio >= bar, unit)

    @classmethod
    def at_most(cls, measure: str, ours: float, limit: float, *, bar: float, unit: str) -> Row:
        """Less is better: ours must not exceed `bar` times the limit."""
        ratio = ours / limit
        return cls(measure, ours, limit, ratio, bar, ratio <= bar, unit, less=True)

    @classmethod
    def within(cls, measure: str, ours: float, limit: float, *, unit: str) -> Row:
        """Less is better: ours must not exceed the limit, an absolute bound."""
        return cls(measure, ours, limit, ours / limit if limit else None, None, ours <= limit, unit)


@dataclass(frozen=True, slots=True)
class Result:
    """The rows of one run of one benchmark."""

    name: str
    rows: Sequence[Row]

    @property
    def holds(self) -> bool:
        """Whether there are rows and every one holds."""
        return bool(self.rows) and all(row.holds for row in self.rows)

    def plain(self) -> dict[str, object]:
        """As JSON has it; the unit is part of the measure's name there."""
        return {
            "name": self.name,
            "rows": [
                {
                    "measure": f"{row.measure} ({row.unit})",
                    "ours": row.ours,
                    "limit": row.limit,
                    "ratio": row.ratio,
                    "bar": row.bar,
                    "holds": row.holds,
                }
                for row in self.rows
            ],
        }

    def table(self) -> Table:
        """As people see it."""
        table = Table(title=self.name, title_justify="left")
        for head in ("measure", "ours", "limit", "ratio", "bar", "holds"):
            table.add_column(head, justify="left" if head == "measure" else "right")
        for row in self.rows:
            table.add_row(
                f"{row.measure} ({row.unit})",
                _number(row.ours),
                _number(row.limit),
                "" if row.ratio is None else f"{row.ratio:.2f}",
                f"≤ {_number(row.limit)}"
                if row.bar is None
                else f"{'≤' if row.less else '≥'} {row.bar:.2f}",
                "yes" if row.holds else "NO",
            )
        return table


def as_json(results: Sequence[Result]) -> str:
    """One benchmark's result as an object, several as an array of such objects."""
    plain = [result.plain() for result in results]
    return json.dumps(plain[0] if len(plain) == 1 else plain, indent=1, ensure_ascii=False) + "\n"


def show(results: Sequence[Result]) -> None:
    """Print the tables on stdout."""
    # A pipe has no width; 80 columns would wrap the measures.
    console = Console(width=None if sys.stdout.isatty() else 120)
    for result in results:
        console.print(result.table())


def progress(text: str) -> None:
    """Say on stderr how far a benchmark is."""
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


def _number(value: float) -> str:
    if value == int(value) or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:,.3g}"
