"""`stackstore.json` read back as written, and anything else refused without a word of its values."""

import copy
import json
import traceback

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stackstore.credentials.snapshot import (
    Durability,
    Login,
    PoolSettings,
    PostgresBackend,
    PreviousLogin,
    Snapshot,
    SqliteBackend,
    StoreSettings,
    Tls,
)
from stackstore.errors import ConfigError

CANARY = "c4n4ry-Zq7"


def good() -> Snapshot:
    login = Login(
        revision="3f9c2a1b", host="db", port=5432, database="stack", username="app", password=CANARY
    )
    previous = PreviousLogin(**{**dict(login), "revision": "00000001"}, usable_until=1_800_000_000)
    return Snapshot(
        stack_id="9d2e41b0c7aa",
        revision="3f9c2a1b",
        backends={
            "sql_default": PostgresBackend(
                type="sql_postgres",
                current=login,
                previous=(previous,),
                tls=Tls(mode="VerifyFull", ca="PEM"),
                pool=PoolSettings(size=3),
                statement_timeout_seconds=30,
            ),
            "kv_default": SqliteBackend(type="kv_sqlite", path="/data/kv.db"),
        },
        stores={
            "inference": StoreSettings(
                num_writers=2, durability=Durability(mode="Journal", path="/journal")
            )
        },
        providers={"responses/builtin/persistence.responses": StoreSettings(retention_seconds=60)},
    )


def refused(content: bytes) -> str:
    with pytest.raises(ConfigError) as failure:
        Snapshot.parse(content, "stackstore.json")
    error = failure.value
    shown = "".join(traceback.format_exception(error)) + repr(error) + repr(error.__context__)
    assert CANARY not in shown
    assert str(error).startswith("stackstore.json: ")
    return str(error)


def told(content: bytes) -> str:
    """Everything that a log could show of a refusal; empty where it was accepted."""
    try:
        Snapshot.parse(content, "stackstore.json")
    except ConfigError as error:
        return "".join(traceback.format_exception(error)) + repr(error.__context__)
    return ""


def changed(path: str, value: object) -> bytes:
    data = json.loads(good().to_bytes())
    node = data
    *way, last = path.split(".")
    for key in way:
        node = node[int(key) if isinstance(node, list) else key]
    if value is DELETE:
        del node[last]
    else:
        node[last] = value
    return json.dumps(data).encode()


DELETE = object()
PG = "backends.sql_default"


def test_it_is_read_back_and_written_the_same():
    content = good().to_bytes()
    assert Snapshot.parse(content, "x") == good()
    assert Snapshot.parse(content, "x").to_bytes() == content


def test_no_representation_shows_a_password():
    for text in (repr(good()), str(good()), repr(good().model_dump())):
        assert CANARY not in text


def test_keys_of_a_later_release_are_let_through():
    assert Snapshot.parse(changed("later", {"a": 1}), "x") == good()
    assert Snapshot.parse(changed(f"{PG}.later", 1), "x") == good()


@pytest.mark.parametrize(
    ("path", "value", "place"),
    [
        ("version", 2, "version"),
        ("version", None, "version"),
        ("version", "1", "version"),
        ("stackId", DELETE, "stackId"),
        ("stackId", "9D2E41B0C7AA", "stackId"),
        ("stackId", "9d2e41b0c7aa\n", "stackId"),
        ("stackId", "9d2e41b0c7a", "stackId"),
        ("stackId", 123, "stackId"),
        ("revision", DELETE, "revision"),
        ("revision", CANARY, "revision"),
        ("backends", DELETE, "backends"),
        ("backends", None, "backends"),
        ("backends", [], "backends"),
        ("backends", CANARY, "backends"),
        (f"{PG}", None, PG),
        (f"{PG}", CANARY, PG),
        (f"{PG}", {}, PG),
        (f"{PG}.type", DELETE, PG),
        (f"{PG}.type", CANARY, PG),
        (f"{PG}.type", "kv_redis", PG),
        (f"{PG}.type", "sql_sqlite", "path"),
        (f"{PG}.current", DELETE, "current"),
        (f"{PG}.current", None, "current"),
        (f"{PG}.current", [CANARY], "current"),
        (f"{PG}.current", CANARY, "current"),
        (f"{PG}.current.host", DELETE, "current.host"),
        (f"{PG}.current.host", "", "current.host"),
        (f"{PG}.current.host", 7, "current.host"),
        (f"{PG}.current.port", 0, "current.port"),
        (f"{PG}.current.port", 65536, "current.port"),
        (f"{PG}.current.port", CANARY, "current.port"),
        (f"{PG}.current.port", 5432.5, "current.port"),
        (f"{PG}.current.port", 10**400, "current.port"),
        (f"{PG}.current.database", "", "current.database"),
        (f"{PG}.current.username", "", "current.username"),
        (f"{PG}.current.username", None, "current.username"),
        (f"{PG}.current.password", 12345, "current.password"),
        (f"{PG}.current.password", [CANARY], "current.password"),
        (f"{PG}.current.password", {"value": CANARY}, "current.password"),
        (f"{PG}.current.revision", "xyz", "current.revision"),
        (f"{PG}.previous", None, "previous"),
        (f"{PG}.previous", {}, "previous"),
        (f"{PG}.previous", [CANARY], "previous.0"),
        (f"{PG}.previous.0.usableUntil", DELETE, "previous.0.usableUntil"),
        (f"{PG}.previous.0.usableUntil", -1, "previous.0.usableUntil"),
        (f"{PG}.previous.0.usableUntil", CANARY, "previous.0.usableUntil"),
        (f"{PG}.previous", [{}] * 4, "previous"),
        (f"{PG}.tls.mode", "verify-full", "tls.mode"),
        (f"{PG}.tls.ca", 7, "tls.ca"),
        (f"{PG}.tls", CANARY, "tls"),
        (f"{PG}.pooler", "pgbouncer", "pooler"),
        (f"{PG}.pool.size", 0, "pool.size"),
        (f"{PG}.pool.maxOverflow", -1, "pool.maxOverflow"),
        (f"{PG}.pool.acquireTimeoutSeconds", 0, "pool.acquireTimeoutSeconds"),
        (f"{PG}.pool.recycleSeconds", -2, "pool.recycleSeconds"),
        (f"{PG}.statementTimeoutSeconds", 0, "statementTimeoutSeconds"),
        ("backends.kv_default.path", "", "path"),
        ("backends.kv_default.path", DELETE, "path"),
        ("stores", [CANARY], "stores"),
        ("stores.inference.numWriters", 0, "stores.inference.numWriters"),
        ("stores.inference.durability", {"mode": CANARY}, "durability.mode"),
        ("stores.inference.durability.path", DELETE, "stores.inference.durability"),
        ("stores.inference.durability.path", f"{CANARY}/relative", "absolute path"),
        ("stores.inference.retentionSeconds", 0, "stores.inference.retentionSeconds"),
        ("providers", [CANARY], "providers"),
    ],
)  # fmt: skip
def test_broken_in_one_place(path, value, place):
    assert place in refused(changed(path, value))


def test_every_problem_is_told_at_once():
    data = json.loads(good().to_bytes())
    data["stackId"] = ""
    data["backends"]["sql_default"]["current"]["port"] = 0
    data["backends"]["kv_default"]["path"] = ""
    assert len(refused(json.dumps(data).encode()).splitlines()) == 3


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"null",
        b"[]",
        b'"' + CANARY.encode() + b'"',
        b"{" + CANARY.encode(),
        b"\xff\xfe" + CANARY.encode(),
        b"\xef\xbb\xbf{}",
        b"\0" * 100,
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b"1" * 10_000,
        b"NaN",
        b'{"backends": {"x": ' + b'{"type": "' + CANARY.encode() + b'"}}}',
        b'{"stackId": "\\ud800"}',
        good().to_bytes()[:-2],
        good().to_bytes() * 2,
        good().to_bytes().decode().encode("utf-16"),
    ],
    ids=lambda content: content[:12].decode("latin-1"),
)
def test_broken_as_a_whole(content):
    refused(content)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_cut_short_or_smeared_anywhere(data):
    content = bytearray(good().to_bytes())
    start = data.draw(st.integers(0, len(content) - 1))
    content[start : start + data.draw(st.integers(0, 30))] = data.draw(st.binary(max_size=6))
    assert CANARY not in told(bytes(content))


VALUES = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(),
        st.text(max_size=8),
        st.just(CANARY),
        st.just("sql_postgres"),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=5,
)


def routes(node, here=()):
    found = [here] if here else []
    for key, value in node.items() if isinstance(node, dict) else ():
        found += routes(value, (*here, key))
    return found


PLAIN = json.loads(good().to_bytes())
ROUTES = routes(PLAIN)


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(ROUTES), VALUES)
def test_any_value_anywhere(route, value):
    data = copy.deepcopy(PLAIN)
    node = data
    for key in route[:-1]:
        node = node[key]
    node[route[-1]] = value
    assert CANARY not in told(json.dumps(data).encode())
