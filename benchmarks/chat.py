"""Conversations: what an append, a page and a stored byte cost at the end of a long one.

A conversation of 500 items of about 1 KB is appended to one item at a time, then listed by pages of
20 from its last item to its first, by the default policy, in a database that has other
conversations. The limit is 1.5 times what the same cost at its beginning, and for bytes (tables and
indexes) 1.2 times. The medians of several conversations count. Chains of responses: see `chat_chain`.
"""

from __future__ import annotations

import contextlib
import random
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import stackstore
from benchmarks import chat_chain
from benchmarks.report import Row, progress
from benchmarks.server import postgres
from stackstore.access import AuthorizedSqlStore, User, acting_as
from stackstore.sql import SqlStore
from stackstore.stores.conversations import ConversationsStore

NAME = "chat"

ITEMS = 500
ITEM_CHARACTERS = 1_000
PAGE = 20
CONVERSATIONS = 4
ENDS = 50
"""How many appends are its beginning, and its end."""
ENDS_OF_PAGES = 5

ROLE = "bench"
PASSWORD = "bench"
TABLE = "chats"

_SIZE = """
SELECT sum(pg_total_relation_size(oid)) FROM pg_class
WHERE relnamespace = 'stackstore'::regnamespace AND relkind = 'r'
"""

_CONFIG = """\
distro_name: bench
storage:
  backends:
    sql_file: {{type: sql_sqlite, db_path: {path}}}
    sql_server:
      {{type: sql_postgres, host: {host}, port: {port}, db: {role}, user: {role}, password: {password},
       ssl_mode: disable}}
  stores:
    conversations: {{backend: sql_server, table_name: chats}}
"""


async def run() -> list[Row]:
    """Both engines; a minute."""
    rows = []
    async with postgres(ROLE, PASSWORD) as server:
        with tempfile.TemporaryDirectory(prefix="stackstore-bench-") as directory:
            config = Path(directory) / "config.yaml"
            file = Path(directory) / "chats.db"
            config.write_text(
                _CONFIG.format(
                    path=file, host=server.host, port=server.port, role=ROLE, password=PASSWORD
                )
            )

            async def on_server() -> int:
                ((size,),) = await server.run(_SIZE, ROLE)
                return int(size)

            async def in_file() -> int:
                with contextlib.closing(sqlite3.connect(file)) as connection:
                    ((size,),) = connection.execute(
                        "SELECT page_count * page_size FROM pragma_page_count, pragma_page_size"
                    )
                return int(size)

            async with await stackstore.open(config) as storage:
                for engine, backend, size in (
                    ("Postgres", "sql_server", on_server),
                    ("SQLite", "sql_file", in_file),
                ):
                    rows += await conversations(engine, storage.sql_backend(backend), size)
    return [*rows, *await chat_chain.rows()]


async def conversations(
    engine: str, sql: SqlStore, size: Callable[[], Awaitable[int]]
) -> list[Row]:
    """One engine's rows."""
    store = ConversationsStore(AuthorizedSqlStore(sql), TABLE)
    source = random.Random(7)
    appends: list[list[float]] = []
    pages: list[list[float]] = []
    sizes: list[tuple[int, int, int]] = []
    with acting_as(User("reader", {"teams": ["a"]})):
        # Not measured: plans are made, and there are others' items around.
        for _ in range(2):
            await appended(store, source, size)
        for number in range(CONVERSATIONS):
            conversation, seconds, bytes_ = await appended(store, source, size)
            appends.append(seconds)
            sizes.append(bytes_)
            pages.append(await listed(store, conversation))
            progress(
                f"chat: {engine}, conversation {number + 1} of {CONVERSATIONS}: first "
                f"{statistics.median(seconds[:ENDS]) * 1000:.2f} ms, last "
                f"{statistics.median(seconds[-ENDS:]) * 1000:.2f} ms"
            )
    first = statistics.median(each for one in appends for each in one[:ENDS])
    last = statistics.median(each for one in appends for each in one[-ENDS:])
    first_page = statistics.median(each for one in pages for each in one[:ENDS_OF_PAGES])
    last_page = statistics.median(each for one in pages for each in one[-ENDS_OF_PAGES:])
    begun = sum(half - empty for empty, half, _ in sizes)
    ended = sum(full - half for _, half, full in sizes)
    return [
        Row.within(
            f"{engine}, {ITEMS} items: the last append; limit: 1.5 times the first",
            last * 1e3,
            first * 1.5e3,
            unit="ms",
        ),
        Row.within(
            f"{engine}, {ITEMS} items: the last page; limit: 1.5 times the first",
            last_page * 1e3,
            first_page * 1.5e3,
            unit="ms",
        ),
        Row.within(
            f"{engine}, {ITEMS} items: stored for the second half; limit: 1.2 times the first",
            ended / 1e6,
            begun * 1.2 / 1e6,
            unit="MB",
        ),
    ]


async def appended(
    store: ConversationsStore, source: random.Random, size: Callable[[], Awaitable[int]]
) -> tuple[str, list[float], tuple[int, int, int]]:
    """A conversation, the seconds of each append, and the bytes before, halfway and after."""
    conversation = str((await store.create_conversation())["id"])
    sizes = [await size()]
    seconds = []
    for half in range(2):
        for number in range(half * ITEMS // 2, (half + 1) * ITEMS // 2):
            text = "".join(source.choices("abcdefghijklmnopqrstuvwxyz {}:,", k=ITEM_CHARACTERS))
            item = {"type": "message", "role": "user", "content": text, "number": number}
            begin = time.perf_counter()
            await store.add_items(conversation, [item])
            seconds.append(time.perf_counter() - begin)
        sizes.append(await size())
    return conversation, seconds, (sizes[0], sizes[1], sizes[2])


async def listed(store: ConversationsStore, conversation: str) -> list[float]:
    """The seconds of each page, from the last item to the first."""
    seconds = []
    numbers: list[int] = []
    cursor: str | None = None
    while True:
        begin = time.perf_counter()
        page = await store.list_items(conversation, limit=PAGE, cursor=cursor)
        seconds.append(time.perf_counter() - begin)
        numbers += [item["number"] for item in page.data]
        cursor = page.next_cursor
        if cursor is None:
            assert numbers == list(range(ITEMS))[::-1]
            return seconds
