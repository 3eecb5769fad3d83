"""Items as callers hand them over."""

from __future__ import annotations

import copy
import re

import pytest

from stackstore.stores.conversations.rows import documents, named
from stackstore.stores.listing import Listing


def test_items_are_copies_and_the_callers_own_stay_as_they_are():
    given = [{"role": "user", "content": [{"text": "x"}]}, {"type": "reasoning", "id": "rs_1"}]
    before = copy.deepcopy(given)
    found = documents(given)
    assert found == [{**given[0], "type": "message"}, given[1]]
    found[0]["content"][0]["text"] = "y"
    assert given == before


@pytest.mark.parametrize(
    ("document", "prefix"),
    [
        ({"type": "message"}, "msg"),
        ({"type": "function_call"}, "item"),
        ({"type": "reasoning", "id": "rs_1"}, "item"),
    ],
)
def test_ids_say_what_it_is_and_are_new(document, prefix):
    one, other = named(document), named(document)
    assert re.fullmatch(rf"{prefix}_[0-9a-f]{{48}}", one["id"])
    assert one["id"] != other["id"]
    assert {**one, "id": None} == {**document, "id": None}


def test_a_page_says_the_ids_at_its_ends():
    page = Listing.of([{"id": "a"}, {"id": "b"}], has_more=True, next_cursor="c")
    assert (page.first_id, page.last_id, page.has_more, page.next_cursor) == ("a", "b", True, "c")
    assert (Listing.of([]).first_id, Listing.of([]).last_id) == ("", "")
