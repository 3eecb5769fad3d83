"""The table, and the four statements that there are on it.

All times are the database's own, in whole seconds since 1970: pods whose clocks differ agree, and
nothing is compared with the clock of a process.
"""

from __future__ import annotations

from stackstore.schema import Component, Dialect, Migration, qualified

NAME = "instances"

GONE_AFTER_SECONDS = 150
"""A row that was not written for so long is of a process that is gone: five beats were missed."""

_SWEEP_AT_ONCE = 500

_COLUMNS = (
    "(stack_id TEXT NOT NULL, backend TEXT NOT NULL, instance TEXT NOT NULL, "
    "revision TEXT NOT NULL, started BIGINT NOT NULL, seen BIGINT NOT NULL, "
    "PRIMARY KEY (stack_id, backend, instance))"
)

INSTANCES = Component(
    NAME,
    (
        Migration(
            # Room in each page, and no index on what changes: a beat rewrites its row in place.
            postgresql=(
                f"CREATE TABLE {qualified('postgresql', NAME)} {_COLUMNS} WITH (fillfactor = 50)",
            ),
            sqlite=(f"CREATE TABLE {qualified('sqlite', NAME)} {_COLUMNS}",),
        ),
    ),
)


def beat(dialect: Dialect) -> str:
    """Write a row; parameters: stack_id, backend, instance, revision, age (seconds)."""
    now = _now(dialect)
    return (
        f"INSERT INTO {qualified(dialect, NAME)} "  # noqa: S608 - our own names, here and below
        "(stack_id, backend, instance, revision, started, seen) "
        f"VALUES (:stack_id, :backend, :instance, :revision, {now} - :age, {now}) "
        "ON CONFLICT (stack_id, backend, instance) "
        "DO UPDATE SET revision = excluded.revision, seen = excluded.seen"
    )


def sweep(dialect: Dialect) -> str:
    """Delete the rows of processes that are gone; no parameters."""
    table, gone = qualified(dialect, NAME), f"abs({_now(dialect)} - seen) > {GONE_AFTER_SECONDS}"
    if dialect == "sqlite":
        return f"DELETE FROM {table} WHERE {gone}"  # noqa: S608
    # One that is being written at this moment is alive, and whoever sweeps beside is not waited for.
    return (
        f"DELETE FROM {table} WHERE ctid = ANY (ARRAY("  # noqa: S608
        f"SELECT ctid FROM {table} WHERE {gone} LIMIT {_SWEEP_AT_ONCE} FOR UPDATE SKIP LOCKED))"
    )


def leave(dialect: Dialect) -> str:
    """Delete a row; parameters: stack_id, backend, instance."""
    return (
        f"DELETE FROM {qualified(dialect, NAME)} "  # noqa: S608
        "WHERE stack_id = :stack_id AND backend = :backend AND instance = :instance"
    )


def look(dialect: Dialect) -> str:
    """Read the rows of a stack's living processes; parameter: stack_id."""
    age = f"{_now(dialect)} - seen"
    return (
        f"SELECT instance, backend, revision, started, seen, {age} "  # noqa: S608
        f"FROM {qualified(dialect, NAME)} "
        f"WHERE stack_id = :stack_id AND abs({age}) <= {GONE_AFTER_SECONDS} "
        "ORDER BY backend, instance"
    )


def _now(dialect: Dialect) -> str:
    # Not the transaction's time: that is when it began, which may be a while ago.
    if dialect == "postgresql":
        return "floor(extract(epoch FROM clock_timestamp()))::bigint"
    return "CAST(strftime('%s', 'now') AS INTEGER)"
