"""One batch of a sweep: a transaction that deletes a few old rows and all that goes with them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import BigInteger, Delete, Select, bindparam, delete, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from stackstore.errors import BackendUnavailableError
from stackstore.schema import qualified
from stackstore.sql import SqlStore
from stackstore.sql.columns import decode
from stackstore.sql.ordering import Term, direction
from stackstore.sql.tables import Row, Table
from stackstore.stores.queue.tables import DEAD_LETTERS
from stackstore.stores.retention import leases
from stackstore.stores.retention.ageing import Ageing
from stackstore.stores.retention.clock import CautiousClock

LETTERS = 500
"""Most dead letters of one batch."""


@dataclass(frozen=True, slots=True)
class Swept:
    """What came of a batch.

    Attributes:
        rows: how many rows of the first table were deleted.
        letters: how many dead letters.
        is_full: there may be more.
        is_mine: it was this process's turn.
        wait: seconds until it may be, where it wasn't.
        last: the last row's moment, in the column's unit; None: there was none.
        took: seconds of the deleting.
    """

    rows: int = 0
    letters: int = 0
    is_full: bool = False
    is_mine: bool = True
    wait: float = 0.0
    last: int | None = None
    took: float = 0.0


class Sweep:
    """Deletes old rows of a store, past all access: it is nobody's request.

    Args:
        sql: knows the tables.
        ageing: what grows old.
        holder: who this is, among all processes.
        clock: this process's.
    """

    def __init__(self, sql: SqlStore, ageing: Ageing, holder: str, clock: CautiousClock) -> None:
        self._sql = sql
        self._ageing = ageing
        self._holder = holder
        self._clock = clock
        self._turns = leases.Turns(sql.dialect, ageing.table)
        letters = qualified(sql.dialect, DEAD_LETTERS)
        self._letters = text(
            f"DELETE FROM {letters} WHERE (queue, sequence) IN (SELECT queue, sequence "  # noqa: S608 - our own name
            f"FROM {letters} WHERE name = :name AND created < :edge LIMIT {LETTERS})"
        ).bindparams(bindparam("edge", type_=BigInteger()))

    async def batch(self, seconds: int, period: float, most: int, start: int | None) -> Swept:
        """Delete some rows, if it is this process's turn.

        Args:
            seconds: the age at which rows go.
            period: seconds between two sweeps.
            most: most rows of the first table.
            start: a moment, in the column's unit, before which no rows are looked for.

        Raises:
            StackstoreError: nothing was deleted, or it is unknown whether something was.
        """
        ageing, sql = self._ageing, self._sql
        every = int(period * 1_000_000)

        async def work(connection: AsyncConnection) -> Swept:
            clock = await self._turns.lock(connection, self._clock.wall())
            if clock is None:
                return Swept(is_mine=False, wait=leases.LEASE_MICROSECONDS / 1_000_000)
            lease = await self._turns.look(connection)
            waiting = leases.wait(lease, self._holder, clock, every)
            if waiting:
                return Swept(is_mine=False, wait=waiting / 1_000_000)
            # Old enough by both clocks: either may be wrong.
            now = min(clock, self._clock.now())
            began = time.perf_counter()
            rows = await self._old(connection, ageing.edge(now, seconds), most, start)
            more = await self._delete(connection, rows)
            took = time.perf_counter() - began
            letters = 0
            if ageing.has_letters and len(rows) < most:
                letters = await self._delete_letters(connection, now - seconds * 1_000_000)
            is_full = len(rows) == most or letters == LETTERS or more
            until, due = (
                (clock + leases.LEASE_MICROSECONDS, 0) if is_full else (clock, clock + every)
            )
            await self._turns.note(connection, leases.Lease(self._holder, until, due))
            return Swept(
                rows=len(rows),
                letters=letters,
                is_full=is_full,
                last=rows[-1][ageing.column] if rows else None,
                took=took,
            )

        try:
            return await sql.atomically(ageing.table, work)
        except BackendUnavailableError:
            # Perhaps a part's table isn't there, in a database that the name stands for since lately.
            # Reading makes it; the next batch goes well then.
            for part in ageing.parts:
                await sql.fetch_all(part.table, limit=1)
            raise

    async def _old(
        self, connection: AsyncConnection, edge: int, most: int, start: int | None
    ) -> list[Row]:
        known = self._sql.table(self._ageing.table)
        found = await connection.execute(oldest(known, self._ageing, edge, most, start))
        return [
            {name: decode(name, known.columns[name].type, value) for name, value in row.items()}
            for row in found.mappings()
        ]

    async def _delete(self, connection: AsyncConnection, rows: Sequence[Row]) -> bool:
        if not rows:
            return False
        ageing, sql = self._ageing, self._sql
        # The rows are locked: who adds a part to one has done so, and it is seen by these statements,
        # or comes later and finds the row gone.
        for part in ageing.parts:
            statement = deletion(sql.table(part.table), tuple(part.columns))
            leading = part.columns.items()
            values = [{f"k_{own}": row[theirs] for own, theirs in leading} for row in rows]
            await connection.execute(statement, values)
        more = False
        if ageing.goodbye is not None:
            within = sql.within(connection)
            for row in rows:
                more |= await ageing.goodbye(within, row)
        known = sql.table(ageing.table)
        keys = [{f"k_{name}": row[name] for name in known.primary_key} for row in rows]
        await connection.execute(deletion(known, known.primary_key), keys)
        return more

    async def _delete_letters(self, connection: AsyncConnection, edge: int) -> int:
        values: dict[str, Any] = {"name": self._ageing.table, "edge": edge}
        return (await connection.execute(self._letters, values)).rowcount


def oldest(known: Table, ageing: Ageing, edge: int, most: int, start: int | None) -> Select[Any]:
    """The oldest rows that have reached the age, locked; those that somebody holds are left out."""
    own = known.core.c
    made = own[ageing.column]
    names = {*known.primary_key, *ageing.read}
    wanted = [column for column in known.selected() if column.name in names]
    statement = select(*wanted).where(made < edge)
    if start is not None:
        # Past what was deleted just now, which the index still has.
        statement = statement.where(made >= start)
    # To the letter as the index has it, or Postgres sorts all of them for each batch.
    oldest_first = direction(known, made, Term(ageing.column, False, known.nullable(ageing.column)))
    return statement.order_by(oldest_first).limit(most).with_for_update(skip_locked=True)


def deletion(known: Table, columns: Sequence[str]) -> Delete:
    """Delete what has some values in some columns; run for many rows at once.

    One by one, in one round trip: a join with all of them might be planned as a walk through the table.
    """
    own = known.core.c
    return delete(known.core).where(
        *(own[name] == bindparam(f"k_{name}", type_=own[name].type) for name in columns)
    )
