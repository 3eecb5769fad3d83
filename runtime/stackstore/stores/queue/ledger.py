"""Which rows of whom are not written yet, and who waits until they are; pure, without a clock."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from stackstore.stores.queue.records import Entry


@dataclass(slots=True, eq=False)
class Watch:
    """Somebody who waits for rows that were acknowledged before he came.

    Attributes:
        user: whose rows; None: everybody's.
        upto: the last of them, by `Entry.order`.
        remaining: how many of them are left.
        reached: called once, when none is left.
    """

    user: str | None
    upto: int
    remaining: int
    reached: Callable[[], None]


class Ledger:
    """Counts the rows of each user."""

    def __init__(self) -> None:
        self._order = 0
        self._total = 0
        self._by_user: dict[str, int] = {}
        self._watches: defaultdict[str | None, list[Watch]] = defaultdict(list)

    def number(self, user: str) -> int:
        """A row of a user came; returns its order."""
        self._order += 1
        self._total += 1
        self._by_user[user] = self._by_user.get(user, 0) + 1
        return self._order

    def done(self, entries: Sequence[Entry]) -> None:
        """These are written or set aside."""
        by_user = self._by_user
        for user, count in Counter([entry.user for entry in entries]).items():
            self._total -= count
            by_user[user] -= count
            if not by_user[user]:
                del by_user[user]
        if self._watches:
            for entry in entries:
                self._count(entry.user, entry.order)
                self._count(None, entry.order)

    def watch(self, user: str | None, reached: Callable[[], None]) -> Watch | None:
        """Wait for all rows of a user that are here now; None: there are none."""
        remaining = self._total if user is None else self._by_user.get(user, 0)
        if not remaining:
            return None
        watch = Watch(user, self._order, remaining, reached)
        self._watches[user].append(watch)
        return watch

    def unwatch(self, watch: Watch) -> None:
        """Wait no longer."""
        there = self._watches.get(watch.user, [])
        if watch in there:
            there.remove(watch)
        if not there:
            self._watches.pop(watch.user, None)

    def _count(self, user: str | None, order: int) -> None:
        for watch in list(self._watches.get(user, ())):
            if order <= watch.upto:
                watch.remaining -= 1
                if not watch.remaining:
                    self.unwatch(watch)
                    watch.reached()
