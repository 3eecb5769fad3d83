"""kopf begins wherever the operator runs, and what keeps it from that is told."""

from __future__ import annotations

import asyncio
import getpass
import logging
from types import SimpleNamespace
from typing import Any

import kopf

from stackstore_operator.handlers.carrier import Carrier
from stackstore_operator.kube.watch import Pace
from stackstore_operator.telemetry.health import Health


class Scope:
    """All namespaces, always."""

    open = frozenset({None})

    async def changed(self, _: Any) -> None:
        await asyncio.Event().wait()


async def carried(until: asyncio.Event, begun: asyncio.Event) -> None:
    nobody: Any = SimpleNamespace(soon=lambda: None, found_deaf=asyncio.Event().wait)
    carrier = Carrier(
        nobody,
        Scope(),  # type: ignore[arg-type]
        nobody,
        nobody,
        health=Health(),
        begun=begun.set,
        pace=Pace(),
    )
    task = asyncio.create_task(carrier.run())
    try:
        await asyncio.wait_for(until.wait(), 30)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_it_begins_where_the_user_has_a_number_and_no_name(monkeypatch):
    def no_name() -> str:
        raise KeyError("getpwuid(): uid not found: 65532")

    monkeypatch.setattr(getpass, "getuser", no_name)
    begun = asyncio.Event()
    await carried(begun, begun)


async def test_what_keeps_it_from_beginning_is_told(monkeypatch, caplog):
    tries = asyncio.Event()

    async def fails(**_: Any) -> None:
        # The first one has been told by the time of the second.
        if calls:
            tries.set()
        calls.append(1)
        raise KeyError("why")

    calls: list[int] = []
    monkeypatch.setattr(kopf, "spawn_tasks", fails)
    with caplog.at_level(logging.WARNING):
        await carried(tries, asyncio.Event())
    assert "kopf's watches did not begin: KeyError: 'why'" in caplog.text
