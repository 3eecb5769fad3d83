"""The write queue: callers hand over records and go on, writers bring them to the database.

A record is acknowledged when `put` returns: it is in memory then, or on the disk with a journal. It
stays in the queue until it is written or set aside, whatever happens to the database meanwhile.
"""

from __future__ import annotations

import asyncio
import logging
import os
import uuid
from pathlib import Path
from types import TracebackType
from typing import Self

from stackstore.errors import (
    BackendUnavailableError,
    InvalidArgumentError,
    StackstoreError,
)
from stackstore.stores.queue.door import Caller, Door
from stackstore.stores.queue.ending import Remains, end_writers, remains, report
from stackstore.stores.queue.gate import Gate
from stackstore.stores.queue.journal import Journal
from stackstore.stores.queue.journal_file import Kept, adopt
from stackstore.stores.queue.lane import Lane
from stackstore.stores.queue.ledger import Ledger
from stackstore.stores.queue.records import Entry, Record, lane_of
from stackstore.stores.queue.replay import Replay
from stackstore.stores.queue.sink import Sink
from stackstore.stores.queue.stats import Counters, QueueStats
from stackstore.stores.queue.writer import Writer

logger = logging.getLogger(__name__)

MAX_ROWS = 10_000
MAX_BYTES = 64 * 1024 * 1024
BATCH_ROWS = 500
BATCH_BYTES = 4 * 1024 * 1024


class WriteQueue:
    """A queue of one event loop.

    Deadlines are moments of that loop's clock, `loop.time()`.

    Args:
        sink: where records go.
        name: for logs, and for the journal's files; queues that share a directory have different
            ones, and one store has the same one in every process.
        writers: how many write at the same time, at most; records of one shard are written by one.
        max_rows: most records in the queue, those under way included.
        max_bytes: most bytes of them, by their own account.
        journal: a directory on a volume; records are acknowledged when they are on its disk.
            None: they are in memory only.
        batch_rows: most rows of one transaction.
        batch_bytes: most bytes of one transaction.

    Raises:
        InvalidArgumentError: a number is out of range.
    """

    def __init__(
        self,
        sink: Sink,
        *,
        name: str,
        writers: int = 4,
        max_rows: int = MAX_ROWS,
        max_bytes: int = MAX_BYTES,
        journal: Path | None = None,
        batch_rows: int = BATCH_ROWS,
        batch_bytes: int = BATCH_BYTES,
    ) -> None:
        if not 1 <= writers <= 64:
            raise InvalidArgumentError("writers of a write queue is a whole number from 1 to 64")
        self.name = name
        self._sink = sink
        self._directory = journal
        self._id = uuid.uuid4().hex
        self._sequence = 0
        self._gate: Gate[Caller] = Gate(max_rows, max_bytes)
        self._ledger = Ledger()
        self._counters = Counters()
        self._door = Door(name, self._gate, self._counters, self._enter)
        self._lanes = [Lane(batch_rows, batch_bytes) for _ in range(sink.lanes(writers))]
        self._writers: list[Writer] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._starting: asyncio.Task[None] | None = None
        self._journal: Journal | None = None
        self._replay: Replay | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._pid = 0
        self._closed = False
        self._over = False
        self._ending = asyncio.Lock()
        self._remains: Remains | None = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.shutdown(5.0)

    async def start(self) -> None:
        """Begin. The database need not be there yet; the journal's directory does.

        Raises:
            BackendUnavailableError: the journal can't be used; the text says why.
        """
        if self._loop is not None:
            raise StackstoreError(f"queue {self.name}: it was started before")
        loop = asyncio.get_running_loop()
        self._writers = [
            Writer(
                self.name,
                lane,
                number=number,
                writers=len(self._lanes),
                sink=self._sink,
                counters=self._counters,
                is_durable=lambda queue: queue != self._id,
                done=self._done,
            )
            for number, lane in enumerate(self._lanes)
        ]
        if self._directory is not None:
            left, own = await asyncio.to_thread(adopt, self._directory, self.name)
            self._journal = Journal(own, self._add_journaled, self._give_back)
            self._replay = Replay(self._sink, self._take_over)
            try:
                await self._replay.load(left)
            except BaseException:
                self._replay.close()
                await self._journal.close(remove=True)
                raise
        self._loop = loop
        self._pid = os.getpid()
        self._starting = loop.create_task(self._begin())

    async def put(self, record: Record, deadline: float) -> None:
        """Hand over a record. When this returns it is acknowledged.

        Who is cancelled here may find the record stored, whole, or not at all.

        Args:
            record: what to write.
            deadline: until when to wait for room. What is on its way to the journal's disk is
                waited for beyond that, for it can't be called back.

        Raises:
            StoreBusyError: there was no room until the deadline; the record is not stored.
            BackendUnavailableError: the queue is closed, or the journal's disk does not take it;
                the record is not stored.
            InvalidArgumentError: it is larger than the queue, or the journal can't hold it.
        """
        self._check_open()
        gate = self._gate
        if record.size > gate.max_bytes:
            raise InvalidArgumentError(
                f"queue {self.name}: the record has {record.size} bytes and the whole queue takes "
                f"{gate.max_bytes}; raise its bound of bytes"
            )
        if self._journal is None:
            if gate.enter(record.size):
                self._add(self._id, self._number(), record)
            else:
                await self._door.wait(self._caller(record, None), deadline)
        else:
            caller = self._caller(record, Kept.of(record, self._sink.dump(record.payload)))
            if gate.enter(record.size):
                self._enter(caller)
                await caller.answer
            else:
                await self._door.wait(caller, deadline)
        self._counters.acknowledged += 1

    async def wait_for(self, user: str, deadline: float) -> bool:
        """Wait until a user's records that were acknowledged here are written or set aside.

        Returns:
            Whether they are; False: the deadline came first.
        """
        return await self._until_done(user, deadline)

    async def flush(self, deadline: float) -> bool:
        """The same for everybody's records."""
        return await self._until_done(None, deadline)

    def stats(self) -> QueueStats:
        """How it stands, and what it counted."""
        counters, gate = self._counters, self._gate
        heads = [lane.oldest for lane in self._lanes]
        now = self._loop.time() if self._loop is not None else 0.0
        return QueueStats(
            rows=gate.rows,
            bytes=gate.size,
            waiting=gate.waiting,
            oldest_seconds=max((now - head.since for head in heads if head), default=0.0),
            acknowledged=counters.acknowledged,
            replayed=counters.replayed,
            written=counters.written,
            folded=counters.folded,
            dead_letters=counters.dead_letters,
            retries=counters.retries,
            busy=counters.busy,
            journal_failures=counters.journal_failures,
            batch_rows=counters.batch_rows.now(),
            write_seconds=counters.write_seconds.now(),
            age_seconds=counters.age_seconds.now(),
            last_trouble=counters.last_trouble,
        )

    async def shutdown(self, grace: float) -> Remains:
        """Take nothing more, write what is there, and end within the grace.

        Args:
            grace: seconds.

        Returns:
            What could not be written. A second call returns the same.
        """
        if self._loop is None:
            self._closed = True
            return Remains((), (), journaled=False)
        self._check_owner()
        end = self._loop.time() + grace
        async with self._ending:
            if self._remains is None:
                try:
                    self._remains = await self._end(end, grace)
                except asyncio.CancelledError:
                    self._give_up()
                    raise
        return self._remains

    # -- inside: coming in

    def _caller(self, record: Record, kept: Kept | None) -> Caller:
        return Caller(record, kept, self._loop_here().create_future())

    def _number(self) -> int:
        self._sequence += 1
        return self._sequence

    def _add(self, queue: str, sequence: int, record: Record) -> None:
        number = lane_of(record.shard, len(self._lanes))
        order = self._ledger.number(record.user)
        since = asyncio.get_running_loop().time()
        self._lanes[number].add(Entry(queue, sequence, order, since, *record))
        self._writers[number].wake()

    def _add_journaled(self, record: Record, number: int) -> None:
        assert self._journal is not None  # noqa: S101 - it is the one that calls
        self._add(self._journal.file.id, number, record)

    def _take_over(self, queue: str, sequence: int, record: Record) -> None:
        """A record of an earlier process; it was acknowledged, so there is room for it."""
        self._gate.force(record.size)
        self._counters.replayed += 1
        self._add(queue, sequence, record)

    def _enter(self, caller: Caller) -> None:
        """The caller's record has room: from here on it is the queue's, whoever gives up."""
        if self._journal is None or caller.kept is None:
            self._add(self._id, self._number(), caller.record)
            if not caller.answer.done():
                caller.answer.set_result(None)
        else:
            self._journal.append(caller.record, caller.kept, caller.answer)

    def _give_back(self, record: Record) -> None:
        """The journal did not take it."""
        self._counters.journal_failures += 1
        self._door.leave(1, record.size)

    # -- inside: going out

    def _done(self, entries: list[Entry]) -> None:
        """These are written or set aside."""
        if self._over:
            # It is reported already as something of which nobody knows.
            return
        self._ledger.done(entries)
        if self._journal is not None:
            own = self._journal.file.id
            self._journal.forget([entry.sequence for entry in entries if entry.queue == own])
            if self._replay is not None:
                self._replay.done(entries)
        self._door.leave(len(entries), sum(entry.size for entry in entries))

    async def _begin(self) -> None:
        """Find out what earlier processes have written already, then write."""
        if self._replay is not None:
            marks = await self._replay.marks()
            for lane, writer in zip(self._lanes, self._writers, strict=True):
                writer.knows(marks)
                self._done(lane.drop(self._replay.is_written))
        loop = self._loop_here()
        self._tasks = [loop.create_task(writer.run()) for writer in self._writers]
        try:
            await self._sink.tidy()
        except Exception as error:  # noqa: BLE001 - nothing depends on it
            logger.debug("queue %s: old marks stay: %s", self.name, type(error).__name__)

    async def _until_done(self, user: str | None, deadline: float) -> bool:
        self._check_owner()
        loop = self._loop_here()
        reached: asyncio.Future[None] = loop.create_future()

        def reach() -> None:
            if not reached.done():
                reached.set_result(None)

        watch = self._ledger.watch(user, reach)
        if watch is None:
            return True
        try:
            async with asyncio.timeout_at(deadline):
                await reached
        except TimeoutError:
            return False
        finally:
            self._ledger.unwatch(watch)
        return True

    # -- inside: the end

    async def _end(self, end: float, grace: float) -> Remains:
        # The last part is for ending what is under way and finding out what became of it.
        reserve = min(2.0, grace / 4)
        self._closed = True
        self._door.close()
        if self._journal is not None:
            await self._journal.settled()
        await self.flush(end - reserve)
        if self._starting is not None and not self._tasks:
            self._starting.cancel()
        await end_writers(self._writers, self._all_tasks(), end - reserve / 2, end)
        self._over = True
        left = remains(self._writers, journaled=self._journal is not None)
        report(self.name, left)
        await self._end_journals(done=left.count == 0)
        if not left.count and (self._counters.written or self._counters.dead_letters):
            await self._forget(end)
        return left

    def _give_up(self) -> None:
        """Whoever shuts down was cancelled: say at least what is left."""
        for task in self._all_tasks():
            task.cancel()
        report(self.name, remains(self._writers, journaled=self._journal is not None))

    def _all_tasks(self) -> list[asyncio.Task[None]]:
        return [*self._tasks, *([self._starting] if self._starting else [])]

    async def _end_journals(self, *, done: bool) -> None:
        if self._replay is not None:
            await self._replay.end()
        if self._journal is not None:
            await self._journal.close(remove=done)

    async def _forget(self, end: float) -> None:
        """Everything is written, so nobody will ask how far it got."""
        queue = self._id if self._journal is None else self._journal.file.id
        try:
            async with asyncio.timeout_at(end):
                await self._sink.forget(queue)
        except Exception as error:  # noqa: BLE001 - a row too many harms nobody
            logger.debug("queue %s: its marks stay: %s", self.name, type(error).__name__)

    # -- inside: whose it is

    def _loop_here(self) -> asyncio.AbstractEventLoop:
        assert self._loop is not None  # noqa: S101 - checked where callers come in
        return self._loop

    def _check_open(self) -> None:
        if self._closed:
            raise BackendUnavailableError(
                f"queue {self.name}: it is closed; the record was not stored"
            )
        self._check_owner()

    def _check_owner(self) -> None:
        if self._loop is None:
            raise StackstoreError(f"queue {self.name}: call start() first")
        if self._pid != os.getpid():
            raise StackstoreError(
                f"queue {self.name}: this process was forked after it was started; start one in the child"
            )
        if self._loop is not asyncio.get_running_loop():
            raise StackstoreError(
                f"queue {self.name}: it was started in another event loop; start one in the loop that uses it"
            )
