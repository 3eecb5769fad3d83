"""Tables and indexes in the database: looked at, and made where they aren't there yet."""

from __future__ import annotations

from sqlalchemy.ext.asyncio import AsyncConnection

from stackstore.pools.database import Database
from stackstore.schema import lock_ddl
from stackstore.sql import ddl
from stackstore.sql.runner import ATOMIC, READS, Runner
from stackstore.sql.tables import Index, Table, table_identifier


class Making:
    """Makes what is missing, whatever other processes do at the same time.

    It looks first without a lock: nearly always everything is there.

    Args:
        database: where.
        runner: runs the statements.
    """

    def __init__(self, database: Database, runner: Runner) -> None:
        self._database = database
        self._runner = runner

    async def found(self, name: str) -> list[ddl.Found]:
        """The columns that a table has in the database; none: it isn't there.

        Raises:
            BackendUnavailableError: the database can't do it now.
        """
        safe = table_identifier(name)
        dialect = self._database.dialect

        async def work(connection: AsyncConnection) -> list[ddl.Found]:
            return await ddl.read_columns(connection, dialect, safe)

        return await self._runner.run(safe, (), work, READS)

    async def table(self, wanted: Table) -> None:
        """See to it that a table is there, with these columns.

        Raises:
            InvalidArgumentError: it is there and differs.
            BackendUnavailableError: the database can't do it now.
        """

        async def lacks(connection: AsyncConnection) -> list[str] | None:
            found = await ddl.read_columns(connection, wanted.dialect, wanted.name)
            return ddl.missing(wanted, found) if found else None

        async def make(connection: AsyncConnection) -> None:
            await lock_ddl(self._database, connection)
            lacking = await lacks(connection)
            if lacking is None:
                await connection.exec_driver_sql(ddl.create(wanted))
            else:
                for column in lacking:
                    await connection.exec_driver_sql(ddl.add(wanted, column))

        name, key = wanted.name, wanted.primary_key
        if await self._runner.run(name, key, lacks, READS) != []:
            await self._runner.run(name, key, make, ATOMIC)

    async def index(self, known: Table, wanted: Index) -> None:
        """See to it that an index of a table is there.

        Raises:
            InvalidArgumentError: one of that name is there and differs.
            BackendUnavailableError: the database can't do it now.
        """

        async def there(connection: AsyncConnection) -> bool:
            return await ddl.has_index(connection, known, wanted)

        async def make(connection: AsyncConnection) -> None:
            await lock_ddl(self._database, connection)
            if not await there(connection):
                await connection.exec_driver_sql(ddl.create_index(known, wanted))

        async def heal() -> None:
            await self.table(known)

        name, key = known.name, known.primary_key
        if not await self._runner.run(name, key, there, READS):
            await self._runner.run(name, key, make, ATOMIC, heal=heal)
