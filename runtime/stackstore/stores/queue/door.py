"""Callers at the gate: each waits for room until his deadline, in turn, and may give up."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from stackstore.errors import StoreBusyError
from stackstore.stores.queue.gate import Gate
from stackstore.stores.queue.journal_file import Kept
from stackstore.stores.queue.records import Record
from stackstore.stores.queue.stats import Counters


@dataclass(slots=True, eq=False)
class Caller:
    """Somebody with a record.

    Attributes:
        record: what he brings.
        kept: the same for the journal, where there is one.
        answer: done when it is acknowledged; he may have given up before.
    """

    record: Record
    kept: Kept | None
    answer: asyncio.Future[None]


class Door:
    """The gate with its callers.

    Args:
        name: the queue's, for messages.
        gate: counts who is inside.
        counters: counted into.
        enter: takes a caller's record in. From then on it is the queue's, whoever gives up.
    """

    def __init__(
        self,
        name: str,
        gate: Gate[Caller],
        counters: Counters,
        enter: Callable[[Caller], None],
    ) -> None:
        self._name = name
        self._gate = gate
        self._counters = counters
        self._enter = enter

    async def wait(self, caller: Caller, deadline: float) -> None:
        """Stand in line, enter, and wait for the answer.

        Raises:
            StoreBusyError: the deadline came first, or the door was closed.
        """
        self._gate.wait(caller.record.size, caller)
        alarm = asyncio.get_running_loop().call_at(deadline, self._too_late, caller)
        try:
            await caller.answer
        except asyncio.CancelledError:
            self._let_in(self._gate.abandon(caller))
            raise
        finally:
            alarm.cancel()

    def leave(self, rows: int, size: int) -> None:
        """So many left, so others enter."""
        self._let_in(self._gate.leave(rows, size))

    def close(self) -> None:
        """Send away everybody who waits."""
        for caller in self._gate.close():
            self._refuse(caller, "is being shut down")

    def _let_in(self, callers: Iterable[Caller]) -> None:
        for caller in callers:
            self._enter(caller)

    def _too_late(self, caller: Caller) -> None:
        if self._gate.waits(caller):
            behind = self._gate.abandon(caller)
            self._refuse(caller, "stayed full until the deadline")
            self._let_in(behind)

    def _refuse(self, caller: Caller, why: str) -> None:
        self._counters.busy += 1
        if not caller.answer.done():
            gate, trouble = self._gate, self._counters.last_trouble
            caller.answer.set_exception(
                StoreBusyError(
                    f"queue {self._name} {why} ({gate.rows} of {gate.max_rows} rows, {gate.size} of "
                    f"{gate.max_bytes} bytes); the record was not stored"
                    + (f"; the last write failed: {trouble}" if trouble else "")
                )
            )
