"""Rows go in and come out as they were, are found by what they hold, and change all or not at all."""

import asyncio
import math
from datetime import UTC, datetime, timedelta, timezone
from enum import IntEnum, StrEnum

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import event

from stackstore.errors import (
    BackendUnavailableError,
    ConflictError,
    InvalidArgumentError,
    StoreError,
)
from stackstore.sql import ColumnDefinition, ColumnType, DeleteOperation

KEY = ColumnDefinition(ColumnType.STRING, primary_key=True)
EVERY = {
    "id": KEY,
    "i": ColumnType.INTEGER,
    "s": ColumnType.STRING,
    "t": ColumnType.TEXT,
    "f": ColumnType.FLOAT,
    "b": ColumnType.BOOLEAN,
    "j": ColumnType.JSON,
    "d": ColumnType.DATETIME,
}


def naive(*parts) -> datetime:
    return datetime(*parts)  # noqa: DTZ001 - that a naive one means UTC is what is tested


@pytest.fixture
async def rows(store):
    """Five rows of every type, one of them all NULL."""
    await store.create_table("t", EVERY)
    await store.insert(
        "t",
        [
            {"id": str(n), "i": n, "s": f"s{n}", "f": n / 2, "b": n % 2 == 0, "j": [n], "d": naive(2024, 1, 1 + n)}
            for n in range(4)
        ]
        + [{"id": "null"}],
    )  # fmt: skip
    return store


async def ids(store, where) -> list[str]:
    return [row["id"] for row in (await store.fetch_all("t", where)).data]


text = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))
values = st.fixed_dictionaries(
    {},
    optional={
        "i": st.none() | st.integers(-(2**63), 2**63 - 1),
        "s": st.none() | text,
        "t": st.none() | text,
        "f": st.none() | st.floats(allow_nan=False),
        "b": st.none() | st.booleans(),
        "j": st.none()
        | st.recursive(
            st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
            | st.text(st.characters(exclude_categories=[])),
            lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        ),
        "d": st.none() | st.datetimes(timezones=st.just(UTC)),
    },
)  # fmt: skip


async def test_whatever_goes_in_comes_out(store):
    await store.create_table("t", EVERY)
    loop = asyncio.get_running_loop()
    count = 0

    async def once(row, many):
        nonlocal count
        count += 1
        key = str(count)
        await store.insert("t", [{"id": key, **row}, *([{"id": f"{key}+", **row}] if many else [])])
        whole = dict.fromkeys(EVERY) | row
        for each in (key, f"{key}+") if many else (key,):
            assert await store.fetch_one("t", {"id": each}) == {**whole, "id": each}
        found = {column: value for column, value in row.items() if column != "j"}
        assert key in await ids(store, {**found, "id": [key, "other"]})

    @settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
    @given(values, st.booleans())
    def examples(row, many):
        asyncio.run_coroutine_threadsafe(once(row, many), loop).result(30)

    await asyncio.to_thread(examples)


async def test_p7_times_and_sizes_of_64_bits(store):
    await store.create_table("t", EVERY)
    for number in (2**31, 2**40, 2**63 - 1, -(2**63)):
        await store.upsert("t", {"id": "1", "i": number}, ["id"])
        assert await store.fetch_one("t", {"i": number}) is not None
    for number in (2**63, -(2**63) - 1):
        with pytest.raises(InvalidArgumentError, match=r"column 'i' is INTEGER.*64 bits"):
            await store.insert("t", {"id": "2", "i": number})
        with pytest.raises(InvalidArgumentError, match="64 bits"):
            await store.fetch_all("t", {"i": {">": number}})
    await store.insert("t", {"id": "2038", "d": naive(2038, 1, 20)})
    assert (await store.fetch_one("t", {"id": "2038"}))["d"] == datetime(2038, 1, 20, tzinfo=UTC)


async def test_moments(store):
    await store.create_table("t", EVERY)
    east = timezone(timedelta(hours=5, minutes=30))
    moments = {
        "naive": (naive(2024, 5, 1, 12), datetime(2024, 5, 1, 12, tzinfo=UTC)),
        "east": (datetime(2024, 5, 1, 12, tzinfo=east), datetime(2024, 5, 1, 6, 30, tzinfo=UTC)),
        "first": (naive(1, 1, 1), datetime.min.replace(tzinfo=UTC)),
        "last": (naive(9999, 12, 31, 23, 59, 59, 999999), datetime.max.replace(tzinfo=UTC)),
    }
    await store.insert("t", [{"id": name, "d": given} for name, (given, _) in moments.items()])
    for name, (_, wanted) in moments.items():
        found = (await store.fetch_one("t", {"id": name}))["d"]
        assert found == wanted
        assert found.tzinfo is UTC
    order = [row["id"] for row in (await store.fetch_all("t", order_by="d")).data]
    assert order == ["first", "east", "naive", "last"]
    assert await ids(store, {"d": datetime(2024, 5, 1, 12, tzinfo=east)}) == ["east"]
    with pytest.raises(InvalidArgumentError, match="years 1 to 9999"):
        await store.insert("t", {"id": "x", "d": datetime.min.replace(tzinfo=east)})


async def test_json_is_kept_as_it_is(place, store):
    await store.create_table("t", EVERY)
    body = {"z": "\0 \ud800 ü", "a": [10**40, 1.0, True, None, {}], "": "\\u0000"}
    await store.insert("t", {"id": "1", "j": body})
    found = (await store.fetch_one("t"))["j"]
    assert found == body
    assert list(found) == ["z", "a", ""]
    assert isinstance(found["a"][1], float)
    # Whoever else writes valid JSON there is read as well.
    await place.sql("""UPDATE @t SET j = '{"k": 1, "k": 2}'""")
    assert (await store.fetch_one("t"))["j"] == {"k": 2}
    deep: object = None
    for _ in range(300):
        deep = [deep]
    await store.update("t", {"j": deep}, {"id": "1"})
    assert (await store.fetch_one("t"))["j"] == deep


async def test_json_that_can_not_be_read(sqlite_place):
    store = sqlite_place.store()
    await store.create_table("t", EVERY)
    await store.insert("t", {"id": "1"})
    await sqlite_place.sql("UPDATE @t SET j = '{secret'")
    with pytest.raises(StoreError, match="column 'j' holds what is not readable JSON") as caught:
        await store.fetch_all("t")
    assert "secret" not in repr(caught.value) + repr(caught.value.__context__)


class Color(StrEnum):
    RED = "red"


class Level(IntEnum):
    HIGH = 9


async def test_subclasses_are_their_values(store):
    await store.create_table("t", EVERY)
    await store.insert("t", {"id": Color.RED, "i": Level.HIGH, "f": 3})
    found = await store.fetch_one("t", {"id": Color.RED, "i": Level.HIGH})
    assert (found["id"], found["i"], found["f"]) == ("red", 9, 3.0)
    assert type(found["f"]) is float


_circle: list = []
_circle.append(_circle)


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("i", "1"), ("i", 1.0), ("i", True), ("s", 1), ("s", b"x"), ("s", "a\0b"), ("t", "\ud800"),
        ("f", "1"), ("f", math.nan), ("f", True), ("f", 10**400), ("b", 1), ("b", "true"),
        ("j", {1, 2}), ("j", math.nan), ("j", _circle), ("j", {("a",): 1}), ("j", naive(2024, 1, 1)),
        ("d", "2024-01-01"), ("d", 1700000000), ("d", naive(2024, 1, 1).date()),
        ("id", None),
    ],
)  # fmt: skip
async def test_what_does_not_fit_is_refused_alike(store, column, value):
    await store.create_table("t", EVERY)
    with pytest.raises(InvalidArgumentError, match=f"column '{column}'"):
        await store.insert("t", [{"id": "good"}, {"id": "bad", column: value}])
    assert (await store.fetch_all("t")).data == []
    if column != "j":
        with pytest.raises(InvalidArgumentError, match=f"column '{column}'"):
            await store.update("t", {column: value}, {"id": "1"})


async def test_a_value_is_in_no_refusal(store):
    await store.create_table("t", EVERY)
    for column in ("i", "f", "b", "d", "s"):
        value = "c4n4ry\0" if column == "s" else "c4n4ry"
        with pytest.raises(InvalidArgumentError) as caught:
            await store.insert("t", {"id": "1", column: value})
        assert "c4n4ry" not in str(caught.value) + repr(caught.value.__context__)


HOSTILE = [
    "%", "_", "%s %(x)s :x $1 ?", "'", '"', "\\", "\\'", "'; DROP TABLE t; --", "a\nb\r\t\x01\x7f",
    "ß漢字🦉", "\u202e\ufeff\uffff", "{}", "null", "NaN", "0x1", " ", "",
]  # fmt: skip


@pytest.mark.parametrize("hostile", HOSTILE)
async def test_hostile_texts(store, hostile):
    await store.create_table("t", EVERY)
    await store.insert(
        "t", [{"id": f"1{hostile}", "s": hostile, "j": hostile}, {"id": "2", "s": "x"}]
    )
    row = await store.fetch_one("t", {"id": f"1{hostile}"})
    assert (row["s"], row["j"]) == (hostile, hostile)
    assert len(await ids(store, {"s": hostile})) == 1
    assert len(await ids(store, {"s": [hostile, "y"]})) == 1
    page = await store.fetch_all("t", {"s": {">=": ""}}, order_by=["s"], limit=1)
    rest = await store.fetch_all("t", {"s": {">=": ""}}, ["s"], 1, page.next_cursor)
    assert {row["s"] for row in page.data + rest.data} == {hostile, "x"}
    assert await store.update("t", {"t": hostile}, {"s": hostile}) == 1
    assert await store.delete("t", {"t": hostile}) == 1


async def test_ten_megabytes(store):
    await store.create_table("t", EVERY)
    big = "äb'%" * 2_500_000
    await store.insert("t", {"id": "1", "t": big, "j": {"big": big}})
    row = await store.fetch_one("t", {"t": big})
    assert row["t"] == big and row["j"] == {"big": big}
    with pytest.raises(InvalidArgumentError, match=r"texts in id are indexed.*2500 bytes"):
        await store.insert("t", {"id": big})
    assert await store.fetch_one("t", {"id": big}) is None
    await store.create_table(
        "u", {"id": KEY, "s": ColumnDefinition(ColumnType.STRING, default="x" * 2400)}
    )
    await store.create_index("by_default", "u", ["s"])
    with pytest.raises(InvalidArgumentError, match="texts in s, id"):
        await store.insert("u", {"id": "y" * 200})
    await store.create_index("by_s", "t", ["s", "i"])
    for text_ in ("x" * 2500, "ä" * 1250):
        with pytest.raises(
            InvalidArgumentError, match=r"texts in s, i, id are indexed.*2500 bytes"
        ):
            await store.insert("t", {"id": "2", "s": text_})
        await store.insert("t", {"id": text_[:1], "s": text_[:-1]})


async def test_where(rows):
    day = naive(2024, 1, 3)
    table = [
        (None, "0 1 2 3 null"),
        ({}, "0 1 2 3 null"),
        ({"i": 2}, "2"),
        ({"i": {"=": 2}}, "2"),
        ({"i": {"==": 2}}, "2"),
        ({"i": {"!=": 2}}, "0 1 3 null"),
        ({"i": {">": 1}}, "2 3"),
        ({"i": {">=": 1}}, "1 2 3"),
        ({"i": {"<": 1}}, "0"),
        ({"i": {"<=": 1}}, "0 1"),
        ({"i": None}, "null"),
        ({"i": {"=": None}}, "null"),
        ({"i": {"!=": None}}, "0 1 2 3"),
        ({"i": []}, ""),
        ({"i": [1, 3, 99, 1]}, "1 3"),
        ({"i": (1, None)}, "1 null"),
        ({"i": {1}, "s": "s1"}, "1"),
        ({"i": [None]}, "null"),
        ({"i": list(range(2, 302))}, "2 3"),
        ({"i": list(range(2, 10_002))}, "2 3"),
        ({"i": 1, "s": "s2"}, ""),
        ({"s": ["s1", "s2"], "b": True}, "2"),
        ({"b": False}, "1 3"),
        ({"b": {"!=": True}}, "1 3 null"),
        ({"b": [True, None]}, "0 2 null"),
        ({"b": {">": False}}, "0 2"),
        ({"f": 1.5}, "3"),
        ({"f": {">": 0}}, "1 2 3"),
        ({"d": day}, "2"),
        ({"d": {">": day}}, "3"),
        ({"d": [day, naive(2024, 1, 1)]}, "0 2"),
        ({"j": None}, "null"),
        ({"j": {"!=": None}}, "0 1 2 3"),
        ({"id": {"!=": "1"}}, "0 2 3 null"),
    ]
    for where, wanted in table:
        assert await ids(rows, where) == wanted.split(), where


async def test_impossible_conditions(rows):
    table = [
        ({"ii": 1}, "no column 'ii'; there are: b, d, f, i, id, j, s, t; did you mean 'i"),
        ({"i": {"~": 1}}, "no operator '~'; allowed are = == != > < >= <="),
        ({"i": {"in": [1]}}, "no operator 'in'"),
        ({"i": {">": 1, "<": 3}}, "one operator, not 2"),
        ({"i": {}}, "one operator, not 0"),
        ({"i": {">": None}}, "None is neither more nor less"),
        ({"i": "1"}, "takes an int"),
        ({"i": [1, "x"]}, "takes an int"),
        ({"i": {"=": [1]}}, "takes an int"),
        ({"i": list(range(10_001))}, "a list of 10001; allowed are at most 10000"),
        ({"j": [0]}, "JSON"),
        ({"j": {"=": [0]}}, "JSON"),
        ({1: 1}, "no column a int"),
        ("i = 1", "where is a mapping"),
    ]
    for where, says in table:
        with pytest.raises(InvalidArgumentError) as caught:
            await rows.fetch_all("t", where)
        assert says in str(caught.value)
        with pytest.raises(InvalidArgumentError):
            await rows.delete("t", where)
        with pytest.raises(InvalidArgumentError):
            await rows.update("t", {"i": 1}, where)
    assert len(await ids(rows, None)) == 5


async def test_insert_is_all_or_nothing(rows):
    await rows.insert("t", [])
    with pytest.raises(ConflictError, match=r"'t': there is a row with the same id$") as caught:
        await rows.insert("t", [{"id": "9"}, {"id": "c4n4ry"}, {"id": "c4n4ry"}])
    assert "c4n4ry" not in str(caught.value)
    with pytest.raises(ConflictError):
        await rows.insert("t", [{"id": "9"}, {"id": "1"}])
    assert await ids(rows, {"id": "9"}) == []
    # In several statements.
    many = [{"id": f"m{n}", "i": n} for n in range(12_000)]
    with pytest.raises(ConflictError):
        await rows.insert("t", [*many, {"id": "null"}])
    assert await ids(rows, {"id": {">=": "m"}}) == ["null"]
    await rows.insert("t", many)
    assert len(await ids(rows, {"id": {">=": "m"}})) == 12_001
    for wrong in ("row", 1, [1], [["id"]], {"id"}):
        with pytest.raises(InvalidArgumentError, match="a row is a mapping"):
            await rows.insert("t", wrong)
    with pytest.raises(InvalidArgumentError, match="column 'id' can't be NULL and has to be given"):
        await rows.insert("t", {"i": 1})
    with pytest.raises(InvalidArgumentError, match="no column 'x'"):
        await rows.insert("t", {"id": "9", "x": 1})


async def test_columns_that_are_not_given(store):
    await store.create_table(
        "t", {"id": KEY, "a": ColumnDefinition(ColumnType.INTEGER, nullable=False),
              "b": ColumnDefinition(ColumnType.INTEGER, nullable=False, default=7)},
    )  # fmt: skip
    with pytest.raises(InvalidArgumentError, match="column 'a' can't be NULL"):
        await store.insert("t", {"id": "1"})
    with pytest.raises(InvalidArgumentError, match="column 'b' can't be NULL"):
        await store.insert("t", {"id": "1", "a": 1, "b": None})
    await store.insert("t", [{"id": "1", "a": 1}, {"id": "2", "b": 2, "a": 2}])
    assert [row["b"] for row in (await store.fetch_all("t")).data] == [7, 2]
    with pytest.raises(InvalidArgumentError, match="column 'a' can't be NULL"):
        await store.update("t", {"a": None}, {"id": "1"})


async def test_insert_do_nothing(rows):
    assert await rows.insert_do_nothing("t", {"id": "1", "i": 99}) == 0
    assert await rows.insert_do_nothing("t", [{"id": "1", "i": 99}, {"id": "8"}, {"id": "8"}, {"id": "9"}]) == 2  # fmt: skip
    assert await rows.insert_do_nothing("t", []) == 0
    assert await ids(rows, {"i": 99}) == []
    assert await ids(rows, {"id": ["8", "9"]}) == ["8", "9"]


async def test_upsert(rows):
    await rows.upsert("t", {"id": "1", "i": 10}, ["id"])
    row = await rows.fetch_one("t", {"id": "1"})
    assert (row["i"], row["s"], row["j"]) == (10, "s1", [1])
    await rows.upsert("t", {"id": "1", "i": 11, "s": "new", "j": {"n": None}}, ["id"], ["s", "j"])
    row = await rows.fetch_one("t", {"id": "1"})
    assert (row["i"], row["s"], row["j"]) == (10, "new", {"n": None})
    await rows.upsert("t", {"id": "1", "i": 12}, ["id"], [])
    await rows.upsert("t", {"id": "1"}, ["id"])
    assert (await rows.fetch_one("t", {"id": "1"}))["i"] == 10
    await rows.upsert("t", [], ["id"])
    # The later of two wins, as if they had come one after another.
    await rows.upsert("t", [{"id": "8", "i": 1, "s": "a"}, {"id": "8", "i": 2, "s": "b"}, {"id": "2", "i": 5, "s": "c"}], ["id"], ["i"])  # fmt: skip
    assert [(row["i"], row["s"]) for row in (await rows.fetch_all("t", {"id": ["8", "2"]})).data] == [(5, "s2"), (2, "a")]  # fmt: skip
    wrong = [
        ({"id": "1"}, ["i"], None, "conflict_columns are its primary key"),
        ({"id": "1"}, "id", None, "conflict_columns are its primary key"),
        ({"id": "1"}, [], None, "conflict_columns are its primary key"),
        ({"id": "1", "i": 1}, ["id"], ["id"], "'id' is not"),
        ({"id": "1", "i": 1}, ["id"], ["s"], "'s' is not"),
        ({"id": "1", "i": 1}, ["id"], ["x"], "no column 'x'"),
        ([{"id": "1", "i": 1}, {"id": "2"}], ["id"], None, "the same columns"),
    ]
    for data, conflict, changed, says in wrong:
        with pytest.raises(InvalidArgumentError, match=says):
            await rows.upsert("t", data, conflict, changed)


async def test_update_and_delete(rows):
    assert await rows.update("t", {"s": "x", "j": {"a": 1}, "d": naive(2030, 1, 1), "b": None}, {"i": {">": 1}}) == 2  # fmt: skip
    row = await rows.fetch_one("t", {"id": "2"})
    assert (row["s"], row["j"], row["b"]) == ("x", {"a": 1}, None)
    assert row["d"] == datetime(2030, 1, 1, tzinfo=UTC)
    assert await rows.update("t", {"s": "y"}, {"id": "99"}) == 0
    assert await rows.update("t", {"id": "renamed"}, {"id": "3"}) == 1
    with pytest.raises(ConflictError, match="the same id"):
        await rows.update("t", {"id": "1"}, {"id": "0"})
    with pytest.raises(InvalidArgumentError, match="at least one column"):
        await rows.update("t", {}, {"id": "0"})
    assert await rows.delete("t", {"id": ["0", "1", "99"]}) == 2
    for where in (None, {}):
        with pytest.raises(InvalidArgumentError, match="needs a where"):
            await rows.delete("t", where)
        with pytest.raises(InvalidArgumentError, match="needs a where"):
            await rows.update("t", {"i": 1}, where)
    assert await rows.delete("t", {"id": {"!=": None}}) == 3


async def test_delete_many(rows):
    await rows.create_table("u", {"id": KEY})
    await rows.insert("u", [{"id": "a"}, {"id": "b"}])
    assert await rows.delete_many([]) == 0
    operations = [DeleteOperation("t", {"i": {"<": 2}}), DeleteOperation("u", {"id": "a"})]
    with pytest.raises(InvalidArgumentError):
        await rows.delete_many([*operations, DeleteOperation("u", {})])
    assert await rows.delete_many(operations) == 3
    assert await ids(rows, None) == ["2", "3", "null"]


async def test_delete_many_is_all_or_nothing(place, rows):
    await rows.create_table("u", {"id": KEY})
    await rows.insert("u", {"id": "a"})
    if place.dialect == "sqlite":
        await place.sql(
            "CREATE TRIGGER no BEFORE DELETE ON @u BEGIN SELECT RAISE(ABORT, 'no'); END"
        )
    else:
        await place.sql(
            "CREATE FUNCTION @no() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RAISE 'no'; END$$"
        )
        await place.sql("CREATE TRIGGER no BEFORE DELETE ON @u FOR EACH ROW EXECUTE FUNCTION @no()")
    with pytest.raises(StoreError):
        await rows.delete_many([DeleteOperation("t", {"i": 1}), DeleteOperation("u", {"id": "a"})])
    assert await ids(rows, {"i": 1}) == ["1"]


async def test_rows_are_written_in_the_order_of_their_keys(postgres_place):
    """Two writers of the same rows would else lock each other out, each waiting for the other's."""
    store = postgres_place.store()
    await store.create_table("t", EVERY)
    written = []

    @event.listens_for(postgres_place.pools[0].engine.sync_engine, "before_cursor_execute")
    def note(_connection, _cursor, statement, parameters, *_):
        if statement.startswith("INSERT"):
            written.append(parameters[0])

    await store.upsert("t", [{"id": key} for key in "cab"], ["id"])
    await store.insert_do_nothing("t", [{"id": key} for key in "acd"])
    assert written == [["a", "b", "c"], ["a", "c", "d"]]


async def test_zero_has_no_sign(store):
    await store.create_table("t", EVERY)
    await store.insert("t", {"id": "1", "f": -0.0})
    assert math.copysign(1, (await store.fetch_one("t"))["f"]) == 1


async def test_fetch_one(rows):
    assert await rows.fetch_one("t", {"id": "99"}) is None
    assert (await rows.fetch_one("t", order_by=[("i", "desc")]))["id"] == "3"
    assert (await rows.fetch_one("t", order_by="i"))["id"] == "null"


async def test_sixteen_writers_at_once(place, store):
    await store.create_table("t", EVERY)
    other = place.store()
    await other.create_table("t", EVERY)

    async def write(number):
        mine = (store, other)[number % 2]
        for turn in range(10):
            await mine.insert("t", [{"id": f"{number}-{turn}-{n}", "i": n} for n in range(5)])
            await mine.upsert(
                "t", [{"id": f"shared{n}", "i": number} for n in range(5, 0, -1)], ["id"]
            )

    await asyncio.gather(*(write(number) for number in range(16)))
    assert len((await store.fetch_all("t")).data) == 16 * 50 + 5


async def test_compare_and_set(place, store):
    await store.create_table("t", EVERY)
    await store.insert("t", {"id": "1", "i": 0})
    other = place.store()
    await other.create_table("t", EVERY)

    async def count(mine):
        for _ in range(10):
            while True:
                seen = (await mine.fetch_one("t", {"id": "1"}))["i"]
                if await mine.update("t", {"i": seen + 1}, {"id": "1", "i": seen}):
                    break

    await asyncio.gather(*(count(mine) for mine in (store, other) * 4))
    assert (await store.fetch_one("t"))["i"] == 80


async def test_a_transaction_is_all_or_nothing(place, rows):
    await rows.create_table("u", {"id": KEY, "n": ColumnType.INTEGER})
    async with rows.transaction() as both:
        await both.insert("u", [{"id": str(n), "n": n} for n in range(5)])
        assert await both.update("t", {"i": 50}, {"id": "1"}) == 1
        page = await both.fetch_all("u", order_by="n", limit=2)
        assert len((await both.fetch_all("u", None, "n", 2, page.next_cursor)).data) == 2
        assert await both.fetch_one("u", {"id": "1"}) is not None
        # Nobody else sees it yet.
        assert await rows.fetch_one("u", {"id": "1"}) is None
    assert (await rows.fetch_one("t", {"id": "1"}))["i"] == 50
    with pytest.raises(KeyError):
        async with rows.transaction() as both:
            await both.delete("u", {"n": {">=": 0}})
            await both.upsert("t", {"id": "1", "i": 51}, ["id"])
            raise KeyError
    assert len((await rows.fetch_all("u")).data) == 5
    assert (await rows.fetch_one("t", {"id": "1"}))["i"] == 50
    with pytest.raises(StoreError, match="is over"):
        await both.fetch_one("t")


async def test_a_failure_in_a_transaction_undoes_it_even_when_it_is_swallowed(rows):
    with pytest.raises(StoreError, match=r"was undone.*the same id"):
        async with rows.transaction() as each:
            await each.insert("t", {"id": "new"})
            with pytest.raises(ConflictError):
                await each.insert("t", {"id": "1"})
            with pytest.raises(StoreError, match="nothing more is possible"):
                await each.insert("t", {"id": "newer"})
    with pytest.raises(ConflictError):
        async with rows.transaction() as each:
            await each.insert("t", {"id": "new"})
            await each.insert("t", {"id": "1"})
    assert await ids(rows, {"id": ["new", "newer"]}) == []
    # What never reached the database spoils nothing.
    async with rows.transaction() as each:
        with pytest.raises(InvalidArgumentError):
            await each.insert("t", {"id": 1})
        await each.insert("t", {"id": "new"})
    assert await ids(rows, {"id": ["new", "newer"]}) == ["new"]


async def test_the_tasks_of_a_transaction_take_turns(rows):
    async with rows.transaction() as each:
        await asyncio.gather(*(each.insert("t", {"id": f"g{n}"}) for n in range(10)))
    assert len(await ids(rows, {"id": {">": "g"}})) == 11


async def test_a_table_that_is_gone_in_a_transaction(place, rows):
    await place.sql("DROP TABLE @t")
    with pytest.raises(BackendUnavailableError, match="repeat the transaction"):
        async with rows.transaction() as each:
            await each.insert("t", {"id": "1"})
    async with rows.transaction() as each:
        await each.insert("t", {"id": "1"})
    assert await ids(rows, None) == ["1"]


async def test_a_cancelled_transaction_leaves_nothing(rows):
    async def hang():
        async with rows.transaction() as each:
            await each.insert("t", {"id": "cancelled"})
            await asyncio.Event().wait()

    task = asyncio.create_task(hang())
    await asyncio.sleep(0.3)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await ids(rows, {"id": "cancelled"}) == []
    await rows.insert("t", {"id": "next"})
