"""Values, names and faults without a database."""

import contextlib
import sqlite3

import pytest
from sqlalchemy.exc import DBAPIError, OperationalError

from stackstore.errors import (
    BackendUnavailableError,
    ConflictError,
    InvalidArgumentError,
    StoreError,
)
from stackstore.sql import ColumnDefinition, ColumnType
from stackstore.sql.columns import core_type, declared, encode
from stackstore.sql.errors import MissingError, Outcome, fault
from stackstore.sql.names import choices, identifier, shown
from stackstore.sql.ordering import beyond, order
from stackstore.sql.tables import index, table

KEY = ColumnDefinition(ColumnType.STRING, primary_key=True)


@pytest.mark.parametrize("dialect", ["sqlite", "postgresql"])
@pytest.mark.parametrize("kind", list(ColumnType))
def test_every_type_is_known_on_both_engines(dialect, kind):
    assert declared(dialect, kind)
    assert core_type(dialect, kind) is not None
    assert encode(dialect, "c", kind, None) is None


def test_sqlite_keeps_texts_as_texts():
    """Its affinities come from the type's name: INT wins, then CHAR, CLOB or TEXT, then REAL, FLOA or DOUB."""
    for kind in (ColumnType.STRING, ColumnType.TEXT, ColumnType.JSON, ColumnType.DATETIME):
        name = declared("sqlite", kind)
        connection = sqlite3.connect(":memory:")
        connection.execute(f"CREATE TABLE t (c {name})")
        connection.execute("INSERT INTO t VALUES ('12')")
        assert connection.execute("SELECT c FROM t").fetchone() == ("12",), kind
        connection.close()


@pytest.mark.parametrize("name", ["a", "_", "A1_", "x" * 63])
def test_identifiers(name):
    assert identifier("table", name) == name


@pytest.mark.parametrize(
    "name", ["", "1a", "a-b", "a b", 'a"', "a.b", "x" * 64, "ä", "a\n", "a\0", None, 1, b"a"]
)
def test_no_identifiers(name):
    with pytest.raises(InvalidArgumentError, match="allowed are a letter or _"):
        identifier("table", name)


def test_a_wrong_name_is_shown_short_and_plain():
    assert len(shown("x" * 1_000_000)) < 90
    assert shown("\n\u202e") == "'\\n\\u202e'"


def test_choices():
    assert choices("creatd", ["id", "created"]) == "there are: created, id; did you mean 'created'?"
    assert choices("zzz", ["id"]) == "there are: id"
    assert choices("zzz", []) == "there are: none"


def test_the_key_follows_an_index_in_the_last_column_s_direction():
    known = table("sqlite", "t", {"id": KEY, "a": ColumnType.INTEGER, "b": ColumnType.INTEGER})
    assert index(known, "i", ["a"]).columns == (("a", False), ("id", False))
    assert index(known, "i", ["a", ("b", "desc")]).columns == (
        ("a", False),
        ("b", True),
        ("id", True),
    )
    assert index(known, "i", [("id", "desc"), "a"]).columns == (("id", True), ("a", False))
    for wrong in ("a", []):
        with pytest.raises(InvalidArgumentError, match="a list of at least one"):
            index(known, "i", wrong)


def test_beyond_a_null_is_where_values_begin():
    """Some builds of SQLite would scan an index for IS NOT NULL."""
    known = table("sqlite", "t", {"id": KEY, "a": ColumnType.INTEGER})
    ranges = beyond(known, order(known, "a"), [None, "x"])
    texts = [" AND ".join(map(str, clauses)) for clauses in ranges]
    assert len(texts) == 2
    assert '"a" IS NULL' in texts[0] and '"id" >' in texts[0]
    assert '"a" >=' in texts[1] and "NULL" not in texts[1]


class DriverError(Exception):
    """As the asyncpg dialect's: the SQLSTATE, and the driver's error as the cause."""

    def __init__(self, state, **facts):
        super().__init__("c4n4ry")
        self.sqlstate = state
        self.__cause__ = Exception("c4n4ry")
        vars(self.__cause__).update(facts)


@pytest.mark.parametrize(
    ("state", "outcome", "kind", "says"),
    [
        ("23505", Outcome.REFUSED, ConflictError, "same columns of constraint None"),
        ("23502", Outcome.REFUSED, InvalidArgumentError, "can't be NULL"),
        ("23514", Outcome.REFUSED, ConflictError, "does not allow it"),
        ("42P01", Outcome.MISSING, MissingError, "as create_table made it"),
        ("3F000", Outcome.MISSING, MissingError, "as create_table made it"),
        ("42703", Outcome.MISSING, MissingError, "as create_table made it"),
        ("40001", Outcome.AGAIN, BackendUnavailableError, "nothing was written, try again"),
        ("40P01", Outcome.AGAIN, BackendUnavailableError, "nothing was written, try again"),
        ("0A000", Outcome.AGAIN, BackendUnavailableError, "try again"),
        ("08006", Outcome.LOST, BackendUnavailableError, "unknown"),
        ("57P01", Outcome.LOST, BackendUnavailableError, "unknown"),
        ("57P02", Outcome.LOST, BackendUnavailableError, "unknown"),
        ("57014", Outcome.REFUSED, BackendUnavailableError, "statementTimeoutSeconds"),
        ("42501", Outcome.REFUSED, BackendUnavailableError, "GRANT"),
        ("53100", Outcome.REFUSED, BackendUnavailableError, "can't do it now"),
        ("25006", Outcome.REFUSED, BackendUnavailableError, "can't do it now"),
        ("22021", Outcome.REFUSED, InvalidArgumentError, "too large or malformed"),
        ("54001", Outcome.REFUSED, InvalidArgumentError, "too large or malformed"),
        ("XX000", Outcome.REFUSED, StoreError, "SQLSTATE XX000"),
    ],
)
def test_what_postgres_says(state, outcome, kind, says):
    found = fault("here", ("id",), DBAPIError("SELECT", {}, DriverError(state)))
    assert (found.outcome, type(found.error)) == (outcome, kind)
    assert says in str(found.error)
    assert "c4n4ry" not in str(found.error)


def test_a_conflict_of_the_key_names_it():
    error = DBAPIError("INSERT", {}, DriverError("23505", constraint_name="t_pkey"))
    assert "the same a, b" in str(fault("here", ("a", "b"), error).error)


def refused_by_sqlite():
    """An error with SQLite's own code, whose text quotes the statement."""
    with contextlib.closing(sqlite3.connect(":memory:")) as connection:
        try:
            connection.execute("SELECT c4n4ry FORM t")
        except sqlite3.OperationalError as error:
            return error


@pytest.mark.parametrize(
    ("error", "outcome", "kind"),
    [
        (
            OperationalError("S", {}, sqlite3.OperationalError("no such table: t")),
            Outcome.MISSING,
            MissingError,
        ),
        (
            OperationalError("S", {}, sqlite3.OperationalError("table t has no column named a")),
            Outcome.MISSING,
            MissingError,
        ),
        (
            OperationalError("S", {}, sqlite3.DataError("string or blob too big")),
            Outcome.REFUSED,
            InvalidArgumentError,
        ),
        (
            OperationalError("S", {}, sqlite3.OperationalError("disk I/O error")),
            Outcome.REFUSED,
            BackendUnavailableError,
        ),
        (OperationalError("S", {}, refused_by_sqlite()), Outcome.REFUSED, StoreError),
        (OSError("gone"), Outcome.LOST, BackendUnavailableError),
        (TimeoutError(), Outcome.LOST, BackendUnavailableError),
        (DBAPIError("S", {}, Exception("c4n4ry")), Outcome.REFUSED, StoreError),
        (
            DBAPIError("S", {}, Exception("c4n4ry"), connection_invalidated=True),
            Outcome.LOST,
            BackendUnavailableError,
        ),
    ],
)
def test_what_else_may_come(error, outcome, kind):
    found = fault("here", ("id",), error)
    assert (found.outcome, type(found.error)) == (outcome, kind)
    assert "c4n4ry" not in str(found.error)
