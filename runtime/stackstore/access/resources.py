"""Which rows a rule speaks of: patterns of their names, as tests of ids.

A row's name is `sql_record::<table>::<id>`. Patterns are OGX's: a whole name, a beginning
(`sql_record::*`, `sql_record::prompts::*`), or `regex:` and an expression of the portable subset.
For one table nothing but the id is left open; a pattern is then always true, never true, or a test
of ids: here in Python, and in a statement by `clause`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Text, bindparam, func
from sqlalchemy.ext.asyncio import AsyncConnection

from stackstore.access.expressions import Expression, UnsupportedError, parsed
from stackstore.errors import InvalidArgumentError
from stackstore.schema import Dialect

TYPE = "sql_record"
_FUNCTION = "stackstore_matches"


@dataclass(frozen=True, slots=True)
class Exact:
    """The id is this one."""

    id: str

    def holds(self, row_id: str) -> bool:
        """Whether it is."""
        return row_id == self.id

    def clause(self, dialect: Dialect, row_id: ColumnElement[str]) -> ColumnElement[bool]:
        """The same in a statement."""
        del dialect
        return row_id == _bound(self.id)


@dataclass(frozen=True, slots=True)
class Prefix:
    """The id begins with this."""

    prefix: str

    def holds(self, row_id: str) -> bool:
        """Whether it does."""
        return row_id.startswith(self.prefix)

    def clause(self, dialect: Dialect, row_id: ColumnElement[str]) -> ColumnElement[bool]:
        """The same in a statement; not LIKE, to which `%` and `_` are no letters."""
        del dialect
        return func.substr(row_id, 1, len(self.prefix)) == _bound(self.prefix)


@dataclass(frozen=True, slots=True)
class Matches:
    """The name with this id matches an expression."""

    expression: Expression
    before: str
    """What precedes the id in the name."""

    def holds(self, row_id: str) -> bool:
        """Whether it does."""
        return self.expression.automaton.matches(self.before + row_id)

    def clause(self, dialect: Dialect, row_id: ColumnElement[str]) -> ColumnElement[bool]:
        """The same in a statement; on SQLite it needs `prepare`."""
        name = _bound(self.before).concat(row_id)
        if dialect == "postgresql":
            return name.regexp_match(_bound(self.expression.postgres))
        found: ColumnElement[bool] = getattr(func, _FUNCTION)(_bound(self.expression.text), name)
        return found == 1


IdTest = Exact | Prefix | Matches


@dataclass(frozen=True, slots=True)
class Resource:
    """A pattern of names.

    Attributes:
        pattern: as the policy has it.
        expression: what follows `regex:`; None for the other kinds.
    """

    pattern: str
    expression: Expression | None = None

    def within(self, before: str) -> IdTest | bool:
        """What it says of those whose names are this and then an id."""
        if self.expression is not None:
            if not self.expression.automaton.begun(before):
                return False
            return Matches(self.expression, before)
        if self.pattern.endswith("::*"):
            begin = self.pattern[:-1]
            if before.startswith(begin):
                return True
            return begin.startswith(before) and Prefix(begin[len(before) :])
        return self.pattern.startswith(before) and Exact(self.pattern[len(before) :])


def names_of(table: str) -> str:
    """What the names of a table's rows begin with."""
    return f"{TYPE}::{table}::"


def resource(pattern: str, *, forbids: bool) -> Resource:
    """Understand a pattern.

    Args:
        pattern: as the policy has it.
        forbids: it is a forbid rule's.

    Raises:
        InvalidArgumentError: the expression is outside the subset, or it is one of a forbid rule
            and doesn't say where it ends: OGX takes it for a beginning, and would forbid more.
    """
    if not pattern.startswith("regex:"):
        return Resource(pattern)
    trouble = ""
    try:
        expression = parsed(pattern[len("regex:") :])
    except UnsupportedError as error:
        trouble = (
            f"{error} is not in the portable subset of expressions; allowed are literals, '.', sets, groups, "
            "'|', '*', '+', '?', '{n,m}' and backslashes before punctuation"
        )
    if not trouble and forbids and not expression.says_its_end:
        trouble = (
            "a forbidding expression says where it ends: add '.*' to mean every name that begins so, or '$' "
            "to mean this name only"
        )
    if trouble:
        raise InvalidArgumentError(trouble)
    return Resource(pattern, expression)


async def prepare(connection: AsyncConnection) -> None:
    """Give a SQLite connection the function that `Matches` calls, once."""
    raw: Any = await connection.get_raw_connection()
    if _FUNCTION not in raw.info:
        await raw.driver_connection.create_function(_FUNCTION, 2, _matches, deterministic=True)
        raw.info[_FUNCTION] = True


def _matches(pattern: str, name: str | None) -> bool:
    return name is not None and parsed(pattern).automaton.matches(name)


def _bound(text: str) -> ColumnElement[str]:
    return bindparam(None, text, type_=Text(), unique=True)
