"""Names, lanes and marks."""

import itertools

import pytest

from stackstore.errors import (
    BackendUnavailableError,
    ConflictError,
    CredentialsError,
    InvalidArgumentError,
    StackstoreError,
    StoreBusyError,
    StoreError,
)
from stackstore.stores.queue.records import Entry, Mark, Record, covered, folded, lane_of, named
from stackstore.stores.queue.sink import is_transient, reason
from stackstore.stores.queue.stats import Seen


def test_lanes_are_the_same_in_every_process():
    # Written down: a mark of an earlier release speaks of these lanes.
    assert [lane_of(shard, 4) for shard in ("", "a", "b", '["chatcmpl-1"]', "\ud800")] == [
        0,
        3,
        1,
        2,
        0,
    ]
    assert {lane_of(str(n), 4) for n in range(100)} == {0, 1, 2, 3}
    assert lane_of("x", 1) == 0


def test_marks_of_any_number_of_writers_cover():
    for shard, writers in itertools.product("abcdef", (1, 2, 3, 5)):
        lane = lane_of(shard, writers)
        marks = [Mark("q", writers, lane, 7), Mark("q", writers + 1, writers, 1)]
        assert covered(shard, 7, marks)
        assert not covered(shard, 8, marks)
        others = [Mark("q", writers, other, 99) for other in range(writers) if other != lane]
        assert not covered(shard, 7, others)


def test_the_newest_of_each_identity_is_left():
    records = [Record("s", (who, name), "u", 1, payload) for who, name, payload in
               [("u", "a", 1), ("u", "b", 2), ("u", "a", 4), ("u", "b", 3), ("v", "b", 5)]]  # fmt: skip
    batch = [Entry("q", n, n, 0.0, *record) for n, record in enumerate(records)]
    assert folded(batch) == [batch[2], batch[3], batch[4]]
    assert folded(batch[:1]) == [batch[0]]


def test_deletes_of_one_row_are_all_left():
    """Each may be refused when it is written, and the others not."""
    batch = [
        Entry("q", n, n, 0.0, *Record("s", ("u", "a"), user, 1, None, deletes=True))
        for n, user in enumerate("uvu")
    ]
    assert folded(batch) == batch


def test_a_name_fits_any_log():
    assert named(("whose", "a\0\n\ud800é", 5)) == '["a\\u0000\\n\\ud800\\u00e9",5]'


@pytest.mark.parametrize(
    ("error", "transient"),
    [
        (BackendUnavailableError("x"), True), (CredentialsError("x"), True), (StoreBusyError("x"), True),
        (StackstoreError("x"), True), (OSError(), True), (TimeoutError(), True),
        (StoreError("x"), False), (ConflictError("x"), False), (InvalidArgumentError("x"), False),
        (TypeError("x"), False), (ValueError("x"), False),
    ],
)  # fmt: skip
def test_what_is_tried_again(error, transient):
    assert is_transient(error) is transient


def test_words_of_others_are_not_passed_on():
    assert reason(ValueError("the prompt")) == "ValueError"
    assert reason(StoreError("ours")) == "ours"


def test_a_distribution_counts_inclusive_bounds():
    seen = Seen((1, 2, 5))
    for value in (0, 1, 2, 3, 5, 6, 100):
        seen.add(value)
    now = seen.now()
    assert (now.counts, now.total, now.count) == ((2, 1, 2, 2), 117.0, 7)
    seen.add(1)
    assert now.count == 7, "a moment does not change"
