"""However many owners a user may see, a page is read through an index and the table is not."""

from __future__ import annotations

import json
import re

from sqlalchemy import event

from stackstore.access import AuthorizedSqlStore, User, acting_as
from tests.integration.access.crowd import READERS, SCHEMA, crowd
from tests.support.postgres import quote

ROWS, OWNERS = 50_000, 5_000
ORDERS = [[("created", "desc")], "created", [("seen", "desc")], None]


class Recorder:
    """The SELECTs on the table, as they were sent."""

    def __init__(self, pool, sql) -> None:
        self.statements = []
        event.listen(
            pool.engine.sync_engine,
            "before_cursor_execute",
            lambda _connection, _cursor, statement, parameters, *_: self._note(
                statement, parameters
            ),
        )
        read = sql.read_directly

        async def read_directly(table, ready, arguments):
            self._note(ready.text, arguments)
            return await read(table, ready, arguments)

        sql.read_directly = read_directly

    def _note(self, statement, parameters):
        reads = statement.startswith("SELECT") and "created" in statement and "LIMIT" in statement
        if reads:
            self.statements.append((statement, parameters))


async def pages_of(place, sql):
    """Every reader's statements, of a first page and of one from the middle."""
    recorder = Recorder(place.pools[-1], sql)
    for name, (attributes, policy, count) in READERS.items():
        store = AuthorizedSqlStore(sql, policy)
        await store.create_table("t", SCHEMA)
        with acting_as(User("u1" if name == "one" else "reader", attributes)):
            for order_by in ORDERS:
                page = await store.fetch_all("t", None, order_by, 20)
                recorder.statements.clear()
                page = await store.fetch_all("t", None, order_by, 20)
                assert len(page.data) == min(20, 10 * count), (name, order_by)
                yield name, order_by, list(recorder.statements)
                recorder.statements.clear()
                if page.next_cursor:
                    page = await store.fetch_all("t", None, order_by, 20, page.next_cursor)
                    assert len(page.data) == 20, (name, order_by)
                    yield name, order_by, list(recorder.statements)


def literal(value) -> str:
    if isinstance(value, list):
        return quote("{" + ",".join(map(str, value)) + "}")
    return quote(value) if isinstance(value, str) else str(value)


async def explained(connection, statement, parameters, mode):
    """A statement's plan, made for its values or for any."""
    await connection.exec_driver_sql(f"SET plan_cache_mode = {mode}")
    await connection.exec_driver_sql(f"PREPARE seen AS {statement}")
    values = f"({', '.join(map(literal, parameters))})" if parameters else ""
    explain = f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) EXECUTE seen{values}"
    plan = (await connection.exec_driver_sql(explain)).scalar()
    await connection.exec_driver_sql("DEALLOCATE seen")
    await connection.exec_driver_sql("RESET plan_cache_mode")
    return json.loads(plan) if isinstance(plan, str) else plan


async def test_postgres_never_scans(postgres_place):
    place = postgres_place
    sql = place.store()
    await crowd(sql, owners=OWNERS, rows=ROWS)
    await place.sql("ANALYZE @t")
    async for name, order_by, statements in pages_of(place, sql):
        assert statements, (name, order_by)
        for statement, parameters in statements:
            for mode in ("force_custom_plan", "force_generic_plan"):
                async with place.pools[-1].engine.connect() as connection:
                    plan = await explained(connection, statement, parameters, mode)
                text = json.dumps(plan)
                case = (name, order_by, mode, text)
                assert not re.search(r'"Seq Scan"[^{}]*"Relation Name": "t"', text), case
                whole = plan[0]["Plan"]
                blocks = whole["Shared Hit Blocks"] + whole["Shared Read Blocks"]
                # A look at the index for each owner; a row or a few for each one that is walked over.
                assert blocks < 5 * max(READERS[name][2], 1500), case
                # Nothing is compared with each of the owners.
                looked = [int(n) for n in re.findall(r'"Rows Removed by Join Filter": (\d+)', text)]
                assert sum(looked) < 20_000, case


async def test_sqlite_never_scans(sqlite_place):
    place = sqlite_place
    sql = place.store()
    await crowd(sql, owners=OWNERS, rows=ROWS)
    await place.sql("ANALYZE")
    async for name, order_by, statements in pages_of(place, sql):
        for statement, parameters in statements:
            async with place.pools[-1].engine.connect() as connection:
                result = await connection.exec_driver_sql(
                    f"EXPLAIN QUERY PLAN {statement}", tuple(parameters)
                )
                lines = [row[3] for row in result]
            tables = [line for line in lines if "stackstore_t" in line]
            assert tables, lines
            # From one end of an index, or from a place in it; the table itself is only looked up in.
            assert all("USING" in line for line in tables), (name, order_by, lines)
