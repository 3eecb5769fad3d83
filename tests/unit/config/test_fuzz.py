"""Whatever the bytes: an answer or a `ConfigError`, and no SQLite file that nobody named."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from stackstore.config import load
from stackstore.config.env import expand_user, substitute
from stackstore.credentials.snapshot import SqliteBackend
from stackstore.errors import ConfigError
from tests.unit.config.samples import FULL, FULL_ENVIRON

Route = tuple[str | int, ...]


def try_to_load(content: bytes) -> bool:
    """Whether it was accepted; anything but a ConfigError fails the test."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "config.yaml"
        path.write_bytes(content)
        try:
            config = load(path, FULL_ENVIRON)
        except ConfigError:
            return False
    # Without types, every scalar is the text that YAML means, whatever its quotes and folds.
    plain = yaml.load(content, yaml.BaseLoader)
    for name, backend in config.backends.items():
        if isinstance(backend, SqliteBackend):
            written = substitute(plain["storage"]["backends"][name]["db_path"], FULL_ENVIRON)
            assert backend.path == expand_user(written), (name, backend.path)
    return True


def routes(node: Any, here: Route = ()) -> list[Route]:
    found = [here] if here else []
    items: Any = ()
    if isinstance(node, dict):
        items = node.items()
    elif isinstance(node, list):
        items = enumerate(node)
    for key, value in items:
        found += routes(value, (*here, key))
    return found


ROUTES = routes(yaml.safe_load(FULL))
PLAIN_VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=12),
    st.sampled_from(
        ["kv_default", "sql_default", "kv_postgres", "sqlite", "${env.NOPE}", "${env.PG_PASSWORD}",
         "postgresql://u:p@h/d", "~", "/x", "", "0123", "{{", "\x00", "\ud800"]
    ),
)  # fmt: skip
VALUES = st.recursive(
    PLAIN_VALUES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=6,
)


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    data = yaml.safe_load(FULL)
    for _ in range(draw(st.integers(1, 3))):
        route = draw(st.sampled_from(ROUTES))
        node = data
        try:
            for key in route[:-1]:
                node = node[key]
            match draw(st.sampled_from(["replace", "delete", "rename", "add"])):
                case "replace":
                    node[route[-1]] = draw(VALUES)
                case "delete":
                    del node[route[-1]]
                case "rename":
                    node[draw(st.text(max_size=8))] = node.pop(route[-1])
                case _:
                    node[route[-1]][draw(st.text(max_size=8))] = draw(VALUES)
        except (LookupError, TypeError):
            continue
    text: str = yaml.safe_dump(data, allow_unicode=draw(st.booleans()))
    return text.encode("utf-8", "surrogatepass")


@settings(max_examples=80, deadline=None)
@given(mutated())
def test_mutations_of_a_good_config(content: bytes) -> None:
    try_to_load(content)


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_bytes_of_a_good_config_cut_swapped_and_smeared(data: st.DataObject) -> None:
    content = bytearray(FULL.encode())
    start = data.draw(st.integers(0, len(content) - 1))
    end = data.draw(st.integers(start, min(start + 40, len(content))))
    noise = st.one_of(
        st.binary(max_size=6),
        st.sampled_from([b"\t", b"*a", b"&a", b"!x ", b"? ", b"- ", b": ", b"${env.", b"\n", b"'"]),
    )
    content[start:end] = data.draw(noise)
    try_to_load(bytes(content))


@settings(max_examples=150, deadline=None)
@given(
    st.one_of(
        st.binary(max_size=200),
        st.text(alphabet="ab:-[]{}&*!|>'\"%@`#,? \n\t<\\", max_size=60).map(str.encode),
    )
)
def test_random_bytes_and_yaml(content: bytes) -> None:
    assert not try_to_load(content)


@settings(max_examples=100, deadline=None)
@given(VALUES)
def test_any_storage_section(storage: Any) -> None:
    text = yaml.safe_dump({"storage": storage, "providers": {}}, allow_unicode=False)
    try_to_load(text.encode("utf-8", "surrogatepass"))


@pytest.mark.parametrize("route", ROUTES, ids=str)
def test_everything_that_is_deleted_is_missed_or_not_needed(route: Route) -> None:
    data = yaml.safe_load(FULL)
    node = data
    for key in route[:-1]:
        node = node[key]
    del node[route[-1]]
    accepted = try_to_load(yaml.safe_dump(data).encode())
    if (route[:2] == ("storage", "backends") and len(route) <= 3) or route == ("storage",):
        assert not accepted
