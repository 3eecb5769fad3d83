"""`python -m hack.tools [NAME…]`: see that the programs of the tests are there; `--e2e`: all of them."""

from __future__ import annotations

import sys

from hack.tools import FOR_TESTS, PACKAGES, ToolsError, find


def main() -> int:
    """Build what is missing; 1 when something can't be had."""
    names = sys.argv[1:] or list(FOR_TESTS)
    if names == ["--e2e"]:
        names = list(PACKAGES)
    unknown = sorted(set(names) - set(PACKAGES))
    if unknown:
        print(f"no such program: {', '.join(unknown)}; there are {', '.join(PACKAGES)}")
        return 2
    try:
        find(names)
    except ToolsError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


sys.exit(main())
