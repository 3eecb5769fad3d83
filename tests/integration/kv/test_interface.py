"""What a store answers, on both engines."""

from __future__ import annotations

import datetime as dt
import time
from zoneinfo import ZoneInfo

import pytest

from stackstore.errors import InvalidArgumentError, StoreError
from stackstore.kv import arguments
from tests.integration.kv.shown import everything_shown

NOW = dt.datetime.now(dt.UTC)
PAST, FUTURE = NOW - dt.timedelta(seconds=5), NOW + dt.timedelta(hours=1)


async def test_what_is_set_is_there_until_it_is_deleted(store):
    assert await store.get("model:llama") is None
    await store.set("model:llama", "one")
    await store.set("model:llama", "two")
    assert await store.get("model:llama") == "two"
    await store.delete("model:llama")
    await store.delete("model:llama")
    assert await store.get("model:llama") is None


@pytest.mark.parametrize(
    "text", ["", "\0", "a\0b", "ż", "日本語", "\U0001f600", "\uffff", "\U00010000", "' OR 1=1 --"]
)
async def test_any_text_is_a_key_and_a_value(store, text):
    await store.set(text, text)
    assert await store.get(text) == text
    assert await store.get_many([text, f"{text}x"]) == {text: text}
    assert await store.keys_in_range(text, f"{text}\0") == [text]


async def test_a_value_of_a_megabyte(store):
    value = "0123456789abcdeż" * 65_536
    await store.set("big", value)
    assert await store.get("big") == value
    assert await store.compare_and_set("big", value, "small")
    assert await store.get("big") == "small"


async def test_several_are_read_and_written_at_once(store):
    await store.set("b", "old")
    await store.set_many({"a": "1", "b": "2", "ż": "3"})
    assert await store.get_many(["ż", "a", "b", "a", "none"]) == {"a": "1", "b": "2", "ż": "3"}
    await store.set_many({})
    assert await store.get_many([]) == {}
    many = {f"{number:05}": str(number) for number in range(3_000)}
    await store.set_many(many)
    assert await store.get_many(many) == many


async def test_ranges_are_half_open_ordered_and_limited(store):
    await store.set_many({key: key.upper() for key in ("a", "b", "ba", "c", "d")})
    assert await store.keys_in_range("b", "d") == ["b", "ba", "c"]
    assert await store.values_in_range("b", "d") == ["B", "BA", "C"]
    assert await store.keys_in_range("b", "d", limit=2) == ["b", "ba"]
    assert await store.values_in_range("", "\U0010ffff", limit=1) == ["A"]
    assert await store.keys_in_range("b", "b") == []
    assert await store.keys_in_range("d", "a") == []
    # Nothing is stored under an end, so it may be longer than a key.
    assert await store.keys_in_range("a" * 10_000, "c" * 10_000) == ["b", "ba", "c"]


async def test_k11_compare_and_set(store):
    assert not await store.compare_and_set("a", "0", "1")
    assert await store.get("a") is None
    assert await store.compare_and_set("a", None, "1")
    assert not await store.compare_and_set("a", None, "2")
    assert not await store.compare_and_set("a", "0", "2")
    assert await store.get("a") == "1"
    assert await store.compare_and_set("a", "1", "2")
    assert await store.compare_and_set("a", "2", "2")
    assert await store.get("a") == "2"
    assert await store.compare_and_set("a", "2", "")
    assert not await store.compare_and_set("a", None, "3")
    assert await store.compare_and_set("a", "", "3")


async def test_compare_and_set_sets_the_expiration_too(store):
    await store.set("a", "1", FUTURE)
    assert await store.compare_and_set("a", "1", "2", PAST)
    assert await store.get("a") is None
    assert await store.compare_and_set("a", None, "3")
    assert await store.get("a") == "3"
    assert await store.compare_and_set("b", None, "1", PAST)
    assert await store.get("b") is None


async def test_k11_increment(store):
    assert await store.increment("n") == 1
    assert await store.increment("n") == 2
    assert await store.increment("n", by=40) == 42
    assert await store.increment("n", by=-50) == -8
    assert await store.get("n") == "-8"
    await store.set("n", "007")
    assert await store.increment("n", by=0) == 7
    assert await store.increment("fresh", by=-3) == -3


@pytest.mark.parametrize(
    "value",
    ["", " 1", "1 ", "1.0", "1e3", "0x10", "1_000", "+1", "--1", "\u0661", "a", "1\n", "1\0", "0" * 20, "9" * 19,
     "-" + "9" * 19],
)  # fmt: skip
async def test_only_integers_of_64_bits_are_incremented_and_the_rest_stays(store, value):
    await store.set("n", value)
    with pytest.raises(InvalidArgumentError, match="64"):
        await store.increment("n")
    assert await store.get("n") == value


async def test_a_counter_never_leaves_64_bits(store):
    assert await store.increment("n", by=2**63 - 1) == 2**63 - 1
    with pytest.raises(InvalidArgumentError, match="64-bit"):
        await store.increment("n")
    assert await store.get("n") == str(2**63 - 1)
    assert await store.increment("n", by=-(2**63)) == -1
    assert await store.increment("n", by=-(2**63) + 1) == -(2**63)
    with pytest.raises(InvalidArgumentError, match="64-bit"):
        await store.increment("n", by=-1)
    assert await store.get("n") == str(-(2**63))


@pytest.mark.parametrize("value", [None, 1, b"bytes", 1.5, {"a": 1}, ["a"], True])
async def test_values_and_keys_are_str_and_nothing_else(store, value):
    kind = type(value).__name__
    for call in (
        store.set("a", value),
        store.set(value, "a"),
        store.get(value),
        store.delete(value),
        store.set_many({"b": "1", "a": value}),
        store.get_many([value]),
        store.keys_in_range("a", value),
        store.values_in_range(value, "a"),
        store.compare_and_set("a", "x", value),
        store.increment(value),
    ):
        with pytest.raises(InvalidArgumentError, match=f"must be a str, not {kind}"):
            await call
    assert await store.keys_in_range("", "\U0010ffff") == []


async def test_one_str_is_not_taken_for_several(store):
    with pytest.raises(InvalidArgumentError, match="several"):
        await store.get_many("abc")


@pytest.mark.parametrize("by", [True, 1.0, "1", None, 2**63, -(2**63) - 1])
async def test_a_step_is_an_int_of_64_bits(store, by):
    with pytest.raises(InvalidArgumentError, match="by must"):
        await store.increment("n", by)


@pytest.mark.parametrize("limit", [0, -1, True, "1", 1.0, 2**63])
async def test_a_limit_is_a_positive_int(store, limit):
    with pytest.raises(InvalidArgumentError, match="limit must"):
        await store.keys_in_range("a", "b", limit)


async def test_lone_surrogates_are_refused_and_not_quoted(store):
    for text in ("secret\ud800", "\udfff", "secret\udc80\ud800"):
        for call in (
            store.set("a", text),
            store.set(text, "a"),
            store.get(text),
            store.keys_in_range("", text),
            store.set_many({"b": "1", "a": text}),
        ):
            with pytest.raises(InvalidArgumentError, match="lone surrogate") as failure:
                await call
            assert "secret" not in everything_shown(failure.value)
    assert await store.keys_in_range("", "\U0010ffff") == []


async def test_keys_as_long_as_allowed_fit_the_index_whatever_their_bytes(place):
    # Of many different characters, so that the index can't help itself by compressing them.
    text = "".join(chr(0x4E00 + number * 37 % 20_000) for number in range(512))
    store = place.store(f"{text[:341]}x")
    assert len(store.namespace.encode()) == arguments.MAX_NAMESPACE_BYTES
    assert len(text.encode()) == arguments.MAX_KEY_BYTES
    await store.set(text, "there")
    assert await store.get(text) == "there"
    with pytest.raises(InvalidArgumentError, match="key takes 1,537 bytes in UTF-8; at most 1,536"):
        await store.set(f"{text}x", "")
    with pytest.raises(InvalidArgumentError, match="key takes 10,000 bytes"):
        await store.get("k" * 10_000)
    with pytest.raises(InvalidArgumentError, match="namespace takes 1,025 bytes"):
        place.store("n" * 1025)


async def test_a_call_carries_so_much_and_no_more(store, monkeypatch):
    monkeypatch.setattr(arguments, "MAX_VALUE_BYTES", 10)
    await store.set("a", "ż" * 5)
    await store.set_many({"b": "x" * 5, "c": "x" * 5})
    with pytest.raises(InvalidArgumentError, match="value takes 12 bytes"):
        await store.set("a", "ż" * 6)
    with pytest.raises(InvalidArgumentError, match="several calls"):
        await store.set_many({"b": "y" * 5, "c": "y" * 6})
    assert await store.get_many(["a", "b", "c"]) == {"a": "ż" * 5, "b": "xxxxx", "c": "xxxxx"}


# -- expiry


@pytest.mark.parametrize(
    "zone", ["UTC", "Asia/Kathmandu", "Pacific/Kiritimati", "America/St_Johns"]
)
async def test_n20_an_expiration_of_any_zone_is_the_moment_it_names(store, zone):
    """SQLite compared the texts of local times, so a zone ahead of UTC outlived its moment."""
    there = ZoneInfo(zone)
    await store.set("past", "1", PAST.astimezone(there))
    await store.set("future", "2", FUTURE.astimezone(there))
    assert await store.get("past") is None
    assert await store.get("future") == "2"


@pytest.mark.parametrize("offset", [-23, -14, 14, 23])
async def test_fixed_offsets_and_the_ends_of_time(store, offset):
    zone = dt.timezone(dt.timedelta(hours=offset, minutes=59 if offset > 0 else 0))
    await store.set("past", "1", PAST.astimezone(zone))
    await store.set("future", "2", FUTURE.astimezone(zone))
    await store.set("first", "3", dt.datetime.min.replace(tzinfo=zone))
    await store.set("last", "4", dt.datetime.max.replace(tzinfo=zone))
    assert await store.keys_in_range("", "z") == ["future", "last"]


@pytest.fixture
def in_tokyo(monkeypatch):
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


async def test_a_naive_expiration_means_utc(store, in_tokyo):
    await store.set("past", "1", PAST.replace(tzinfo=None))
    await store.set("future", "2", FUTURE.replace(tzinfo=None))
    assert await store.keys_in_range("", "z") == ["future"]


def test_both_sides_of_an_hour_that_comes_twice():
    berlin = ZoneInfo("Europe/Berlin")
    first = dt.datetime(2024, 10, 27, 2, 30, tzinfo=berlin)
    assert (
        arguments.microseconds(first.replace(fold=1)) - arguments.microseconds(first)
        == 3600_000_000
    )


async def test_expired_rows_are_hidden_everywhere(store):
    for key in ("a", "b", "c"):
        await store.set(key, "1", PAST)
    await store.set("live", "2", FUTURE)
    assert await store.get("a") is None
    assert await store.get_many(["a", "b", "live"]) == {"live": "2"}
    assert await store.keys_in_range("", "z") == ["live"]
    assert await store.values_in_range("", "z") == ["2"]
    # A limit counts what is there, not what is hidden before it.
    assert await store.keys_in_range("", "z", limit=1) == ["live"]
    assert not await store.compare_and_set("a", "1", "3")
    assert await store.compare_and_set("a", None, "3")
    assert await store.get("a") == "3"
    assert await store.increment("b", by=5) == 5
    assert await store.get("b") == "5"
    await store.set("c", "4")
    assert await store.get("c") == "4"


async def test_a_row_expires_when_its_moment_comes(store, until):
    await store.set("a", "1", dt.datetime.now(dt.UTC) + dt.timedelta(seconds=0.4))
    assert await store.get("a") == "1"

    async def gone() -> bool:
        return await store.get("a") is None

    await until(gone)


async def test_increment_keeps_an_expiration_and_set_removes_it(store, place):
    await store.set("n", "1", FUTURE)
    assert await store.increment("n") == 2
    expiry = arguments.microseconds(FUTURE)
    ((kept,),) = await place.run(f"SELECT expires_at FROM {place.table}")
    assert kept == expiry
    await store.set("n", "1")
    ((kept,),) = await place.run(f"SELECT expires_at FROM {place.table}")
    assert kept is None


async def test_an_expiration_is_a_datetime(store):
    for wrong in (1_700_000_000, "2030-01-01", dt.date(2030, 1, 1), dt.timedelta(1)):
        with pytest.raises(InvalidArgumentError, match="expiration must be a datetime"):
            await store.set("a", "1", wrong)


def test_argument_errors_are_store_errors_and_value_errors():
    assert issubclass(InvalidArgumentError, StoreError)
    assert issubclass(InvalidArgumentError, ValueError)
