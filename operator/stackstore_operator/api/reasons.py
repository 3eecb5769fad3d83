"""`python -m stackstore_operator.api.reasons`: every reason and its meaning, as docs/reasons.md."""

from __future__ import annotations

import sys

from stackstore_operator.api.conditions import Reason

_HEAD = """\
# Reasons

Generated from operator/stackstore_operator/api/conditions.py by `make generate`; do not edit. Conditions
and events use these words, each in one meaning; the message beside one says what exactly, and where.

| reason | meaning |
|---|---|
"""


def markdown() -> str:
    """The page's text."""
    return _HEAD + "".join(f"| `{reason}` | {reason.meaning} |\n" for reason in sorted(Reason))


if __name__ == "__main__":
    sys.stdout.write(markdown())
