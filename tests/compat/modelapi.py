"""A stand-in for the model behind the server: `/v1/models` and `/v1/chat/completions`."""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
import threading
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from tests.support.postgres import free_port

MODEL = "mock-model"
WORDS = ("An ", "answer.")


async def _models(_: Request) -> Response:
    model = {"id": MODEL, "object": "model", "created": 0, "owned_by": "tests"}
    return JSONResponse({"object": "list", "data": [model]})


async def _complete(request: Request) -> Response:
    asked = await request.json()
    if asked.get("stream"):
        return StreamingResponse(_chunks(), media_type="text/event-stream")
    message = {"role": "assistant", "content": "".join(WORDS)}
    usage = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    return JSONResponse(_completion("chat.completion", [choice]) | {"usage": usage})


async def _chunks() -> AsyncIterator[str]:
    made = _completion("chat.completion.chunk", [])
    for word in WORDS:
        choice = {
            "index": 0,
            "delta": {"role": "assistant", "content": word},
            "finish_reason": None,
        }
        yield f"data: {json.dumps(made | {'choices': [choice]})}\n\n"
    choice = {"index": 0, "delta": {}, "finish_reason": "stop"}
    yield f"data: {json.dumps(made | {'choices': [choice]})}\n\ndata: [DONE]\n\n"


def _completion(kind: str, choices: list[Any]) -> dict[str, Any]:
    return {
        "id": f"chatcmpl-{secrets.token_hex(12)}",
        "object": kind,
        "created": int(time.time()),
        "model": MODEL,
        "choices": choices,
    }


@contextlib.contextmanager
def serving() -> Iterator[str]:
    """Serve on loopback; gives the base URL."""
    app = Starlette(
        routes=[
            Route("/v1/models", _models),
            Route("/v1/chat/completions", _complete, methods=["POST"]),
        ]
    )
    port = free_port()
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=port, log_level="warning"))
    thread = threading.Thread(target=lambda: asyncio.run(server.serve()), name="model API")
    thread.start()
    try:
        while not server.started and thread.is_alive():
            time.sleep(0.01)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        server.should_exit = True
        thread.join(10)
