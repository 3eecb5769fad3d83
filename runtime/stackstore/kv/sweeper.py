"""When expired rows are deleted: now and then, for as long as a store is written to.

Who wrote a row that expires need not be there an hour later, so any write looks, whatever it wrote,
and so does the first operation of a store in a process. Reads don't: they also go to databases that
can't be written to.
"""

from __future__ import annotations

import asyncio
import logging
import time

from stackstore.errors import StackstoreError
from stackstore.kv.tables import Rows

logger = logging.getLogger(__name__)

EVERY_SECONDS = 60.0
"""How often one store of one process looks, at most."""

GRACE_MICROSECONDS = 3600 * 1_000_000
"""How long an expired row is kept. It is hidden at once; but should the clock have jumped ahead and
be set right again within the hour, nothing is lost."""

BATCH = 500
PAUSE_SECONDS = 0.05


class Sweeper:
    """Deletes in the background what expired long enough ago, in small batches."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows
        self._next = 0.0
        self._task: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """The store is used: look, unless it was before."""
        if self._next == 0.0:
            self.wake()

    def wake(self) -> None:
        """The store is written to: look, if it is time."""
        now = time.monotonic()
        if now >= self._next:
            self._next = now + EVERY_SECONDS
            self._task = asyncio.get_running_loop().create_task(self._sweep())

    async def stop(self) -> None:
        """End a look that is under way; its connection is given back."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _sweep(self) -> None:
        try:
            swept = BATCH
            # A batch that is not full was the last; it is empty where another process sweeps.
            while swept == BATCH:
                swept = await self._rows.sweep(GRACE_MICROSECONDS, BATCH)
                await asyncio.sleep(PAUSE_SECONDS)
        except StackstoreError as error:
            logger.warning("expired rows are left for the next sweep: %s", error)
