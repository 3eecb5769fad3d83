"""All that an exception could put into a log."""

from __future__ import annotations

import traceback


def everything_shown(error: BaseException) -> str:
    """Its text, its repr, its arguments, and those of all it was raised from or during."""
    shown: list[str] = []
    seen: set[int] = set()
    waiting: list[BaseException | None] = [error]
    while waiting:
        one = waiting.pop()
        if one is not None and id(one) not in seen:
            seen.add(id(one))
            shown += [str(one), repr(one), repr(one.args), repr(vars(one))]
            shown += traceback.format_exception(one)
            waiting += [one.__cause__, one.__context__]
    return "\n".join(shown)
