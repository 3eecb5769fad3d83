"""What a conversation costs doesn't grow with it, nor with the others."""

from __future__ import annotations

from sqlalchemy import event

from stackstore.access import acting_as
from stackstore.access.store import AuthorizedSqlStore
from stackstore.stores.conversations import ConversationsStore
from tests.integration.stores.conversations.conftest import ALICE, said


async def test_every_statement_on_items_is_bounded_by_an_index(sqlite_place):
    seen = []

    def note(_connection, _cursor, statement, parameters, *_):
        if "talks__items" in statement and not statement.startswith(("CREATE", "INSERT", "PRAGMA")):
            seen.append((statement, parameters))

    store = ConversationsStore(AuthorizedSqlStore(sqlite_place.store()), "talks")
    with acting_as(ALICE):
        made = await store.create_conversation(items=[said(n) for n in range(5)])
        engine = sqlite_place.pools[0].engine
        event.listen(engine.sync_engine, "before_cursor_execute", note)
        try:
            page = await store.list_items(made["id"], limit=2)
            await store.list_items(made["id"], limit=2, cursor=page.next_cursor)
            await store.list_items(made["id"], limit=2, after=page.last_id, order="asc")
            await store.retrieve_item(made["id"], page.last_id)
            await store.add_items(
                (await store.create_conversation())["id"], [said("x", id=page.last_id)]
            )
            await store.delete_item(made["id"], page.last_id)
            await store.delete_conversation(made["id"])
        finally:
            event.remove(engine.sync_engine, "before_cursor_execute", note)
    assert len(seen) >= 9
    async with engine.connect() as connection:
        for statement, parameters in seen:
            plan = await connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)
            lines = [row[3] for row in plan]
            assert all(line.startswith("SEARCH") for line in lines), (statement, lines)
