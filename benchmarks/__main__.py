"""`python -m benchmarks [NAME…] [--json FILE] [--quick] [--check]`."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.catalogue import find
from benchmarks.report import Result, as_json, progress, show

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[NAME]...", help="Which ones; all without."),
    ] = None,
    json: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the rows there too.")
    ] = None,
    shown: Annotated[bool, typer.Option("--list", help="Show which there are, and end.")] = False,
    quick: Annotated[
        bool, typer.Option("--quick", help="A smaller run, where a benchmark has one.")
    ] = False,
    check: Annotated[
        bool, typer.Option("--check", help="Exit 1 when a bar does not hold.")
    ] = False,
) -> None:
    """Measure ours beside the limit of this machine, in one run."""
    if quick:
        os.environ["STACKSTORE_BENCH_QUICK"] = "1"
    known = find()
    if shown:
        for name, benchmark in known.items():
            typer.echo(f"{name:12} {(benchmark.__doc__ or '').splitlines()[0]}")
        return
    for name in names or ():
        if name not in known:
            raise typer.BadParameter(
                f"there is no benchmark {name!r}; there are {', '.join(known)}"
            )
    results = []
    for name in names or known:
        progress(f"{name}: begins")
        results.append(Result(name, asyncio.run(known[name].run())))
    show(results)
    if json is not None:
        json.write_text(as_json(results), encoding="utf-8")
    if check and not all(result.holds for result in results):
        raise typer.Exit(1)


app()
