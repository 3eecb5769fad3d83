"""`${env.…}` placeholders, read as the server (OGX 1.5.0) reads them.

Names are `[A-Z0-9_]+`. `${env.X}` needs X to be set and not empty, `${env.X:=default}` falls back,
`${env.X:+value}` is the value when X is set and empty otherwise. One pass: no nesting, no escape,
and what a variable holds is not looked at again. Anything else that looks alike stays as it is.

One difference is on purpose. The server coerces the whole resulting string ("0123" becomes the
number 123) and expands `~` whatever the field is; here that is done only where the field isn't a
string, or is a path. So a password of digits stays a password.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Self

_PLACEHOLDER = re.compile(r"\$\{env\.([A-Z0-9_]+)(?::([=+])([^}]*))?\}")


class UnsetVariableError(Exception):
    """A placeholder without a default names a variable that is unset or empty."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


class Substituted(str):
    """Text that came from at least one placeholder.

    Attributes:
        expanded: the same with `~` expanded at the beginning of each substituted value.
    """

    __slots__ = ("expanded",)

    expanded: str

    def __new__(cls, text: str, expanded: str) -> Self:
        """Keep both forms; the field's type decides which one counts."""
        made = super().__new__(cls, text)
        made.expanded = expanded
        return made


def has_placeholder(value: object) -> bool:
    """Whether the value is text that `substitute` would change."""
    return isinstance(value, str) and _PLACEHOLDER.search(value) is not None


def substitute(text: str, environ: Mapping[str, str]) -> str:
    """Replace every placeholder.

    Returns:
        The text itself where it has none, else `Substituted`.

    Raises:
        UnsetVariableError: naming the first variable that is missing.
    """
    if not has_placeholder(text):
        return text

    def value(match: re.Match[str]) -> str:
        name, operator, operand = match.groups()
        current = environ.get(name, "")
        if operator == "=":
            return current or str(operand)
        if operator == "+":
            return str(operand) if current else ""
        if not current:
            raise UnsetVariableError(name)
        return current

    return Substituted(
        _PLACEHOLDER.sub(value, text),
        _PLACEHOLDER.sub(lambda match: expand_user(value(match)), text),
    )


def coerce(text: str) -> str | float | bool | None:
    """What the server makes of a whole substituted string: None, bool, int, float or text."""
    if not text:
        return None
    if text.lower() in {"true", "false"}:
        return text.lower() == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def expand_user(path: str) -> str:
    """Expand a leading `~`; it stays where there is no such user."""
    return os.path.expanduser(path)  # noqa: PTH111 - Path.expanduser raises instead of leaving it
