"""AuthorizedSqlStore: a page of 50 of 1,000,000 rows of 50,000 owners, for who sees one or all of them.

The limit is ours for a reader who sees one owner. Whose rows a reader sees is decided once for each
owner and kept; what that costs when nothing changed is held against the page it is for.
"""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass

from benchmarks.list import Reader, page_of, shown
from benchmarks.reading import ENGINES, PAGE, TABLE, Engine, Member, p50s
from benchmarks.report import Row, progress
from stackstore.access import User
from stackstore.access.owners import Owner
from stackstore.access.policy import Action
from stackstore.access.visible import view

NAME = "owners"

ROWS = 1_000_000
OWNERS = 50_000
SECONDS = 2.0
LOOKS = 2_000


@dataclass(frozen=True)
class Crowd:
    """A reader, how many owners he sees, and how much longer than for one a page may take."""

    user: User
    owners: int
    bar: float


CROWDS = (
    Crowd(User("u7"), 1, 1),
    Crowd(User("reader", {"roles": ["r1"]}), 500, 15),
    Crowd(User("reader", {"teams": ["t1"]}), 5_000, 10),
    Crowd(User("reader", {"projects": ["everybody"]}), OWNERS, 10),
)


def members() -> list[Member]:
    """Owner n is u<n> of role r<n mod 100> and team t<n mod 10>; all share a project."""
    everybody = frozenset(["everybody"])
    return [
        Member(
            Owner(
                None,
                f"u{n}",
                {
                    "roles": frozenset([f"r{n % 100}"]),
                    "teams": frozenset([f"t{n % 10}"]),
                    "projects": everybody,
                },
            )
        )
        for n in range(1, OWNERS + 1)
    ]


async def run() -> list[Row]:
    """Both engines; about a minute and a half."""
    rows = []
    for engine_of in ENGINES:
        async with engine_of() as engine:
            progress(f"owners: {engine.name}: writing {ROWS:,} rows")
            await engine.fill(members(), ROWS)
            rows += await measure(engine)
    return rows


async def measure(engine: Engine) -> list[Row]:
    """One engine."""
    calls = [
        await page_of(engine, Reader("", crowd.user, None, ()), min(PAGE, crowd.owners * 20))
        for crowd in CROWDS
    ]
    times = await p50s(calls, readers=1, seconds=SECONDS)
    progress(f"owners: {engine.name}: {shown(times)} ms")
    rows = [
        Row.at_most(
            f"{engine.name}, sees {crowd.owners:,} owners, limit: one",
            milliseconds, times[0], bar=crowd.bar, unit="ms",
        )
        for crowd, milliseconds in zip(CROWDS[1:], times[1:], strict=True)
    ]  # fmt: skip
    for crowd, milliseconds in zip(CROWDS, times, strict=True):
        rows.append(
            Row.at_most(
                f"{engine.name}, which owners, of {crowd.owners:,}, limit: the page",
                await looking(engine, crowd.user), milliseconds, bar=0.1, unit="ms",
            )
        )  # fmt: skip
    return rows


async def looking(engine: Engine, user: User) -> float:
    """Milliseconds to know whose rows a user sees, where that was asked before."""
    store = await engine.store()
    access, owners = store._access, store._owners

    def look() -> None:
        question = access.question(Action.READ, TABLE, access._asker(user))
        seen = view(owners.known, question, owners.dialect)
        assert seen.count

    times = []
    for _ in range(LOOKS):
        began = time.perf_counter()
        look()
        times.append(time.perf_counter() - began)
    return statistics.median(times) * 1000
