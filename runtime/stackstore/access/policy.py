"""Policies: who may do what with whose rows. Parsed once; pure.

A policy is a list of rules, and the first that fits decides; if none fits, it is refused. All
conditions speak of the user and the owner, so a policy is decided once per owner; only patterns of
names remain, as tests of ids.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from typing import Any

from stackstore.access.conditions import (
    Condition,
    CoversKind,
    HasKind,
    IsOwner,
    IsUnowned,
    SharesValue,
    condition,
)
from stackstore.access.owners import Owner
from stackstore.access.resources import IdTest, Matches, Resource, names_of, resource
from stackstore.access.users import User
from stackstore.errors import InvalidArgumentError
from stackstore.sql.names import shown

KINDS = ("roles", "teams", "projects", "namespaces")
"""The kinds of attributes that the presets look at; other rules may name any."""


class Action(Enum):
    """What is done with a row."""

    CREATE = "create"
    READ = "read"
    UPDATE = "update"
    DELETE = "delete"


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule.

    Attributes:
        permits: it permits; otherwise it forbids.
        actions: what it speaks of.
        principal: the user it speaks of; None: of all.
        resource: the rows it speaks of; None: of all.
        conditions: what must hold, all of it.
        negated: it was `unless`: not all of it may hold.
    """

    permits: bool
    actions: frozenset[Action]
    principal: str | None = None
    resource: Resource | None = None
    conditions: tuple[Condition, ...] = ()
    negated: bool = False

    def speaks_of(self, user: User, owner: Owner | None) -> bool:
        """Whether it fits this user and owner, whatever the row is called."""
        if self.principal is not None and self.principal != user.principal:
            return False
        return all(one.holds(user, owner) for one in self.conditions) != self.negated


@dataclass(frozen=True, slots=True)
class Decision:
    """What a policy says of one owner's rows in one table.

    Attributes:
        tests: in order; the first test that an id passes decides.
        final: what is decided when it passes none.
    """

    tests: tuple[tuple[IdTest, bool], ...]
    final: bool

    @property
    def always(self) -> bool:
        """Permitted, whatever the id is."""
        return self.final and not self.tests

    @property
    def never(self) -> bool:
        """Refused, whatever the id is."""
        return not self.final and not self.tests

    def of(self, row_id: str | None) -> bool:
        """Whether the row of this id is permitted; without an id no test is passed."""
        if row_id is not None:
            for test, permitted in self.tests:
                if test.holds(row_id):
                    return permitted
        return self.final


@dataclass(frozen=True)
class Ruling:
    """What a policy has to say of an action on a table, or on other things of one kind.

    Attributes:
        rules: those that can fit, each with the test of ids that is left of its pattern.
    """

    rules: tuple[tuple[Rule, IdTest | None], ...]

    @cached_property
    def calls_matches(self) -> bool:
        """Whether a statement calls what SQLite has to be given first."""
        return any(isinstance(test, Matches) for _, test in self.rules)

    # Rulings are keys and deep, so it is kept.
    @cached_property
    def _hash(self) -> int:
        return hash(self.rules)

    def __hash__(self) -> int:
        return self._hash


@dataclass(frozen=True, slots=True)
class Policy:
    """A list of rules, parsed."""

    rules: tuple[Rule, ...]

    def ruling(self, action: Action, table: str) -> Ruling:
        """What it has to say of an action on a table."""
        return self.ruling_within(action, names_of(table))

    def ruling_within(self, action: Action, before: str) -> Ruling:
        """The same of what is in no table: its names are `before` and then an id."""
        found: list[tuple[Rule, IdTest | None]] = []
        for rule in self.rules:
            if action in rule.actions:
                test = True if rule.resource is None else rule.resource.within(before)
                if test is not False:
                    found.append((rule, None if test is True else test))
        return Ruling(tuple(found))


def decide(ruling: Ruling, user: User, owner: Owner | None) -> Decision:
    """What a ruling says of a user and an owner; None: of rows that belong to nobody."""
    tests: list[tuple[IdTest, bool]] = []
    final = False
    for rule, test in ruling.rules:
        if not rule.speaks_of(user, owner):
            continue
        if test is None:
            final = rule.permits
            break
        tests.append((test, rule.permits))
    while tests and tests[-1][1] == final:
        tests.pop()
    return Decision(tuple(tests), final)


_ALL = frozenset(Action)

DEFAULT = Policy(
    (
        *(
            Rule(permits=True, actions=_ALL, conditions=(SharesValue(kind, negated=False),))
            for kind in KINDS
        ),
        Rule(permits=True, actions=_ALL, conditions=(IsOwner(negated=False),)),
        Rule(permits=True, actions=_ALL, conditions=(IsUnowned(),)),
    )
)
"""OGX's: one's own, nobody's, and whatever somebody wrote who shares any value of any kind."""

STRICT = Policy(
    (
        Rule(permits=True, actions=_ALL, conditions=(IsOwner(negated=False),)),
        Rule(permits=True, actions=_ALL, conditions=(IsUnowned(),)),
        Rule(
            permits=True,
            actions=_ALL,
            conditions=(HasKind(KINDS), *(CoversKind(kind) for kind in KINDS)),
        ),
    )
)
"""One's own, nobody's, and what somebody wrote with whom a value is shared of every kind that
the writer has."""

PRESETS = {"default": DEFAULT, "strict": STRICT}


def policy(rules: object) -> Policy:
    """Understand a policy.

    Args:
        rules: a list of rules as the run config has them (mappings, or objects with the same
            attributes); empty or None: the default policy. Or a preset's name: "default", "strict".

    Raises:
        InvalidArgumentError: something is wrong; the text lists all of it, by the rules' indexes.
    """
    if isinstance(rules, Policy):
        return rules
    if isinstance(rules, str):
        if rules not in PRESETS:
            raise InvalidArgumentError(
                f"there is no policy {shown(rules)}; presets are {', '.join(PRESETS)}, and any other "
                "policy is a list of rules"
            )
        return PRESETS[rules]
    if rules is None:
        return DEFAULT
    if not isinstance(rules, Sequence):
        raise InvalidArgumentError(f"a policy is a list of rules, not a {type(rules).__name__}")
    problems: list[str] = []
    found = [_Reader(f"rule {index}", problems).rule(rule) for index, rule in enumerate(rules)]
    if problems:
        raise InvalidArgumentError("the policy can't be used:\n" + "\n".join(problems))
    return Policy(tuple(rule for rule in found if rule is not None)) if found else DEFAULT


class _Reader:
    """Reads one rule; what is wrong goes to a list that all of them share."""

    def __init__(self, where: str, problems: list[str]) -> None:
        self._where = where
        self._problems = problems

    def rule(self, given: object) -> Rule | None:
        """The rule; None if something is wrong with it."""
        before = len(self._problems)
        allowed = ("permit", "forbid", "when", "unless", "description")
        fields = self._fields("a rule", given, allowed)
        if bool(fields.get("permit")) == bool(fields.get("forbid")):
            self._wrong("it has either permit or forbid, one of them")
        if fields.get("when") and fields.get("unless"):
            self._wrong("it has either when or unless, not both")
        permits = bool(fields.get("permit"))
        scope_name = "permit" if permits else "forbid"
        scope = self._fields(
            scope_name, fields.get(scope_name) or {}, ("actions", "principal", "resource")
        )
        actions = self._actions(scope_name, scope)
        principal = self._text(f"{scope_name}.principal", scope.get("principal"))
        pattern = self._text(f"{scope_name}.resource", scope.get("resource"))
        found = (
            None if pattern is None else self._resource(scope_name, pattern, forbids=not permits)
        )
        negated = bool(fields.get("unless"))
        word = "unless" if negated else "when"
        conditions = self._conditions(word, fields.get(word))
        if len(self._problems) > before:
            return None
        return Rule(permits, actions, principal, found, conditions, negated)

    def _wrong(self, what: str) -> None:
        self._problems.append(f"{self._where}: {what}")

    def _fields(self, what: str, given: object, allowed: Sequence[str]) -> Mapping[str, Any]:
        if not isinstance(given, Mapping):
            found = {name: getattr(given, name) for name in allowed if hasattr(given, name)}
            if not found:
                self._wrong(f"{what} is a mapping of {', '.join(allowed)}")
            return found
        for name in given:
            if name not in allowed:
                self._wrong(f"{what} has no {shown(name)}; allowed are {', '.join(allowed)}")
        return given

    def _actions(self, scope: str, fields: Mapping[str, Any]) -> frozenset[Action]:
        given = fields.get("actions")
        listed = given if isinstance(given, Sequence | set | frozenset) else [given]
        names = [given] if isinstance(given, str) else listed
        found = set()
        for name in names:
            word = getattr(name, "value", name)
            if word not in [action.value for action in Action]:
                kinds = ", ".join(action.value for action in Action)
                self._wrong(f"{scope}.actions is one or a list of {kinds}, not {shown(word)}")
            else:
                found.add(Action(word))
        return frozenset(found)

    def _text(self, what: str, given: object) -> str | None:
        if given is None:
            return None
        if not isinstance(given, str) or not given:
            # OGX takes an empty one for "any", which is rarely what its author meant.
            self._wrong(f"{what} is a text that is not empty; leave it out to mean any")
            return None
        return given

    def _resource(self, scope: str, pattern: str, *, forbids: bool) -> Resource | None:
        try:
            return resource(pattern, forbids=forbids)
        except InvalidArgumentError as error:
            self._wrong(f"{scope}.resource {shown(pattern)}: {error}")
            return None

    def _conditions(self, word: str, given: object) -> tuple[Condition, ...]:
        found = []
        for text in given if isinstance(given, list | tuple) else [given] if given else []:
            try:
                found.append(condition(text))
            except InvalidArgumentError as error:
                self._wrong(f"{word}: {error}")
        return tuple(found)
