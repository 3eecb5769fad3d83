"""The HTTP side: OpenAI-shaped chat completions, and three questions about the server itself."""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from examples.stack import echo
from examples.stack.completions import MAX_PAGE, Completions
from examples.stack.shapes import MAX_BODY_BYTES, Refusal, error_body, parse
from stackstore import BackendUnavailableError, StackstoreError, Storage

logger = logging.getLogger(__name__)

RETRY_AFTER_SECONDS = 1
READY_TIMEOUT_SECONDS = 2.0

Endpoint = Callable[[Request], Awaitable[Response]]


class Server:
    """The routes and what they need."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._completions = Completions(storage)

    def app(self) -> Starlette:
        """The ASGI application."""
        completions = "/v1/chat/completions"
        return Starlette(
            routes=[
                Route(path, _answered(endpoint), methods=[method])
                for method, path, endpoint in (
                    ("POST", completions, self.create),
                    ("GET", completions, self.list),
                    ("GET", completions + "/{completion_id}", self.retrieve),
                    ("GET", "/healthz", self.healthz),
                    ("GET", "/readyz", self.readyz),
                    ("GET", "/status", self.status),
                )
            ],
            exception_handlers={HTTPException: _no_such_route},
        )

    async def create(self, request: Request) -> Response:
        """Answer, keep the answer, and only then give it: what the caller has is stored."""
        asked = parse(await _body(request))
        made = echo.completion(asked, f"chatcmpl-{secrets.token_hex(16)}", int(time.time()))
        await self._completions.add(made)
        if asked.stream:
            return StreamingResponse(_events(made), media_type="text/event-stream")
        return JSONResponse(made)

    async def retrieve(self, request: Request) -> Response:
        """One completion."""
        completion_id = request.path_params["completion_id"]
        found = await self._completions.get(completion_id)
        if found is None:
            raise Refusal(404, f"there is no completion {completion_id!r}", code="not_found")
        return JSONResponse(found)

    async def list(self, request: Request) -> Response:
        """A page of completions, newest first, of those after the id `after`."""
        limit = _limit(request.query_params)
        page = await self._completions.page(limit, request.query_params.get("after"))
        ids = [completion["id"] for completion in page.completions]
        return JSONResponse(
            {
                "object": "list",
                "data": page.completions,
                "first_id": ids[0] if ids else None,
                "last_id": ids[-1] if ids else None,
                "has_more": page.has_more,
            }
        )

    async def healthz(self, _: Request) -> Response:
        """The process runs. Whether its databases do is another question: restarting won't help."""
        return JSONResponse({"status": "ok"})

    async def readyz(self, _: Request) -> Response:
        """The stores answer, now."""
        try:
            async with asyncio.timeout(READY_TIMEOUT_SECONDS):
                await self._completions.answer()
        except TimeoutError:
            raise BackendUnavailableError(
                f"the stores did not answer within {READY_TIMEOUT_SECONDS:g} s"
            ) from None
        return JSONResponse({"status": "ok"})

    async def status(self, _: Request) -> Response:
        """The pools: their connections and revisions; no secrets."""
        return JSONResponse({"pools": self._storage.status()})


async def _body(request: Request) -> bytes:
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > MAX_BODY_BYTES:
            raise Refusal(
                413, f"the body is larger than {MAX_BODY_BYTES} bytes", code="body_too_large"
            )
    return bytes(body)


def _limit(query: Mapping[str, str]) -> int:
    text = query.get("limit", "20")
    # Not int() alone: it takes "1_0", other scripts' digits and numbers of a thousand digits.
    if not (text.isascii() and text.isdigit() and len(text) < 5 and 1 <= int(text) <= MAX_PAGE):
        raise Refusal(
            400,
            f"limit: must be a whole number from 1 to {MAX_PAGE}",
            param="limit",
            code="invalid_value",
        )
    return int(text)


async def _events(made: dict[str, Any]) -> AsyncIterator[str]:
    for chunk in echo.chunks(made):
        yield f"data: {json.dumps(chunk)}\n\n"
    yield "data: [DONE]\n\n"


def _answered(endpoint: Endpoint) -> Endpoint:
    """An endpoint whose every failure is an answer.

    Caught here because Starlette would hand what it doesn't know to the server's log, whole.
    """

    async def answered(request: Request) -> Response:
        try:
            return await endpoint(request)
        except Exception as error:  # noqa: BLE001 - none may get away
            return _answer(error)

    return answered


def _answer(error: Exception) -> Response:
    match error:
        case Refusal():
            return JSONResponse(error.body(), error.status)
        case BackendUnavailableError():
            logger.warning("%s", error)
            body = error_body(503, str(error), code="storage_unavailable")
            return JSONResponse(body, 503, headers={"Retry-After": str(RETRY_AFTER_SECONDS)})
        case StackstoreError():
            # Stackstore's own errors are fit to be shown; nobody vouches for the others.
            shown = str(error)
        case _:
            shown = "something went wrong here"
    logger.error("%s: %s", type(error).__name__, shown)
    return JSONResponse(error_body(500, shown, code="internal"), 500)


async def _no_such_route(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - registered for nothing else
    message = f"{request.method} {request.url.path}: {error.detail}"
    return JSONResponse(error_body(error.status_code, message), error.status_code, error.headers)
