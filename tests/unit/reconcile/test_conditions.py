"""Conditions: times that move only with the status, one summary."""

from __future__ import annotations

from stackstore_operator.api.conditions import Condition, Reason
from stackstore_operator.reconcile.conditions import Said, known, repeated, summary, timed
from tests.unit.reconcile.samples import NOW

FIRST, LATER = "2027-01-15T08:00:00Z", "2027-01-15T08:01:00Z"


def said(status: str = "True", message: str = "", reason: Reason = Reason.READY) -> Said:
    return Said("Ready", status, reason, message)  # type: ignore[arg-type]


def test_the_transition_time_moves_only_with_the_status() -> None:
    (first,) = timed([said()], [], 1, NOW)
    assert first.last_transition_time == FIRST
    (same,) = timed([said(message="other", reason=Reason.RENDERED)], [first], 2, NOW + 60)
    assert same.last_transition_time == FIRST
    assert (same.message, same.reason, same.observed_generation) == ("other", "Rendered", 2)
    (changed,) = timed([said("Unknown")], [same], 2, NOW + 60)
    assert changed.last_transition_time == LATER
    (earlier,) = timed([said("False")], [changed], 2, NOW)
    assert earlier.last_transition_time == FIRST


def test_conditions_are_told_apart_by_type_and_old_ones_go() -> None:
    old = [
        Condition(type=t, status="True", last_transition_time="2020-01-01T00:00:00Z", reason="X")
        for t in ("Gone", "Accepted")
    ]
    made = timed([said(), Said("Accepted", "True", Reason.ACCEPTED)], old, 1, NOW)
    assert [(c.type, c.last_transition_time) for c in made] == [
        ("Ready", FIRST),
        ("Accepted", "2020-01-01T00:00:00Z"),
    ]


def test_a_long_message_is_cut_to_what_the_schema_takes() -> None:
    (made,) = timed([said(message="m" * 10_000)], [], 1, NOW)
    assert len(made.message) == 2_000


def test_ready_repeats_the_first_that_is_not_false_before_unknown() -> None:
    good = Said("Accepted", "True", Reason.ACCEPTED)
    unknown = Said("A", "Unknown", Reason.WAITING, "waits")
    bad = Said("B", "False", Reason.INVALID, "is bad")
    assert summary([good]) == Said("Ready", "True", Reason.READY)
    assert summary([good, unknown]) == Said("Ready", "Unknown", Reason.WAITING, "waits")
    assert summary([unknown, good, bad]) == Said("Ready", "False", Reason.INVALID, "is bad")


def test_what_stands_in_the_cluster_is_repeated_if_this_release_knows_its_reason() -> None:
    (made,) = timed([said(message="m")], [], 1, NOW)
    assert repeated(made) == said(message="m")
    assert repeated(made.model_copy(update={"reason": "OfAnotherRelease"})) is None
    assert known([made], made.type) == made
    assert known([made], "Other") is None


def test_reasons_are_words_that_the_schema_takes_and_have_a_meaning() -> None:
    for reason in Reason:
        assert reason.meaning.endswith(".")
        Condition(type="X", status="True", last_transition_time=FIRST, reason=str(reason))
