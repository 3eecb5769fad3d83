"""What a rollout reads and writes beside the outputs: when pods started, and pod templates."""

from __future__ import annotations

import logging

from stackstore_operator.api.binding import CONSUMER_KINDS
from stackstore_operator.kube.client import ApiError, Client
from stackstore_operator.kube.workloads import Workload, WorkloadName, Workloads
from stackstore_operator.reconcile.outputs import ROLLOUT_MANAGER
from stackstore_operator.reconcile.rollout.decision import Restart
from stackstore_operator.reconcile.rollout.pods import oldest_start, selector_text
from stackstore_operator.reconcile.rollout.target import ANNOTATION, holder

logger = logging.getLogger(__name__)


async def started(
    client: Client, namespace: str, found: Workloads, *, all_of_them: bool
) -> dict[WorkloadName, int | None]:
    """When the oldest running container of each workload started.

    Args:
        client: the way to the API server.
        namespace: where they are.
        found: the workloads.
        all_of_them: also those that we have restarted before, whose templates say for what.

    Raises:
        ApiError: the API server could not be asked.
    """
    starts = {}
    for name, read in found.by_name.items():
        selector = _selector(name[0], read, all_of_them=all_of_them)
        if selector is None:
            continue
        try:
            pods = await client.list("Pod", namespace, selector)
        except ApiError as error:
            if error.status != 403:
                raise
            continue
        starts[name] = oldest_start(pods)
    return starts


async def restart(client: Client, namespace: str, wanted: Restart) -> None:
    """Annotate a pod template, so that its controller replaces the pods.

    Raises:
        ApiError: it was refused; among others 409 when the object is gone, or another of that name.
    """
    await client.apply(
        {
            "apiVersion": CONSUMER_KINDS[wanted.kind],
            "kind": wanted.kind,
            "metadata": {"name": wanted.name, "namespace": namespace, "uid": wanted.uid},
            "spec": {"template": {"metadata": {"annotations": {ANNOTATION: wanted.revision}}}},
        },
        manager=ROLLOUT_MANAGER,
    )
    logger.info(
        "restarting %s %s/%s for revision %s",
        wanted.kind,
        namespace,
        wanted.name,
        wanted.revision,
    )


def _selector(kind: str, read: Workload, *, all_of_them: bool) -> str | None:
    obj = holder(kind, read)
    if obj is None:
        return None
    spec = obj.get("spec") or {}
    template = (spec.get("template") or {}).get("metadata") or {}
    if ANNOTATION in (template.get("annotations") or {}) and not all_of_them:
        return None
    return selector_text(spec.get("selector"))
