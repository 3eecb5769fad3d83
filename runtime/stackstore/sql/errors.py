"""What went wrong in the database, in our words.

Drivers quote statements, parameters and rows in their errors, and SQLAlchemy keeps them as causes.
So nothing of theirs is passed on, not even as a context: an error is looked at here, and a new one
is raised where the old one is no longer being handled.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

import asyncpg
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from stackstore.errors import (
    BackendUnavailableError,
    ConflictError,
    InvalidArgumentError,
    StackstoreError,
    StoreError,
)


class MissingError(StoreError):
    """A table or column isn't in the database; what was asked for may be fine."""


class Outcome(Enum):
    """What is known of a statement that failed."""

    REFUSED = "nothing was written"
    MISSING = "nothing was written, a table or column isn't there"
    AGAIN = "nothing was written, and the same may succeed now"
    LOST = "the connection is gone, and what it did is unknown"


@dataclass(frozen=True)
class Fault:
    """A failure, understood.

    Attributes:
        outcome: what became of the statement.
        error: what to tell the caller.
    """

    outcome: Outcome
    error: StackstoreError


_DRIVER = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)

CAUGHT = (SQLAlchemyError, OSError, TimeoutError, sqlite3.Error, *_DRIVER)
"""What the engine, and the drivers under it, let out besides our own errors."""

_NOTHING = "nothing was written"


def fault(where: str, key: tuple[str, ...], error: BaseException) -> Fault:
    """Understand a failure.

    Args:
        where: backend and table, for the message.
        key: the table's primary key, for conflicts.
        error: one of CAUGHT.
    """
    original = error.orig if isinstance(error, DBAPIError) else error
    if isinstance(original, sqlite3.Error):
        return _sqlite(where, key, original)
    for found in _chain(original):
        if isinstance(getattr(found, "sqlstate", None), str):
            return _postgres(where, key, found)
    if isinstance(error, DBAPIError) and not error.connection_invalidated:
        kind = type(getattr(original, "__cause__", None) or original).__name__
        return Fault(Outcome.REFUSED, StoreError(f"{where}: the driver refused it ({kind})"))
    if isinstance(error, PoolTimeoutError):
        return Fault(
            Outcome.REFUSED,
            BackendUnavailableError(f"{where}: no connection came free in time; {_NOTHING}"),
        )
    if isinstance(error, asyncpg.InterfaceError) and isinstance(error, ValueError):
        return Fault(
            Outcome.REFUSED,
            InvalidArgumentError(f"{where}: the driver does not take a value of it"),
        )
    if isinstance(error, (DBAPIError, OSError, TimeoutError, *_DRIVER)):
        return Fault(Outcome.LOST, lost(where))
    return Fault(Outcome.REFUSED, StoreError(f"{where}: {type(error).__name__}"))


def lost(where: str) -> BackendUnavailableError:
    """The connection went while a statement was under way."""
    return BackendUnavailableError(
        f"{where}: the connection was lost in the middle; whether a write happened is unknown, so "
        "look before writing again"
    )


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__


def _postgres(where: str, key: tuple[str, ...], error: BaseException) -> Fault:
    state: str = error.sqlstate  # type: ignore[attr-defined]  # seen by the caller
    detail = f"{type(error).__name__}, SQLSTATE {state}"
    driver = error.__cause__ or error
    if state == "23505":
        constraint = getattr(driver, "constraint_name", None)
        # The database names the key's constraint, and cuts the name when the table's is long.
        ours = str(constraint).endswith("_pkey")
        columns = ", ".join(key) if ours else f"columns of constraint {constraint}"
        return Fault(Outcome.REFUSED, _duplicate(where, columns))
    if state == "23502":
        return Fault(Outcome.REFUSED, _null(where, getattr(driver, "column_name", None)))
    if state.startswith("23"):
        constraint = getattr(driver, "constraint_name", None)
        return Fault(
            Outcome.REFUSED,
            ConflictError(f"{where}: constraint {constraint} of the database does not allow it"),
        )
    if state in ("42P01", "3F000", "42703"):
        return Fault(
            Outcome.MISSING,
            MissingError(f"{where}: it isn't in the database as create_table made it ({detail})"),
        )
    if state in ("40001", "40P01"):
        return Fault(
            Outcome.AGAIN,
            BackendUnavailableError(
                f"{where}: it stood in the way of another transaction ({detail}); {_NOTHING}, try again"
            ),
        )
    if state.startswith("08") or state in ("57P01", "57P02", "57P03", "57P05"):
        return Fault(Outcome.LOST, lost(where))
    if state == "57014":
        return Fault(
            Outcome.REFUSED,
            BackendUnavailableError(
                f"{where}: it took longer than the statement timeout and was cancelled; {_NOTHING}; raise "
                "statementTimeoutSeconds or ask for less at once"
            ),
        )
    if state == "42501":
        return Fault(
            Outcome.REFUSED,
            BackendUnavailableError(
                f"{where}: the role may not do this ({detail}); GRANT it the tables of schema stackstore"
            ),
        )
    if state.startswith(("53", "55", "58", "25", "57")):
        return Fault(
            Outcome.REFUSED,
            BackendUnavailableError(f"{where}: the server can't do it now ({detail}); {_NOTHING}"),
        )
    if state.startswith(("22", "54")):
        return Fault(
            Outcome.REFUSED,
            InvalidArgumentError(
                f"{where}: the server does not take a value of it, too large or malformed ({detail})"
            ),
        )
    if state == "0A000":
        # A plan that was prepared before the table changed.
        return Fault(
            Outcome.AGAIN,
            BackendUnavailableError(f"{where}: the table changed meanwhile; {_NOTHING}, try again"),
        )
    return Fault(Outcome.REFUSED, StoreError(f"{where}: the server refused it ({detail})"))


def _sqlite(where: str, key: tuple[str, ...], error: sqlite3.Error) -> Fault:
    code = getattr(error, "sqlite_errorname", None) or type(error).__name__
    text = str(error)
    if code in ("SQLITE_CONSTRAINT_PRIMARYKEY", "SQLITE_CONSTRAINT_UNIQUE"):
        # The text ends with the columns, each behind its table's name and a dot.
        named = text.rpartition(": ")[2].split(", ")
        columns = ", ".join(name.rpartition(".")[2] for name in named) or ", ".join(key)
        return Fault(Outcome.REFUSED, _duplicate(where, columns))
    if code == "SQLITE_CONSTRAINT_NOTNULL":
        return Fault(Outcome.REFUSED, _null(where, text.rpartition(".")[2]))
    if code.startswith("SQLITE_CONSTRAINT"):
        return Fault(
            Outcome.REFUSED,
            ConflictError(f"{where}: a constraint of the database does not allow it ({code})"),
        )
    if "no such table" in text or "no such column" in text or "has no column named" in text:
        return Fault(
            Outcome.MISSING,
            MissingError(f"{where}: it isn't in the database as create_table made it ({code})"),
        )
    if code in ("SQLITE_BUSY", "SQLITE_LOCKED") or code.startswith(
        ("SQLITE_BUSY_", "SQLITE_LOCKED_")
    ):
        return Fault(
            Outcome.REFUSED,
            BackendUnavailableError(
                f"{where}: another writer kept the file locked for too long ({code}); {_NOTHING}, try again"
            ),
        )
    if code in ("SQLITE_TOOBIG", "SQLITE_MISMATCH", "SQLITE_RANGE") or isinstance(
        error, sqlite3.DataError
    ):
        return Fault(
            Outcome.REFUSED,
            InvalidArgumentError(f"{where}: SQLite does not take a value of it ({code})"),
        )
    if code == "SQLITE_ERROR":
        # What the statement asks for can't be, today or later: an index named like a table, a write
        # to a view. The text would quote the statement.
        return Fault(Outcome.REFUSED, StoreError(f"{where}: SQLite refused it ({code})"))
    if isinstance(error, sqlite3.ProgrammingError):
        return Fault(Outcome.LOST, lost(where))
    return Fault(
        Outcome.REFUSED,
        BackendUnavailableError(f"{where}: SQLite can't do it now ({code}); {_NOTHING}"),
    )


def _duplicate(where: str, columns: str) -> ConflictError:
    return ConflictError(f"{where}: there is a row with the same {columns}")


def _null(where: str, column: str | None) -> InvalidArgumentError:
    return InvalidArgumentError(f"{where}: column {column!r} can't be NULL")
