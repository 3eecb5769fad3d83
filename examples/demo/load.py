"""`python -m examples.demo.load`: clients that write and read back until the time is up.

A process of its own, so that it slows down neither the server nor who measures. Whatever is not a
200 with the right body is a failure. On SIGTERM it ends early. It prints one JSON object.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import secrets
import signal
import sys
import time
from dataclasses import asdict, dataclass, field
from typing import Any

import httpx

PAUSE_SECONDS = 0.05
"""Between two rounds of one client: the point is to be there, not to win."""


@dataclass
class Report:
    """What a load saw.

    Attributes:
        requests: answers that were waited for, good and bad.
        failures: how many of them were wrong.
        first_failures: the texts of some.
        acknowledged: ids of completions the server said it had kept.
        slowest: seconds of the slowest request; `median` likewise.
    """

    clients: int
    seconds: float = 0.0
    requests: int = 0
    failures: int = 0
    first_failures: list[str] = field(default_factory=list)
    acknowledged: list[str] = field(default_factory=list)
    median: float = 0.0
    slowest: float = 0.0


class Load:
    """Clients of one server."""

    def __init__(self, url: str, clients: int, seconds: float) -> None:
        self._url = url
        self._seconds = seconds
        self._stop = asyncio.Event()
        self._times: list[float] = []
        self.report = Report(clients)

    def stop(self) -> None:
        """End after the requests under way."""
        self._stop.set()

    async def run(self) -> Report:
        """Until the time is up, or `stop()`."""
        began = time.monotonic()
        asyncio.get_running_loop().call_later(self._seconds, self.stop)
        limits = httpx.Limits(max_connections=self.report.clients)
        async with httpx.AsyncClient(
            base_url=self._url, limits=limits, timeout=60, trust_env=False
        ) as client:
            await asyncio.gather(*(self._client(client) for _ in range(self.report.clients)))
        times = sorted(self._times) or [0.0]
        self.report.seconds = time.monotonic() - began
        self.report.median, self.report.slowest = times[len(times) // 2], times[-1]
        return self.report

    async def _client(self, client: httpx.AsyncClient) -> None:
        while not self._stop.is_set():
            await self._round(client)
            try:
                async with asyncio.timeout(PAUSE_SECONDS):
                    await self._stop.wait()
            except TimeoutError:
                continue

    async def _round(self, client: httpx.AsyncClient) -> None:
        text = secrets.token_hex(32)
        body = {"model": "echo", "messages": [{"role": "user", "content": text}]}
        made = await self._ask(client, "POST", "/v1/chat/completions", body)
        if made is None:
            return
        if made["choices"][0]["message"]["content"] != text:
            self._failed(f"POST: not what was said, in {made['id']}")
            return
        self.report.acknowledged.append(made["id"])
        read = await self._ask(client, "GET", f"/v1/chat/completions/{made['id']}")
        if read is not None and read != made:
            self._failed(f"GET {made['id']}: not what was written")

    async def _ask(
        self, client: httpx.AsyncClient, method: str, path: str, body: object = None
    ) -> dict[str, Any] | None:
        began = time.monotonic()
        self.report.requests += 1
        try:
            answer = await client.request(method, path, json=body)
        except httpx.HTTPError as error:
            self._failed(f"{method} {path}: {type(error).__name__} {error}")
            return None
        finally:
            self._times.append(time.monotonic() - began)
        if answer.status_code != httpx.codes.OK:
            self._failed(f"{method} {path}: {answer.status_code} {answer.text[:300]}")
            return None
        found: dict[str, Any] = answer.json()
        return found

    def _failed(self, text: str) -> None:
        self.report.failures += 1
        if len(self.report.first_failures) < 5:
            self.report.first_failures.append(text)


async def _main(arguments: argparse.Namespace) -> None:
    load = Load(arguments.url, arguments.clients, arguments.seconds)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, load.stop)
    report = await load.run()
    sys.stdout.write(json.dumps(asdict(report)) + "\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m examples.demo.load", description=__doc__)
    parser.add_argument("--url", required=True)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=30.0)
    asyncio.run(_main(parser.parse_args()))
