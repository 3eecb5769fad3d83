"""The command `stackstore`, for people at a terminal and for init containers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stackstore.config import RunConfig
from stackstore.credentials.directory import SnapshotDirectory
from stackstore.credentials.snapshot import PostgresBackend, SqliteBackend
from stackstore.errors import ConfigError
from stackstore.storage import Prepared, prepare

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

    Prints what it resolves to, never a user or a password, and ends with 0.
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


def _table(rows: list[Row]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )
