"""The workloads that run a stack's server: how many pods and processes each may reach. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from stackstore_operator.api.binding import Consumer, StoreBinding
from stackstore_operator.api.conditions import Reason
from stackstore_operator.kube.workloads import (
    MADE_INTO_DEPLOYMENTS,
    Workload,
    WorkloadName,
    Workloads,
)
from stackstore_operator.reconcile.conditions import Said

CONDITION = "ConsumersResolved"
_DEFAULT_SURGE = "25%"

Strategy = Literal["RollingUpdate", "Recreate", "OnDelete"]


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a workload's own controller is.

    Attributes:
        generation: of the spec, as it is now.
        observed: the generation that the controller has seen.
        wanted: pods there should be now.
        updated: pods of the newest template.
        available: pods that serve.
        pods: all pods there are, as far as the controller counts them.
    """

    generation: int = 0
    observed: int = 0
    wanted: int = 0
    updated: int = 0
    available: int = 0
    pods: int = 0

    @property
    def complete(self) -> bool:
        """Whether the newest template is everywhere, and nothing else is left."""
        return (
            self.observed >= self.generation
            and self.updated == self.available == self.pods == self.wanted
        )


@dataclass(frozen=True, slots=True)
class ConsumerState:
    """One workload.

    Attributes:
        found: whether it is there; None: we may not look.
        wanted: pods there should be now; 0 while it isn't found.
        most: pods that it may be scaled to; at least 1, a workload at rest is meant to come back.
        surge: pods beyond `most` while a new template is rolled out.
        workers: server processes a pod.
        autoscaler: the name of its HorizontalPodAutoscaler; empty: none.
        strategy: how a new template replaces the pods of the last.
        paused: its controller rolls nothing out for now.
        progress: of the workload, or of the Deployment that another operator made of it.
        annotations: those of the pod template, of the object that holds one.
    """

    kind: str
    name: str
    found: bool | None
    wanted: int = 0
    most: int = 1
    surge: int = 0
    workers: int = 1
    autoscaler: str = ""
    strategy: Strategy = "RollingUpdate"
    paused: bool = False
    progress: Progress = Progress()
    annotations: Mapping[str, str] = field(default_factory=dict)

    @property
    def pods(self) -> int:
        """The most pods there may be at once."""
        return self.most + self.surge

    @property
    def processes(self) -> int:
        """The most server processes there may be at once."""
        return self.pods * self.workers

    @property
    def overlaps(self) -> bool:
        """Whether a rollout may start a new pod while the one that it replaces still runs.

        A Deployment that rolls doesn't wait for a pod's end, whatever its surge is; a StatefulSet does.
        """
        if self.kind in ("StatefulSet", "DaemonSet"):
            return self.surge > 0
        return self.strategy == "RollingUpdate"

    def __str__(self) -> str:
        return f"{self.kind} '{self.name}'"


def named(bindings: Iterable[StoreBinding]) -> tuple[Consumer, ...]:
    """All workloads that bindings of one stack name; of one that several name, the most workers."""
    found: dict[WorkloadName, Consumer] = {}
    for binding in bindings:
        for consumer in binding.spec.consumers:
            known = found.get((consumer.kind, consumer.name))
            if known is None or known.workers < consumer.workers:
                found[consumer.kind, consumer.name] = consumer
    return tuple(found[key] for key in sorted(found))


def observe(consumers: Iterable[Consumer], workloads: Workloads) -> tuple[ConsumerState, ...]:
    """What was read of each of them."""
    return tuple(_state(consumer, workloads) for consumer in consumers)


def expected(states: Sequence[ConsumerState]) -> int | None:
    """How many server processes there should be now; None: nobody says, or not of all workloads."""
    if not states or not all(state.found for state in states):
        return None
    return sum(state.wanted * state.workers for state in states)


def said(binding: StoreBinding, workloads: Workloads) -> Said | None:
    """The condition ConsumersResolved of a binding; None when it names no workload."""
    states = observe(binding.spec.consumers, workloads)
    if not states:
        return None
    refused = [state for state in states if state.found is None]
    missing = [state for state in states if state.found is False]
    if missing:
        return Said(CONDITION, "False", Reason.CONSUMER_NOT_FOUND, _missing(binding, missing))
    if refused:
        return Said(
            CONDITION,
            "Unknown",
            Reason.CONSUMERS_NOT_READABLE,
            f"the operator may not read {_listed(refused)}; see the RBAC of its chart",
        )
    return Said(CONDITION, "True", Reason.RESOLVED, "; ".join(map(arithmetic, states)))


def arithmetic(state: ConsumerState) -> str:
    """The most processes of a workload and how they come about, for messages."""
    pods = _count(state.most, "pod")
    if state.surge:
        pods = f"({pods} + {state.surge} surge)"
    by = f" by HorizontalPodAutoscaler '{state.autoscaler}'" if state.autoscaler else ""
    return f"{state}: at most {pods} × {_count(state.workers, 'worker')}{by}"


def _missing(binding: StoreBinding, missing: Sequence[ConsumerState]) -> str:
    paths = ", ".join(f"spec.consumers[{state.kind}/{state.name}]" for state in missing)
    return (
        f"{paths}: there is no {_listed(missing)} in namespace '{binding.metadata.namespace}'; "
        "make it, or correct the name"
    )


def _listed(states: Iterable[ConsumerState]) -> str:
    return ", ".join(map(str, states))


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


# -- reading objects; what others made of them is never trusted to be whole


def _state(consumer: Consumer, workloads: Workloads) -> ConsumerState:
    kind, name = consumer.kind, consumer.name
    read = workloads.by_name.get((kind, name), Workload())
    if read.obj is None:
        found = None if read.refused else False
        return ConsumerState(kind, name, found, workers=consumer.workers)
    if kind == "DaemonSet":
        return _daemon_set(consumer, read.obj)
    if kind in MADE_INTO_DEPLOYMENTS:
        return _made(consumer, read, workloads.autoscalers)
    return _scaled(consumer, kind, read.obj, workloads.autoscalers)


def _scaled(
    consumer: Consumer, kind: str, obj: Mapping[str, Any], autoscalers: Iterable[Mapping[str, Any]]
) -> ConsumerState:
    """A Deployment or a StatefulSet."""
    spec = _map(obj, "spec")
    wanted = _number(spec.get("replicas"), 1)
    autoscaler, limit = _autoscaler(kind, consumer.name, autoscalers)
    most = max(1, wanted, limit)
    strategy, surge = _update(kind, spec, most)
    return ConsumerState(
        kind,
        consumer.name,
        found=True,
        wanted=wanted,
        most=most,
        surge=surge,
        workers=consumer.workers,
        autoscaler=autoscaler,
        strategy=strategy,
        paused=bool(spec.get("paused")),
        progress=_progress(kind, obj, wanted),
        annotations=_annotations(spec),
    )


def _daemon_set(consumer: Consumer, obj: Mapping[str, Any]) -> ConsumerState:
    """As many pods as there are nodes for them; before its controller has counted, one."""
    spec = _map(obj, "spec")
    wanted = _number(_map(obj, "status").get("desiredNumberScheduled"), 0)
    most = max(1, wanted)
    strategy, surge = _update("DaemonSet", spec, most)
    return ConsumerState(
        "DaemonSet",
        consumer.name,
        found=True,
        wanted=wanted,
        most=most,
        surge=surge,
        workers=consumer.workers,
        strategy=strategy,
        progress=_progress("DaemonSet", obj, wanted),
        annotations=_annotations(spec),
    )


def _made(
    consumer: Consumer, read: Workload, autoscalers: Iterable[Mapping[str, Any]]
) -> ConsumerState:
    """A kind that another operator makes into a Deployment, which may not be there yet."""
    assert read.obj is not None  # noqa: S101 - the caller has seen to it
    spec = _map(read.obj, "spec")
    if consumer.kind == "OGXServer":
        server = scale = _map(spec, "workload")
    else:
        server, scale = _map(spec, "server"), spec
    wanted = _number(scale.get("replicas"), 1)
    # A volume that one pod holds: its operator then replaces the pod, and never has two.
    template: Mapping[str, Any] = {}
    if server.get("storage") is not None:
        template = {"strategy": {"type": "Recreate"}}
    made = _map({"spec": template} if read.deployment is None else read.deployment, "spec")
    autoscaler, limit = _autoscaler("Deployment", consumer.name, autoscalers)
    stated = _number(_map(server, "autoscaling").get("maxReplicas"), 0)
    most = max(1, wanted, limit, stated, _number(made.get("replicas"), 0))
    strategy, surge = _update("Deployment", made, most)
    progress = Progress(generation=1, wanted=wanted)
    if read.deployment is not None:
        progress = _progress("Deployment", read.deployment, _number(made.get("replicas"), 1))
    return ConsumerState(
        consumer.kind,
        consumer.name,
        found=True,
        wanted=wanted,
        most=most,
        surge=surge,
        workers=max(consumer.workers, _number(server.get("workers"), 1)),
        autoscaler=autoscaler,
        strategy=strategy,
        paused=bool(made.get("paused")),
        progress=progress,
        annotations=_annotations(made),
    )


def _autoscaler(kind: str, name: str, autoscalers: Iterable[Mapping[str, Any]]) -> tuple[str, int]:
    """The name and the bound of what scales a workload; of several the largest bound."""
    best = ("", 0)
    for obj in autoscalers:
        spec = _map(obj, "spec")
        target = _map(spec, "scaleTargetRef")
        group = str(target.get("apiVersion") or "apps/v1").partition("/")[0]
        if (group, target.get("kind"), target.get("name")) == ("apps", kind, name):
            bound = _number(spec.get("maxReplicas"), 0)
            best = max(best, (str(obj["metadata"]["name"]), bound), key=lambda found: found[1])
    return best


def _update(kind: str, spec: Mapping[str, Any], most: int) -> tuple[Strategy, int]:
    """How pods are replaced, and how many there are beyond `most` meanwhile."""
    stated = _map(spec, "strategy" if kind == "Deployment" else "updateStrategy")
    strategy: Strategy = "RollingUpdate"
    if stated.get("type") in ("Recreate", "OnDelete"):
        strategy = stated["type"]
    if kind == "StatefulSet" or strategy != "RollingUpdate":
        return strategy, 0
    default: int | str = _DEFAULT_SURGE if kind == "Deployment" else 0
    surge = _map(stated, "rollingUpdate").get("maxSurge")
    return strategy, _scaled_up(default if surge is None else surge, most)


def _scaled_up(value: Any, of: int) -> int:
    """A number, or a percentage rounded up, as the controllers take a surge."""
    text = str(value)
    if text.endswith("%") and text[:-1].isdigit():
        return math.ceil(int(text[:-1]) * of / 100)
    return _number(value, 0)


def _progress(kind: str, obj: Mapping[str, Any], wanted: int) -> Progress:
    status = _map(obj, "status")
    updated, available, pods = (
        ("updatedNumberScheduled", "numberAvailable", "currentNumberScheduled")
        if kind == "DaemonSet"
        else ("updatedReplicas", "availableReplicas", "replicas")
    )
    return Progress(
        generation=_number(obj["metadata"].get("generation"), 0),
        observed=_number(status.get("observedGeneration"), 0),
        wanted=wanted,
        updated=_number(status.get(updated), 0),
        available=_number(status.get(available), 0),
        pods=_number(status.get(pods), 0),
    )


def _annotations(spec: Mapping[str, Any]) -> Mapping[str, str]:
    return _map(_map(_map(spec, "template"), "metadata"), "annotations")


def _map(node: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found = node.get(key)
    return found if isinstance(found, Mapping) else {}


def _number(value: Any, default: int) -> int:
    return value if isinstance(value, int) and value >= 0 else default
