"""The rows of one process: one a backend that it uses, for as long as it lives."""

from __future__ import annotations

import asyncio
import secrets
import time

from stackstore.instances.heartbeat import Heartbeat
from stackstore.pools.databases import Databases


class Instances:
    """Keeps a row of this process in the database of each backend that was reached.

    It connects nowhere of its own accord: a backend has a row from when it is reached for the first
    time, whoever wanted it, and then at once whenever another login of it is proven.

    Args:
        databases: the pools of this `stackstore.open()`.
        stack_id: 12 hex digits.

    Attributes:
        instance: 32 hex digits that nobody else has.
    """

    def __init__(self, databases: Databases, stack_id: str) -> None:
        self.instance = secrets.token_hex(16)
        self._databases = databases
        self._stack_id = stack_id
        self._started = time.monotonic()
        self._heartbeats: dict[str, Heartbeat] = {}
        self._closed = False
        databases.watch(self._look)

    async def close(self) -> None:
        """Write nothing more, and delete the rows where that can be done within a second."""
        self._closed = True
        await asyncio.gather(*(heartbeat.stop() for heartbeat in self._heartbeats.values()))

    def _look(self) -> None:
        """Each backend's login, as it is proven now."""
        if self._closed:
            return
        for name in self._databases.names():
            revision = self._databases.proven(name)
            # None: for the time being no login works. What was proven before stays in the row.
            if revision is None:
                continue
            if name not in self._heartbeats:
                self._heartbeats[name] = Heartbeat(
                    self._databases[name], self._stack_id, self.instance, self._started
                )
            self._heartbeats[name].tell(revision)
