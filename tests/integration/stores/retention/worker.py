"""A store whose rows grow old, and a process of its own that sweeps it.

Run as a script with one JSON argument it prints its stats, a line each time they change.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from dataclasses import asdict

from stackstore.access import AuthorizedSqlStore
from stackstore.sql import ColumnDefinition, ColumnType, SqlStore
from stackstore.sql.names import derived
from stackstore.stores.queue.tables import QUEUES
from stackstore.stores.retention import Ageing, Part, Retention, leases, pace
from stackstore.stores.retention import retention as module
from stackstore.stores.tables import StoreTables, TableDefinition
from tests.integration.addresses import pool_of
from tests.integration.processes import begin

TABLE, ITEMS, MESSAGES = "chats", derived("chats", "items"), derived("chats", "messages")
_KEY = ColumnDefinition(ColumnType.STRING, primary_key=True)
_NUMBER = ColumnDefinition(ColumnType.INTEGER, primary_key=True)
DEFINITIONS = (
    TableDefinition(
        TABLE,
        {"id": _KEY, "created": ColumnDefinition(ColumnType.INTEGER), "uid": ColumnType.STRING,
         "body": ColumnType.JSON},
        {derived(TABLE, "created"): ["created"]},
    ),
    TableDefinition(
        ITEMS, {"chat": _KEY, "chat_owner": _NUMBER, "item": _KEY, "text": ColumnType.TEXT}, owned=False
    ),
    TableDefinition(MESSAGES, {"chat_uid": _KEY, "text": ColumnType.TEXT}, owned=False),
)  # fmt: skip
AGEING = Ageing(
    TABLE,
    "created",
    parts=(
        Part(ITEMS, {"chat": "id", "chat_owner": "owner_key"}),
        Part(MESSAGES, {"chat_uid": "uid"}),
    ),
    has_letters=True,
)
YEAR = 365 * 86_400


class Kept:
    """The store's tables over one pool, and retentions of them."""

    def __init__(self, sql: SqlStore) -> None:
        self.sql = sql
        self.tables = StoreTables(AuthorizedSqlStore(sql), DEFINITIONS, (QUEUES,))

    def retention(self, seconds: int | None = YEAR, ageing: Ageing = AGEING, **more) -> Retention:
        return Retention(self.sql, ageing, self.tables.ready, seconds=seconds, **more)

    async def fill(self, count: int, *, age: int, name: str = "old", parts: int = 0) -> None:
        """Rows of three owners that were made so many seconds ago, with parts."""
        await self.tables.ready()
        made = int(time.time()) - age
        for first in range(0, count, 5_000):
            numbers = range(first, min(first + 5_000, count))
            await self.sql.insert(
                TABLE,
                [
                    {"id": f"{name}{n // 3}", "owner_key": n % 3, "created": made + n % 50,
                     "uid": f"{name}-{n}", "body": {"text": "x" * 200}}
                    for n in numbers
                ],
            )  # fmt: skip
            if parts:
                await self.sql.insert(
                    ITEMS,
                    [
                        {
                            "chat": f"{name}{n // 3}",
                            "chat_owner": n % 3,
                            "item": f"i{i}",
                            "text": "x",
                        }
                        for n in numbers
                        for i in range(parts)
                    ],
                )
                await self.sql.insert(
                    MESSAGES, [{"chat_uid": f"{name}-{n}", "text": "x"} for n in numbers]
                )

    async def ids(self, table: str = TABLE) -> list[str]:
        column = {TABLE: "uid", ITEMS: "chat", MESSAGES: "chat_uid"}[table]
        page = await self.sql.fetch_all(table)
        return sorted(row[column] for row in page.data)

    async def count(self, table: str = TABLE) -> int:
        return len(await self.ids(table))


def hasten(*, period: float = 0.2, lease: float = 30.0) -> None:
    """So that nobody waits long: for processes of tests."""
    module.FIRST_SECONDS = module.SPREAD_SECONDS = 0.05
    module.SHORTEST_PERIOD_SECONDS = module.LONGEST_PERIOD_SECONDS = period
    leases.LEASE_MICROSECONDS = int(lease * 1_000_000)


async def main(task) -> None:
    hasten(period=task["period"], lease=task["lease"])
    pace.MOST = task.get("most", pace.MOST)
    pace.FIRST = min(pace.FIRST, pace.MOST)
    pool = pool_of(task["address"])
    retention = Kept(SqlStore(pool)).retention()
    begin()
    retention.begin()
    shown = retention.stats
    while True:
        await asyncio.sleep(0.01)
        if retention.stats != shown:
            shown = retention.stats
            print(json.dumps(asdict(shown)), flush=True)


if __name__ == "__main__":
    asyncio.run(main(json.loads(sys.argv[1])))
