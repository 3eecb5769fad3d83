"""One visit: log in as the stacks' runtime would, look around, leave.

One connection, bounded in time as a whole, and nothing of ours stays in a pooler's session.
"""

from __future__ import annotations

import asyncio
import contextlib

import asyncpg

from stackstore.credentials.snapshot import PostgresBackend
from stackstore.pools.faults import Fault
from stackstore.pools.login import connect
from stackstore.pools.slots import LoginRefusedError, UnreachableError
from stackstore.pools.target import Target
from stackstore_operator.probe import outcomes, survey
from stackstore_operator.probe.finding import Finding

VISIT_SECONDS = 10.0
"""How long a visit may take in all."""

_GOODBYE_SECONDS = 1.0


class _Visitor(Target):
    """The runtime's way in, under a name of the operator's own."""

    __slots__ = ()

    @property
    def application_name(self) -> str:
        return f"stackstore-operator:{self.login.revision}"


async def visit(backend: PostgresBackend, seconds: float = VISIT_SECONDS) -> Finding:
    """Try the current login of a backend; whatever happens is a finding.

    Args:
        backend: as the stacks get it.
        seconds: how long it may take in all.
    """
    login = backend.current
    where = f"{login.host}:{login.port}"
    # What a statement may take is said in the transaction; a pooler would refuse it at the start.
    target = _Visitor(login, backend.tls, backend.pooler, None, "")
    try:
        async with asyncio.timeout(seconds):
            connection = await connect(target)
            try:
                return await survey.of(connection, login.revision, where)
            finally:
                await _leave(connection)
    except (LoginRefusedError, UnreachableError) as error:
        fault, detail = error.fault, str(error)
    except TimeoutError:
        fault, detail = Fault.SILENCE, ""
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
        # It was let in, and cut off then. A driver's words may quote anything.
        fault, detail = Fault.OTHER, f"cut off after the login, {type(error).__name__}"
    return Finding(login.revision, outcomes.failed(where, fault, detail))


async def _leave(connection: asyncpg.Connection) -> None:
    with contextlib.suppress(asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
        await connection.close(timeout=_GOODBYE_SECONDS)
    if not connection.is_closed():
        connection.terminate()
