"""What is really in the databases and in the logs, looked up past Stackstore."""

from __future__ import annotations

import sqlite3
from contextlib import closing

from examples.demo.environment import Environment


async def rows(environment: Environment) -> set[str]:
    """The ids of all completions in Postgres."""
    records = await environment.postgres.run(
        "SELECT id FROM stackstore.inference_store", environment.database
    )
    return {record["id"] for record in records}


def registrations(environment: Environment) -> int:
    """How many completions are registered in the SQLite file."""
    with closing(sqlite3.connect(f"file:{environment.kv_path}?mode=ro", uri=True)) as connection:
        (count,) = connection.execute(
            "SELECT count(*) FROM stackstore_kv WHERE CAST(key AS TEXT) LIKE 'completion:%'"
        ).fetchone()
    return int(count)


def exposures(environment: Environment) -> list[str]:
    """Where a password of this run can be read that is not a Secret."""
    objects = "configmaps,events,storagebackends,storebindings"
    texts = {name: child.output() for name, child in environment.children.items()}
    texts["objects"] = environment.kubectl("get", objects, "--all-namespaces", "--output=yaml")
    metadata = "--output=jsonpath={.items[*].metadata}"
    texts["metadata of Secrets"] = environment.kubectl("get", "secrets", "-A", metadata)
    texts["API audit"] = environment.plane.audit_log.read_text(errors="replace")
    return [
        name
        for name, text in texts.items()
        if any(password in text or _tail(password) in text for password in environment.passwords)
    ]


def _tail(password: str) -> str:
    # However it is quoted, the random digits at the end stay as they are.
    return password[-16:]
