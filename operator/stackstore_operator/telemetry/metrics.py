"""Every number that is counted. Labels come from small closed sets: no name of an object or a namespace.

What can be computed from what is known anyway (conditions, queues) is: `reconcile/shown.py`.
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

REGISTRY = CollectorRegistry()
"""One a process, as there is one operator a process."""

ProcessCollector(registry=REGISTRY)

RECONCILES = Counter(
    "stackstore_operator_reconciles",
    "Looks at a stack or a backend, by what came of them.",
    ["kind", "result"],
    registry=REGISTRY,
)
RECONCILE_SECONDS = Histogram(
    "stackstore_operator_reconcile_seconds",
    "How long a look took, requests included.",
    ["kind"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 15),
    registry=REGISTRY,
)
LAST_SUCCESS = Gauge(
    "stackstore_operator_last_success_timestamp_seconds",
    "When a look last ended well; at rest there are none.",
    registry=REGISTRY,
)
REQUESTS = Counter(
    "stackstore_operator_api_requests",
    "Requests to the API server; code 0: no answer.",
    ["verb", "kind", "code"],
    registry=REGISTRY,
)
REQUEST_SECONDS = Histogram(
    "stackstore_operator_api_request_seconds",
    "How long the API server took; of a watch, until it began.",
    ["verb", "kind"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 15),
    registry=REGISTRY,
)
OUTPUTS = Counter(
    "stackstore_operator_outputs_written",
    "Applies of stacks' Secrets and ConfigMaps.",
    ["kind"],
    registry=REGISTRY,
)
EVENTS = Counter(
    "stackstore_operator_events_posted",
    "Events for kubectl describe.",
    ["kind", "type"],
    registry=REGISTRY,
)
WATCH_EVENTS = Counter(
    "stackstore_operator_watch_events",
    "What watches told.",
    ["kind"],
    registry=REGISTRY,
)
WATCH_MISSED = Counter(
    "stackstore_operator_watch_missed",
    "Changes that a list found and no watch had told of in time.",
    ["kind"],
    registry=REGISTRY,
)
LEADER = Gauge(
    "stackstore_operator_leader", "1: this process acts; 0: it stands by.", registry=REGISTRY
)
