"""Any sequence of operations does what it would to a dict; two namespaces at once."""

from __future__ import annotations

import datetime as dt
import itertools
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stackstore.errors import InvalidArgumentError

NOW = dt.datetime.now(dt.UTC)
NUMBERS = itertools.count()

TEXT = st.text(st.characters(codec="utf-8"), max_size=4)
# Few, so that they meet; and such as other orders than that of UTF-8's bytes would put elsewhere.
KEYS = (
    st.sampled_from(
        ["", "\0", "A", "a", "b", "B", "ab", "a:b", "é", "z", "ÿ", "\uffff", "\U00010000"]
    )
    | TEXT
)
VALUES = st.sampled_from(["", "0", "7", "-3", "x"]) | TEXT
EXPIRIES = st.none() | st.builds(
    lambda ahead, hours: (NOW + dt.timedelta(days=ahead)).astimezone(
        dt.timezone(dt.timedelta(hours=hours))
    ),
    st.sampled_from([-1, 1]),
    st.integers(-23, 23),
)
LIMITS = st.none() | st.integers(1, 4)
NAMESPACES = st.sampled_from([0, 1])
OPERATIONS = st.one_of(
    st.tuples(st.just("set"), NAMESPACES, KEYS, VALUES, EXPIRIES),
    st.tuples(st.just("get"), NAMESPACES, KEYS),
    st.tuples(st.just("delete"), NAMESPACES, KEYS),
    st.tuples(st.just("compare_and_set"), NAMESPACES, KEYS, st.none() | VALUES, VALUES, EXPIRIES),
    st.tuples(st.just("increment"), NAMESPACES, KEYS, st.integers(-5, 5)),
    st.tuples(st.just("set_many"), NAMESPACES, st.dictionaries(KEYS, VALUES, max_size=4), EXPIRIES),
    st.tuples(st.just("get_many"), NAMESPACES, st.lists(KEYS, max_size=5)),
    st.tuples(st.just("keys_in_range"), NAMESPACES, KEYS, KEYS, LIMITS),
    st.tuples(st.just("values_in_range"), NAMESPACES, KEYS, KEYS, LIMITS),
)  # fmt: skip


class Model:
    """A dict from key to (value, live)."""

    def __init__(self) -> None:
        self.rows: dict[str, str] = {}

    def set(self, key: str, value: str, expiry: dt.datetime | None) -> None:
        self.rows[key] = value
        if expiry is not None and expiry < NOW:
            del self.rows[key]

    def get(self, key: str) -> str | None:
        return self.rows.get(key)

    def delete(self, key: str) -> None:
        self.rows.pop(key, None)

    def compare_and_set(
        self, key: str, expected: str | None, value: str, expiry: dt.datetime | None
    ) -> bool:
        if self.rows.get(key) != expected:
            return False
        self.set(key, value, expiry)
        return True

    def increment(self, key: str, by: int) -> int | str:
        value = self.rows.get(key, "0")
        if not (value.isascii() and value.removeprefix("-").isdecimal()):
            return "refused"
        self.rows[key] = str(int(value) + by)
        return int(value) + by

    def set_many(self, items: dict[str, str], expiry: dt.datetime | None) -> None:
        for key, value in items.items():
            self.set(key, value, expiry)

    def get_many(self, keys: list[str]) -> dict[str, str]:
        return {key: self.rows[key] for key in keys if key in self.rows}

    def keys_in_range(self, start: str, end: str, limit: int | None) -> list[str]:
        inside = (key for key in self.rows if start.encode() <= key.encode() < end.encode())
        return sorted(inside, key=str.encode)[:limit]

    def values_in_range(self, start: str, end: str, limit: int | None) -> list[str]:
        return [self.rows[key] for key in self.keys_in_range(start, end, limit)]


@settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(operations=st.lists(OPERATIONS, min_size=1, max_size=30))
async def test_a_store_is_a_dict_sorted_by_bytes(place, operations: list[tuple[Any, ...]]):
    # Names such that the one's prefix of a key would be the other's.
    name = f"n{next(NUMBERS)}"
    stores = [place.store(name), place.store(f"{name}:b")]
    models = [Model(), Model()]
    for what, which, *args in operations:
        try:
            answer = await getattr(stores[which], what)(*args)
        except InvalidArgumentError:
            answer = "refused"
        assert answer == getattr(models[which], what)(*args), (what, which, args)
    for store, model in zip(stores, models, strict=True):
        found = await store.keys_in_range("", "\U0010ffff")
        assert found == model.keys_in_range("", "\U0010ffff", None)
        assert await store.get_many(found) == {key: model.rows[key] for key in found}
