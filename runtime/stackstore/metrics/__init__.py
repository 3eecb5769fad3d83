"""What pools, logins and queues are doing, for Prometheus (extra `prometheus`).

    from prometheus_client import REGISTRY
    REGISTRY.register(stackstore.metrics.Collector(storage))

Nothing is counted here: a scrape reads what the parts count for themselves. No label and no value
comes from a row; docs/metrics.md lists them all.
"""

from __future__ import annotations

try:
    import prometheus_client  # noqa: F401 - looked for here, so that the message says what to do
except ImportError as error:
    raise ImportError(
        "stackstore.metrics needs prometheus-client, which is an extra: install stackstore[prometheus]"
    ) from error

from stackstore.metrics.collector import Collector, Source

__all__ = ["Collector", "Source"]
