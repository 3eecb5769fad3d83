"""The real server in an environment of its own: made once from its lock and kept."""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import subprocess
import time
from pathlib import Path

from hack.tools import ROOT, cache_home
from tests.compat.python import find_python, version_of

LOCK = ROOT / "requirements" / "ogx.txt"


class InstallError(Exception):
    """The server could not be installed; the text says what to do."""


def server_python() -> Path:
    """The Python of the environment that the server is installed in.

    Raises:
        NoPythonError: there is no Python that the server runs on.
        InstallError: it could not be installed.
    """
    python, version = find_python()
    key = hashlib.sha256(LOCK.read_bytes() + repr((version, python.resolve())).encode())
    home = cache_home() / "ogx"
    target = home / key.hexdigest()[:16]
    ready = target / "bin" / "python"
    if (target / ".complete").exists() and version_of(ready) == version:
        return ready
    home.mkdir(parents=True, exist_ok=True)
    with (home / ".lock").open("w") as lock:
        # A second process waits here and then finds it made.
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (target / ".complete").exists() or version_of(ready) != version:
            _make(python, version, target)
    return ready


def _make(python: Path, version: tuple[int, ...], target: Path) -> None:
    start = time.monotonic()
    shown = ".".join(map(str, version))
    print(f"installing the real server for Python {shown}: once, about half a minute …", flush=True)
    shutil.rmtree(target, ignore_errors=True)
    try:
        # A venv can't be moved, so it is made in its place; it counts from its mark on.
        subprocess.run([python, "-I", "-m", "venv", target], check=True)
        subprocess.run(
            [
                target / "bin" / "python", "-I", "-m", "pip", "install", "--quiet",
                "--disable-pip-version-check", "--require-hashes", "-r", LOCK,
            ],
            check=True,
        )  # fmt: skip
    except (OSError, subprocess.CalledProcessError):
        shutil.rmtree(target, ignore_errors=True)
        raise InstallError(
            f"the real server could not be installed from {LOCK.relative_to(ROOT)}: "
            "check the network and the disk (300 MB)"
        ) from None
    (target / ".complete").touch()
    print(f"  installed in {time.monotonic() - start:.0f} s", flush=True)
