"""What a run could leave behind, and taking it away: processes, mounts, cgroups, files.

Everything of a run carries the name of its directory, so a later run finds what one that was killed
has left.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from hack.e2e.cgroups import Cgroup

PREFIX = "stackstore-e2e-"
SHARED = [Path("/run/containerd/s"), Path("/run/containerd"), Path("/var/lib/kubelet")]
"""Places that containerd's shims and kubelet use wherever their own directories are."""


class Place:
    """The directory of one run.

    In it are `owner`, whose run it is, and `absent`, the shared places that were not there before.
    """

    def __init__(self) -> None:
        others = _roots()
        self.root = Path(tempfile.mkdtemp(prefix=PREFIX))
        # Postgres may run as another user, who has to pass through.
        self.root.chmod(0o711)
        (self.root / "owner").write_text(_identity(os.getpid()) or "")
        # What another run has made is there now, and goes with the last of them.
        made = {path for other in others for path in _absent(other)}
        absent = [str(path) for path in SHARED if path in made or not path.exists()]
        (self.root / "absent").write_text("\n".join(absent))

    def clear(self) -> list[str]:
        """Take everything away; returns what did not go, in words."""
        return sweep(self.root)


def stale() -> list[Path]:
    """Directories of runs whose process is gone."""
    found = []
    for root in _roots():
        with contextlib.suppress(OSError):
            owner = (root / "owner").read_text()
            pid = owner.partition(" ")[0]
            if not (pid.isdigit() and _identity(int(pid)) == owner):
                found.append(root)
    return found


def sweep(root: Path) -> list[str]:
    """Take away what a run in this directory has left; returns what did not go, in words."""
    absent = _absent(root)
    for number in (signal.SIGTERM, signal.SIGKILL):
        for pid in processes(root):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        _until(lambda: not processes(root), 5)
    cgroups = Cgroup(root.name).remove()
    for _ in range(3):
        for mount in sorted(mounts(root), reverse=True):
            # Lazily: what still holds it is ending.
            subprocess.run(["umount", "--lazy", mount], check=False, capture_output=True)  # noqa: S607
    if not mounts(root):
        shutil.rmtree(root, ignore_errors=True)
    if _roots():
        absent = []
    for path in absent:
        shutil.rmtree(path, ignore_errors=True)
    return [
        *(f"process {pid}" for pid in processes(root)),
        *(f"cgroup {path}" for path in cgroups),
        *(f"mount {mount}" for mount in mounts(root)),
        *(str(path) for path in (root, *absent) if path.exists()),
    ]


def processes(root: Path) -> list[int]:
    """Whose command line names the directory: containerd's shims above all."""
    found = []
    needle = str(root).encode() + b"/"
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            with contextlib.suppress(OSError):
                # A process that has ended, and is not yet asked how, has an empty command line.
                if needle in (entry / "cmdline").read_bytes():
                    found.append(int(entry.name))
    return found


def mounts(root: Path) -> list[str]:
    """Mount points below the directory."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return [point for line in lines if (point := line.split()[4]).startswith(f"{root}/")]


def _roots() -> list[Path]:
    """The directories of all runs."""
    place = tempfile.gettempdir()
    # A run's own temporary directory is its directory.
    place = str(Path(place).parent) if Path(place).name.startswith(PREFIX) else place
    return sorted(Path(place).glob(f"{PREFIX}*"))


def _absent(root: Path) -> list[Path]:
    """Which of the shared places this run has made, or found made by one beside it."""
    try:
        text = (root / "absent").read_text()
    except OSError:
        return []
    return [path for path in SHARED if str(path) in text.splitlines()]


def _identity(pid: int) -> str | None:
    """A process for good: its id, and when it started."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    return f"{pid} {text.rpartition(')')[2].split()[19]}"


def _until(holds: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not holds() and time.monotonic() < deadline:
        time.sleep(0.1)
