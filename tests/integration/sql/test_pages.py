"""Pages: every row exactly once, whatever the ties, the NULLs and what happens in between."""

import asyncio
import base64
import itertools
import math
from datetime import UTC, datetime

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stackstore.errors import InvalidArgumentError, NotFoundError
from stackstore.sql import ColumnDefinition, ColumnType

KEY = ColumnDefinition(ColumnType.STRING, primary_key=True)
INTEGER = ColumnType.INTEGER


async def walk(store, table, *, where=None, order_by=None, limit, between=None):
    """All rows, page by page; `between` runs after each page."""
    rows, cursor = [], None
    while True:
        page = await store.fetch_all(table, where, order_by, limit, cursor)
        assert len(page.data) == limit or not page.has_more
        assert page.has_more == (page.next_cursor is not None)
        rows += page.data
        if not page.has_more:
            return rows
        cursor = page.next_cursor
        if between is not None:
            await between(page.data)


async def filled(store, rows=10):
    await store.create_table("t", {"id": KEY, "created": INTEGER, "model": ColumnType.STRING})
    await store.create_index("by_created", "t", ["created"])
    await store.insert(
        "t", [{"id": f"{n:04}", "created": n // 4, "model": "ab"[n % 2]} for n in range(rows)]
    )


@pytest.mark.parametrize("order_by", ["created", [("created", "desc")]])
async def test_p1_rows_of_one_second_are_all_seen(store, order_by):
    await store.create_table("t", {"id": KEY, "created": INTEGER})
    await store.insert(
        "t", [{"id": f"{n:04}", "created": 1_700_000_000 + n // 500} for n in range(1000)]
    )
    rows = await walk(store, "t", order_by=order_by, limit=150)
    assert len(rows) == 1000
    assert rows == (await store.fetch_all("t", order_by=order_by)).data
    expected = sorted(row["id"] for row in rows)
    assert [row["id"] for row in rows] == (expected if order_by == "created" else expected[::-1])


async def test_p2_a_cursor_survives_its_row(store):
    await filled(store)
    gone = []

    async def delete(page):
        gone.append(page[-1]["id"])
        assert await store.delete("t", {"id": page[-1]["id"]}) == 1

    rows = await walk(store, "t", order_by=[("created", "desc")], limit=3, between=delete)
    assert len(rows) == 10
    assert len(gone) == 3


@pytest.mark.parametrize("direction", ["asc", "desc"])
@pytest.mark.parametrize("limit", [1, 2, 3, 7])
async def test_p4_null_in_the_order_column(store, direction, limit):
    await store.create_table("t", {"id": KEY, "created": INTEGER})
    await store.create_index("by_created", "t", ["created"])
    rows = [{"id": str(n), "created": None if n % 3 == 0 else n // 2} for n in range(14)]
    await store.insert("t", rows)
    seen = await walk(store, "t", order_by=[("created", direction)], limit=limit)
    smallest = sorted(
        rows, key=lambda row: (-1 if row["created"] is None else row["created"], row["id"])
    )
    assert seen == (smallest if direction == "asc" else smallest[::-1])


async def test_only_where(store):
    await filled(store, 40)
    rows = await walk(
        store, "t", where={"model": "a", "created": {">": 1}}, order_by="created", limit=3
    )
    assert [row["id"] for row in rows] == [f"{n:04}" for n in range(8, 40, 2)]


async def test_without_an_order_it_is_the_key_s(store):
    await filled(store)
    rows = await walk(store, "t", limit=3)
    assert [row["id"] for row in rows] == [f"{n:04}" for n in range(10)]
    rows = await walk(store, "t", order_by=("id", "desc"), limit=3)
    assert [row["id"] for row in rows] == [f"{n:04}" for n in range(9, -1, -1)]


async def test_inserts_elsewhere_disturb_nobody(store):
    await filled(store, 100)
    number = itertools.count()

    async def insert(page):
        at = page[-1]["created"] or 0
        await store.insert(
            "t",
            [
                {"id": f"new{next(number)}", "created": created, "model": "n"}
                for created in (None, 0, at - 1, at, 99)
            ],
        )

    seen = await walk(store, "t", order_by=[("created", "desc")], limit=7, between=insert)
    old = [row["id"] for row in seen if row["model"] != "n"]
    assert sorted(old) == [f"{n:04}" for n in range(100)]
    assert len({row["id"] for row in seen}) == len(seen)


async def test_limits(store):
    await filled(store)
    page = await store.fetch_all("t")
    assert (len(page.data), page.has_more, page.next_cursor) == (10, False, None)
    page = await store.fetch_all("t", limit=10)
    assert (len(page.data), page.has_more, page.next_cursor) == (10, False, None)
    page = await store.fetch_all("t", limit=9)
    assert (len(page.data), page.has_more) == (9, True)
    page = await store.fetch_all("t", limit=None, cursor=page.next_cursor)
    assert [row["id"] for row in page.data] == ["0009"]
    page = await store.fetch_all("t", {"id": []}, limit=5)
    assert (page.data, page.has_more, page.next_cursor) == ([], False, None)
    assert len((await store.fetch_all("t", limit=10**9)).data) == 10
    for limit in (0, -1, True, 1.0, "5", 10**9 + 1):
        with pytest.raises(InvalidArgumentError, match="limit is a whole number from 1"):
            await store.fetch_all("t", limit=limit)


async def test_orders_that_are_none(store):
    await store.create_table("t", {"id": KEY, "created": INTEGER, "j": ColumnType.JSON})
    for order_by, says in [
        ("creatd", "no column 'creatd'; there are: created, id, j; did you mean 'created'"),
        ([("created", "up")], 'is "asc" or "desc", not \'up\''),
        (["created", "created"], "'created' is there twice"),
        ("j", "JSON"),
        ([("created", "desc", "x")], "no column"),
        (7, "no column a int"),
        ([None], "no column a NoneType"),
    ]:
        with pytest.raises(InvalidArgumentError, match=says):
            await store.fetch_all("t", order_by=order_by)


REFUSED = "the cursor can't be used: it was changed or cut, or it belongs to another"


async def test_every_bad_cursor_is_one_error(place, store):
    await filled(store, 20)
    await store.create_table("u", {"id": KEY, "created": INTEGER, "model": ColumnType.STRING})
    good = (await store.fetch_all("t", {"model": "a"}, "created", 3)).next_cursor
    assert good is not None and set(good) <= set(
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    )
    texts = set()

    async def refused(cursor, table="t", where=None, order_by="created"):
        with pytest.raises(InvalidArgumentError, match=REFUSED) as caught:
            await store.fetch_all(
                table, {"model": "a"} if where is None else where, order_by, 3, cursor
            )
        assert caught.value.__context__ is None
        texts.add(str(caught.value))

    raw = bytearray(base64.urlsafe_b64decode(good + "=" * (-len(good) % 4)))
    for place_ in range(len(raw)):
        changed = bytearray(raw)
        changed[place_] ^= 1
        await refused(base64.urlsafe_b64encode(bytes(changed)).rstrip(b"=").decode())
    for cursor in ("", "x", "é", "=", "null", "0003", good[:-1], good + "A", good[1:], f"{good}=", f" {good}", f"{good}\n", "A" * 100_000, 5, b"x", ["x"]):  # fmt: skip
        await refused(cursor)
    await refused(good, where={"model": "b"})
    await refused(good, where={"model": {"!=": "a"}})
    await refused(good, where={})
    await refused(good, where={"model": "a", "created": {">": 0}})
    await refused(good, order_by=[("created", "desc")])
    await refused(good, order_by="id")
    await refused(good, order_by=["created", "model"])
    await refused(good, table="u")
    assert len(texts) == 1
    # The same question put in other words, and another limit, is the same question.
    for where in ({"model": {"=": "a"}}, {"model": {"==": "a"}}):
        assert (await store.fetch_all("t", where, [("created", "asc")], 5, good)).data


async def test_a_cursor_of_another_database(place, store, tmp_path):
    from stackstore.pools.sqlite import SqliteDatabase
    from stackstore.sql import SqlStore

    await filled(store)
    cursor = (await store.fetch_all("t", limit=3)).next_cursor
    pool = SqliteDatabase("other", str(tmp_path / "other.db"))
    try:
        other = SqlStore(pool)
        await filled(other)
        with pytest.raises(InvalidArgumentError, match=REFUSED):
            await other.fetch_all("t", limit=3, cursor=cursor)
    finally:
        await pool.close()


async def test_all_processes_share_the_key(place, store):
    await filled(store)
    cursor = (await store.fetch_all("t", limit=3)).next_cursor
    other = place.store()
    await other.create_table("t", {"id": KEY, "created": INTEGER, "model": ColumnType.STRING})
    assert [row["id"] for row in (await other.fetch_all("t", limit=1, cursor=cursor)).data] == [
        "0003"
    ]


async def test_a_key_that_changed_under_us_is_read_again(place, store):
    await filled(store)
    stale = (await store.fetch_all("t", limit=3)).next_cursor
    await place.sql(f"UPDATE @cursor_keys SET key = '{'ab' * 32}'")
    other = place.store()
    await other.create_table("t", {"id": KEY, "created": INTEGER, "model": ColumnType.STRING})
    cursor = (await other.fetch_all("t", limit=3)).next_cursor
    assert (await store.fetch_all("t", limit=3, cursor=cursor)).data
    with pytest.raises(InvalidArgumentError, match=REFUSED):
        await store.fetch_all("t", limit=3, cursor=stale)


async def test_after_a_row(store):
    await filled(store, 20)
    page = await store.fetch_all("t", {"model": "a"}, [("created", "desc")], 3, after="0008")
    assert [row["id"] for row in page.data] == ["0006", "0004", "0002"]
    following = await store.fetch_all(
        "t", {"model": "a"}, [("created", "desc")], 3, page.next_cursor
    )
    assert [row["id"] for row in following.data] == ["0000"]
    assert [row["id"] for row in (await store.fetch_all("t", after={"id": "0017"})).data] == [
        "0018",
        "0019",
    ]
    texts = set()
    for after in ("missing", "0009", ""):  # 0009 is there, and not among model a
        with pytest.raises(NotFoundError) as caught:
            await store.fetch_all("t", {"model": "a"}, "created", 3, after=after)
        texts.add(str(caught.value))
    assert len(texts) == 1
    cursor = page.next_cursor
    with pytest.raises(InvalidArgumentError, match="exclude each other"):
        await store.fetch_all("t", {"model": "a"}, [("created", "desc")], 3, cursor, after="0008")
    for after in (
        5,
        ["0008"],
        {"id": ["0008"]},
        {"created": 1},
        {"id": "1", "x": 2},
        {"id": {"=": "0008"}},
    ):
        with pytest.raises(InvalidArgumentError):
            await store.fetch_all("t", after=after)


async def test_after_a_row_of_a_composite_key(store):
    await store.create_table(
        "t", {"a": KEY, "b": ColumnDefinition(INTEGER, primary_key=True), "c": INTEGER}
    )
    await store.insert("t", [{"a": a, "b": b, "c": 0} for a in "xyz" for b in range(3)])
    page = await store.fetch_all("t", order_by="c", after={"b": 1, "a": "y"})
    assert [(row["a"], row["b"]) for row in page.data] == [("y", 2), ("z", 0), ("z", 1), ("z", 2)]
    with pytest.raises(InvalidArgumentError, match="a mapping of a, b"):
        await store.fetch_all("t", after="y")


async def test_a_cursor_carries_every_type(store):
    columns = {
        "f": ColumnType.FLOAT, "b": ColumnType.BOOLEAN, "d": ColumnType.DATETIME,
        "s": ColumnType.STRING, "i": INTEGER,
    }  # fmt: skip
    await store.create_table("t", {"id": KEY, **columns})
    values = {
        "f": [-math.inf, -1e300, 0.1, 0.1 + 2**-56, math.inf],
        "b": [False, False, True, True, True],
        "d": [datetime(1, 1, 1, tzinfo=UTC), datetime(2024, 1, 1, tzinfo=UTC), datetime(2024, 1, 1, 0, 0, 0, 1, UTC),
              datetime(9999, 12, 31, tzinfo=UTC), datetime.max.replace(tzinfo=UTC)],
        "s": ["", "Z", "a", "ä", "🦉"],
        "i": [-(2**63), -1, 0, 2**53 + 1, 2**63 - 1],
    }  # fmt: skip
    await store.insert(
        "t",
        [{"id": str(n), **{column: each[n] for column, each in values.items()}} for n in range(5)]
        + [{"id": "5"}],
    )
    for column, direction in itertools.product(columns, ("asc", "desc")):
        rows = await walk(store, "t", order_by=[(column, direction)], limit=1)
        expected = ["5", "0", "1", "2", "3", "4"]
        assert [row["id"] for row in rows] == (
            expected if direction == "asc" else expected[::-1]
        ), column


# -- any table, any order, any page

_directions = st.sampled_from(["asc", "desc"])
_orders = st.lists(
    st.sampled_from(["a", "b", "n", "id"]), min_size=1, max_size=3, unique=True
).flatmap(
    lambda columns: st.tuples(*(st.tuples(st.just(column), _directions) for column in columns))
)
_tables = st.lists(
    st.fixed_dictionaries(
        {
            "a": st.none() | st.integers(0, 2),
            "b": st.none() | st.sampled_from(["", "A", "a", "ä"]),
            "n": st.integers(0, 2),
        }
    ),
    max_size=14,
)


def _by(row, column):
    value = row[column]
    return (0, 0) if value is None else (1, value.encode() if isinstance(value, str) else value)


async def test_any_table_in_any_order_in_any_pages(place, store):
    await store.create_table(
        "t",
        {
            "id": KEY,
            "a": INTEGER,
            "b": ColumnType.TEXT,
            "n": ColumnDefinition(INTEGER, nullable=False),
        },
    )
    await store.create_index("by_a", "t", ["a"])
    await store.create_index("by_ab", "t", ["a", ("b", "desc")])
    await store.create_index("by_na", "t", [("n", "desc"), ("a", "desc")])
    loop = asyncio.get_running_loop()

    async def once(rows, order_by, limit, doomed):
        await store.delete("t", {"id": {"!=": None}})
        rows = [{"id": f"{n * 7 % 15:02}", **row} for n, row in enumerate(rows)]
        await store.insert("t", rows)
        expected = list(rows)
        last = order_by[-1][1]
        for column, direction in [*order_by, ("id", last)][::-1]:
            expected.sort(key=lambda row: _by(row, column), reverse=direction == "desc")
        assert (await store.fetch_all("t", order_by=order_by)).data == expected

        async def between(page):
            if doomed:
                await store.delete("t", {"id": page[-1]["id"]})

        assert (
            await walk(store, "t", order_by=list(order_by), limit=limit, between=between)
            == expected
        )

    @settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))
    @given(_tables, _orders, st.integers(1, 6), st.booleans())
    def examples(rows, order_by, limit, doomed):
        asyncio.run_coroutine_threadsafe(once(rows, order_by, limit, doomed), loop).result(30)

    await asyncio.to_thread(examples)
