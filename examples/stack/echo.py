"""The model: it says what it heard. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from examples.stack.shapes import CompletionRequest


def answer(request: CompletionRequest) -> str:
    """The text of the last message of a user, or of the last message."""
    heard = [message for message in request.messages if message.role == "user"]
    return (heard or request.messages)[-1].text()


def completion(request: CompletionRequest, completion_id: str, created: int) -> dict[str, Any]:
    """A whole chat completion object. Tokens are words: that is all this model knows of tokens."""
    text = answer(request)
    prompt_tokens = sum(len(message.text().split()) for message in request.messages)
    completion_tokens = len(text.split())
    return {
        "id": completion_id,
        "object": "chat.completion",
        "created": created,
        "model": request.model,
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": text},
                "finish_reason": "stop",
            }
        ],
        "usage": {
            "prompt_tokens": prompt_tokens,
            "completion_tokens": completion_tokens,
            "total_tokens": prompt_tokens + completion_tokens,
        },
    }


def chunks(whole: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The same completion as a stream of `chat.completion.chunk` objects, a word each."""
    head = {key: whole[key] for key in ("id", "created", "model")}
    message = whole["choices"][0]["message"]

    def chunk(delta: dict[str, str], finish_reason: str | None = None) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
        return {**head, "object": "chat.completion.chunk", "choices": [choice]}

    yield chunk({"role": message["role"], "content": ""})
    for word in re.findall(r"\S+\s*|\s+", message["content"]):
        yield chunk({"content": word})
    yield chunk({}, whole["choices"][0]["finish_reason"])
