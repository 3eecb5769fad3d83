"""`python -m tests.compat`: the real server (ogx 1.5.0) loads what we render, and runs on it.

Exit codes: 0 all as it should be; 1 something is not; 2 the server could not be installed; 3 there
is no Python that the server runs on (nothing was tried, and the caller decides what that means).
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

from tests.compat import booting, connecting, loading
from tests.compat.environment import InstallError, server_python
from tests.compat.loading import Result
from tests.compat.python import NoPythonError

GROUPS: dict[str, Callable[[Path], list[Result]]] = {
    "loading": loading.run,
    "connecting": connecting.run,
    "running": booting.run,
}


def main() -> int:
    """Run every group and print what came of it."""
    try:
        python = server_python()
    except NoPythonError as problem:
        print(problem, file=sys.stderr)
        return 3
    except InstallError as problem:
        print(problem, file=sys.stderr)
        return 2
    passed = failed = 0
    for title, run in GROUPS.items():
        start = time.monotonic()
        results = run(python)
        wrong = loading.failed(results)
        passed, failed = passed + len(results) - wrong, failed + wrong
        print(f"\n{title} ({len(results)}, {time.monotonic() - start:.0f} s)")
        for what, problem in results:
            print(f"  {'FAIL' if problem else 'ok  '}  {what}")
            if problem:
                print(f"        {problem}")
    print(f"\n{passed} passed, {failed} failed")
    return 1 if failed else 0


sys.exit(main())
