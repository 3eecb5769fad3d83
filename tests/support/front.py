"""An HTTP server before an API server that misbehaves as told: refuses, cuts watches, forgets events."""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl

import aiohttp
from aiohttp import web

from tests.support.controlplane import ControlPlane
from tests.support.postgres import free_port

_HOP = {"transfer-encoding", "connection", "content-length", "content-encoding", "host"}


class Front:
    """Passes requests on; `async with` starts and ends it. Its switches may be set by any thread.

    Attributes:
        refusals: how each of the next requests is answered instead of being passed on, as (status,
            Retry-After or None).
        stalled: nothing passes in any direction; connections are accepted.
        deaf: of these plurals no watch tells anything but bookmarks.
        refused: how many requests were answered so.
        watching: how many watches are open.
    """

    def __init__(self, plane: ControlPlane) -> None:
        self.refusals: list[tuple[int, int | None]] = []
        self.stalled = False
        self.deaf: set[str] = set()
        self.refused = 0
        self.watching = 0
        self.url = f"https://127.0.0.1:{free_port()}"
        self._plane = plane
        self._last_word: dict[str, object] = {}
        self._ended = 0

    def end_watches(self, code: int) -> None:
        """Each open watch gets an event of type ERROR with this code, and ends."""
        status = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code,
                  "message": "too old resource version" if code == 410 else "etcd is away",
                  "reason": "Expired" if code == 410 else "InternalError"}  # fmt: skip
        self._last_word = {"type": "ERROR", "object": status}
        self._ended += 1

    async def __aenter__(self) -> Front:
        at = self._plane.directory
        server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        server.load_cert_chain(at / "tls.crt", at / "tls.key")
        client = ssl.create_default_context(cafile=str(at / "tls.crt"))
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, ssl=client), auto_decompress=False
        )
        application = web.Application(client_max_size=2**24)
        application.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(application, shutdown_timeout=0.1)
        await self._runner.setup()
        port = int(self.url.rsplit(":", 1)[1])
        await web.TCPSite(self._runner, "127.0.0.1", port, ssl_context=server).start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()
        await self._session.close()
        # TLS connections say goodbye in the background.
        await asyncio.sleep(0.1)

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        await self._flow()
        # Leases are spared: who leads is not what is tested here.
        if self.refusals and "/leases" not in request.path:
            status, after = self.refusals.pop(0)
            self.refused += 1
            headers = {} if after is None else {"Retry-After": str(after)}
            body = {"kind": "Status", "status": "Failure", "code": status, "message": "refused"}
            return web.json_response(body, status=status, headers=headers)
        headers = {k: v for k, v in request.headers.items() if k.lower() not in _HOP}
        headers["Accept-Encoding"] = "identity"
        try:
            async with self._session.request(
                request.method,
                self._plane.url + request.raw_path,
                headers=headers,
                data=await request.read() or None,
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=5),
            ) as answer:
                passed = {k: v for k, v in answer.headers.items() if k.lower() not in _HOP}
                if "watch" not in request.query or answer.status != 200:
                    body = await answer.read()
                    await self._flow()
                    return web.Response(status=answer.status, headers=passed, body=body)
                return await self._watch(request, answer, passed)
        except aiohttp.ClientError:
            if request.transport is not None:
                request.transport.abort()
            return web.Response(status=502)

    async def _watch(
        self, request: web.Request, answer: aiohttp.ClientResponse, headers: dict[str, str]
    ) -> web.StreamResponse:
        response = web.StreamResponse(headers=headers)
        await response.prepare(request)
        plural = request.path.rsplit("/", 1)[1]
        since = self._ended
        self.watching += 1
        lines = asyncio.create_task(answer.content.readline())
        try:
            while True:
                done, _ = await asyncio.wait({lines}, timeout=0.05)
                await self._flow()
                if self._ended != since:
                    await response.write(json.dumps(self._last_word).encode() + b"\n")
                    break
                if not done:
                    continue
                line = lines.result()
                if not line:
                    break
                if plural not in self.deaf or b'"type":"BOOKMARK"' in line[:40]:
                    await response.write(line)
                lines = asyncio.create_task(answer.content.readline())
        except (ConnectionError, aiohttp.ClientError):
            pass
        finally:
            self.watching -= 1
            lines.cancel()
            with contextlib.suppress(asyncio.CancelledError, aiohttp.ClientError, ConnectionError):
                await lines
            answer.close()
        return response

    async def _flow(self) -> None:
        while self.stalled:
            await asyncio.sleep(0.05)
