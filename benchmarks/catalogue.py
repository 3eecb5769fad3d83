"""Which benchmarks there are: the modules of this package that have a `NAME` and a `run`."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from typing import Protocol, cast

import benchmarks
from benchmarks.report import Row


class Benchmark(Protocol):
    """A module `benchmarks/<NAME>.py`; its docstring says what is measured against what."""

    NAME: str
    __doc__: str | None

    async def run(self) -> list[Row]:
        """Measure; start and end whatever that takes."""


def find() -> Mapping[str, Benchmark]:
    """Every benchmark by its name, in the order of names."""
    found: dict[str, Benchmark] = {}
    for entry in pkgutil.iter_modules(benchmarks.__path__):
        # __main__ would run.
        if not entry.name.startswith("_"):
            module = importlib.import_module(f"benchmarks.{entry.name}")
            if hasattr(module, "NAME") and hasattr(module, "run"):
                found[module.NAME] = cast("Benchmark", module)
    return dict(sorted(found.items()))
