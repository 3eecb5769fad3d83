"""Keys of the registry: none is another one's, whatever the identifiers are."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from stackstore.access.owners import Owner
from stackstore.stores.metadata import entries

KINDS = st.sampled_from(["a", "aa", "b", "a\0", "ÿ"])
IDS = st.text(st.sampled_from("\0:;aÿ0gZж"), min_size=1, max_size=5)
OWNERS = st.sampled_from(
    [None, Owner(), Owner("t"), Owner(None, "a"), Owner("t", "a"), Owner("t", "b")]
)


@given(st.tuples(KINDS, IDS, OWNERS), st.tuples(KINDS, IDS, OWNERS))
def test_keys_are_different_and_in_ranges_of_their_own(one, other):
    first, second = entries.key(*one), entries.key(*other)
    assert (first == second) == (one == other)
    start, end = entries.called(*one[:2])
    assert (start.encode() <= second.encode() < end.encode()) == (one[:2] == other[:2])
    start, end = entries.of_kind(one[0])
    assert (start.encode() <= second.encode() < end.encode()) == (one[0] == other[0])
    start, end = entries.EVERYTHING
    assert start.encode() <= first.encode() < end.encode()


@given(KINDS, IDS, OWNERS)
def test_a_value_says_all_of_its_entry(kind, identifier, owner):
    made = entries.given({"type": kind, "identifier": identifier, "owner": 5}).entry(owner, 7)
    found = entries.read(made.value)
    assert found == made and found.key == made.key
    assert found.owner == owner and found.registered == 7


def test_attributes_are_not_part_of_the_key():
    """A user who has got other roles meanwhile means the same object."""
    one = Owner(None, "a", {"roles": frozenset(["x"])})
    assert entries.key("model", "m", one) == entries.key("model", "m", Owner(None, "a"))
    assert (
        entries.read(entries.given({"type": "t", "identifier": "i"}).entry(one, 1).value).owner
        == one
    )
