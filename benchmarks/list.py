"""AuthorizedSqlStore: a page of 50 of 100,000 and of 1,000,000 rows, beside the hand-written query.

The rows are those of 100 users in 20 teams, and a few old ones of others. The limit is the bare
driver with an index of exactly this user's rows. Ours decides by a policy whose rows they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.reading import ENGINES, ORDER, PAGE, TABLE, Call, Engine, Member, p50s
from benchmarks.report import Row, progress
from stackstore.access import User, acting_as
from stackstore.access.owners import Owner

NAME = "list"

SIZES = (100_000, 1_000_000)
SECONDS = 1.5
OWNERS = 100
TEAMS = 20

CUSTOM = [
    {"forbid": {"actions": "delete"}, "unless": "user with admin in roles"},
    {"permit": {"actions": ["create", "read", "update"]}, "when": "user is owner"},
    {"permit": {"actions": "read"}, "when": ["user in owners teams", "user with user in roles"]},
]
CLOSED = [
    {"forbid": {"actions": "read"}, "when": "user not in owners projects"},
    {"permit": {"actions": "read"}},
]


@dataclass(frozen=True)
class Reader:
    """Who reads: under which policy, and which owners' rows that lets him see."""

    name: str
    user: User
    policy: Any
    owners: tuple[int, ...]


TEAM_3 = tuple(n for n in range(1, OWNERS + 1) if n % TEAMS == 3)
USUAL = Reader("default policy", User("u3", {"teams": ["t3"], "roles": ["user"]}), None, TEAM_3)
STRANGE = Reader("custom policy", USUAL.user, CUSTOM, TEAM_3)
RARE = (
    Reader("who sees 10 old rows", User("p", {"teams": ["old"]}), None, tuple(range(101, 106))),
    Reader("who sees none", User("q", {"teams": ["none"]}), None, ()),
    Reader(
        "whom a negated condition leaves 10",
        User("r", {"projects": ["closed"]}),
        CLOSED,
        tuple(range(106, 116)),
    ),
)


def members() -> list[Member]:
    """Owner n is u<n> of team t<n mod 20>; then five with two old rows, and ten with one."""
    found = [
        Member(Owner(None, f"u{n}", {"teams": frozenset([f"t{n % TEAMS}"])}))
        for n in range(1, OWNERS + 1)
    ]
    found += [Member(Owner(None, f"o{n}", {"teams": frozenset(["old"])}), 2) for n in range(5)]
    closed = {"projects": frozenset(["closed"])}
    return found + [Member(Owner(None, f"c{n}", closed), 1) for n in range(10)]


async def run() -> list[Row]:
    """Both engines; about three minutes."""
    rows: list[Row] = []
    for engine_of in ENGINES:
        usual: list[float] = []
        for size in SIZES:
            async with engine_of() as engine:
                progress(f"list: {engine.name}: writing {size:,} rows")
                await engine.fill(members(), size)
                found, ours = await measure(engine, size)
                rows += found
                usual.append(ours)
        rows.append(
            Row.at_most(
                f"{engine.name}, {SIZES[1]:,} rows, limit: {SIZES[0]:,}", usual[1], usual[0],
                bar=1.5, unit="ms",
            )
        )  # fmt: skip
    return rows


async def measure(engine: Engine, size: int) -> tuple[list[Row], float]:
    """One engine and size; the rows, and ours of the usual reader alone."""
    where = f"{engine.name}, {size:,} rows"
    rows = []
    ours = await page_of(engine, USUAL, PAGE)
    custom = await page_of(engine, STRANGE, PAGE)
    limit = await engine.best(USUAL.owners)
    alone = 0.0
    for readers in (1, 8):
        times = await p50s([ours, custom, limit], readers=readers, seconds=SECONDS)
        progress(f"list: {where}, {readers} readers: {shown(times)} ms")
        many = f"{readers} reader{'s' if readers > 1 else ''}"
        rows.append(
            Row.at_most(f"{where}, default policy, {many}", times[0], times[2], bar=2, unit="ms")
        )
        rows.append(
            Row.at_most(f"{where}, custom policy, {many}, limit: default", times[1], times[0],
                        bar=1.5, unit="ms")
        )  # fmt: skip
        alone = alone or times[0]
    if size == SIZES[-1]:
        for reader in RARE:
            expected = 10 if reader.owners else 0
            ours = await page_of(engine, reader, expected)
            times = await p50s([ours, await engine.best(reader.owners)], readers=1, seconds=SECONDS)
            progress(f"list: {where}, {reader.name}: {shown(times)} ms")
            rows.append(Row.at_most(f"{where}, {reader.name}", *times, bar=3, unit="ms"))
    return rows, alone


async def page_of(engine: Engine, reader: Reader, expected: int) -> Call:
    """Ours; the first page of a reader, which has to have so many rows."""
    store = await engine.store(reader.policy)

    async def call() -> None:
        with acting_as(reader.user):
            page = await store.fetch_all(TABLE, None, ORDER, PAGE)
        assert len(page.data) == expected, (reader.name, len(page.data))

    return call


def shown(times: Sequence[float]) -> str:
    return " / ".join(f"{milliseconds:.2f}" for milliseconds in times)
