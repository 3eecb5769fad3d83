"""Following the mounted Secret for as long as the process lives."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable

from stackstore.credentials.directory import SnapshotDirectory
from stackstore.credentials.snapshot import Snapshot

logger = logging.getLogger(__name__)

POLL_SECONDS = 0.25
"""How often the snapshot's file is looked at; a look is one `stat`."""

URGENT_SECONDS = 0.05
"""The least time between two reads when logins are refused, which may be many times a second."""


class Watcher:
    """Tells of every new snapshot in a directory, from `start()` to `stop()`.

    Args:
        directory: already read once.
        on_snapshot: gets each new one, in the event loop; what it raises is logged by its type.
    """

    def __init__(
        self, directory: SnapshotDirectory, on_snapshot: Callable[[Snapshot], None]
    ) -> None:
        self._directory = directory
        self._on_snapshot = on_snapshot
        self._urgent = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to watch, in the running event loop."""
        self._task = asyncio.get_running_loop().create_task(self._watch())

    def look_again(self) -> None:
        """Read at once, even if the file looks untouched: a database just refused a login."""
        self._urgent.set()

    async def stop(self) -> None:
        """End; nothing is told afterwards."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _watch(self) -> None:
        while True:
            urgent = self._urgent.is_set()
            self._urgent.clear()
            try:
                snapshot = self._directory.read_if_changed(force=urgent)
                if snapshot is not None:
                    self._on_snapshot(snapshot)
                    logger.info("snapshot of revision %s is in force", snapshot.revision)
            except Exception as error:  # noqa: BLE001 - nothing may end it: later rotations need it
                # Only the type: the text might quote the file.
                logger.error("a look at the snapshot failed: %s", type(error).__name__)  # noqa: TRY400
            await asyncio.sleep(URGENT_SECONDS)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(POLL_SECONDS - URGENT_SECONDS):
                    await self._urgent.wait()
