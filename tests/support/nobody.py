"""A user without rights, also where the tests run as root, and a place that it can get to."""

from __future__ import annotations

import concurrent.futures.thread  # noqa: F401 - asyncio loads it late, when nobody may not read it
import contextlib
import encodings.idna  # noqa: F401 - likewise
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

_NOBODY = 65534


@contextlib.contextmanager
def as_nobody() -> Iterator[None]:
    """Go on without root's right to read and write everything; others stay who they are."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(_NOBODY)
    try:
        yield
    finally:
        os.seteuid(user)


@contextlib.contextmanager
def public_directory() -> Iterator[Path]:
    """A temporary directory that everybody may enter; pytest's own are closed to others."""
    # Not where TMPDIR says: a test may have pointed it into a directory of its own, closed again.
    path = Path(tempfile.mkdtemp(prefix="sst-", dir="/tmp"))
    path.chmod(0o755)
    try:
        yield path
    finally:
        shutil.rmtree(path)
