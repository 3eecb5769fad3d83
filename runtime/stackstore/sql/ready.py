"""Statements that are compiled once and run on the driver's own connection, for hot paths; pure.

What SQLAlchemy does for each execution (to find the compiled statement, to take its parameters out,
to wrap the driver's cursor) costs more than the database's own work for a page.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from sqlalchemy import CompoundSelect, Float, Select
from sqlalchemy.engine.interfaces import Dialect
from sqlalchemy.sql.compiler import SQLCompiler

from stackstore.sql.tables import Row

Values = Callable[[Any], Any]


@dataclass(frozen=True, slots=True)
class Ready:
    """A SELECT, as the driver takes it.

    Attributes:
        text: the statement.
        parameters: the names of its parameters, in order.
        constants: the values of those that have one already.
        columns: the names of what it gives, in order.
        width: so many of them are a row; what follows is for who reads it.
        encoders: what makes a parameter the driver's, by its name, where that is needed.
        decoders: what makes a column's value ours, by its place, where that is needed.
    """

    text: str
    parameters: tuple[str, ...]
    constants: Mapping[str, Any]
    columns: tuple[str, ...]
    width: int
    encoders: Mapping[str, Values]
    decoders: tuple[tuple[int, Values], ...]

    def arguments(self, value: Callable[[str], Any]) -> list[Any]:
        """The parameters of a call; `value` gives those that are no constants, by their names."""
        found = []
        for name in self.parameters:
            given = self.constants[name] if name in self.constants else value(name)
            encode = self.encoders.get(name)
            found.append(given if encode is None else encode(given))
        return found

    def rows(self, found: Iterable[Sequence[Any]]) -> list[Row]:
        """The driver's rows as SQLAlchemy would give them."""
        return self._rows(self.columns[: self.width], found)

    def whole(self, found: Sequence[Any]) -> Row:
        """One of the driver's rows, with what follows."""
        return self._rows(self.columns, [found])[0]

    def _rows(self, columns: tuple[str, ...], found: Iterable[Sequence[Any]]) -> list[Row]:
        # What has no name is left out.
        rows = [dict(zip(columns, row, strict=False)) for row in found]
        for place, decode in self.decoders:
            if place < len(columns):
                name = columns[place]
                for row in rows:
                    row[name] = decode(row[name])
        return rows


def ready(
    dialect: Dialect,
    statement: Select[Any] | CompoundSelect[Any],
    width: int,
    variable: Callable[[str], bool],
) -> Ready:
    """Compile a statement.

    Args:
        dialect: for whom.
        statement: what; without lists whose length is part of the text.
        width: so many of its columns are a row.
        variable: whether a parameter's value differs from call to call, by its name.
    """
    compiled = statement.compile(dialect=dialect)
    assert isinstance(compiled, SQLCompiler)  # noqa: S101 - a SELECT has no other
    names = tuple(compiled.positiontup or ())
    types = [column.type for column in compiled._result_columns]  # noqa: SLF001 - as its results do
    # Floats come from both drivers as they are; SQLAlchemy would ask which of the database's types it was.
    decoders = [
        None if isinstance(kind, Float) else kind._cached_result_processor(dialect, None)  # noqa: SLF001
        for kind in types
    ]
    return Ready(
        text=compiled.string,
        parameters=names,
        constants={
            name: compiled.binds[name].effective_value for name in names if not variable(name)
        },
        columns=tuple(column.keyname for column in compiled._result_columns),  # noqa: SLF001
        width=width,
        encoders=cast("dict[str, Values]", compiled._bind_processors),  # noqa: SLF001
        decoders=tuple((place, decode) for place, decode in enumerate(decoders) if decode),
    )
