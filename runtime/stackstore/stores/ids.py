"""Ids: those that the stores mint, and those that they are given."""

from __future__ import annotations

import secrets

from stackstore.errors import InvalidArgumentError


def minted(prefix: str, digits: int = 48) -> str:
    """A new id: `<prefix>_` says what it is, and random hexadecimal digits that nobody can guess."""
    return f"{prefix}_{secrets.token_hex(digits // 2)}"


def filled(what: str, given: object) -> str:
    """An id, or another name, that somebody gave.

    Args:
        what: what it is, for the message.
        given: a text that is not empty.

    Raises:
        InvalidArgumentError: it isn't one.
    """
    if not isinstance(given, str) or not given:
        raise InvalidArgumentError(f"{what} is a text that is not empty")
    return given
