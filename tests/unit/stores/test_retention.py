"""Retention's pure parts: whose turn it is, what time it is, how many rows at once."""

from __future__ import annotations

import pytest

from stackstore.stores.retention import MICROSECONDS, Ageing, Part, pace
from stackstore.stores.retention.clock import CautiousClock
from stackstore.stores.retention.leases import LEASE_MICROSECONDS, Lease, Turns, wait
from stackstore.stores.retention.pace import Pace
from stackstore.stores.retention.retention import period

NOW = 1_800_000_000_000_000
PERIOD = 60_000_000
SECOND = 1_000_000


@pytest.mark.parametrize(
    ("lease", "seconds"),
    [
        (None, 0),
        (Lease("other", NOW + 5 * SECOND, 0), 5),
        (Lease("other", NOW, 0), 0),
        (Lease("other", NOW - SECOND, 0), 0),
        (Lease("me", NOW + 5 * SECOND, 0), 0),
        (Lease("me", NOW, NOW + 7 * SECOND), 7),
        (Lease("other", NOW, NOW + 7 * SECOND), 7),
        (Lease("other", NOW, NOW + PERIOD), 60),
        (Lease("other", NOW + LEASE_MICROSECONDS, 0), 30),
        # Written by a clock that was wrong, or for a longer period.
        (Lease("other", NOW + LEASE_MICROSECONDS + 1, 0), 0),
        (Lease("other", NOW, NOW + PERIOD + 1), 0),
    ],
)
def test_whose_turn_it_is(lease, seconds):
    assert wait(lease, "me", NOW, PERIOD) == seconds * SECOND


def test_each_table_has_a_lock_of_its_own():
    keys = {
        Turns("postgresql", name)._lock.compile().params["key"] for name in ("a", "b", "stackstore")
    }
    assert len(keys) == 3
    assert all(-(2**63) <= key < 2**63 for key in keys)


class Hands:
    """Both clocks, set by hand; seconds."""

    def __init__(self) -> None:
        self.wall = 1_800_000_000.0
        self.steady = 1_000.0
        self.clock = CautiousClock(lambda: int(self.wall * 1e9), lambda: int(self.steady * 1e9))

    def pass_by(self, seconds: float) -> None:
        self.wall += seconds
        self.steady += seconds

    @property
    def now(self) -> float:
        return self.clock.now() / 1e6


def test_a_clock_that_goes_right_is_believed():
    hands = Hands()
    for _ in range(5):
        hands.pass_by(100_000)
        assert hands.now == hands.wall
    hands.wall += 59  # set by a time server
    assert hands.now == hands.wall


def test_a_leap_ahead_is_believed_an_hour_later():
    hands = Hands()
    before = hands.wall
    hands.wall += 10 * 86_400
    assert hands.now == before
    for _ in range(35):
        hands.pass_by(100)
        assert hands.now == pytest.approx(hands.wall - 10 * 86_400)
    hands.pass_by(101)
    assert hands.now == hands.wall
    hands.pass_by(1)
    assert hands.now == hands.wall
    # The next one has to prove itself anew.
    hands.wall += 86_400
    assert hands.now == pytest.approx(hands.wall - 86_400)


def test_a_leap_that_is_taken_back_was_never_believed():
    hands = Hands()
    hands.wall += 86_400
    hands.pass_by(3_000)
    assert hands.now == pytest.approx(hands.wall - 86_400)
    hands.wall -= 86_400
    assert hands.now == hands.wall
    # And an hour from the first leap isn't the second one's.
    hands.wall += 86_400
    hands.pass_by(3_000)
    assert hands.now == pytest.approx(hands.wall - 86_400)


def test_a_leap_back_is_believed_at_once():
    hands = Hands()
    hands.wall -= 86_400
    assert hands.now == hands.wall
    hands.pass_by(5)
    assert hands.now == hands.wall


@pytest.mark.parametrize(
    ("per_second", "now", "edge"),
    [
        (1, 1_000_000_000, 990),
        (1, 1_000_999_999, 990),
        (MICROSECONDS, 1_000_000_000, 990_000_000),
        (MICROSECONDS, 1_000_999_999, 990_999_999),
    ],
)
def test_no_row_is_old_before_its_time(per_second, now, edge):
    assert Ageing("t", "created", per_second).edge(now, 10) == edge


def test_what_is_read_of_a_row():
    parts = (
        Part("p", {"t_id": "id", "t_owner": "owner_key"}),
        Part("q", {"t_id": "id", "t_uid": "uid"}),
    )
    ageing = Ageing("t", "created", parts=parts, reads=("tip", "id"))
    assert ageing.read == ("id", "owner_key", "uid", "tip", "created")


def test_batches_grow_while_they_are_quick_and_shrink_by_how_slow_they_were():
    one = Pace()
    assert one.size == pace.FIRST
    for _ in range(10):
        assert one.took(0.001) == pace.PAUSE_SECONDS
    assert one.size == pace.MOST
    assert one.took(pace.BUDGET_SECONDS * 0.7) == pace.PAUSE_SECONDS
    assert one.size == pace.MOST
    # Others get as long as the batch took.
    assert one.took(pace.BUDGET_SECONDS * 10) == pace.BUDGET_SECONDS * 10
    assert one.size == pace.MOST // 10
    one.took(1_000)
    assert one.size == 1
    one.failed()
    assert one.size == 1
    one.size = 9
    one.failed()
    assert one.size == 4


@pytest.mark.parametrize(
    ("seconds", "every"),
    [(1, 10), (60, 10), (1_000, 100), (86_400, 3_600), (2_592_000, 3_600)],
)
def test_how_often(seconds, every):
    assert period(seconds) == every
