"""Processes of the demo's own, and what they hold: pids, ports and shared memory."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.support.postgres import die_with_parent

END_SECONDS = 5
"""How long processes may take to end. At the end of the story nothing is under way; when it is cut
short, what is under way may wait for a database that Ctrl-C has ended already."""


class Child:
    """A process that ends with the demo; its output goes to a file.

    Args:
        name: for messages.
        command: what to run.
        log: where standard output and error go.
        environment: all of it.
    """

    def __init__(
        self, name: str, command: Sequence[str | Path], log: Path, environment: Mapping[str, str]
    ) -> None:
        self.name = name
        self.log = log
        with log.open("wb") as output:
            self._process = subprocess.Popen(  # noqa: S603 - the commands are this package's own
                [str(word) for word in command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=Path(__file__).parents[2],
                env=dict(environment),
                # Ctrl-C at the terminal is for the demo, which ends its children in order.
                start_new_session=True,
                preexec_fn=die_with_parent,  # noqa: PLW1509 - one system call; and only on Linux is there a demo
            )

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """None while it runs."""
        return self._process.poll()

    def ask(self) -> None:
        """Ask it to end."""
        self._process.terminate()

    def end(self, deadline: float) -> None:
        """Give it until then (`time.monotonic()`), and make it end."""
        try:
            self._process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def output(self) -> str:
        """What it wrote so far."""
        return self.log.read_text(errors="replace")


@dataclass(frozen=True)
class Footprint:
    """What a process and all its descendants hold outside of their directories.

    Attributes:
        processes: (pid, start time in ticks) of each descendant, so that a pid's next owner is none.
        ports: TCP ports of loopback on which they listen.
        shared: files of shared memory.
    """

    processes: frozenset[tuple[int, str]]
    ports: frozenset[int]
    shared: frozenset[str]

    @classmethod
    def of_descendants(cls, of: int | None = None) -> Footprint:
        """What the descendants of a process (this one, when none is named) hold now."""
        parents = {pid: stat for pid in _pids() if (stat := _stat(pid)) is not None}
        found: set[int] = set()
        newest = {of or os.getpid()}
        while newest:
            newest = {pid for pid, (parent, _) in parents.items() if parent in newest} - found
            found |= newest
        inodes = {inode for pid in found for inode in _sockets(pid)}
        return cls(
            processes=frozenset((pid, parents[pid][1]) for pid in found),
            ports=frozenset(port for port, inode in _listening() if inode in inodes),
            shared=frozenset(path for pid in found for path in _shared(pid)),
        )

    def left(self) -> list[str]:
        """Those that are still there, in words."""
        listening = {port for port, _ in _listening()}
        return [
            *(f"process {pid}" for pid, start in sorted(self.processes) if _started(pid) == start),
            *(f"port {port}" for port in sorted(self.ports & listening)),
            *(path for path in sorted(self.shared) if Path(path).exists()),
        ]


def _pids() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def _stat(pid: int) -> tuple[int, str] | None:
    """(parent, start time); None when it is gone or only waits to be asked how it ended."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    # The name in parentheses may hold anything.
    fields = text.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else (int(fields[1]), fields[19])


def _started(pid: int) -> str | None:
    stat = _stat(pid)
    return None if stat is None else stat[1]


def _sockets(pid: int) -> list[str]:
    found = []
    with contextlib.suppress(OSError):
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                target = str(entry.readlink())
                if target.startswith("socket:["):
                    found.append(target[8:-1])
    return found


def _shared(pid: int) -> list[str]:
    with contextlib.suppress(OSError):
        lines = Path(f"/proc/{pid}/maps").read_text().splitlines()
        paths = {line.split(maxsplit=5)[-1] for line in lines if "/dev/shm/" in line}  # noqa: S108 - read only
        return [path for path in paths if not path.endswith("(deleted)")]
    return []


def _listening() -> list[tuple[int, str]]:
    """(port, inode) of every TCP socket that listens."""
    found = []
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with contextlib.suppress(OSError):
            for line in Path(table).read_text().splitlines()[1:]:
                fields = line.split()
                if fields[3] == "0A":
                    found.append((int(fields[1].rpartition(":")[2], 16), fields[9]))
    return found
