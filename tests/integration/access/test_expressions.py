"""An expression means the same in each engine as in Python."""

from __future__ import annotations

import asyncio
import json

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Text, literal_column, select, text

from stackstore.access.expressions import parsed
from stackstore.access.resources import Matches, prepare
from tests.unit.access.test_expressions import expressions, texts


async def test_both_engines_match_what_the_automaton_matches(place):
    pool, loop = place.pool(), asyncio.get_running_loop()

    async def once(expression, samples):
        found = Matches(parsed(expression), "b")
        clause = found.clause(pool.dialect, literal_column("sample", Text()))
        listed = (
            "json_each(:samples)"
            if pool.dialect == "sqlite"
            else "json_array_elements_text(CAST(:samples AS json)) AS value"
        )
        inner = text(f"(SELECT value AS sample FROM {listed}) AS s")
        statement = select(literal_column("sample")).select_from(inner).where(clause)
        async with pool.engine.connect() as connection:
            if pool.dialect == "sqlite":
                await prepare(connection)
            rows = await connection.execute(statement, {"samples": json.dumps(samples)})
            matched = {row[0] for row in rows}
        assert matched == {one for one in samples if found.holds(one)}, (expression, samples)

    @settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
    @given(expressions, st.lists(texts, min_size=1, max_size=6))
    def every(expression, samples):
        asyncio.run_coroutine_threadsafe(once(expression, samples), loop).result(30)

    await asyncio.to_thread(every)
