"""Tables come into being once, whoever asks and however often, and only as they were asked for."""

import asyncio
import importlib
import pkgutil

import pytest

import stackstore
from stackstore.config.schema import RESERVED_TABLES
from stackstore.errors import (
    BackendUnavailableError,
    InvalidArgumentError,
    NotFoundError,
    StoreError,
)
from stackstore.kv import KVStore
from stackstore.schema import Component, migrate
from stackstore.sql import ColumnDefinition, ColumnType, SqlStore
from tests.integration.processes import together
from tests.integration.sql import worker

INTEGER, STRING, TEXT = ColumnType.INTEGER, ColumnType.STRING, ColumnType.TEXT
KEY = ColumnDefinition(STRING, primary_key=True)


async def test_ten_processes_on_an_empty_database(place):
    cursors = await together(worker.__name__, place.address, [{}] * 10)

    store = place.store()
    await store.create_table("first", worker.SCHEMA)
    assert len((await store.fetch_all("first")).data) == 200
    for cursor in cursors:
        # One key for all of them: each takes the others' cursors.
        assert (await store.fetch_all("first", order_by="created", limit=3, cursor=cursor)).data


async def test_texts_are_in_the_order_of_bytes_whatever_the_locale(postgres_place):
    store = postgres_place.store()
    await store.create_table("t", {"id": KEY, "a": TEXT})
    await store.add_column_if_not_exists("t", "b", STRING)
    found = await postgres_place.sql(
        "SELECT column_name, collation_name FROM information_schema.columns "
        "WHERE table_schema = 'stackstore' AND table_name = 't'"
    )
    assert sorted(found) == [("a", "C"), ("b", "C"), ("id", "C")]


async def test_again_and_again(store):
    for _ in range(2):
        await store.create_table("t", {"id": KEY, "a": INTEGER})
        await store.insert("t", {"id": str(_)})
    assert len((await store.fetch_all("t")).data) == 2


async def test_missing_columns_are_added(place, store):
    await store.create_table("t", {"id": KEY})
    await store.insert("t", {"id": "1"})
    later = place.store()
    await later.create_table(
        "t",
        {"id": KEY, "a": INTEGER, "b": ColumnDefinition(TEXT, nullable=False, default="it's \\n")},
    )
    assert await later.fetch_one("t") == {"id": "1", "a": None, "b": "it's \\n"}
    # The release before goes on beside it.
    await store.insert("t", {"id": "2"})
    assert await later.fetch_one("t", {"id": "2"}) == {"id": "2", "a": None, "b": "it's \\n"}
    assert await store.fetch_one("t", {"id": "2"}) == {"id": "2"}


@pytest.mark.parametrize(
    ("schema", "says"),
    [
        ({"id": KEY, "a": STRING}, "column 'a' is (bigint|BIGINT), not (text|TEXT)"),
        ({"id": KEY, "a": ColumnDefinition(INTEGER, nullable=False)}, "column 'a' is nullable"),
        ({"id": KEY, "b": ColumnDefinition(INTEGER, nullable=False)}, "no column 'b'"),
        (
            {"id": KEY, "a": ColumnDefinition(INTEGER, primary_key=True)},
            r"key is \(id\), not \(id, a\)",
        ),
        ({"id": ColumnDefinition(INTEGER, primary_key=True)}, "column 'id' is (text|TEXT), not"),
        ({"no": KEY}, r"key is \(id\), not \(no\)"),
    ],
)
async def test_a_table_that_differs(place, store, schema, says):
    await store.create_table("t", {"id": KEY, "a": INTEGER})
    with pytest.raises(InvalidArgumentError, match=says):
        await place.store().create_table("t", schema)
    with pytest.raises(InvalidArgumentError):
        await store.create_table("t", schema)


async def test_columns_that_others_need_or_not(place, store):
    await store.create_table("t", {"id": KEY, "a": INTEGER})
    await place.store().create_table("t", {"id": KEY})
    await store.create_table("u", {"id": KEY, "a": ColumnDefinition(INTEGER, nullable=False)})
    with pytest.raises(InvalidArgumentError, match="also has a column 'a'"):
        await place.store().create_table("u", {"id": KEY})


async def test_add_column_if_not_exists(place, store):
    await store.create_table("t", {"id": KEY})
    await store.insert("t", {"id": "1"})
    for _ in range(2):
        await store.add_column_if_not_exists("t", "a", INTEGER)
        await store.add_column_if_not_exists("t", "b", TEXT, nullable=False, default="x")
    await store.insert("t", {"id": "2", "a": 5})
    assert (await store.fetch_all("t")).data == [
        {"id": "1", "a": None, "b": "x"},
        {"id": "2", "a": 5, "b": "x"},
    ]
    with pytest.raises(InvalidArgumentError, match="was defined as INTEGER before"):
        await store.add_column_if_not_exists("t", "a", TEXT)
    with pytest.raises(InvalidArgumentError, match="nullable or have a default"):
        await store.add_column_if_not_exists("t", "c", TEXT, nullable=False)
    with pytest.raises(InvalidArgumentError, match="differ in case"):
        await store.add_column_if_not_exists("t", "A", INTEGER)
    other = place.store()
    await other.create_table("t", {"id": KEY})
    with pytest.raises(InvalidArgumentError, match="differs"):
        await other.add_column_if_not_exists("t", "a", TEXT)
    # What a later create_table doesn't mention is still known.
    await store.create_table("t", {"id": KEY})
    assert (await store.fetch_one("t", {"id": "2"}))["a"] == 5


async def test_what_the_database_has(store):
    assert not await store.table_exists("t")
    assert await store.primary_key_columns("t") is None
    await store.create_table(
        "t", {"a": INTEGER, "z": KEY, "b": ColumnDefinition(INTEGER, primary_key=True)}
    )
    assert await store.table_exists("t")
    assert await store.primary_key_columns("t") == ["z", "b"]


async def test_tables_of_others_are_not_ours(place, store):
    await store.table_exists("t")
    async with place.pools[0].engine.begin() as connection:
        await connection.exec_driver_sql("CREATE TABLE t (id INTEGER PRIMARY KEY, theirs TEXT)")
    assert not await store.table_exists("t")
    await store.create_table("t", {"id": KEY})
    await store.insert("t", {"id": "ours"})
    async with place.pools[0].engine.begin() as connection:
        assert (await connection.exec_driver_sql("SELECT count(*) FROM t")).scalar() == 0


async def test_indexes(place, store):
    await store.create_table("t", {"id": KEY, "a": INTEGER, "j": ColumnType.JSON})
    await store.create_table("u", {"id": KEY, "a": INTEGER})
    for _ in range(2):
        await store.create_index("by_a", "t", ["a"])
    with pytest.raises(InvalidArgumentError, match=r"'by_a' already, of table .*t' on \(a, id\)"):
        await store.create_index("by_a", "u", ["a"])
    with pytest.raises(InvalidArgumentError, match="'by_a' already"):
        await place.store().create_table("t", {"id": KEY, "a": INTEGER})
        await store.create_index("by_a", "t", [("a", "desc")])
    with pytest.raises(InvalidArgumentError, match="JSON"):
        await store.create_index("by_j", "t", ["j"])
    with pytest.raises(InvalidArgumentError, match=r"did you mean 'a'|there are: a, id, j"):
        await store.create_index("by_b", "t", ["b"])
    with pytest.raises(InvalidArgumentError, match="is no name for an index"):
        await store.create_index("by b", "t", ["a"])


@pytest.mark.parametrize(
    ("name", "schema", "says"),
    [
        ('t"; DROP TABLE x; --', {"id": KEY}, "is no name for a table"),
        ("", {"id": KEY}, "is no name for a table"),
        ("a" * 64, {"id": KEY}, "at most 63"),
        ("tä", {"id": KEY}, "is no name for a table"),
        (None, {"id": KEY}, "a NoneType is no name for a table"),
        ("Cursor_keys", {"id": KEY}, "one of Stackstore's own"),
        ("schema_versions", {"id": KEY}, "one of Stackstore's own"),
        (
            "KV",
            {"id": KEY},
            "one of Stackstore's own tables; allowed is any name but cursor_keys, d",
        ),
        ("t", {"id": INTEGER}, "no primary key"),
        ("t", {}, "at least one column"),
        ("t", {"id": KEY, "a-b": INTEGER}, "is no name for a column"),
        ("t", {"id": KEY, "a": INTEGER, "A": INTEGER}, "differ in case"),
        ("t", {"id": ColumnDefinition(ColumnType.JSON, primary_key=True)}, "JSON and so no key"),
        ("t", {"id": KEY, "a": "INTEGER"}, "not by a str"),
        ("t", {"id": KEY, "a": ColumnDefinition(INTEGER, default="x")}, "takes an int"),
    ],
)
async def test_what_is_no_table(store, name, schema, says):
    with pytest.raises(InvalidArgumentError, match=says):
        await store.create_table(name, schema)


async def test_what_stackstore_needs_is_taken_by_no_table_and_no_index(place, store):
    """On a database that a key-value store shares and may come to later."""
    await store.create_table("t", {"id": KEY, "a": INTEGER})
    for name in RESERVED_TABLES:
        with pytest.raises(InvalidArgumentError, match="one of Stackstore's own"):
            await store.create_table(name, {"id": KEY})
        with pytest.raises(InvalidArgumentError, match=f"index '{name}' has the name of one"):
            await store.create_index(name, "t", ["a"])
    kv = KVStore(place.pool(), "registry")
    await kv.set("a", "b")
    assert await kv.get("a") == "b"
    await kv.close()


def components() -> list[Component]:
    """Every component that a module of the runtime defines."""
    modules = [
        importlib.import_module(found.name)
        for found in pkgutil.walk_packages(stackstore.__path__, "stackstore.")
    ]
    return [
        value
        for module in modules
        for value in vars(module).values()
        if isinstance(value, Component)
    ]


async def test_everything_that_stackstore_makes_is_reserved(place):
    pool = place.pool()
    for component in components():
        await migrate(pool, component)
    # Names that Postgres gives by itself don't count: it takes the next one that is free.
    listed = (
        "SELECT name FROM sqlite_master WHERE name LIKE 'stackstore_%'"
        if place.dialect == "sqlite"
        else "SELECT relname FROM pg_class WHERE relnamespace = 'stackstore'::regnamespace "
        "AND relkind IN ('r', 'i') AND NOT EXISTS (SELECT FROM pg_constraint WHERE conindid = pg_class.oid)"
    )
    found = {name.removeprefix("stackstore_") for (name,) in await place.sql(listed)}
    assert found <= RESERVED_TABLES
    assert found >= {"kv", "kv_expires_at", "schema_versions", "cursor_keys"}


async def test_an_index_named_like_a_table_is_refused_for_good(store):
    """Not as a database that can't do it now: nobody should try it again and again."""
    await store.create_table("t", {"id": KEY, "a": INTEGER})
    with pytest.raises(StoreError, match="refused it") as failure:
        await store.create_index("t", "t", ["a"])
    assert not isinstance(failure.value, BackendUnavailableError)


async def test_every_identifier_works(store):
    """Keywords, capitals and the longest names are quoted everywhere."""
    long = "x" * 63
    await store.create_table(
        long,
        {
            "select": KEY,
            "Order": INTEGER,
            "user": ColumnDefinition(STRING, default="u"),
            long: TEXT,
        },
    )
    await store.create_index("y" * 63, long, ["Order", (long, "asc")])
    await store.insert(long, [{"select": str(i), "Order": i, long: "v"} for i in range(3)])
    await store.upsert(long, {"select": "0", "Order": 7}, ["select"])
    assert await store.update(long, {"user": "w"}, {"Order": {">": 1}, long: "v"}) == 2
    page = await store.fetch_all(long, order_by=[("Order", "desc"), long], limit=2)
    assert [row["Order"] for row in page.data] == [7, 2]
    assert await store.delete(long, {"user": "w"}) == 2
    with pytest.raises(InvalidArgumentError, match="differ in case"):
        await store.create_table("X" + "x" * 62, {"id": KEY})


async def test_a_table_it_was_not_told_of(store):
    await store.create_table("inference", {"id": KEY})
    with pytest.raises(NotFoundError, match=r"no table 'infrence'.*did you mean 'inference'"):
        await store.fetch_all("infrence")


async def test_defaults_of_every_type(place, store):
    from datetime import UTC, datetime

    defaults = {
        "i": ColumnDefinition(INTEGER, default=-(2**63)),
        "s": ColumnDefinition(STRING, default="a'b\\c\"%s:x$1"),
        "f": ColumnDefinition(ColumnType.FLOAT, default=1e300),
        "inf": ColumnDefinition(ColumnType.FLOAT, default=float("-inf")),
        "b": ColumnDefinition(ColumnType.BOOLEAN, nullable=False, default=False),
        "j": ColumnDefinition(ColumnType.JSON, default={"a": ["'\\", "\0"]}),
        "d": ColumnDefinition(ColumnType.DATETIME, default=datetime(2038, 1, 19, 4, tzinfo=UTC)),
    }
    await store.create_table("t", {"id": KEY})
    await store.insert("t", {"id": "before"})
    await place.store().create_table("t", {"id": KEY, **defaults})
    await store.insert("t", {"id": "beside"})
    await store.create_table("t", {"id": KEY, **defaults})
    await store.insert("t", {"id": "with"})
    wanted = {name: defined.default for name, defined in defaults.items()}
    for row in (await store.fetch_all("t")).data:
        assert row == {"id": row["id"], **wanted}


async def test_a_default_when_backslashes_escape(postgres_place):
    name = postgres_place.address["database"]
    await postgres_place.server.run(
        f'ALTER DATABASE "{name}" SET standard_conforming_strings = off'
    )
    store = postgres_place.store()
    await store.create_table("t", {"id": KEY})
    await store.insert("t", {"id": "1"})
    await store.add_column_if_not_exists("t", "s", STRING, default="a\\n'\\")
    assert (await store.fetch_one("t"))["s"] == "a\\n'\\"


async def test_a_table_that_went_is_made_again(place, store, caplog):
    await store.create_table("t", {"id": KEY, "a": INTEGER})
    await store.create_index("by_a", "t", ["a"])
    await store.insert("t", {"id": "1"})
    await place.sql("DROP TABLE @t")
    await store.insert("t", {"id": "2"})
    await place.sql("DROP TABLE @t")
    assert (await store.fetch_all("t")).data == []
    assert "table t was missing" in caplog.text
    # Its index too: it could not be made a second time under this name.
    with pytest.raises(InvalidArgumentError, match="'by_a' already"):
        await store.create_index("by_a", "t", [("a", "desc")])


async def test_a_column_that_went_is_made_again(place, store):
    await store.create_table("t", {"id": KEY, "a": INTEGER})
    await place.sql("ALTER TABLE @t DROP COLUMN a")
    await store.insert("t", {"id": "1", "a": 5})
    assert await store.fetch_one("t") == {"id": "1", "a": 5}


async def test_a_rotation_to_an_empty_database(postgres_place):
    place = postgres_place
    store = place.store()
    pool = place.pools[0]
    await store.create_table("t", {"id": KEY, "a": INTEGER})
    await store.create_index("by_a", "t", ["a"])
    await store.insert("t", [{"id": str(i), "a": i} for i in range(9)])
    old = (await store.fetch_all("t", order_by="a", limit=2)).next_cursor
    empty = f"{place.address['database']}_2"
    await place.server.create_database(empty, str(place.address["username"]))
    try:
        place.move(pool, empty)
        async with asyncio.timeout(10):
            while pool.pool.status()["proven"] != pool.pool.status()["newest"] or (
                await place.sql("SELECT current_database()") != [(empty,)]
            ):
                await asyncio.sleep(0.02)
        await asyncio.gather(
            *(store.insert("t", {"id": str(number), "a": number}) for number in range(16))
        )
        assert len((await store.fetch_all("t")).data) == 16
        with pytest.raises(InvalidArgumentError, match="the cursor can't be used"):
            await store.fetch_all("t", order_by="a", limit=2, cursor=old)
        page = await store.fetch_all("t", order_by="a", limit=2)
        fresh = place.store(database=empty)
        await fresh.create_table("t", {"id": KEY, "a": INTEGER})
        following = await fresh.fetch_all("t", order_by="a", limit=2, cursor=page.next_cursor)
        assert [row["a"] for row in following.data] == [2, 3]
    finally:
        for each in place.pools:
            await each.close()
        await place.server.run(f'DROP DATABASE "{empty}" WITH (FORCE)')


async def test_a_role_that_may_make_no_tables(postgres_place):
    place = postgres_place
    await place.server.run("CREATE SCHEMA stackstore", str(place.address["database"]))
    with pytest.raises(BackendUnavailableError, match="GRANT"):
        await place.store().create_table("t", {"id": KEY})


async def test_in_memory():
    from stackstore.pools.sqlite import SqliteDatabase

    pool = SqliteDatabase("sql_default", ":memory:")
    try:
        one, two = SqlStore(pool), SqlStore(pool)
        for each in (one, two):
            await each.create_table("t", {"id": KEY, "a": INTEGER})
        await asyncio.gather(
            *(
                each.insert("t", {"id": f"{i}{id(each)}", "a": i})
                for i in range(20)
                for each in (one, two)
            ),
            *(each.fetch_all("t") for _ in range(20) for each in (one, two)),
        )
        assert len((await one.fetch_all("t")).data) == 40
    finally:
        await pool.close()
