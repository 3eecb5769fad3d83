"""Whose turn it is: one row a table, by the database's clock."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from sqlalchemy import BigInteger, Text, TextClause, bindparam, text
from sqlalchemy.ext.asyncio import AsyncConnection

from stackstore.schema import Component, Dialect, Migration, qualified

NAME = "leases"

# `until` and `due` are in microseconds since 1970. Until the one nobody else sweeps; before the other
# nobody does.
_COLUMNS = (
    "(name TEXT PRIMARY KEY, holder TEXT NOT NULL, until BIGINT NOT NULL, due BIGINT NOT NULL)"
)
LEASES = Component(
    "retention",
    (
        Migration(
            postgresql=(f"CREATE TABLE {qualified('postgresql', NAME)} {_COLUMNS}",),
            sqlite=(f"CREATE TABLE {qualified('sqlite', NAME)} {_COLUMNS}",),
        ),
    ),
)

LEASE_MICROSECONDS = 30_000_000
"""How long after its last sign of life a sweeper's turn lasts."""

LOCK_MILLISECONDS = 200
"""How long a batch waits for somebody's rows. Less than Postgres' deadlock_timeout (1 s): of two that
wait for each other it is always the sweeper who gives way."""


@dataclass(frozen=True, slots=True)
class Lease:
    """A table's row.

    Attributes:
        holder: who sweeps, or did last.
        until: until when its turn lasts.
        due: when the next sweep begins; 0: one is under way.
    """

    holder: str
    until: int
    due: int


def wait(lease: Lease | None, holder: str, now: int, period: int) -> int:
    """Microseconds until it may be `holder`'s turn; 0: it is.

    What lies further ahead than anybody would have put it was written by a clock that was wrong.

    Args:
        lease: the row, if there is one.
        holder: who asks.
        now: microseconds since 1970, by the database's clock.
        period: microseconds between two sweeps.
    """
    if lease is None:
        return 0
    if lease.holder != holder and now < lease.until <= now + LEASE_MICROSECONDS:
        return lease.until - now
    return lease.due - now if now < lease.due <= now + period else 0


class Turns:
    """The statements for one table's lease.

    Args:
        dialect: which SQL.
        table: whose lease.
    """

    def __init__(self, dialect: Dialect, table: str) -> None:
        self._table = table
        self._postgres = dialect == "postgresql"
        digest = hashlib.sha256(f"stackstore retention {table}".encode()).digest()
        self._lock = text(
            "SELECT pg_try_advisory_xact_lock(:key), "
            "CAST(extract(epoch FROM clock_timestamp()) * 1000000 AS bigint), "
            "set_config('lock_timeout', :wait, true)"
        ).bindparams(
            bindparam("key", int.from_bytes(digest[:8], signed=True), type_=BigInteger()),
            bindparam("wait", f"{LOCK_MILLISECONDS}ms", type_=Text()),
        )
        leases = qualified(dialect, NAME)
        self._look = text(f"SELECT holder, until, due FROM {leases} WHERE name = :name")  # noqa: S608 - our own name
        self._note = _numbers(
            text(
                f"INSERT INTO {leases} (name, holder, until, due) "  # noqa: S608 - likewise
                "VALUES (:name, :holder, :until, :due) ON CONFLICT (name) DO UPDATE SET "
                "holder = excluded.holder, until = excluded.until, due = excluded.due"
            )
        )

    async def lock(self, connection: AsyncConnection, now: int) -> int | None:
        """Be alone with the table's sweep until the transaction ends, or don't wait for it.

        Args:
            connection: in a transaction. On SQLite that alone is enough.
            now: the time by this process's clock, which is SQLite's too.

        Returns:
            Microseconds since 1970 by the database's clock; None: another one is at it.
        """
        if not self._postgres:
            return now
        alone, clock, _ = (await connection.execute(self._lock)).one()
        return int(clock) if alone else None

    async def look(self, connection: AsyncConnection) -> Lease | None:
        """The row, if there is one."""
        row = (await connection.execute(self._look, {"name": self._table})).one_or_none()
        return None if row is None else Lease(*row)

    async def note(self, connection: AsyncConnection, lease: Lease) -> None:
        """Write the row."""
        await connection.execute(
            self._note,
            {
                "name": self._table,
                "holder": lease.holder,
                "until": lease.until,
                "due": lease.due,
            },
        )


def _numbers(statement: TextClause) -> TextClause:
    # On Postgres a whole number would be one of 32 bits by itself.
    return statement.bindparams(
        bindparam("until", type_=BigInteger()), bindparam("due", type_=BigInteger())
    )
