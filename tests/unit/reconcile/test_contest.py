"""How often something is put back that somebody else keeps changing."""

from __future__ import annotations

import pytest

from stackstore_operator.reconcile.contest import Contests, Patience, Place, rivals

PLACE = Place("ConfigMap", "chat", "chat-run-config")
OURS = ("stackstore-operator",)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def contests(clock):
    made = Contests(Patience(), clock)
    made.wrote(PLACE, "a")
    return made


def put_back(contests, wanted="a") -> bool:
    """Somebody changed it: is it put back?"""
    if contests.may_write(PLACE, wanted):
        contests.wrote(PLACE, wanted)
        return True
    return False


def fight(contests, clock, seconds, every=1.0, wanted="a") -> int:
    """Somebody changes it all the time: how often is it put back?"""
    count = 0
    for _ in range(int(seconds / every)):
        clock.now += every
        count += put_back(contests, wanted)
    return count


@pytest.mark.parametrize("every", [0.1, 1.0, 20.0])
def test_three_times_in_five_minutes_then_once_in_ten(contests, clock, every):
    assert fight(contests, clock, 300, every) == 3
    assert contests.is_contested(PLACE)
    assert fight(contests, clock, 3600, every) in (5, 6)


def test_somebody_who_changes_it_now_and_then_is_put_right_each_time(contests, clock):
    assert fight(contests, clock, 86_400, every=101) == 86_400 // 101
    assert not contests.is_contested(PLACE)


def test_what_we_want_changes_is_written_at_once_and_once(contests, clock):
    fight(contests, clock, 10)
    assert not put_back(contests)
    assert put_back(contests, "b")
    assert contests.is_contested(PLACE)
    assert fight(contests, clock, 100, wanted="b") == 0


def test_it_is_told_until_it_stayed_for_a_while_and_forgotten_after_a_window(contests, clock):
    fight(contests, clock, 10)
    clock.now += 600
    assert contests.again_in(PLACE) == pytest.approx(0.1)
    assert put_back(contests)
    assert contests.again_in(PLACE) == pytest.approx(30)
    clock.now += 29
    assert contests.is_contested(PLACE)
    clock.now += 1
    contests.agrees(PLACE)
    assert not contests.is_contested(PLACE)
    assert contests.again_in(PLACE) is None
    # A rival that comes back soon finds no new three times.
    assert not put_back(contests)
    assert contests.is_contested(PLACE)
    assert contests.again_in(PLACE) == pytest.approx(570)
    clock.now += 570
    assert put_back(contests)
    clock.now += 300
    contests.agrees(PLACE)
    assert fight(contests, clock, 10) == 3


def test_the_rival_puts_it_right_itself(contests, clock):
    fight(contests, clock, 10)
    contests.agrees(PLACE)
    clock.now += 10
    # Looks go on meanwhile; the time since it first agreed counts.
    contests.agrees(PLACE)
    clock.now += 20
    assert not contests.is_contested(PLACE)


def test_the_words_of_a_contest_stay_the_same_and_are_new_in_the_next(contests, clock):
    fight(contests, clock, 10)
    assert contests.words(PLACE, "first") == "first"
    assert contests.words(PLACE, "second") == "first"
    clock.now += 600
    put_back(contests)
    clock.now += 300
    fight(contests, clock, 10)
    assert contests.words(PLACE, "third") == "third"


def test_places_are_judged_each_for_itself(contests, clock):
    fight(contests, clock, 10)
    other = PLACE._replace(name="other")
    contests.wrote(other, "a")
    assert contests.may_write(other, "a")
    assert not contests.is_contested(other)
    assert contests.again_in(other) is None


def test_memory_holds_what_was_written_lately_only(contests, clock):
    fight(contests, clock, 10)
    for number in range(5_000):
        clock.now += 1
        contests.wrote(PLACE._replace(name=str(number)), "a")
    assert len(contests._known) < 310
    assert contests.is_contested(PLACE)
    contests.forget(PLACE)
    assert not contests.is_contested(PLACE)


def live(*managed) -> dict:
    return {
        "metadata": {
            "managedFields": [
                {"manager": manager, "operation": "Update", "fieldsV1": fields}
                for manager, fields in managed
            ]
        }
    }


DESIRED = {
    "metadata": {"labels": {"mine": "x"}, "ownerReferences": []},
    "data": {"config.yaml": "a", "b": "b", "c": "c", "d": "d"},
}


def test_rivals_are_named_with_the_fields_of_ours_that_they_took():
    them = {"f:data": {"f:config.yaml": {}, "f:theirs": {}, ".": {}}}
    labels = {"f:metadata": {"f:labels": {"f:mine": {}, "f:other": {}}}}
    found = live(
        ("stackstore-operator", {"f:data": {"f:b": {}}}),
        ("nosy", them),
        ("nosy", labels),
        ("harmless", {"f:metadata": {"f:annotations": {"f:x": {}}}}),
        ("owner", {"f:metadata": {"f:ownerReferences": {}}}),
    )
    assert rivals(found, DESIRED, OURS) == (
        "'nosy' keeps changing `data[config.yaml]`, `metadata.labels[mine]`, "
        "'owner' keeps changing `metadata.ownerReferences`"
    )


def test_many_fields_are_counted_and_what_leaves_no_trace_is_told_all_the_same():
    many = {"f:data": {f"f:{key}": {} for key in DESIRED["data"]}}
    assert "and 1 more" in rivals(live(("nosy", many)), DESIRED, OURS)
    assert "somebody keeps taking away" in rivals(live(), DESIRED, OURS)
    assert "somebody keeps deleting" in rivals(None, DESIRED, OURS)
