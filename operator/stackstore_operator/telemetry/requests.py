"""Requests to the API server, counted."""

from __future__ import annotations

from stackstore_operator.telemetry import metrics


def count(verb: str, kind: str, code: int, seconds: float) -> None:
    """One request is over; of a watch: it has begun.

    Args:
        verb: "get", "list", "watch", "create", "apply", "update" or "delete".
        kind: of what; with its subresource, such as "StoreBinding/status".
        code: the answer's HTTP status; 0: there was none.
        seconds: how long it took.
    """
    metrics.REQUESTS.labels(verb, kind, str(code)).inc()
    metrics.REQUEST_SECONDS.labels(verb, kind).observe(seconds)
