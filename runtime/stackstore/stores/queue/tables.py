"""The tables of all write queues of a database: marks and dead letters."""

from __future__ import annotations

from stackstore.schema import Component, Migration, qualified

MARKS = "queue_marks"
DEAD_LETTERS = "dead_letters"

# `touched` is in seconds since 1970. `durable`: of a journal, which a later process may ask for.
_MARKS = (
    "(queue TEXT NOT NULL, writers BIGINT NOT NULL, lane BIGINT NOT NULL, "
    "sequence BIGINT NOT NULL, durable BOOLEAN NOT NULL, touched BIGINT NOT NULL, "
    "PRIMARY KEY (queue, writers, lane))"
)
# `payload` is bytes, so that whatever the columns of a table refuse can be kept here; NULL: it was
# a delete, or it can't be written down. `created` is in microseconds since 1970.
_LETTERS = (
    "(queue TEXT NOT NULL, sequence BIGINT NOT NULL, name TEXT NOT NULL, identity TEXT NOT NULL, "
    "owner TEXT NOT NULL, reason TEXT NOT NULL, deletes BOOLEAN NOT NULL, payload {bytes}, "
    "created BIGINT NOT NULL, PRIMARY KEY (queue, sequence))"
)

QUEUES = Component(
    "queues",
    (
        Migration(
            postgresql=(
                f"CREATE TABLE {qualified('postgresql', MARKS)} {_MARKS}",
                f"CREATE TABLE {qualified('postgresql', DEAD_LETTERS)} "
                f"{_LETTERS.format(bytes='BYTEA')}",
            ),
            sqlite=(
                f"CREATE TABLE {qualified('sqlite', MARKS)} {_MARKS}",
                f"CREATE TABLE {qualified('sqlite', DEAD_LETTERS)} {_LETTERS.format(bytes='BLOB')}",
            ),
        ),
    ),
)
