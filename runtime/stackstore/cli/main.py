"""The command `stackstore`, for people at a terminal and for init containers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from stackstore.config import RunConfig
from stackstore.credentials.directory import SnapshotDirectory
from stackstore.credentials.snapshot import PostgresBackend, SqliteBackend
from stackstore.errors import ConfigError
from stackstore.storage import Prepared, prepare
from stackstore.stores.places import settings, strangers
from stackstore.stores.settings import QUEUED, RETAINED, Settings

app = typer.Typer(
    name="stackstore",
    help="Named storage backends for LLM stack servers (OGX, formerly Llama Stack).",
    no_args_is_help=True,
    add_completion=False,
    # A traceback with the locals of a loader would hold passwords.
    pretty_exceptions_enable=False,
)

Row = tuple[str, ...]


@app.callback()
def main() -> None:
    """Named storage backends for LLM stack servers (OGX, formerly Llama Stack)."""


@app.command()
def validate(
    config: Annotated[
        Path,
        typer.Argument(
            metavar="CONFIG",
            help="The run config, a YAML file: config.yaml of the mounted ConfigMap.",
        ),
    ],
    credentials: Annotated[
        Path | None,
        typer.Option(
            help="The directory where the stack's Secret is mounted; it holds stackstore.json. "
            "Without it ${env.…} placeholders are looked up in the environment.",
            metavar="DIR",
        ),
    ] = None,
) -> None:
    """Check all that stackstore.open() would, without connecting to anything.

    Prints what it resolves to, never a user or a password, and what is asked for and not done, and
    ends with 0.
    Or prints every problem with its line, and how to fix it, and ends with 1.

    Example: stackstore validate /etc/stack/config/config.yaml
    """
    try:
        prepared = prepare(config, SnapshotDirectory(credentials) if credentials else None)
    except ConfigError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from None
    typer.echo(f"{config}: OK")
    typer.echo(_table([("BACKEND", "TYPE", "WHERE"), *_backends(prepared)]))
    loaded = prepared.config
    typer.echo(_table([("STORE", "BACKEND", "TABLE OR NAMESPACE"), *_uses(loaded)]))
    told = settings(loaded, prepared.snapshot)
    if rows := _settings(told):
        typer.echo(_table([("STORE", "QUEUE", "WRITERS", "JOURNAL", "RETENTION"), *rows]))
    remarks = [remark for one in told.values() for remark in one.remarks]
    for remark in [*remarks, *strangers(loaded, prepared.snapshot)]:
        typer.echo(f"note: {remark}")
    if loaded.absent_stores:
        typer.echo(f"not available: {', '.join(loaded.absent_stores)}")


def _backends(prepared: Prepared) -> list[Row]:
    return [
        (name, backend.type, _where(backend)) for name, backend in sorted(prepared.backends.items())
    ]


def _where(backend: PostgresBackend | SqliteBackend) -> str:
    if isinstance(backend, SqliteBackend):
        return backend.path
    login = backend.current
    return f"{login.host}:{login.port}/{login.database} (TLS {backend.tls.mode})"


def _uses(config: RunConfig) -> list[Row]:
    stores: list[Row] = [
        (store.name, store.backend, store.place) for store in config.stores.values()
    ]
    providers: list[Row] = [
        (
            f"{reference.api}/{reference.provider_id} {reference.field}",
            reference.backend,
            reference.place,
        )
        for reference in config.providers
    ]
    return stores + providers


def _settings(told: Mapping[str, Settings]) -> list[Row]:
    """What stores do that have a queue or whose rows grow old."""
    return [
        (
            name,
            _or_none(one.max_write_queue_size),
            _or_none(one.num_writers),
            _or_none(one.journal),
            "kept" if one.retention_seconds is None else f"{one.retention_seconds} s",
        )
        for name, one in told.items()
        if name in QUEUED or name in RETAINED
    ]


def _or_none(value: object) -> str:
    return "none" if value is None else str(value)


def _table(rows: list[Row]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )
