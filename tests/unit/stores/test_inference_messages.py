"""The messages of a completion, page by page."""

import pytest

from stackstore.errors import InvalidArgumentError, NotFoundError
from stackstore.stores.inference.messages import listed

COMPLETION = {
    "input_messages": [
        {"role": "system", "content": "be short"},
        {
            "role": "user",
            "name": "al",
            "content": [
                {"type": "text", "text": "look"},
                {"type": "image_url", "image_url": {"url": "data:"}},
                {"type": "file", "file": {"file_id": "f"}},
            ],
        },
        {"role": "user", "content": [{"type": "input_audio", "input_audio": {}}]},
        {"role": "assistant", "content": None, "refusal": "no", "tool_calls": [{"id": "c"}]},
    ],
    "choices": [
        {"index": 0, "message": {"role": "assistant", "content": "one", "audio": {"id": "x"}}},
        {"index": 1, "message": {"role": "assistant", "content": "two", "id": "own"}},
    ],
}
IDS = [f"c-{n}" for n in range(6)]


def page(**asked):
    return listed("c", COMPLETION, **{"after": None, "limit": 20, "order": "asc", **asked})


def test_what_was_asked_and_then_what_was_answered():
    found = page()
    assert [one["id"] for one in found.data] == IDS
    assert (found.first_id, found.last_id, found.has_more) == ("c-0", "c-5", False)
    assert found.data[0] == {"id": "c-0", "role": "system", "content": "be short", "content_parts": None}  # fmt: skip
    assert found.data[1]["content"] is None
    assert found.data[1]["content_parts"] == COMPLETION["input_messages"][1]["content"][:2]
    assert found.data[1]["name"] == "al"
    assert found.data[2]["content_parts"] is None
    # Nothing of a message is left out, whichever side it is on.
    assert found.data[3]["refusal"] == "no"
    assert found.data[3]["tool_calls"] == [{"id": "c"}]
    assert found.data[4]["audio"] == {"id": "x"}


@pytest.mark.parametrize("order", ["asc", "desc"])
@pytest.mark.parametrize("limit", [1, 2, 4, 5, 6, 7])
def test_pages_are_whole_in_both_directions(order, limit):
    expected = IDS if order == "asc" else IDS[::-1]
    seen, after = [], None
    while True:
        found = page(order=order, limit=limit, after=after)
        assert len(found.data) <= limit
        seen += [one["id"] for one in found.data]
        assert (found.first_id, found.last_id) == (found.data[0]["id"], found.data[-1]["id"])
        if not found.has_more:
            break
        assert len(found.data) == limit
        after = found.last_id
    assert seen == expected
    last = page(order=order, after=expected[-1])
    assert (last.data, last.has_more, last.first_id, last.last_id) == ([], False, "", "")


def test_ids_stay_the_same_where_a_choice_has_no_message():
    choices = [{"text": "x"}, None, {"message": {"role": "assistant", "content": "y"}}]
    found = listed(
        "c", {"input_messages": [], "choices": choices}, after=None, limit=5, order="asc"
    )
    assert [one["id"] for one in found.data] == ["c-2"]
    for choices in (None, "x"):
        document = {"input_messages": [], "choices": choices}
        assert listed("c", document, after=None, limit=5, order="asc").data == []


def test_what_is_not_possible():
    for asked in ({"limit": 0}, {"limit": -1}, {"limit": None}, {"order": "up"}):
        with pytest.raises(InvalidArgumentError):
            page(**asked)
    for after in ("c-6", "other", "", "own"):
        with pytest.raises(NotFoundError, match="no such message"):
            page(after=after)
