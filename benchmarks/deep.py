"""AuthorizedSqlStore: all pages of 50 to the end, the last ones beside the first.

Of 100,000 rows of 100 users in 20 teams, a reader of a team and one who sees everything walk through
all they may see. The limit is ours for their first pages.
"""

from __future__ import annotations

import statistics
import time

from benchmarks.list import USUAL, Reader, members
from benchmarks.reading import ENGINES, ORDER, PAGE, TABLE, Engine
from benchmarks.report import Row, progress
from stackstore.access import User, acting_as

NAME = "deep"

ROWS = 100_000
WALKS = 3
ENDS = 20
"""So many pages are an end of a walk; a single one is at the mercy of the moment."""

ALL = Reader(
    "who sees everything", User("s"), [{"permit": {"actions": "read"}}], tuple(range(1, 116))
)


async def run() -> list[Row]:
    """Both engines; about half a minute."""
    rows = []
    for engine_of in ENGINES:
        async with engine_of() as engine:
            progress(f"deep: {engine.name}: writing {ROWS:,} rows")
            await engine.fill(members(), ROWS)
            for name, reader, expected in (
                ("a team's", USUAL, 5 * (ROWS // 100)),
                ("all", ALL, ROWS),
            ):
                first, last = await ends(engine, reader, expected)
                progress(f"deep: {engine.name}, {name} pages: {first:.2f} / {last:.2f} ms")
                rows.append(
                    Row.at_most(
                        f"{engine.name}, the last of {name} pages, limit: the first",
                        last, first, bar=1.5, unit="ms",
                    )
                )  # fmt: skip
    return rows


async def ends(engine: Engine, reader: Reader, expected: int) -> tuple[float, float]:
    """Median milliseconds of the first and of the last pages of a walk to the end."""
    store = await engine.store(reader.policy)
    first, last = [], []
    for _ in range(WALKS):
        times, seen, cursor = [], 0, None
        while True:
            began = time.perf_counter()
            with acting_as(reader.user):
                page = await store.fetch_all(TABLE, None, ORDER, PAGE, cursor)
            times.append(time.perf_counter() - began)
            seen += len(page.data)
            cursor = page.next_cursor
            if cursor is None:
                break
        assert abs(seen - expected) < 20, (reader.name, seen)
        # Without the very first ones, for which plans and connections were made.
        first += times[5 : 5 + ENDS]
        last += times[-ENDS:]
    return statistics.median(first) * 1000, statistics.median(last) * 1000
