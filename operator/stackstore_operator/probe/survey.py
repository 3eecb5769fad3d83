"""What is looked at in a database once the login works: the server, sessions, and our processes.

Everything in one read-only transaction, so that a pooler may give each its own session. The table of
processes is the runtime's (`stackstore.instances.table`); it is not imported, because the operator
would carry the runtime's whole SQL layer with it. A test compares the two.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace

import asyncpg

from stackstore_operator.probe import outcomes
from stackstore_operator.probe.finding import Finding, Processes, Rows, Sessions, Sight

SCHEMA = "stackstore"
TABLE = "instances"
GONE_AFTER_SECONDS = 150
"""A row that was not written for so long is of a process that is gone."""

_STATEMENT_MILLISECONDS = 5_000
_MOST = 20_000
"""Groups that are read; more than so many stacks in one database are not looked for."""

_SERVER = """
SELECT current_setting('server_version_num')::int,
  pg_is_in_recovery() OR current_setting('default_transaction_read_only')::bool,
  current_setting('max_connections')::int
    - current_setting('superuser_reserved_connections')::int
    - coalesce(current_setting('reserved_connections', true), '0')::int,
  (SELECT datconnlimit FROM pg_database WHERE datname = current_database()),
  (SELECT rolconnlimit FROM pg_roles WHERE rolname = current_user)
"""

# The name of an application is shown to everybody, other users' too.
_SESSIONS = f"""
SELECT split_part(application_name, ':', 3), split_part(application_name, ':', 2), count(*)::int
FROM pg_stat_activity
WHERE datname = current_database() AND application_name LIKE 'stackstore:%:%'
GROUP BY 1, 2 ORDER BY 1, 2 LIMIT {_MOST}
"""  # noqa: S608 - our own number

# Asked of the catalog: to name a table that may not be seen is an error, which ends the transaction.
_MAY_READ = f"""
SELECT has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT')
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = '{SCHEMA}' AND c.relname = '{TABLE}'
"""  # noqa: S608 - our own names

# The table is its owner's, who may have put anything there.
_PROCESSES = f"""
SELECT left(stack_id, 12), left(backend, 253), left(revision, 8), count(*)::int
FROM "{SCHEMA}"."{TABLE}"
WHERE abs(floor(extract(epoch FROM clock_timestamp()))::bigint - seen) <= {GONE_AFTER_SECONDS}
GROUP BY 1, 2, 3 ORDER BY 1, 2, 3 LIMIT {_MOST}
"""  # noqa: S608 - our own names


async def of(connection: asyncpg.Connection, revision: str, where: str) -> Finding:
    """Look around.

    Args:
        connection: open, outside a transaction.
        revision: of the login that it was opened with.
        where: host and port, for the message.

    Raises:
        asyncpg.PostgresError: not even the server's version could be asked for.
    """
    async with _reading(connection):
        number, read_only, *limits = await connection.fetchrow(_SERVER)
    version = f"{number // 10_000}.{number % 10_000}"
    found = Finding(
        revision,
        outcomes.connected(where, version, read_only=read_only),
        version,
        min(limit for limit in limits if limit is not None and limit >= 0),
    )
    # Locked for long, or somebody made another table of it: the login works all the same.
    with contextlib.suppress(asyncpg.PostgresError):
        async with _reading(connection):
            rows, sights = await _users(connection)
        return replace(found, rows=rows, sights=sights)
    return found


@contextlib.asynccontextmanager
async def _reading(connection: asyncpg.Connection) -> AsyncIterator[None]:
    async with connection.transaction(readonly=True):
        await connection.execute(f"SET LOCAL statement_timeout = {_STATEMENT_MILLISECONDS}")
        yield


def _is_group(row: Sequence[object]) -> bool:
    """Whether it is texts and a number; what calls itself a Postgres may send anything."""
    *texts, count = row
    return type(count) is int and all(type(text) is str for text in texts)


async def _users(connection: asyncpg.Connection) -> tuple[Rows, dict[str, Sight]]:
    sessions: dict[str, list[Sessions]] = {}
    for stack_id, *session in filter(_is_group, await connection.fetch(_SESSIONS)):
        sessions.setdefault(stack_id, []).append(Sessions(*session))
    processes: dict[str, list[Processes]] = {}
    readable = await connection.fetchval(_MAY_READ)
    if readable:
        for stack_id, *group in filter(_is_group, await connection.fetch(_PROCESSES)):
            processes.setdefault(stack_id, []).append(Processes(*group))
    sights = {
        stack_id: Sight(tuple(processes.get(stack_id, ())), tuple(sessions.get(stack_id, ())))
        for stack_id in processes.keys() | sessions.keys()
    }
    return "missing" if readable is None else "read" if readable else "unreadable", sights
