"""Who is there, as the rows tell."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import text

from stackstore.errors import BackendUnavailableError
from stackstore.instances import table
from stackstore.pools.database import Database
from stackstore.schema import qualified
from stackstore.sql.errors import CAUGHT, Outcome, fault


@dataclass(frozen=True, slots=True)
class Instance:
    """A process that lives, and a backend that it uses.

    Attributes:
        instance: 32 hex digits, new for each `stackstore.open()`.
        backend: its name in the run config.
        revision: of the login with which it was reached last; empty where logins have none.
        started: seconds since 1970 by the database's clock.
        seen: when the row was written last, likewise.
        age_seconds: how long ago that was, likewise.
    """

    instance: str
    backend: str
    revision: str
    started: int
    seen: int
    age_seconds: int


async def living(database: Database, stack_id: str) -> list[Instance]:
    """The living processes of a stack that use this database, in the order of backend and instance.

    One that was killed is among them for up to `GONE_AFTER_SECONDS`. Backends whose databases are
    others are not.

    Raises:
        BackendUnavailableError: the database can't be reached, or the role may not read the table.
    """
    where = f"backend {database.name!r}, table {qualified(database.dialect, table.NAME)}"
    try:
        async with database.engine.connect() as connection:
            await connection.execution_options(stackstore_read_only=True)
            found = await connection.execute(
                text(table.look(database.dialect)), {"stack_id": stack_id}
            )
            return [Instance(*row) for row in found]
    except CAUGHT as caught:
        seen = fault(where, (), caught)
    if seen.outcome is Outcome.MISSING:
        # Nobody has ever written a row.
        return []
    raise BackendUnavailableError(str(seen.error))
