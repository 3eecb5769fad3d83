"""One writer's part of a queue: what to write next, and what follows from how it went; pure.

Entries leave at the head only, in order. So a single number in the database says how far a lane
got (`Mark`), and a retry can tell whether the attempt before it happened.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from itertools import islice

from stackstore.stores.queue.records import Entry


class Lane:
    """Entries in order.

    `take` says what to write. Then exactly one of `written`, `refused` and `failed` says what came
    of it. A statement holds all that waits, up to the bounds; after failures fewer, for what failed
    may have been too much at once.

    Args:
        most_rows: most entries of one batch.
        most_bytes: most bytes of one batch, unless a single entry has more.
    """

    def __init__(self, most_rows: int, most_bytes: int) -> None:
        self.failures = 0
        self._entries: deque[Entry] = deque()
        self._most_rows = most_rows
        self._most_bytes = most_bytes
        self._limit = most_rows
        self._suspects = 0
        self._taken = 0

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[Entry]:
        return iter(self._entries)

    @property
    def oldest(self) -> Entry | None:
        """The head."""
        return self._entries[0] if self._entries else None

    def add(self, entry: Entry) -> None:
        """Put one at the end."""
        self._entries.append(entry)

    def take(self) -> list[Entry]:
        """What to write next; it stays here until `written`. Empty: nothing waits.

        All of it is of one queue, and either writes or deletes.
        """
        if not self._entries:
            self._taken = 0
            return []
        most = max(1, self._suspects // 2) if self._suspects else self._limit
        head = self._entries[0]
        queue, deletes = head.queue, head.deletes
        # The first one goes, however large it is.
        bytes_left = max(self._most_bytes - head.size, 0)
        size = -head.size
        taken: list[Entry] = []
        for entry in islice(self._entries, most):
            size += entry.size
            if size > bytes_left or entry.queue != queue or entry.deletes != deletes:
                break
            taken.append(entry)
        self._taken = len(taken)
        return taken

    def written(self, queue: str, through: int, *, grow: bool = True) -> list[Entry]:
        """The database has all of this queue up to a sequence; returns those, which are gone here.

        Args:
            queue: whose sequence.
            through: up to which.
            grow: it shows that batches may be larger again.
        """
        gone = []
        while self._entries:
            head = self._entries[0]
            if head.queue != queue or head.sequence > through:
                break
            gone.append(self._entries.popleft())
        self._suspects = max(0, self._suspects - len(gone))
        if grow:
            self._limit = min(self._most_rows, self._limit * 2)
        self.failures = 0
        return gone

    def refused(self) -> Entry | None:
        """One of the batch can't be written, ever. Returns it when it is known which.

        Otherwise the next batches are halves. The half that goes through shows that it is in the
        other one, so finding one among n takes about log2(n) statements.
        """
        if self._taken > 1:
            self._suspects = self._taken
            return None
        self._suspects = 0
        # Where one was, more may be near: then larger batches would only be searched again.
        self._limit = max(1, self._limit // 4)
        return self._entries[0]

    def failed(self) -> int:
        """It could not be done now; returns how often in a row, this one included."""
        self.failures += 1
        self._limit = max(1, self._limit // 2)
        return self.failures

    def drop(self, is_done: Callable[[Entry], bool]) -> list[Entry]:
        """Take out what an earlier process has written; returns it. Nothing may be under way."""
        gone = [entry for entry in self._entries if is_done(entry)]
        if gone:
            self._entries = deque(entry for entry in self._entries if not is_done(entry))
        return gone
