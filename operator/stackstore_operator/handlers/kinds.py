"""kopf carries our two kinds. Only `on.event`: kopf then writes nothing, no annotation, no finalizer."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import kopf

from stackstore_operator.api.crd import GROUP, VERSION
from stackstore_operator.handlers.census import Census
from stackstore_operator.handlers.changes import Changes
from stackstore_operator.kube.client import Client
from stackstore_operator.kube.login import session
from stackstore_operator.kube.watch import Pace
from stackstore_operator.telemetry import metrics
from stackstore_operator.telemetry.health import Health

_RECONNECT_SECONDS = (0.2, 0.5, 1.0, 2.0)
_PATIENT_SECONDS = 5.0


class _Patience:
    """Delays without an end: an API server that is away for an hour must not end the operator."""

    def __iter__(self) -> Iterator[float]:
        yield from _RECONNECT_SECONDS
        while True:
            yield _PATIENT_SECONDS


def registry(
    client: Client, changes: Changes, census: Census, health: Health
) -> kopf.OperatorRegistry:
    """The handlers.

    Args:
        client: whose login is used.
        changes: whom to tell what changed.
        census: told of each event; asked for when kopf has listed anew, for it does not tell what went
            meanwhile.
        health: told of each sign of life.
    """
    made = kopf.OperatorRegistry()

    def takes(kind: str, event: kopf.RawEvent) -> bool:
        if event["type"] is None:
            census.soon()
        metrics.WATCH_EVENTS.labels(kind).inc()
        health.heard(kind)
        census.told(kind, event["object"])
        return event["type"] == "DELETED"

    @kopf.on.login(registry=made)
    async def login(**_: Any) -> kopf.AiohttpSession:
        return await session(client, health)

    @kopf.on.event(GROUP, VERSION, "storagebackends", registry=made)
    async def backend(event: kopf.RawEvent, **_: Any) -> None:
        changes.backend(event["object"], deleted=takes("StorageBackend", event))

    @kopf.on.event(GROUP, VERSION, "storebindings", registry=made)
    async def binding(event: kopf.RawEvent, **_: Any) -> None:
        changes.binding(event["object"], deleted=takes("StoreBinding", event))

    return made


def settings(pace: Pace) -> kopf.OperatorSettings:
    """Kopf's settings; its watches are as patient as ours."""
    made = kopf.OperatorSettings()
    # Events are ours to post, with stable reasons; kopf would post log lines.
    made.posting.enabled = False
    # It would watch all CRDs and namespaces; what is served is known, and its CRDs are there.
    made.scanning.disabled = True
    # It would kill the process ten minutes after it was told to end, and it is only begun anew.
    made.process.ultimate_exiting_timeout = None
    made.networking.error_backoffs = _Patience()
    made.networking.connect_timeout = 5
    made.networking.request_timeout = 15
    # How long its per-object workers may linger: a stop waits for them.
    made.queueing.idle_timeout = 0.5
    made.queueing.exit_timeout = 0.5
    made.watching.server_timeout = pace.whole
    made.watching.client_timeout = pace.whole + 30
    made.watching.inactivity_timeout = pace.silence
    made.watching.connect_timeout = 5
    return made
