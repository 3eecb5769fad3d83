"""What running pods tell of when their servers started. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any


def oldest_start(pods: Iterable[Mapping[str, Any]]) -> int | None:
    """Epoch seconds at which the oldest running container started; None: none runs.

    A container that waits reads everything anew when it starts. Init containers and pods that are
    being deleted don't count.
    """
    starts = (
        seconds
        for pod in pods
        if not pod["metadata"].get("deletionTimestamp")
        for status in (pod.get("status") or {}).get("containerStatuses") or []
        if (seconds := epoch(((status.get("state") or {}).get("running") or {}).get("startedAt")))
        is not None
    )
    return min(starts, default=None)


def selector_text(selector: Mapping[str, Any] | None) -> str | None:
    """A label selector as the API server takes it in a query; None: it selects nothing."""
    selector = selector or {}
    parts = [f"{key}={value}" for key, value in (selector.get("matchLabels") or {}).items()]
    for rule in selector.get("matchExpressions") or []:
        key, values = rule.get("key"), ",".join(rule.get("values") or [])
        parts.append(
            {
                "In": f"{key} in ({values})",
                "NotIn": f"{key} notin ({values})",
                "Exists": f"{key}",
                "DoesNotExist": f"!{key}",
            }.get(rule.get("operator"), "")
        )
    return ",".join(parts) if parts and all(parts) else None


def epoch(text: object) -> int | None:
    """Seconds of a time as the API server writes it."""
    try:
        return int(datetime.fromisoformat(str(text)).timestamp())
    except ValueError:
        return None
