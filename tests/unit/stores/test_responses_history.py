"""Histories: marks, what a list begins with, and how parts are told as one."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from stackstore.stores.responses.history import Mark, joined_lists, same, told, written

texts = st.lists(
    st.sampled_from(["{}", '{"a":1}', '{"a":"\\u00e9"}', '{"b":"\\ud800"}']), max_size=6
)


@given(texts, texts)
def test_a_mark_is_of_these_items_in_this_order(one, other):
    mark = Mark.of(one)
    assert mark.longer([*one, *other]) == Mark.of([*one, *other])
    begins = other[: len(one)] == one
    assert mark.longer(other) == (Mark.of(other) if begins else None)


def test_a_mark_of_what_was_never_seen_together_is_the_beginning_of_nothing():
    assert Mark(1).longer(["{}"]) is None
    assert Mark(2, Mark.of(["{}"]).digest).longer(["{}"]) is None
    assert Mark().longer([]) == Mark.of([]) == Mark()
    assert Mark().longer(["{}"]) == Mark.of(["{}"])


def test_the_order_of_keys_is_no_difference_and_the_type_of_a_value_is():
    assert same(['{"a":1,"b":2}'], ['{"b":2,"a":1}'])
    assert not same(['{"a":1}'], ['{"a":true}'])
    assert not same(['{"a":1}'], ['{"a":1}', "{}"])
    assert not same(["{}", "{}"], ["{}", '{"a":1}'])


def test_documents_are_written_one_by_one():
    assert written("an item", [{"a": 1}, {"b": [None]}]) == ['{"a":1}', '{"b":[null]}']
    assert written("an item", ({"a": 1},)) == ['{"a":1}']


def part(key, previous, number, **more):
    return key, {
        "part": key,
        "position": number,
        "previous": previous,
        "inherited": [f"out{number - 1}"] if previous else [],
        "input": [number],
        "messages": [f"m{number}"],
        "first_input": previous is None,
        "first_messages": previous is None,
        **more,
    }


def test_parts_are_told_from_the_beginning():
    parts = dict([part("a", None, 1), part("b", "a", 2), part("c", "b", 3)])
    assert joined_lists(told(parts, "c", "input")) == [1, "out1", 2, "out2", 3]
    assert joined_lists(told(parts, "c", "messages")) == ["m1", "m2", "m3"]
    assert joined_lists(told(parts, "a", "input")) == [1]
    assert told(parts, "d", "input") is None


def test_nothing_is_told_of_what_is_not_seen():
    parts = dict([part("a", None, 1), part("c", "b", 3), part("d", "c", 4)])
    # Neither what is behind b, nor b's output.
    assert joined_lists(told(parts, "d", "input")) == [3, "out3", 4]
    assert joined_lists(told(parts, "d", "messages")) == ["m3", "m4"]


def test_what_begins_anew_has_nothing_before_it():
    parts = dict([part("a", None, 1), part("b", "a", 2, first_input=True, inherited=["never"])])
    assert joined_lists(told(parts, "b", "input")) == [2]
    assert joined_lists(told(parts, "b", "messages")) == ["m1", "m2"]
