"""The rows of prompts and of their versions, and what callers may hand over; pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from stackstore.errors import InvalidArgumentError, NotFoundError
from stackstore.sql.names import derived, shown
from stackstore.sql.tables import Row
from stackstore.stores.tables import JSON, NUMBER, NUMBER_KEY, TEXT, TEXT_KEY, TableDefinition

_VARIABLE = re.compile(r"{{\s*(\w+)\s*}}")


def definitions(table: str, versions: str) -> list[TableDefinition]:
    """The tables of prompts and of their versions, which are parts of them."""
    return [
        TableDefinition(
            table,
            {
                "id": TEXT_KEY,
                "created_at": NUMBER,
                # Microseconds, for the order of what was made in one second.
                "sequence": NUMBER,
                # Random: what its versions are keyed by.
                "uid": TEXT,
                # The default one, and a copy of it.
                "version": NUMBER,
                "prompt_data": JSON,
                "latest": NUMBER,
            },
            {derived(table, "sequence"): ["sequence"]},
        ),
        TableDefinition(
            versions,
            {
                "prompt": TEXT_KEY,
                "version": NUMBER_KEY,
                "sequence": NUMBER,
                "prompt_data": JSON,
            },
            owned=False,
        ),
    ]


def template(prompt: object, variables: object) -> dict[str, Any]:
    """What a version says.

    Raises:
        InvalidArgumentError: it isn't possible; the text has nothing of the template in it.
    """
    if not isinstance(prompt, str):
        raise InvalidArgumentError(f"a prompt is a text, not a {type(prompt).__name__}")
    given = [] if variables is None else variables
    if (
        not isinstance(given, Sequence)
        or isinstance(given, str | bytes)
        or not all(isinstance(name, str) for name in given)
    ):
        raise InvalidArgumentError("variables of a prompt are a list of texts, or None")
    names = set(given)
    unnamed = [use for use in _VARIABLE.finditer(prompt) if use[1] not in names]
    if unnamed:
        raise InvalidArgumentError(
            f"the prompt uses {len({use[1] for use in unnamed})} variable(s) that `variables` doesn't name, "
            f"the first one at character {unnamed[0].start()}; name them, or take them out"
        )
    return {"prompt": prompt, "variables": list(given)}


def check_version(version: object) -> None:
    """See to it that it is the number of a version.

    Raises:
        InvalidArgumentError: it can't be one.
    """
    if not isinstance(version, int) or isinstance(version, bool) or not 1 <= version < 2**63:
        raise InvalidArgumentError("version is a whole number, at least 1")


def shown_version(version: Row, prompt: Row) -> dict[str, Any]:
    """A version as the server's API has it."""
    return {
        "prompt_id": prompt["id"],
        "prompt": version["prompt_data"]["prompt"],
        "version": version["version"],
        "variables": version["prompt_data"]["variables"],
        "is_default": version["version"] == prompt["version"],
    }


def no_prompt(wanted: str) -> NotFoundError:
    """There is no such prompt, or the user may not see it."""
    return NotFoundError(f"there is no prompt {shown(wanted)}")


def no_version(version: int, prompt: str) -> NotFoundError:
    """There is no such version of a prompt that there is."""
    return NotFoundError(f"there is no version {version} of prompt {shown(prompt)}")
