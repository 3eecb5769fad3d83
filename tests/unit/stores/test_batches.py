"""How a batch's status changes."""

from __future__ import annotations

import itertools

import pytest

from stackstore.errors import ConflictError, InvalidArgumentError
from stackstore.stores.batches.status import FIXED, STATUSES, finished, merged

FORWARD = {
    "validating": set(STATUSES),
    "in_progress": set(STATUSES) - {"validating"},
    "finalizing": set(STATUSES) - {"validating", "in_progress"},
    "cancelling": {"cancelling", "cancelled"},
    "completed": {"completed"},
    "failed": {"failed"},
    "expired": {"expired"},
    "cancelled": {"cancelled"},
}


@pytest.mark.parametrize(("before", "after"), [*itertools.product(STATUSES, STATUSES)])
def test_a_status_goes_forward_only(before, after):
    batch = {"id": "b", "status": before}
    if after not in FORWARD[before]:
        with pytest.raises(ConflictError, match=f"{before}, so it can't become {after}"):
            merged(batch, {"status": after}, 5)
        return
    found = merged(batch, {"status": after, "model": "m"}, 5)
    moment = {} if after == before else {f"{after}_at": 5}
    assert found == {"id": "b", "status": after, "model": "m", **moment}


def test_other_fields_change_whatever_the_status_is():
    for status in STATUSES:
        found = merged({"status": status, "a": 1, "model": "1"}, {"model": "2"}, 5)
        assert found == {"status": status, "a": 1, "model": "2"}
    given = merged({"status": "finalizing"}, {"status": "completed", "completed_at": 3}, 5)
    assert given["completed_at"] == 3


@pytest.mark.parametrize("name", FIXED)
def test_what_it_was_made_with_stays(name):
    with pytest.raises(InvalidArgumentError, match=name):
        merged({"status": "failed", name: 1}, {name: 1}, 5)


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("completed_at", "soon"), ("expires_at", 1.5), ("expires_at", -1), ("failed_at", True),
        ("model", 5), ("output_file_id", ["f"]), ("errors", "all"), ("request_counts", 3),
        ("usage", []), ("metadata", {"a": 1}), ("metadata", "a"),
    ],
)  # fmt: skip
def test_a_value_of_the_wrong_kind_is_refused(name, wrong):
    with pytest.raises(InvalidArgumentError, match=name):
        merged({"status": "validating"}, {name: wrong}, 5)
    assert merged({"status": "validating"}, {name: None}, 5) == {"status": "validating", name: None}


def test_a_field_that_nobody_knows_is_refused_with_the_nearest():
    with pytest.raises(InvalidArgumentError, match="did you mean 'output_file_id'"):
        merged({"status": "validating"}, {"output_file": "f"}, 5)


@pytest.mark.parametrize("status", ["done", "", None, 5, ["failed"]])
def test_an_unknown_status_is_refused(status):
    with pytest.raises(InvalidArgumentError, match="validating"):
        merged({"status": "validating"}, {"status": status}, 5)


def test_some_are_ends():
    ends = [status for status in STATUSES if finished(status)]
    assert ends == ["completed", "failed", "expired", "cancelled"]
