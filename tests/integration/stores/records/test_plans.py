"""Lists of records are read through indexes, and no more of them than a page."""

from __future__ import annotations

import json
import re
from functools import partial

import pytest
from sqlalchemy import event

from stackstore.access import User, acting_as
from stackstore.stores import claims
from stackstore.stores.batches import BatchesStore
from stackstore.stores.vector_stores import VectorStoresStore
from tests.integration.access.test_plans import explained
from tests.integration.stores.records.conftest import ALICE

ROWS = 8_000


async def fill_batches(store, name):
    """Batches of 40 users, nearly all of them finished."""
    batches = BatchesStore(store, name)
    for n in range(40):
        with acting_as(ALICE if n == 0 else User(f"u{n}", {"teams": [f"t{n % 5}"]})):
            await batches.create_batch(input_file_id="f", endpoint="/v1/embeddings")
    raw = store.unguarded
    some = (await raw.fetch_all(name, None, "sequence")).data
    await raw.insert(
        name,
        [
            {**row, "id": f"{row['id']}{n:06}", "uid": f"{n}", "sequence": row["sequence"] - n, **claims.FINISHED}
            for n in range(1, ROWS // 40)
            for row in some
        ],
    )  # fmt: skip
    return batches


async def fill_stores(store, name):
    """Vector stores, one of them with very many files, which have many chunks."""
    stores = VectorStoresStore(store, name)
    with acting_as(ALICE):
        for n in range(3):
            await stores.create_vector_store({"id": f"vs{n}"})
            await stores.attach_file(f"vs{n}", "f", {"status": "failed"}, [{"n": 1}])
            await stores.create_file_batch(f"vs{n}", ["f"])
    raw = store.unguarded
    one = (await raw.fetch_all(name, {"id": "vs0"})).data[0]
    await raw.insert(
        name,
        [{**one, "id": f"v{n}", "uid": f"u{n}", "sequence": n} for n in range(ROWS)],
    )
    for table, key in ((f"{name}__files", "file_id"), (f"{name}__file_batches", "id")):
        row = (await raw.fetch_all(table, {"store_uid": one["uid"]})).data[0]
        ended = claims.FINISHED if "due" in row else {"status": "completed", "sequence": 0}
        await raw.insert(table, [{**row, **ended, key: f"x{n}"} for n in range(ROWS)])
    row = (await raw.fetch_all(f"{name}__file_contents", {"store_uid": one["uid"]})).data[0]
    await raw.insert(
        f"{name}__file_contents",
        [{**row, "file_id": f"x{n % 400}", "chunk_index": n} for n in range(ROWS)],
    )
    return stores


async def walk(page, pages=3):
    cursor = None
    for _ in range(pages):
        found = await page(cursor=cursor)
        cursor = found.next_cursor
        if cursor is None:
            break


async def ask(batches, stores):
    """Each list, several pages of it."""
    for user in (ALICE, User("u7", {"teams": ["t2"]}), User("nobody")):
        with acting_as(user):
            await walk(partial(batches.list_batches, limit=20))
    assert len(await batches.claims.unfinished(limit=20)) == 20
    assert len(await stores.claims.unfinished(limit=2)) == 2
    with acting_as(ALICE):
        for order in ("asc", "desc"):
            await walk(partial(stores.list_vector_stores, limit=20, order=order))
            await walk(partial(stores.list_files, "vs0", limit=20, order=order))
        # All others are of another status.
        found = await stores.list_files("vs0", limit=20, filter="failed")
        assert len(found.data) == 1
        page = await stores.list_files("vs0", limit=20, after="x5000")
        assert len(page.data) == 20
        assert len(await stores.file_contents("vs0", "x7")) == ROWS // 400


@pytest.fixture
async def recorded(authorized, place):
    """What the lists send, and the pool."""
    store = authorized()
    batches, stores = await fill_batches(store, "b"), await fill_stores(store, "vs")
    await place.sql("ANALYZE")
    sent = []

    def note(_connection, _cursor, statement, parameters, *_):
        if statement.startswith("SELECT") and re.search(r"batch_data|_data", statement):
            sent.append((statement, parameters))

    event.listen(place.pools[-1].engine.sync_engine, "before_cursor_execute", note)
    await ask(batches, stores)
    event.remove(place.pools[-1].engine.sync_engine, "before_cursor_execute", note)
    assert len(sent) > 20
    return sent


async def test_no_list_reads_a_table(recorded, place):
    for statement, parameters in recorded:
        async with place.pools[-1].engine.connect() as connection:
            if place.dialect == "sqlite":
                explain = f"EXPLAIN QUERY PLAN {statement}"
                lines = [row[3] for row in await connection.exec_driver_sql(explain, parameters)]
                tables = [line for line in lines if re.search(r"\bstackstore_(b|vs)", line)]
                assert tables and all("USING" in line for line in tables), (statement, lines)
                # Parts come in the order of an index.
                assert "vs__" not in statement or "TEMP" not in str(lines), (statement, lines)
                continue
            for mode in ("force_custom_plan", "force_generic_plan"):
                plan = await explained(connection, statement, parameters, mode)
                text = json.dumps(plan)
                seen = re.findall(r'"Seq Scan"[^{}]*?"Relation Name": "(\w+)"', text)
                assert not {name for name in seen if name != "owners"}, (statement, text)
                whole = plan[0]["Plan"]
                blocks = whole["Shared Hit Blocks"] + whole["Shared Read Blocks"]
                assert blocks < 300, (mode, statement, text)
