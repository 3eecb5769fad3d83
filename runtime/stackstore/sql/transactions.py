"""Several operations, all or nothing."""

from __future__ import annotations

import asyncio

from sqlalchemy.ext.asyncio import AsyncConnection

from stackstore.errors import BackendUnavailableError, StoreError
from stackstore.sql.cursor_key import CursorKey
from stackstore.sql.errors import CAUGHT, Fault, Outcome, fault
from stackstore.sql.operations import Operations, T
from stackstore.sql.runner import How, Work
from stackstore.sql.tables import Table


class Transaction(Operations):
    """Operations on one connection, all or nothing; made by `SqlStore.transaction()`.

    Attributes:
        failed: the first operation's error that the database gave; nothing works after it.
        missing: a table that turned out to be gone.
        over: the block was left.
    """

    def __init__(
        self, tables: dict[str, Table], connection: AsyncConnection, backend: str, key: CursorKey
    ) -> None:
        super().__init__(tables)
        self.failed: Exception | None = None
        self.missing: Table | None = None
        self.over = False
        self._connection = connection
        self._backend = backend
        self._key = key
        self._alone = asyncio.Lock()

    async def _run(self, table: Table, work: Work[T], how: How) -> T:
        # It is in the midst of a transaction, whatever it is.
        del how
        found: Fault
        # A connection does one thing at a time, whatever the block's tasks do.
        async with self._alone:
            if self.over:
                raise StoreError(f"backend {self._backend!r}: the transaction is over")
            if self.failed is not None:
                raise StoreError(
                    f"backend {self._backend!r}: an operation of the transaction failed, so nothing more is "
                    "possible in it; leave the block and begin again"
                )
            try:
                return await work(self._connection)
            except CAUGHT as error:
                found = fault(
                    f"backend {self._backend!r}, table {table.name!r}", table.primary_key, error
                )
            self.failed = found.error
            if found.outcome is Outcome.MISSING:
                self.missing = table
                self.failed = BackendUnavailableError(
                    f"backend {self._backend!r}, table {table.name!r}: it was gone and is made again; "
                    "nothing was written, so repeat the transaction"
                )
        raise self.failed

    async def _cursor_key(self, *, fresh: bool = False) -> bytes:
        del fresh
        key = self._key.last()
        if key is None:
            raise StoreError(
                f"backend {self._backend!r}: it moved to another database meanwhile; begin again"
            )
        return key
