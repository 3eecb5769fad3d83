"""Who waits for whose rows, over all orders in which they are written."""

import itertools

from stackstore.stores.queue.ledger import Ledger
from stackstore.stores.queue.records import Entry, Record

USERS = ["a", "b", "a", "a"]


def entry(ledger, user):
    return Entry("q", 0, ledger.number(user), 0.0, *Record("s", ("i",), user, 1, None))


def test_a_watch_ends_with_the_last_row_that_came_before_it_in_every_order():
    for asked, watched, order in itertools.product(
        range(len(USERS) + 1), ["a", "b", None], itertools.permutations(range(len(USERS)))
    ):
        ledger = Ledger()
        ended = []
        entries = [entry(ledger, user) for user in USERS[:asked]]
        watch = ledger.watch(watched, lambda ended=ended: ended.append(True))
        mine = {n for n in range(asked) if watched in (None, USERS[n])}
        assert (watch is None) == (not mine)
        entries += [entry(ledger, user) for user in USERS[asked:]]
        left = set(mine)
        for place in order:
            ledger.done([entries[place]])
            left.discard(place)
            assert ended == ([True] if mine and not left else []), (asked, watched, order, place)
        assert ledger.watch(watched, lambda: None) is None, "nothing is left"


def test_who_left_is_not_called():
    ledger = Ledger()
    first, second = entry(ledger, "a"), entry(ledger, "a")
    called = []
    gone = ledger.watch("a", lambda: called.append("gone"))
    ledger.watch("a", lambda: called.append("stays"))
    ledger.unwatch(gone)
    ledger.unwatch(gone)
    ledger.done([second, first])
    assert called == ["stays"]
