"""A page costs the same wherever it is: the index bounds it, on both engines, at any depth."""

from __future__ import annotations

import json
import re

import pytest
from sqlalchemy import event

from stackstore.sql import ColumnDefinition, ColumnType

ROWS = 50_000
SCHEMA = {
    "id": ColumnDefinition(ColumnType.STRING, primary_key=True),
    "created": ColumnDefinition(ColumnType.INTEGER, nullable=False),
    "model": ColumnDefinition(ColumnType.STRING, nullable=False),
    "seen": ColumnType.INTEGER,
}

CASES = [
    ("created", None),
    ([("created", "desc")], None),
    ([("created", "desc")], {"model": "m1"}),
    ([("created", "desc"), ("model", "asc")], None),
    ("seen", None),
    ([("seen", "desc")], None),
    ([("id", "desc")], None),
]
"""Two thirds of `seen` are NULL; `created` has 50 rows a value."""


class Recorder:
    """The SELECTs of a pool, as they were sent."""

    def __init__(self, pool) -> None:
        self.statements = []
        event.listen(pool.engine.sync_engine, "before_cursor_execute", self._note)

    def _note(self, _connection, _cursor, statement, parameters, *_):
        if statement.startswith("SELECT") and "LIMIT" in statement:
            self.statements.append((statement, parameters))


async def deep(place, order_by, where):
    """A page from the middle; returns its statement, and the same rows by the reference."""
    store = place.store()
    await store.create_table("t", SCHEMA)
    if not await store.fetch_one("t"):
        rows = [
            {"id": f"{n * 7919 % ROWS:06}", "created": n // 50, "model": f"m{n % 3}", "seen": None if n % 3 else n // 50}
            for n in range(ROWS)
        ]  # fmt: skip
        await store.insert("t", rows)
        await store.create_index("by_created", "t", ["created"])
        await store.create_index("by_model", "t", ["model", "created"])
        await store.create_index("by_mixed", "t", [("created", "desc"), ("model", "asc")])
        await store.create_index("by_seen", "t", ["seen"])
        await place.sql("ANALYZE @t")
    every = (await store.fetch_all("t", where, order_by)).data
    found = []
    for start in (len(every) // 3, len(every) * 2 // 3 + 7, len(every) - 100):
        recorder = Recorder(place.pools[-1])
        page = await store.fetch_all("t", where, order_by, 20, after=every[start]["id"])
        assert page.data == every[start + 1 : start + 21]
        found += recorder.statements[-1:]
    return found


async def test_postgres_never_scans(postgres_place):
    place = postgres_place
    for order_by, where in CASES:
        for statement, parameters in await deep(place, order_by, where):
            for mode in ("force_custom_plan", "auto"):
                async with place.pools[-1].engine.connect() as connection:
                    await connection.exec_driver_sql(f"SET plan_cache_mode = {mode}")
                    explain = f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {statement}"
                    result = await connection.exec_driver_sql(explain, parameters)
                    plan = result.scalar()
                    await connection.exec_driver_sql("RESET plan_cache_mode")
                plan = json.loads(plan) if isinstance(plan, str) else plan
                text = json.dumps(plan)
                assert "Seq Scan" not in text, (order_by, where, text)
                # At most a page a range is looked at, with some beyond for the limit's sake.
                looked = [int(n) for n in re.findall(r'"Rows Removed by Filter": (\d+)', text)]
                assert sum(looked) < 200, (order_by, where, text)
                pages = plan[0]["Plan"]["Shared Hit Blocks"] + plan[0]["Plan"]["Shared Read Blocks"]
                assert pages < 200, (order_by, where, text)


async def test_postgres_goes_on_so_when_the_plan_is_generic(postgres_place):
    """A statement that was run often is no longer planned for its values."""
    place = postgres_place
    ((statement, parameters), *_) = await deep(place, [("created", "desc")], {"model": "m1"})
    async with place.pools[-1].driver() as connection:
        await connection.execute("SET plan_cache_mode = force_generic_plan")
        prepared = await connection.prepare(f"EXPLAIN {statement}")
        lines = [row[0] for row in await prepared.fetch(*parameters)]
        await connection.execute("RESET plan_cache_mode")
    assert not any("Seq Scan" in line or "Sort" in line for line in lines), lines


async def test_sqlite_never_scans(sqlite_place):
    place = sqlite_place
    for order_by, where in CASES:
        for statement, parameters in await deep(place, order_by, where):
            async with place.pools[-1].engine.connect() as connection:
                result = await connection.exec_driver_sql(
                    f"EXPLAIN QUERY PLAN {statement}", parameters
                )
                lines = [row[3] for row in result]
            tables = [line for line in lines if "stackstore_t" in line]
            assert tables, lines
            assert all(line.startswith("SEARCH") for line in tables), (order_by, where, lines)
            if "UNION ALL" not in " ".join(lines):
                assert not any("TEMP B-TREE" in line for line in lines), (order_by, where, lines)


@pytest.mark.parametrize("direction", ["asc", "desc"])
async def test_the_first_page_needs_no_sort(postgres_place, direction):
    place = postgres_place
    await deep(place, "seen", None)
    store = place.store()
    await store.create_table("t", SCHEMA)
    for column in ("seen", "created"):
        recorder = Recorder(place.pools[-1])
        await store.fetch_all("t", None, [(column, direction)], 20)
        ((statement, parameters),) = recorder.statements
        async with place.pools[-1].engine.connect() as connection:
            result = await connection.exec_driver_sql(f"EXPLAIN {statement}", parameters)
            lines = [row[0] for row in result]
        assert not any("Sort" in line or "Seq Scan" in line for line in lines), lines
