"""Who is asking: a user, held in a context variable.

A user that is missing while authorization is on is refused; it is not an anonymous user, and it is
not "authorization is off", which a store is told when it is made.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from types import MappingProxyType

from stackstore.access.tenancy import tenant
from stackstore.errors import InvalidArgumentError


@dataclass(frozen=True, eq=False)
class User:
    """Somebody who was authenticated.

    Attributes:
        principal: the name, exactly as it was authenticated; never empty.
        attributes: values of each kind ("roles", "teams", …). Neither order nor repetition counts,
            and a kind without values is a kind the user doesn't have.
        tenant_id: the tenant; trimmed and in lower case.

    Raises:
        InvalidArgumentError: the principal is empty, or something has another shape.
    """

    principal: str
    attributes: Mapping[str, Sequence[str]] = field(default_factory=dict)
    tenant_id: str | None = None
    _whole: tuple[object, ...] = field(init=False, repr=False)
    _hash: int = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "principal", _principal(self.principal))
        object.__setattr__(self, "attributes", _attributes(self.attributes))
        if self.tenant_id is not None:
            object.__setattr__(self, "tenant_id", tenant(self.tenant_id))
        whole = (self.tenant_id, self.principal, tuple(self.attributes.items()))
        object.__setattr__(self, "_whole", whole)
        object.__setattr__(self, "_hash", hash(whole))

    # Users are looked up with each call, and a server makes one for each request.
    def __eq__(self, other: object) -> bool:
        if not isinstance(other, User):
            return NotImplemented
        return self._hash == other._hash and self._whole == other._whole

    def __hash__(self) -> int:
        return self._hash


_CURRENT: ContextVar[User | None] = ContextVar("stackstore_user", default=None)


def current_user() -> User | None:
    """Who is asking in this task; None: nobody was set."""
    return _CURRENT.get()


@contextlib.contextmanager
def acting_as(user: User | None) -> Iterator[User | None]:
    """Everything inside is asked by this user; None: by nobody, which is refused.

    A task that is started inside goes on as that user after the block was left.
    """
    if user is not None and not isinstance(user, User):
        raise InvalidArgumentError(f"acting_as takes a User or None, not a {type(user).__name__}")
    token = _CURRENT.set(user)
    try:
        yield user
    finally:
        _CURRENT.reset(token)


def _principal(given: object) -> str:
    if not isinstance(given, str) or not given.strip():
        raise InvalidArgumentError(
            "a user's principal is a text that is not empty; nobody in particular is no user: leave the user "
            "out, which is refused, or make the store with auth=False, which is public"
        )
    return given


def _attributes(given: object) -> Mapping[str, tuple[str, ...]]:
    kinds = {} if given is None else given
    if not isinstance(kinds, Mapping):
        raise InvalidArgumentError(
            f"a user's attributes are a mapping from kinds to lists of values, not a {type(given).__name__}"
        )
    for kind, values in kinds.items():
        # A bare text is a sequence of texts too, and would grant its letters.
        if (
            not isinstance(kind, str)
            or isinstance(values, str)
            or not isinstance(values, Sequence | frozenset | set)
            or not all(isinstance(value, str) for value in values)
        ):
            raise InvalidArgumentError(
                "a user's attributes are a mapping from kinds to lists of texts; one of them is not"
            )
    return MappingProxyType(
        {kind: tuple(sorted(set(kinds[kind]))) for kind in sorted(kinds) if kinds[kind]}
    )
