"""The messages of a stored completion: what was asked, then what was answered; pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stackstore.errors import NotFoundError
from stackstore.stores.listing import Listing, check

_PARTS = ("text", "image_url")
"""The kinds of content that the server's API shows in `content_parts`."""


def listed(
    completion_id: str, completion: Mapping[str, Any], *, after: str | None, limit: int, order: str
) -> Listing:
    """A page of a completion's messages.

    Their ids are `<completion id>-<n>`, n from 0, so they stay the same whatever the page is.

    Args:
        completion_id: whose.
        completion: its document, with `input_messages`.
        after: the id of a message; the page begins behind it.
        limit: most messages of the page, at least 1.
        order: "asc" as they were said, or "desc".

    Raises:
        InvalidArgumentError: the limit or the order isn't possible.
        NotFoundError: the completion has no message `after`.
    """
    direction = check(limit, order)
    every = _all(completion_id, completion)
    if direction == "desc":
        every.reverse()
    start = 0
    if after is not None:
        start = 1 + next((i for i, one in enumerate(every) if one["id"] == after), -1)
        if not start:
            raise NotFoundError("the completion has no such message to go on after")
    page = every[start : start + limit]
    return Listing.of(page, has_more=len(every) > start + limit)


def _all(completion_id: str, completion: Mapping[str, Any]) -> list[dict[str, Any]]:
    choices = completion.get("choices")
    answers = [
        choice.get("message") if isinstance(choice, Mapping) else None
        for choice in (choices if isinstance(choices, list) else ())
    ]
    said = [*completion["input_messages"], *answers]
    return [
        _shown(f"{completion_id}-{place}", message)
        for place, message in enumerate(said)
        if isinstance(message, Mapping)
    ]


def _shown(message_id: str, message: Mapping[str, Any]) -> dict[str, Any]:
    """A message as it went in, except that content in parts goes where the API has it."""
    content = message.get("content")
    parts = None
    if isinstance(content, list):
        shown = [
            part for part in content if isinstance(part, Mapping) and part.get("type") in _PARTS
        ]
        content, parts = None, shown or None
    return {**message, "id": message_id, "content": content, "content_parts": parts}
