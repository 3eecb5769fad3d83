"""The mounted Secret: read whole, and noticed when it is swapped.

The kubelet lays a volume out as files that link into `..data`, itself a link to a timestamped
directory, and swaps it by renaming a new link over `..data`. One file read is therefore one
consistent state; plain directories, as people make them by hand, work too.
"""

from __future__ import annotations

import logging
import os
import stat
from pathlib import Path

from stackstore.credentials.snapshot import Snapshot
from stackstore.errors import ConfigError

logger = logging.getLogger(__name__)

FILE_NAME = "stackstore.json"
MAX_BYTES = 4 * 1024 * 1024
"""Secrets end at 1 MiB; anything larger is not one."""


class SnapshotDirectory:
    """One directory with `stackstore.json` in it."""

    def __init__(self, directory: str | os.PathLike[str]) -> None:
        self.path = Path(directory) / FILE_NAME
        self._seen: tuple[int, ...] | None = None
        self._content: bytes | None = None
        self._told = ""

    def read(self) -> Snapshot:
        """Read the snapshot as it is now.

        Raises:
            ConfigError: there is no such file, or it can't be used.
        """
        # Looked at before it is read: what changes in between is noticed the next time.
        self._seen = self._stat()
        self._content = self._bytes()
        return Snapshot.parse(self._content, str(self.path))

    def read_if_changed(self, *, force: bool = False) -> Snapshot | None:
        """A new snapshot, or None: nothing new, or nothing usable.

        A file that is gone, can't be read, is cut short or broken is told once in the log and
        otherwise ignored: what was read before stays in force. What can't be read is tried again
        each time, since the file itself need not change when that heals.

        Args:
            force: read even if the file looks untouched (a database just refused a login).
        """
        seen = self._stat()
        if seen is not None and seen == self._seen and not force:
            return None
        try:
            content = self._bytes()
            self._seen = seen
            if content == self._content:
                return None
            self._content = content
            snapshot = Snapshot.parse(content, str(self.path))
        except ConfigError as error:
            if str(error) != self._told:
                self._told = str(error)
                logger.warning("keeping the last good snapshot: %s", error)
            return None
        self._told = ""
        return snapshot

    def _stat(self) -> tuple[int, ...] | None:
        try:
            found = self.path.stat()
        except OSError:
            return None
        return found.st_ino, found.st_mtime_ns, found.st_ctime_ns, found.st_size

    def _bytes(self) -> bytes:
        try:
            # Looked at before it is opened: opening a device may do something.
            kind = stat.S_IFMT(self.path.stat().st_mode)
            if kind not in (stat.S_IFREG, stat.S_IFDIR):
                raise ConfigError(
                    f"{self.path}: is a pipe, a socket or a device; it must be a plain file, as the "
                    "kubelet makes it of the stack's Secret"
                )
            with open(self.path, "rb", opener=_without_waiting) as file:
                content = file.read(MAX_BYTES + 1)
        except OSError as error:
            reason = error.strerror or type(error).__name__
            raise ConfigError(
                f"{self.path}: {reason}; mount the stack's Secret as a whole directory (no subPath) "
                f"so that it holds {FILE_NAME}"
            ) from None
        if len(content) > MAX_BYTES:
            raise ConfigError(f"{self.path}: larger than {MAX_BYTES} bytes; this is not a snapshot")
        return content


def _without_waiting(path: str, flags: int) -> int:
    # Should it have become a pipe just now: waiting for its writer would stop the event loop.
    return os.open(path, flags | os.O_NONBLOCK)
