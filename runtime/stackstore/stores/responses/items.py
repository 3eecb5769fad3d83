"""The items of a response's input, as they are listed; pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from stackstore.errors import InvalidArgumentError, NotFoundError
from stackstore.sql.names import choices, shown
from stackstore.stores.listing import Listing, check

_INCLUDABLE = (
    "code_interpreter_call.outputs",
    "computer_call_output.output.image_url",
    "file_search_call.results",
    "message.input_image.image_url",
    "message.output_text.logprobs",
    "reasoning.encrypted_content",
    "web_search_call.action.sources",
)
"""What the server's API lets callers ask for; of these, three are ever left out here."""

_LEFT_OUT = {
    ("file_search_call", "results"): "file_search_call.results",
    ("reasoning", "content"): "reasoning.encrypted_content",
}
_LEFT_OUT_OF_CONTENT = {
    ("input_image", "image_url"): "message.input_image.image_url",
    ("output_text", "logprobs"): "message.output_text.logprobs",
}


def asked_for(include: Sequence[Any] | None) -> frozenset[str]:
    """What a caller wants to see beside the usual.

    Raises:
        InvalidArgumentError: it isn't known.
    """
    found = set()
    for given in include or ():
        word = getattr(given, "value", given)
        if word not in _INCLUDABLE:
            raise InvalidArgumentError(
                f"include: {shown(word)} isn't known; {choices(word, _INCLUDABLE)}"
            )
        found.add(word)
    return frozenset(found)


def listed(
    items: Sequence[dict[str, Any]],
    included: frozenset[str],
    *,
    after: str | None,
    before: str | None,
    limit: int,
    order: str,
) -> Listing:
    """A page of an input's items; notes of a compaction are none of them.

    Args:
        items: all of them, in order.
        included: see `asked_for`.
        after: an item's id; the page begins behind it.
        before: likewise; the page ends in front of it, and `has_more` speaks of items further ahead.
        limit: most items, at least 1.
        order: "asc" or "desc".

    Raises:
        InvalidArgumentError: an argument isn't possible.
        NotFoundError: there is no such item.
    """
    way = check(limit, order)
    if after is not None and before is not None:
        raise InvalidArgumentError("after and before exclude each other")
    found = [item for item in items if item.get("type") != "compaction"]
    if way == "desc":
        found.reverse()
    ids = [item.get("id") for item in found]
    if before is not None:
        end = _place(ids, before)
        start = max(0, end - limit)
        more = start > 0
    else:
        # Of several with one id the last, or the pages would go in a circle.
        start = 0 if after is None else len(ids) - _place(ids[::-1], after)
        end = start + limit
        more = end < len(found)
    page = [_shown(item, included) for item in found[start:end]]
    return Listing(page, more, _id(page[:1]), _id(page[-1:]))


def _place(ids: list[Any], wanted: str) -> int:
    if wanted not in ids:
        raise NotFoundError(f"the response has no input item {shown(wanted)} to go on from")
    return ids.index(wanted)


def _id(page: list[dict[str, Any]]) -> str:
    return str(page[0].get("id") or "") if page else ""


def _shown(item: dict[str, Any], included: frozenset[str]) -> dict[str, Any]:
    shown_item = _without(item, _LEFT_OUT, included)
    content = item.get("content")
    if item.get("type", "message") == "message" and isinstance(content, list):
        shown_item["content"] = [
            _without(one, _LEFT_OUT_OF_CONTENT, included) if isinstance(one, dict) else one
            for one in content
        ]
    return shown_item


def _without(
    item: dict[str, Any], rules: dict[tuple[str, str], str], included: frozenset[str]
) -> dict[str, Any]:
    found = dict(item)
    for (kind, key), word in rules.items():
        if item.get("type") == kind and item.get(key) is not None and word not in included:
            found[key] = None
    return found
