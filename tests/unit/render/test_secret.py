"""The Secret's keys: the URL is taken apart into what went in, and nothing is in it that should not be."""

from __future__ import annotations

from urllib.parse import parse_qs, unquote, urlsplit

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from stackstore.config import uri
from stackstore.credentials.snapshot import Snapshot, Tls
from stackstore_operator.render import revision, secret
from stackstore_operator.render.model import PlacedProvider, PlacedStore
from tests.compat.cases import HOSTS, MODES, backend, login, postgres, stack
from tests.unit.render.samples import CA

STACK_ID = "0123456789ab"
TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1)


@given(username=TEXT, password=TEXT, database=TEXT, host=st.sampled_from(sorted(HOSTS.values())))
@example(username="a/b@c:d?e#f%", password="a/b@c:d?e#f%", database="a/b@c:d?e#f%", host="h")
def test_any_login_survives_the_url(username, password, database, host):
    current = login(username=username, password=password, database=database, host=host, port=6432)
    made = secret.url("a", postgres("sql_postgres", current=current), STACK_ID)
    found, _ = uri.parse(made)
    assert (found.username, found.database) == (username, database)
    assert (found.host, found.port) == (host, 6432)
    assert found.password is not None
    assert found.password.get_secret_value() == password
    # And by the book, which is how others read it.
    parts = urlsplit(made)
    assert unquote(parts.username or "") == username
    assert unquote(parts.password or "") == password
    assert unquote(parts.path[1:]) == database


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("ca", [None, CA])
def test_tls_is_said_in_the_url(mode, ca):
    made = secret.url("my_db", postgres("kv_postgres", tls=Tls(mode=mode, ca=ca)), STACK_ID)
    found = {key: value for key, (value,) in parse_qs(urlsplit(made).query).items()}
    libpq = {"Disable": "disable", "Require": "require", "VerifyCA": "verify-ca",
             "VerifyFull": "verify-full"}  # fmt: skip
    expected = {"sslmode": libpq[mode], "application_name": f"stackstore:3f9c2a1b:{STACK_ID}"}
    if ca and mode.startswith("Verify"):
        expected["sslrootcert"] = "/etc/stack/storage/my_db.ca.crt"
    assert found == expected


@pytest.mark.parametrize(
    ("pooler", "seconds"), [("None", 7), ("Session", None), ("Transaction", None)]
)
def test_a_statement_timeout_reaches_a_stock_server_unless_a_pooler_stands_between(pooler, seconds):
    backend_ = postgres("sql_postgres", pooler=pooler, statement_timeout_seconds=7)
    found, _ = uri.parse(secret.url("a", backend_, STACK_ID))
    assert found.statement_timeout == seconds


def test_without_a_password_none_is_said():
    made = secret.url("a", postgres("sql_postgres", current=login(password=None)), STACK_ID)
    assert made.startswith("postgresql://app@")


def test_the_keys_of_a_backend():
    current = login(password="0123")
    made = stack(
        kv=postgres("kv_postgres", statement_timeout_seconds=7),
        sql=postgres("sql_postgres", current=current, tls=Tls(mode="VerifyFull", ca=CA)),
    )
    data = secret.data(made, "3f9c2a1b")
    shared = ("URL", "HOST", "PORT", "DATABASE", "USER", "PASSWORD", "POOL_SIZE", "MAX_OVERFLOW")
    assert set(data) == {
        "stackstore.json",
        "sql_default.ca.crt",
        *(f"KV_DEFAULT_{key}" for key in (*shared, "COMMAND_TIMEOUT")),
        *(f"SQL_DEFAULT_{key}" for key in (*shared, "POOL_RECYCLE")),
    }
    assert data["SQL_DEFAULT_PASSWORD"] == b"0123"
    assert data["SQL_DEFAULT_POOL_RECYCLE"] == b"3600"
    assert data["KV_DEFAULT_COMMAND_TIMEOUT"] == b"7"
    assert data["sql_default.ca.crt"] == CA.encode()


def test_a_sqlite_backend_needs_no_variable():
    assert set(secret.data(stack(), "3f9c2a1b")) == {"stackstore.json"}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"max_write_queue_size": 7}, {"max_write_queue_size": 7}),
        ({"num_writers": 3}, {"num_writers": 3}),
        ({"retention_seconds": 60}, {"retention_seconds": 60}),
        ({"journal": "/j"}, {"durability": {"mode": "Journal", "path": "/j"}}),
    ],
)
def test_the_snapshot_says_what_stores_were_given(given, said):
    some = PlacedStore("inference", "sql", "sql_default", "t", **given)
    plain = PlacedStore("responses", "sql", "sql_default", "r")
    data = secret.data(stack(stores=(some, plain)), "3f9c2a1b")
    found = Snapshot.parse(data["stackstore.json"], "it")
    assert {name: s.model_dump(exclude_none=True) for name, s in found.stores.items()} == {
        "inference": said
    }
    assert secret.of_snapshot(found) == data


def test_the_snapshot_says_what_providers_were_given():
    place = ("sql", "sql_default", "t")
    some = PlacedProvider(
        "responses", "builtin", "persistence.responses", *place, retention_seconds=60
    )
    plain = PlacedProvider("files", "localfs", "metadata_store", *place)
    data = secret.data(stack(providers=(some, plain)), "3f9c2a1b")
    found = Snapshot.parse(data["stackstore.json"], "it")
    assert {name: s.model_dump(exclude_none=True) for name, s in found.providers.items()} == {
        "responses/builtin/persistence.responses": {"retention_seconds": 60}
    }
    assert secret.of_snapshot(found) == data


KEY = b"k" * 32


@pytest.mark.parametrize(
    "change",
    [{"host": "h"}, {"port": 1}, {"database": "d"}, {"username": "u"}, {"password": "p"},
     {"password": None}],
)  # fmt: skip
def test_a_revision_changes_with_every_part_of_a_login(change):
    tls = Tls(mode="Disable")
    assert revision.of_login(KEY, "ns", login(), tls) == revision.of_login(KEY, "ns", login(), tls)
    assert revision.of_login(KEY, "ns", login(**change), tls) != revision.of_login(
        KEY, "ns", login(), tls
    )


def test_a_revision_changes_with_tls_and_cant_be_made_without_the_key():
    before = revision.of_login(KEY, "ns", login(), Tls(mode="Require"))
    assert revision.of_login(KEY, "other", login(), Tls(mode="Require")) != before
    assert revision.of_login(KEY, "ns", login(), Tls(mode="VerifyFull")) != before
    assert revision.of_login(KEY, "ns", login(), Tls(mode="Require", ca=CA)) != before
    assert revision.of_login(b"x" * 32, "ns", login(), Tls(mode="Require")) != before
    assert len(before) == 8
    assert int(before, 16) >= 0


def test_a_stacks_revision_is_that_of_all_its_backends_in_any_order():
    one, other = postgres("sql_postgres"), backend("kv_sqlite")
    whole = revision.of_stack(KEY, {"a": one, "b": other})
    assert whole == revision.of_stack(KEY, {"b": other, "a": one})
    assert whole != revision.of_stack(KEY, {"a": one})
    moved = other.model_copy(update={"path": "/elsewhere.db"})
    assert whole != revision.of_stack(KEY, {"a": one, "b": moved})
    rotated = postgres("sql_postgres", current=login(revision="00000000"))
    assert whole != revision.of_stack(KEY, {"a": rotated, "b": other})


def test_a_stacks_id_is_of_its_namespace_and_name():
    assert revision.stack_id("a", "b") == revision.stack_id("a", "b")
    assert len({revision.stack_id(*pair) for pair in (("a", "b"), ("b", "a"), ("a", "c"))}) == 3
    assert len(revision.stack_id("a", "b")) == 12
