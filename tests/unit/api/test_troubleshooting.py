"""Every reason has its entry in docs/troubleshooting.md, and every entry its four parts."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from stackstore_operator.api.conditions import Reason
from stackstore_operator.api.conditiontypes import CONDITION_TYPES

PAGE = Path(__file__).resolve().parents[3] / "docs" / "troubleshooting.md"
PARTS = ("Seen", "Cause", "Type", "Heals")
HOW = (
    "docs/troubleshooting.md has no entry of the reason {0}. Write one under the condition that says it:\n\n"
    "### `{0}`\n\n"
    "- **Seen:** which condition is what, and what its message tells.\n"
    "- **Cause:** {1}\n"
    "- **Type:** `kubectl …`, to look and to mend.\n"
    "- **Heals:** when, and what stays in force meanwhile.\n"
)


def entries() -> dict[str, str]:
    found = re.findall(r"^### `(\w+)`\n(.*?)(?=^##|\Z)", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    names = [name for name, _ in found]
    assert len(names) == len(set(names)), "a reason has two entries"
    return dict(found)


@pytest.mark.parametrize("reason", sorted(Reason))
def test_every_reason_has_its_entry(reason: Reason) -> None:
    text = entries().get(str(reason))
    assert text is not None, HOW.format(reason, reason.meaning)
    for part in PARTS:
        said = re.search(rf"^- \*\*{part}:\*\* (\S.*)", text, re.MULTILINE)
        assert said, f"the entry of {reason} does not say: {part}"


def test_every_entry_is_of_a_reason() -> None:
    assert sorted(entries().keys() - set(Reason)) == []


def test_every_section_is_of_a_condition() -> None:
    sections = re.findall(r"^## (\w+)$", PAGE.read_text(), re.MULTILINE)
    assert sections
    assert [name for name in sections if name not in CONDITION_TYPES] == []
