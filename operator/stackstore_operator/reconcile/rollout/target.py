"""One consumer as a rollout sees it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from stackstore_operator.kube.workloads import MADE_INTO_DEPLOYMENTS, Workload
from stackstore_operator.reconcile.consumers import ConsumerState

ANNOTATION = "stackstore.dev/revision"
"""On a pod template, or on the ConfigMap: what the pods were restarted for last."""

_TAKEN = "configmap.hash/user-config"
"""Where the operator of the custom kinds notes the ConfigMap that it has rolled out."""

Lever = Literal["Template", "ConfigMap"]


@dataclass(frozen=True, slots=True)
class Target:
    """A workload that is there.

    Attributes:
        state: what is known of it.
        lever: what restarts its pods: an annotation of a pod template, or, with servers of another
            operator that read our ConfigMap whole, any write to that.
        kind: of the object that holds the pod template.
        uid: of that object; empty while another operator has not made it.
        revision: what its pod template says they were restarted for; None: we never did.
        config: whether its pods read our ConfigMap at start without another operator in between.
        partition: pods that its update strategy keeps as they are.
        overdue: its own controller has given up waiting.
        started: epoch seconds at which its oldest running container started; None: none runs, or
            nobody has looked.
        taken: with the lever ConfigMap, which version of it was rolled out; None: it doesn't say.
    """

    state: ConsumerState
    lever: Lever = "Template"
    kind: str = "Deployment"
    uid: str = ""
    revision: str | None = None
    config: bool = True
    partition: int = 0
    overdue: bool = False
    started: int | None = None
    taken: str | None = None

    def __str__(self) -> str:
        return str(self.state)

    def is_settled(self, config_version: str = "") -> bool:
        """Whether the pods are as the template says, as far as its own settings let them be.

        Args:
            config_version: the name and version of our ConfigMap, as the other operator notes it.
        """
        progress = self.state.progress
        if self.lever == "ConfigMap" and self.taken not in (None, config_version):
            return False
        if self.state.paused or self.state.strategy == "OnDelete":
            return progress.observed >= progress.generation
        held = min(self.partition, progress.wanted)
        if held:
            return (
                progress.observed >= progress.generation
                and progress.updated >= progress.wanted - held
                and progress.available == progress.pods == progress.wanted
            )
        return progress.complete

    @property
    def is_overdue(self) -> bool:
        """Whether its controller has given up on the template it has now."""
        progress = self.state.progress
        return self.overdue and progress.observed >= progress.generation

    def kept_back(self) -> str:
        """Which of its own settings keeps pods of an earlier template, in words; else nothing."""
        progress = self.state.progress
        if progress.complete:
            return ""
        old = max(0, progress.pods - progress.updated)
        if self.state.paused:
            return f"{self} is paused: its pods restart when it is resumed"
        if self.state.strategy == "OnDelete":
            return (
                f"{self} has the update strategy OnDelete: {old} of its pods restart when deleted"
            )
        if self.partition:
            return f"{self} has `partition: {self.partition}`: {old} of its pods stay as they are"
        return ""

    def told(self) -> str:
        """How far it is, in words."""
        progress = self.state.progress
        if not self.uid:
            return f"there is no Deployment of {self} yet"
        return (
            f"{self}: {progress.updated} of {progress.wanted} pods updated, "
            f"{progress.available} available"
        )

    def mark(self) -> str:
        """Changes when it gets on."""
        p = self.state.progress
        return f"{self.uid}/{self.taken}/{p.generation}/{p.observed}/{p.updated}/{p.available}/{p.pods}"


def of(state: ConsumerState, read: Workload, config_map: str, started: int | None) -> Target | None:
    """A target; None when it isn't there, or is being deleted.

    Args:
        state: what was made of it.
        read: what was read of it.
        config_map: the name of the stack's ConfigMap.
        started: when its oldest running container started.
    """
    if read.obj is None or read.obj["metadata"].get("deletionTimestamp"):
        return None
    custom = state.kind in MADE_INTO_DEPLOYMENTS
    target = Target(
        state,
        lever="ConfigMap" if custom and _reads(state.kind, read.obj) == config_map else "Template",
        kind="Deployment" if custom else state.kind,
        # What it is made into restarts for a new run config by itself.
        config=not custom,
        started=started,
    )
    template = holder(state.kind, read)
    if template is None:
        return target
    spec = _map(template, "spec")
    annotations = _map(_map(_map(spec, "template"), "metadata"), "annotations")
    partition = _map(_map(spec, "updateStrategy"), "rollingUpdate").get("partition")
    conditions = _map(template, "status").get("conditions")
    return replace(
        target,
        uid=str(template["metadata"]["uid"]),
        revision=annotations.get(ANNOTATION),
        partition=partition if isinstance(partition, int) else 0,
        overdue=any(
            condition.get("type") == "Progressing"
            and condition.get("reason") == "ProgressDeadlineExceeded"
            for condition in (conditions if isinstance(conditions, list) else [])
        ),
        taken=annotations.get(_TAKEN),
    )


def holder(kind: str, read: Workload) -> Mapping[str, Any] | None:
    """The object that holds the pod template and selects the pods."""
    return read.deployment if kind in MADE_INTO_DEPLOYMENTS else read.obj


def _reads(kind: str, obj: Mapping[str, Any]) -> str | None:
    """The name of the ConfigMap that an object of a custom kind mounts whole."""
    spec = _map(obj, "spec")
    if kind == "OGXServer":
        return _map(spec, "overrideConfig").get("name")
    return _map(_map(spec, "server"), "userConfig").get("configMapName")


def _map(node: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found = node.get(key)
    return found if isinstance(found, Mapping) else {}
