"""Entries of the registry: under which keys they are, and what a value holds; pure.

The keys are OGX's where an entry is the system's, and have its owner's digest behind otherwise:

    distributions:registry:v10::<type>:<identifier>
    distributions:registry:v10::<type>:<identifier> NUL <digest of tenant and principal>

A type has no colon, and a NUL in an identifier is written as NUL ÿ. So no two entries have one key, and
keys are in the order of types, then of identifiers, by their bytes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from stackstore.access.owners import Owner
from stackstore.errors import InvalidArgumentError
from stackstore.stores.documents import Document, plain, text
from stackstore.stores.ids import filled

_PREFIX = "distributions:registry:v10:"
EVERYTHING = f"{_PREFIX}:", f"{_PREFIX};"
"""The range of all keys."""


@dataclass(frozen=True, slots=True)
class Entry:
    """What is registered.

    Attributes:
        kind: its type.
        identifier: what it is called.
        owner: whose it is; None: the system's.
        registered: when, in microseconds since 1970.
        document: the object, with its owner in it.
        value: what is kept: the same as text.
    """

    kind: str
    identifier: str
    owner: Owner | None
    registered: int
    document: dict[str, Any]
    value: str

    @property
    def key(self) -> str:
        """Where it is kept."""
        return key(self.kind, self.identifier, self.owner)


@dataclass(frozen=True, slots=True)
class Given:
    """An object as a caller gives it.

    Attributes:
        kind: its type.
        identifier: what it is called.
        document: all of it, without an owner: that is whoever registers it.
        said: the fields that were said and not left to their defaults.
    """

    kind: str
    identifier: str
    document: dict[str, Any]
    said: frozenset[str]

    def entry(self, owner: Owner | None, registered: int) -> Entry:
        """It as somebody's."""
        document = {**self.document, "owner": _shown(owner)}
        value = text("an object", {"registered": registered, "object": document})
        return Entry(self.kind, self.identifier, owner, registered, document, value)

    def conflicts(self, there: Entry) -> list[str]:
        """The fields in which what is there says otherwise."""
        missing = object()
        return sorted(
            name for name in self.said if there.document.get(name, missing) != self.document[name]
        )


def given(found: Document) -> Given:
    """Understand an object.

    Raises:
        InvalidArgumentError: it is none, or has no usable type or identifier.
    """
    document = plain("an object of the registry", found)
    document.pop("owner", None)
    said = found.model_fields_set if isinstance(found, BaseModel) else document
    return Given(
        kind(document.get("type")),
        identifier(document.get("identifier")),
        document,
        frozenset(said) & frozenset(document),
    )


def read(value: str) -> Entry | None:
    """The entry of a value; None: it is none."""
    try:
        kept = json.loads(value)
        document, registered = kept["object"], kept["registered"]
        name = kind(document["type"]), identifier(document["identifier"])
        return Entry(*name, _owner(document["owner"]), registered, document, value)
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def key(kind: str, identifier: str, owner: Owner | None) -> str:
    """Where an entry is kept."""
    whose = "" if owner is None else f"\0{_digest(owner)}"
    return _begin(kind, identifier) + whose


def of_kind(kind: str) -> tuple[str, str]:
    """The range of a type's keys."""
    return f"{_PREFIX}:{kind}:", f"{_PREFIX}:{kind};"


def called(kind: str, identifier: str) -> tuple[str, str]:
    """The range of the keys of one identifier: the system's, and each owner's."""
    begin = _begin(kind, identifier)
    # Digests are of 0-9 and a-f; an identifier that goes on has ÿ there, or no NUL.
    return begin, f"{begin}\0g"


def kind(given: object) -> str:
    """A type's name.

    Raises:
        InvalidArgumentError: it isn't one.
    """
    name = getattr(given, "value", given)
    if not isinstance(name, str) or not name or ":" in name:
        raise InvalidArgumentError(
            "an object's type is a text without a colon that is not empty, as model or vector_store"
        )
    return name


def identifier(given: object) -> str:
    """An identifier.

    Raises:
        InvalidArgumentError: it isn't one.
    """
    return filled("an object's identifier", given)


def _begin(kind: str, identifier: str) -> str:
    return f"{_PREFIX}:{kind}:" + identifier.replace("\0", "\0ÿ")


def _digest(owner: Owner) -> str:
    return hashlib.sha256(owner.person.encode()).hexdigest()[:32]


def _shown(owner: Owner | None) -> dict[str, Any] | None:
    if owner is None:
        return None
    attributes = {kind: sorted(values) for kind, values in sorted(owner.attributes.items())}
    # The server's users have a text here, empty for nobody.
    return {
        "principal": owner.principal or "",
        "attributes": attributes,
        "tenant_id": owner.tenant,
    }


def _owner(shown: Mapping[str, Any] | None) -> Owner | None:
    if shown is None:
        return None
    attributes = {kind: frozenset(values) for kind, values in shown["attributes"].items()}
    return Owner(shown["tenant_id"], shown["principal"] or None, attributes)
