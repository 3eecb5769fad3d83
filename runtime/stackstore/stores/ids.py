"""Ids that the stores mint: a prefix that says what it is, and random hexadecimal digits."""

from __future__ import annotations

import secrets


def minted(prefix: str, digits: int = 48) -> str:
    """A new id, `<prefix>_<digits>`; nobody can guess it, and two are never the same."""
    return f"{prefix}_{secrets.token_hex(digits // 2)}"
