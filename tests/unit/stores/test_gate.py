"""Admission, against a model that counts anew each time, over all short histories."""

import itertools

import pytest

from stackstore.errors import InvalidArgumentError
from stackstore.stores.queue.gate import Gate

OPERATIONS = [("come", 1), ("come", 2), ("come", 3), ("leave", 0), ("give up", 0), ("give up", 1)]
MAX_ROWS, MAX_BYTES = 2, 4


class Model:
    """Everybody in order of arrival; who is inside is worked out from the start."""

    def __init__(self):
        self.inside: list[tuple[int, int]] = []
        self.line: list[tuple[int, int]] = []

    def settle(self):
        entered = []
        while self.line:
            sizes = [size for _, size in self.inside]
            if len(sizes) + 1 > MAX_ROWS or sum(sizes) + self.line[0][1] > MAX_BYTES:
                break
            self.inside.append(self.line.pop(0))
            entered.append(self.inside[-1][0])
        return entered


def test_every_history_of_six():
    for history in itertools.product(OPERATIONS, repeat=6):
        gate, model = Gate(MAX_ROWS, MAX_BYTES), Model()
        for number, (what, detail) in enumerate(history):
            entered = []
            if what == "come":
                model.line.append((number, detail))
                if gate.enter(detail):
                    entered = [number]
                else:
                    gate.wait(detail, number)
            elif what == "leave" and model.inside:
                _, size = model.inside.pop(0)
                entered = gate.leave(1, size)
            elif what == "give up" and len(model.line) > detail:
                ticket, _ = model.line.pop(detail)
                assert gate.waits(ticket)
                entered = gate.abandon(ticket)
            assert entered == model.settle(), history
            assert gate.waiting == len(model.line), history
            assert (gate.rows, gate.size) == (
                len(model.inside), sum(size for _, size in model.inside),
            ), history  # fmt: skip


def test_who_is_not_in_line_can_leave_it():
    gate = Gate(1, 10)
    assert gate.enter(1)
    assert gate.abandon("stranger") == []
    assert not gate.waits("stranger")


def test_what_was_acknowledged_before_has_room_whatever_the_bounds():
    gate = Gate(2, 10)
    for _ in range(5):
        gate.force(9)
    assert (gate.rows, gate.size) == (5, 45)
    assert not gate.enter(1)
    gate.wait(1, "a")
    assert gate.leave(3, 27) == [], "there are still two"
    assert gate.leave(2, 18) == ["a"]


def test_the_line_is_sent_away():
    gate = Gate(1, 10)
    gate.enter(1)
    gate.wait(1, "a")
    gate.wait(1, "b")
    assert gate.close() == ["a", "b"]
    assert gate.leave(1, 1) == []


@pytest.mark.parametrize(("rows", "size"), [(0, 1), (1, 0), (-1, 5)])
def test_bounds_are_at_least_one(rows, size):
    with pytest.raises(InvalidArgumentError, match="whole number from 1"):
        Gate(rows, size)
