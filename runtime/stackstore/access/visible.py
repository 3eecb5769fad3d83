"""Which owners' rows a user may act on: decided once per owner, kept, and told to the database.

A set of owners goes into a statement as itself or as what is missing from it, whichever is shorter;
so "all of 50,000" and "all but three" cost as little as "one".
"""

from __future__ import annotations

import itertools
import json
from array import array
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    LargeBinary,
    Text,
    and_,
    bindparam,
    case,
    column,
    false,
    func,
    literal_column,
    or_,
    select,
    true,
)
from sqlalchemy.dialects.postgresql import ARRAY

from stackstore.access.owners import NOBODY, Known, Owner
from stackstore.access.policy import Decision, Ruling, decide
from stackstore.access.tenancy import Tenancy
from stackstore.access.users import User
from stackstore.schema import Dialect

MAX_KEPT = 4_000_000
"""Most decisions (of users, actions and owners) that are kept in memory, at 8 bytes each."""

MAX_MERGED = 24
"""Most owners whose rows are merged one owner by one; for more the statement grows too long."""

MAX_JOINED = 100
"""Most owners that Postgres may join a table with; more are a hash table to look into."""

Parameter = tuple[str | int, ...]
"""A parameter of a view's statements: what it says, and of which decisions or of which owner."""

_MEMBERS = "owners~"
_SEPARATOR = "~"
"""No column has it in its name, so no parameter is taken for one."""

NEVER = Decision((), final=False)
ALWAYS = Decision((), final=True)


@dataclass(frozen=True, slots=True)
class Question:
    """Who wants to do what; the same for all tables that the policy treats alike.

    Attributes:
        user: who; None: anybody, because authorization is off.
        tenant: in which tenant; None: in none.
        ruling: what the policy has to say of it.
        tenancy: whom rows of no tenant belong to.
        unowned_by_policy: nobody's rows are the policy's business; otherwise they are refused.
    """

    user: User | None
    tenant: str | None
    ruling: Ruling
    tenancy: Tenancy
    unowned_by_policy: bool
    _hash: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        # Questions are keys, and asked again and again.
        parts = self.user, self.tenant, self.ruling, self.tenancy, self.unowned_by_policy
        object.__setattr__(self, "_hash", hash(parts))

    def __hash__(self) -> int:
        return self._hash

    def decision(self, owner: Owner) -> Decision:
        """What is decided about an owner's rows."""
        if self.tenancy.belongs(owner.tenant) != self.tenant:
            return NEVER
        if self.user is None:
            return ALWAYS
        if owner.principal is not None:
            return decide(self.ruling, self.user, owner)
        return decide(self.ruling, self.user, None) if self.unowned_by_policy else NEVER

    @property
    def of_system(self) -> Decision:
        """What is decided about what the configuration made: nobody's on purpose, in all tenants."""
        return ALWAYS if self.user is None else decide(self.ruling, self.user, None)


class Decided:
    """The answer to a question, for all owners up to `newest`."""

    def __init__(self, question: Question) -> None:
        self.newest = -1
        self.ids: dict[Decision, array[int]] = {ALWAYS: array("q"), NEVER: array("q")}
        """The owners of each decision, in order."""
        self._question = question
        self.some: tuple[Decision, ...] = ()
        """The decisions that let something through."""
        self.each: tuple[int, ...] = ()
        """The owners of those, where they are a few."""
        self.shape: Shape = ()
        """What the statements that say the answer depend on, beside the numbers of owners."""
        self._of_class: dict[tuple[int, bool], array[int]] = {}
        self._lists: dict[object, Any] = {}

    def extend(self, known: Known) -> None:
        """Decide about the owners that are new."""
        if self.newest == known.newest:
            return
        self._lists.clear()
        user = self._question.user
        principal = None if user is None else user.principal
        for id_ in range(self.newest + 1, known.newest + 1):
            kind = known.classes[id_], principal is not None and known.principals[id_] == principal
            ids = self._of_class.get(kind)
            if ids is None:
                decision = self._question.decision(known.owner(id_) if id_ else NOBODY)
                ids = self._of_class[kind] = self.ids.setdefault(decision, array("q"))
            ids.append(id_)
        self.newest = known.newest
        size = known.newest + 1
        self.some = tuple(
            decision for decision, ids in self.ids.items() if ids and not decision.never
        )
        few = size - len(self.ids[NEVER]) <= MAX_MERGED
        self.each = tuple(id_ for one in self.some for id_ in self.ids[one]) if few else ()
        self.shape = tuple(
            (decision, *_size(len(ids), size - len(ids))) for decision, ids in self.ids.items()
        )

    def flags(self, decision: Decision) -> bytes:
        """A byte for each owner, as a parameter: 1 for those of a decision."""
        key = "flags", decision
        found = self._lists.get(key)
        if found is None:
            flags = bytearray(self.newest + 1)
            for id_ in self.ids[decision]:
                flags[id_] = 1
            found = self._lists[key] = bytes(flags)
        return found

    def listed(self, decisions: tuple[Decision, ...], dialect: Dialect) -> str | list[int]:
        """The owners of some decisions, as a parameter."""
        found: str | list[int] | None = self._lists.get(decisions)
        if found is None:
            ids = [id_ for decision in decisions for id_ in self.ids[decision]]
            found = ids if dialect == "postgresql" else json.dumps(ids)
            self._lists[decisions] = found
        return found


Shape = tuple[tuple[Decision, int, int], ...]


def _size(members: int, others: int) -> tuple[int, int]:
    """How many they are, as far as a statement's text depends on it."""
    bounds = (MAX_MERGED, MAX_JOINED)
    exact = next((bound for bound in bounds if members <= bound), MAX_JOINED + 1)
    side = 0 if not others else 1 if others >= members else 2
    return members if exact == MAX_MERGED else exact, side


_SET = literal_column("x'01'", LargeBinary())
"""The byte of an owner who is meant."""


@dataclass(frozen=True)
class View:
    """A question's answer, and how it is said to the database.

    It is good until the next await: the answer grows when another task learns of owners. Its
    parameters are named by what they say (`value`), so a statement is good for any view of its shape.

    Attributes:
        decided: the answer.
        known: the owners that it is about.
        newest: the newest of them at that moment.
        mark: its mark.
        dialect: which SQL.
    """

    decided: Decided
    known: Known
    newest: int
    mark: str
    dialect: Dialect

    @property
    def some(self) -> tuple[Decision, ...]:
        """The decisions that let something through."""
        return self.decided.some

    @property
    def count(self) -> int:
        """How many owners have rows that may be let through."""
        return self.newest + 1 - len(self.decided.ids[NEVER])

    @property
    def all(self) -> bool:
        """Every row of every owner is let through."""
        return len(self.decided.ids[ALWAYS]) == self.newest + 1

    @property
    def only(self) -> int | None:
        """The one owner, where it is one."""
        if self.count != 1:
            return None
        return self.decided.each[0]

    def owners(self) -> ColumnElement[Any]:
        """The owners whose rows may be let through, as a table's only column."""
        return self._members(self.some)

    def permits(
        self,
        owner: ColumnElement[int],
        row_id: ColumnElement[str] | None,
        *,
        many: bool = False,
    ) -> ColumnElement[bool]:
        """The row is let through.

        Args:
            owner: the column that has its owner.
            row_id: its id as text; None: it has none.
            many: many rows are looked at; otherwise the owners may be the way to the rows.
        """
        only = self.only
        if only is not None:
            return and_(owner == self._number(("each", 0)), self.tests(owner, row_id))
        ways = [
            and_(self._among(owner, decision, many), _passes(decision, row_id, self.dialect))
            if decision.tests
            else self._among(owner, decision, many)
            for decision in self.some
        ]
        return or_(*ways) if ways else false()

    def tests(
        self, owner: ColumnElement[int], row_id: ColumnElement[str] | None
    ) -> ColumnElement[bool]:
        """The row is let through, given that its owner's may be."""
        some = [decision for decision in self.some if not decision.always]
        if not some:
            return true()
        if len(self.some) == 1:
            return _passes(some[0], row_id, self.dialect)
        return self.permits(owner, row_id)

    def _among(
        self, owner: ColumnElement[int], decision: Decision, many: bool
    ) -> ColumnElement[bool]:
        ids = self.decided.ids[decision]
        others = tuple(
            other for other, found in self.decided.ids.items() if found and other != decision
        )
        missing = self.newest + 1 - len(ids)
        if missing >= len(ids):
            if len(ids) == 1:
                return owner == self._number(("first of", *self._places((decision,))))
            if many and self.dialect == "sqlite":
                return self._flagged(owner, decision)
            among = owner.in_(select(self._members((decision,))))
            if self.dialect == "postgresql" and (many or len(ids) > MAX_JOINED):
                # Or it were made a join, and where a plan is kept for any parameters, which are then
                # taken to be ten owners, one that compares each row with each owner.
                return among.is_(true())
            return among
        known = owner <= self._number(("newest",))
        if not missing:
            return known
        if many and self.dialect == "sqlite":
            return self._flagged(owner, decision)
        # NOT IN is never made a join, so it is a look into a hash table.
        return and_(known, owner.not_in(select(self._members(others))))

    def merged(self) -> list[tuple[ColumnElement[int], Decision]]:
        """Each owner whose rows may be let through, and how; for a few of them."""
        decisions = [decision for decision in self.some for _ in self.decided.ids[decision]]
        numbers = [self._number(("each", place)) for place in range(len(decisions))]
        if self.dialect == "postgresql":
            # Where it knows who is meant, and that they have few rows, it plans anew each time, which
            # takes longer than to read the page.
            numbers = [select(number).scalar_subquery() for number in numbers]
        return list(zip(numbers, decisions, strict=True))

    def value(self, parameter: Parameter) -> Any:
        """What a parameter of its statements stands for."""
        match parameter:
            case ("newest",):
                return self.newest
            case ("each", number):
                return self.decided.each[int(number)]
            case ("first of", place):
                return self.decided.ids[self._at(place)][0]
            case ("flags of", place):
                return self.decided.flags(self._at(place))
            case ("all of", *places):
                return self.decided.listed(tuple(map(self._at, places)), self.dialect)
        raise AssertionError(parameter)

    def passes(self, decision: Decision, row_id: ColumnElement[str] | None) -> ColumnElement[bool]:
        """A decision lets the row of this id through."""
        return _passes(decision, row_id, self.dialect)

    def _flagged(self, owner: ColumnElement[int], decision: Decision) -> ColumnElement[bool]:
        """The owner is among a decision's: a look at a byte, where a list would be sorted each time."""
        parameter: Parameter = ("flags of", *self._places((decision,)))
        flags = bindparam(named(parameter), self.value(parameter), type_=LargeBinary())
        flag: ColumnElement[bool] = func.substr(flags, owner + literal_column("1"), 1) == _SET
        return flag

    def _at(self, place: str | int) -> Decision:
        return next(itertools.islice(self.decided.ids, int(place), None))

    def _places(self, decisions: tuple[Decision, ...]) -> tuple[int, ...]:
        # Each is one of a few.
        listed = list(self.decided.ids)
        return tuple(listed.index(decision) for decision in decisions)

    def _number(self, parameter: Parameter) -> ColumnElement[int]:
        return bindparam(named(parameter), self.value(parameter), type_=BigInteger())

    def _members(self, decisions: tuple[Decision, ...]) -> ColumnElement[Any]:
        parameter: Parameter = ("all of", *self._places(decisions))
        name, listed = named(parameter), self.value(parameter)
        if self.dialect == "postgresql":
            return func.unnest(bindparam(name, listed, type_=ARRAY(BigInteger())))
        rows = func.json_each(bindparam(name, listed, type_=Text()))
        return rows.table_valued(column("value", BigInteger())).c.value


def view(known: Known, question: Question, dialect: Dialect) -> View:
    """A question's answer, as far as the owners are known."""
    kept: dict[Question, Decided] = known.decided
    decided = kept.pop(question, None) or Decided(question)
    decided.extend(known)
    # At the end: what was asked for longest ago goes first.
    kept[question] = decided
    while len(kept) > 1 and len(kept) * (known.newest + 1) > MAX_KEPT:
        del kept[next(iter(kept))]
    return View(decided, known, known.newest, known.mark, dialect)


def _passes(
    decision: Decision,
    row_id: ColumnElement[str] | None,
    dialect: Dialect,
) -> ColumnElement[bool]:
    if row_id is None or not decision.tests:
        return true() if decision.final else false()
    tests: list[Any] = [
        (test.clause(dialect, row_id), literal_column("1" if permitted else "0"))
        for test, permitted in decision.tests
    ]
    passed: ColumnElement[bool] = case(
        *tests, else_=literal_column("1" if decision.final else "0")
    ) == literal_column("1")
    return passed


def named(parameter: Parameter) -> str:
    """A parameter's name in a statement."""
    return _MEMBERS + _SEPARATOR.join(map(str, parameter))


def is_named(name: str) -> bool:
    """Whether a parameter of this name is a view's."""
    return name.startswith(_MEMBERS)


def parameter_of(name: str) -> Parameter:
    """The way back."""
    return tuple(name[len(_MEMBERS) :].split(_SEPARATOR))
