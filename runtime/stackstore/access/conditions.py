"""The words of `when` and `unless`, each parsed once into what can be asked.

All of them speak of the user and the owner only. An owner that is None is nobody: the row is
unowned.
"""

from __future__ import annotations

from dataclasses import dataclass

from stackstore.access.owners import Owner
from stackstore.access.users import User
from stackstore.errors import InvalidArgumentError
from stackstore.sql.names import shown

WORDS = (
    "user is owner",
    "user is not owner",
    "user with VALUE in KIND",
    "user with VALUE not in KIND",
    "user in owners KIND",
    "user not in owners KIND",
    "resource is unowned",
)


@dataclass(frozen=True, slots=True)
class IsOwner:
    """The user owns it."""

    negated: bool

    def holds(self, user: User, owner: Owner | None) -> bool:
        """Whether it is so; the tenants are equal, or it would not have been asked."""
        return (owner is not None and owner.principal == user.principal) != self.negated


@dataclass(frozen=True, slots=True)
class HasValue:
    """The user has a value of a kind."""

    value: str
    kind: str
    negated: bool

    def holds(self, user: User, owner: Owner | None) -> bool:
        """Whether it is so, whoever the owner is."""
        del owner
        return (self.value in user.attributes.get(self.kind, ())) != self.negated


@dataclass(frozen=True, slots=True)
class SharesValue:
    """User and owner have a value of a kind in common."""

    kind: str
    negated: bool

    def holds(self, user: User, owner: Owner | None) -> bool:
        """Whether it is so; a kind that one of them doesn't have is never in common."""
        shared = owner is not None and not owner.attributes.get(self.kind, frozenset()).isdisjoint(
            user.attributes.get(self.kind, ())
        )
        return shared != self.negated


@dataclass(frozen=True, slots=True)
class CoversKind:
    """User and owner share a value of a kind, or the owner has none of it; presets use it."""

    kind: str

    def holds(self, user: User, owner: Owner | None) -> bool:
        """Whether it is so; nobody's rows are not covered."""
        if owner is None:
            return False
        values = owner.attributes.get(self.kind)
        return not values or not values.isdisjoint(user.attributes.get(self.kind, ()))


@dataclass(frozen=True, slots=True)
class HasKind:
    """The owner has a value of one of these kinds; presets use it."""

    kinds: tuple[str, ...]

    def holds(self, user: User, owner: Owner | None) -> bool:
        """Whether it is so, whoever the user is."""
        del user
        return owner is not None and any(kind in owner.attributes for kind in self.kinds)


@dataclass(frozen=True, slots=True)
class IsUnowned:
    """It belongs to nobody."""

    def holds(self, user: User, owner: Owner | None) -> bool:
        """Whether it is so."""
        del user
        return owner is None


Condition = IsOwner | HasValue | SharesValue | CoversKind | HasKind | IsUnowned


def condition(text: object) -> Condition:
    """Understand one; words are parted by any white space and case counts.

    Raises:
        InvalidArgumentError: it is none; the text lists all there are.
    """
    match text.split() if isinstance(text, str) else []:
        case ["user", "is", "owner"]:
            return IsOwner(negated=False)
        case ["user", "is", "not", "owner"]:
            return IsOwner(negated=True)
        case ["user", "with", value, "in", kind]:
            return HasValue(value, kind, negated=False)
        case ["user", "with", value, "not", "in", kind]:
            return HasValue(value, kind, negated=True)
        case ["user", "in", "owners", kind]:
            return SharesValue(kind, negated=False)
        case ["user", "not", "in", "owners", kind]:
            return SharesValue(kind, negated=True)
        case ["resource", "is", "unowned"]:
            return IsUnowned()
    raise InvalidArgumentError(f"{shown(text)} is no condition; there are: {', '.join(WORDS)}")
