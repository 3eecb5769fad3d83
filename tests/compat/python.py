"""A Python that the real server runs on: `python -m tests.compat.python` says which, or exits with 1.

It needs nothing but the standard library, so that it runs before anything is installed.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

MINIMUM = (3, 12)
"""The server's own `requires-python`."""


class NoPythonError(Exception):
    """There is no Python that the server runs on; the text says where it was looked for."""


def version_of(python: Path) -> tuple[int, ...] | None:
    """(3, 12, 1); None when it doesn't run."""
    script = "import sys; print(*sys.version_info[:3])"
    try:
        # -I: what stands in this process's environment must not reach another Python.
        done = subprocess.run(
            [python, "-I", "-c", script], capture_output=True, text=True, check=True, timeout=30
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return tuple(int(part) for part in done.stdout.split())


def candidates(environ: Mapping[str, str]) -> Iterator[Path]:
    """Where a Python may be, in the order of preference."""
    chosen = environ.get("STACKSTORE_COMPAT_PYTHON")
    if chosen:
        yield Path(chosen)
        return
    for name in ("python3.13", "python3.12"):
        found = shutil.which(name, path=environ.get("PATH", ""))
        if found:
            yield Path(found)
    home = environ.get("HOME")
    root = (
        Path(environ["PYENV_ROOT"]) if environ.get("PYENV_ROOT") else home and Path(home, ".pyenv")
    )
    if root:
        # The lock is resolved for 3.12, so the nearest to it comes first.
        yield from sorted(Path(root).glob("versions/3.1[2-9]*/bin/python"))


def find_python(environ: Mapping[str, str] = os.environ) -> tuple[Path, tuple[int, ...]]:
    """A Python that the server runs on, and its version.

    Raises:
        NoPythonError: there is none.
    """
    for path in candidates(environ):
        version = version_of(path)
        if version is not None and version >= MINIMUM:
            return path, version
    minimum = ".".join(map(str, MINIMUM))
    if environ.get("STACKSTORE_COMPAT_PYTHON"):
        raise NoPythonError(f"STACKSTORE_COMPAT_PYTHON does not name a Python {minimum} or newer")
    raise NoPythonError(
        f"the real server needs a Python {minimum} or newer, and there is none: looked for "
        "python3.13 and python3.12 on PATH and for pyenv's versions; "
        "set STACKSTORE_COMPAT_PYTHON=/path/to/python3"
    )


def main() -> int:
    """0 and its path, or 1 and where it was looked for."""
    try:
        python, _ = find_python()
    except NoPythonError as problem:
        print(problem, file=sys.stderr)
        return 1
    print(python)
    return 0


if __name__ == "__main__":
    sys.exit(main())
