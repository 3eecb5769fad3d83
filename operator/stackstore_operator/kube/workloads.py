"""The workloads that run stacks' servers, as plain JSON: read by name, watched by their metadata."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from stackstore_operator.api.binding import CONSUMER_KINDS
from stackstore_operator.kube.client import ApiError, Client, Object
from stackstore_operator.kube.watch import Pace, by_name, watch
from stackstore_operator.telemetry.health import Health

MADE_INTO_DEPLOYMENTS = ("OGXServer", "LlamaStackDistribution")
"""Kinds of another operator, which makes a Deployment of the same name of each object."""
NOT_SCALED = ("DaemonSet",)
AUTOSCALER = "HorizontalPodAutoscaler"

WorkloadName = tuple[str, str]
"""(kind, name)"""


@dataclass(frozen=True)
class Workload:
    """What was read of one workload.

    Attributes:
        obj: the object; None: there is none, or nothing serves its kind.
        deployment: of a kind that another operator makes into a Deployment: that one, once it is there.
        refused: we may not read it.
    """

    obj: Object | None = None
    deployment: Object | None = None
    refused: bool = False


@dataclass(frozen=True)
class Workloads:
    """What was read of a stack's workloads; `autoscalers` are all of the namespace."""

    by_name: Mapping[WorkloadName, Workload]
    autoscalers: tuple[Object, ...] = ()


NONE = Workloads({})


async def read(client: Client, namespace: str, names: Iterable[WorkloadName]) -> Workloads:
    """Read workloads, and what scales them.

    Raises:
        ApiError: the API server could not be asked; that it refuses is part of the answer.
    """
    found = {(kind, name): await _read(client, namespace, kind, name) for kind, name in names}
    scaled = [name for name, w in found.items() if w.obj is not None and name[0] not in NOT_SCALED]
    if not scaled:
        return Workloads(found)
    try:
        return Workloads(found, tuple(await client.list(AUTOSCALER, namespace)))
    except ApiError as error:
        if error.status != 403:
            raise
    # Without them nobody knows how many pods there may be.
    return Workloads(found | dict.fromkeys(scaled, Workload(refused=True)))


async def _read(client: Client, namespace: str, kind: str, name: str) -> Workload:
    if kind not in CONSUMER_KINDS:
        # The binding that names it is not accepted, and says so.
        return Workload()
    try:
        obj = await client.get(kind, namespace, name)
        if obj is None or kind not in MADE_INTO_DEPLOYMENTS:
            return Workload(obj)
        deployment = await client.get("Deployment", namespace, name)
    except ApiError as error:
        if error.status == 403:
            return Workload(refused=True)
        raise
    if deployment is not None and not _owned(deployment, obj):
        deployment = None
    return Workload(obj, deployment)


def _owned(obj: Mapping[str, Any], owner: Mapping[str, Any]) -> bool:
    references = obj["metadata"].get("ownerReferences") or []
    return any(reference.get("uid") == owner["metadata"]["uid"] for reference in references)


def watches(
    client: Client,
    namespace: str | None,
    changed: Callable[[str, str, str], None],
    *,
    health: Health,
    wanted: Callable[[str, str, str], bool],
    pace: Pace,
) -> Iterable[Coroutine[Any, Any, None]]:
    """One watch a kind, which calls `changed(kind, namespace, name)`; each goes on for ever.

    Kinds whose CRD is not installed are waited for. Of autoscalers only the spec matters: their
    statuses change with every measurement.
    """
    how = {"health": health, "wanted": wanted, "pace": pace}
    for kind in CONSUMER_KINDS:
        yield watch(client, kind, namespace, by_name(changed), **how, optional=True)
    yield watch(client, AUTOSCALER, namespace, by_name(changed), **how, spec_only=True)
