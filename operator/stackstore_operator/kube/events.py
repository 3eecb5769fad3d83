"""Events for `kubectl describe`: posted when something changed, never in a loop."""

from __future__ import annotations

import logging
import secrets
from datetime import UTC, datetime
from typing import Protocol

from stackstore_operator.api.part import ObjectMeta
from stackstore_operator.kube.client import ApiError, Client
from stackstore_operator.telemetry import metrics

logger = logging.getLogger(__name__)


class Announced(Protocol):
    """What is told."""

    @property
    def warning(self) -> bool:
        """Whether it is bad news."""
        ...

    @property
    def reason(self) -> str:
        """One stable word."""
        ...

    @property
    def message(self) -> str:
        """For people."""
        ...


async def post(client: Client, kind: str, about: ObjectMeta, told: Announced) -> None:
    """Post an event; a failure is logged and otherwise without consequence."""
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    event = {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {
            "name": f"{about.name}.{secrets.token_hex(8)}",
            "namespace": about.namespace,
        },
        "involvedObject": {
            "apiVersion": "stackstore.dev/v1alpha1",
            "kind": kind,
            "name": about.name,
            "namespace": about.namespace,
            "uid": about.uid,
            "resourceVersion": about.resource_version,
        },
        "type": "Warning" if told.warning else "Normal",
        "reason": told.reason,
        "message": told.message[:1000] or told.reason,
        "source": {"component": "stackstore-operator"},
        "firstTimestamp": now,
        "lastTimestamp": now,
        "count": 1,
    }
    try:
        await client.create(event)
        metrics.EVENTS.labels(kind, event["type"]).inc()
    except ApiError as error:
        logger.info(
            "event %s on %s/%s not posted: %s", told.reason, about.namespace, about.name, error
        )
