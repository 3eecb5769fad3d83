"""Whose keys a store sees, and in which order, whatever the database's collation."""

from __future__ import annotations

# In the order of UTF-8's bytes. A dictionary's order has a before B, é beside e, and ignores hyphens.
KEYS = [
    "",
    "-",
    "A",
    "B",
    "Z",
    "_",
    "a",
    "a-b",
    "aB",
    "ab",
    "b",
    "e",
    "z",
    "é",
    "ÿ",
    "日",
    "\uffff",
    "\U00010000",
]


async def test_k5_ranges_are_in_byte_order_on_every_engine_and_collation(any_collation):
    """The server's own store ordered and compared by the database's collation."""
    store = any_collation.store()
    await store.set_many({key: f"v{key}" for key in reversed(KEYS)})
    assert await store.keys_in_range("", "\U0010ffff") == KEYS
    assert await store.values_in_range("", "\U0010ffff") == [f"v{key}" for key in KEYS]
    assert await store.keys_in_range("B", "a") == ["B", "Z", "_"]
    assert await store.keys_in_range("a", "b") == ["a", "a-b", "aB", "ab"]
    assert await store.keys_in_range("z", "\xff") == ["z", "é"]
    assert await store.keys_in_range("\uffff", "\U0010ffff") == ["\uffff", "\U00010000"]


async def test_k5_no_collation_applies_to_what_is_stored(on_postgres):
    """Whatever the database's: seen in the catalogue, for want of every locale there is."""
    await on_postgres.store().get("")
    found = await on_postgres.run(
        "SELECT attname FROM pg_attribute WHERE attrelid = 'stackstore.kv'::regclass "
        "AND attnum > 0 AND attcollation <> 0"
    )
    assert found == []


async def test_the_order_is_asked_for_and_no_accident_of_the_plan(on_postgres):
    role = on_postgres.world.database.role
    for plan in ("indexscan", "indexonlyscan"):
        await on_postgres.run(f'ALTER ROLE "{role}" SET enable_{plan} = off')
    store = on_postgres.store()
    for key in reversed(KEYS):
        await store.set(key, f"v{key}")
    assert await store.keys_in_range("", "\U0010ffff") == KEYS
    assert await store.values_in_range("", "\U0010ffff") == [f"v{key}" for key in KEYS]


async def test_k9_namespaces_never_meet(place):
    """Namespace "a" read key "b:c" of namespace "a:b", and an empty one read all."""
    stores = {name: place.store(name) for name in ("", "a", "a:b", "a:", ":", "a%", "A")}
    for name, store in stores.items():
        await store.set_many({key: f"{name}|{key}" for key in ("b:c", "c", ":b:c", "", "a:c")})
    for name, store in stores.items():
        assert await store.get("b:c") == f"{name}|b:c"
        assert await store.keys_in_range("", "\U0010ffff") == ["", ":b:c", "a:c", "b:c", "c"]
        assert set(await store.values_in_range("", "\U0010ffff")) == {
            f"{name}|{key}" for key in ("b:c", "c", ":b:c", "", "a:c")
        }
    await stores["a"].delete("b:c")
    assert await stores["a:b"].get("c") == "a:b|c"
    assert await stores[""].get("a:c") == "|a:c"
    assert await stores["a"].get("b:c") is None
