"""kopf logs in where our own client does, with the same credentials, and its requests are counted."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import aiohttp
import kopf

from stackstore_operator.kube.client import FIELD_MANAGER, Client, about
from stackstore_operator.telemetry import requests
from stackstore_operator.telemetry.health import Health


async def session(client: Client, health: Health) -> kopf.AiohttpSession:
    """A session for kopf, which closes it; asked for again after each 401."""
    token = await client.authorization()
    headers = {"User-Agent": FIELD_MANAGER} | ({"Authorization": token} if token else {})
    return kopf.AiohttpSession(
        server=client.configuration.host,
        aiohttp_session=aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, ssl=client.ssl_context),
            headers=headers,
            trace_configs=[_counting(client, health)],
        ),
    )


def _counting(client: Client, health: Health) -> aiohttp.TraceConfig:
    trace = aiohttp.TraceConfig()

    async def start(_: Any, context: SimpleNamespace, __: Any) -> None:
        context.began = time.monotonic()

    def count(method: str, url: Any, context: SimpleNamespace, code: int) -> None:
        verb, kind = about(method, url.path, watch="watch" in url.query)
        requests.count(verb, kind, code, time.monotonic() - context.began)
        client.answered(0 < code < 500)
        if verb == "watch":
            health.heard(kind)

    async def end(_: Any, context: SimpleNamespace, seen: aiohttp.TraceRequestEndParams) -> None:
        count(seen.method, seen.url, context, seen.response.status)

    async def fail(
        _: Any, context: SimpleNamespace, seen: aiohttp.TraceRequestExceptionParams
    ) -> None:
        count(seen.method, seen.url, context, 0)

    trace.on_request_start.append(start)
    trace.on_request_end.append(end)
    trace.on_request_exception.append(fail)
    return trace
