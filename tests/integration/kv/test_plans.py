"""Reads walk an index from where the range begins to where it ends, however large the table."""

from __future__ import annotations

import json

import pytest

from stackstore.kv import postgres, sqlite

ROWS = 20_000


def nodes(plan):
    yield plan
    for inner in plan.get("Plans", ()):
        yield from nodes(inner)


@pytest.mark.parametrize("statement", ["_KEYS", "_VALUES", "_GET", "_GET_MANY", "_SWEEP"])
async def test_postgres_uses_the_index_even_without_knowing_the_parameters(on_postgres, statement):
    await on_postgres.store().get("")
    types = {"_GET": "bytea, bytea", "_GET_MANY": "bytea, bytea[]", "_SWEEP": "bigint, bigint"}.get(
        statement, "bytea, bytea, bytea, bigint"
    )
    arguments = {"_GET": "'n', 'k'", "_GET_MANY": "'n', '{k}'", "_SWEEP": "0, 10"}.get(
        statement, "'n', 'a', 'b', 5"
    )
    async with on_postgres.session() as session:
        await session.execute(
            "INSERT INTO stackstore.kv SELECT 'n', convert_to(g::text, 'UTF8'), 'v', "
            f"CASE WHEN g % 100 = 0 THEN g END FROM generate_series(1, {ROWS}) g"
        )
        await session.execute("ANALYZE stackstore.kv")
        await session.execute("SET plan_cache_mode = force_generic_plan")
        await session.execute(f"PREPARE one ({types}) AS {getattr(postgres, statement)}")
        said = await session.fetchval(f"EXPLAIN (FORMAT JSON) EXECUTE one ({arguments})")
    found = list(nodes(json.loads(said)[0]["Plan"]))
    kinds = [node["Node Type"] for node in found]
    assert "Seq Scan" not in kinds, kinds
    conditions = " ".join(node.get("Index Cond", "") for node in found)
    if statement == "_SWEEP":
        assert "expires_at <=" in conditions
    else:
        assert "namespace = " in conditions
        assert "key " in conditions
    if statement in ("_KEYS", "_VALUES"):
        # Bounded at both ends, and in order as it comes: a limit then ends the walk.
        assert "key >= " in conditions
        assert "key < " in conditions
        assert "Sort" not in kinds


@pytest.mark.parametrize("statement", ["_KEYS", "_VALUES", "_GET", "_SWEEP"])
async def test_sqlite_uses_the_index(on_sqlite, statement):
    await on_sqlite.store().get("")
    text = getattr(sqlite, statement)
    parameters = [0] * text.count("?")
    async with on_sqlite.database.driver() as driver:
        plan = [
            row[3]
            for row in await driver.execute_fetchall(f"EXPLAIN QUERY PLAN {text}", parameters)
        ]
    joined = "; ".join(plan)
    assert "TEMP B-TREE" not in joined
    bounds = {
        "_GET": "(namespace=? AND key=?)", "_SWEEP": "(expires_at<?)",
    }.get(statement, "(namespace=? AND key>? AND key<?)")  # fmt: skip
    assert bounds in joined, joined
