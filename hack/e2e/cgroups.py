"""A cgroup of the node's own in every hierarchy, so that all of it can be removed again."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path

MOUNT = Path("/sys/fs/cgroup")


class Cgroup:
    """`/<name>` below each hierarchy's root: kubelet's cgroupRoot, which must be there before it."""

    def __init__(self, name: str, mount: Path = MOUNT) -> None:
        self.path = f"/{name}"
        self._mount = mount

    def make(self) -> None:
        """In every v1 hierarchy, `name=systemd` among them, or in the one of v2."""
        if (self._mount / "cgroup.controllers").exists():
            (self._mount / self.path[1:]).mkdir()
            return
        for root in self._mount.iterdir():
            if root.name == "unified" or root.is_symlink() or not (root / "cgroup.procs").exists():
                continue
            own = root / self.path[1:]
            own.mkdir()
            for file in ("cpuset.cpus", "cpuset.mems"):
                # Empty at first, and then no process may enter.
                if (root / file).exists():
                    (own / file).write_text((root / file).read_text())

    def there(self) -> list[Path]:
        """What there is of it."""
        places = [self._mount / self.path[1:], *self._mount.glob(f"*{self.path}")]
        return [place for place in places if place.is_dir()]

    def remove(self) -> list[Path]:
        """End the processes in it and take it away; returns what did not go."""
        for _ in range(20):
            for place in self.there():
                for pid in _pids(place):
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
                for directory, _directories, _files in os.walk(place, topdown=False):
                    # Busy for as long as a process in it has not quite ended.
                    with contextlib.suppress(OSError):
                        Path(directory).rmdir()
            if not self.there():
                break
            time.sleep(0.1)
        return self.there()


def _pids(place: Path) -> set[int]:
    found = set()
    for file in place.rglob("cgroup.procs"):
        with contextlib.suppress(OSError):
            found |= {int(line) for line in file.read_text().split()}
    return found - {0, 1, os.getpid()}
