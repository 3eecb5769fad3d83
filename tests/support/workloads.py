"""Workloads in an API server without their controllers, and who plays those."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime
from typing import Any

from tests.support.operator import Api

ANNOTATION = "stackstore.dev/revision"


def workload(kind: str, name: str, replicas: int = 2, **spec: Any) -> dict[str, Any]:
    """A workload of one container."""
    labels = {"app": name}
    template = {
        "metadata": {"labels": labels},
        "spec": {"containers": [{"name": "server", "image": "none.invalid/none"}]},
    }
    if kind != "DaemonSet":
        spec = {"replicas": replicas, **spec}
    if kind == "StatefulSet":
        spec = {"serviceName": name, **spec}
    return {
        "apiVersion": "apps/v1", "kind": kind, "metadata": {"name": name},
        "spec": {"selector": {"matchLabels": labels}, "template": template, **spec},
    }  # fmt: skip


def revision(api: Api, kind: str, name: str) -> str | None:
    """What its pod template says it was restarted for."""
    obj = api.get(kind, name)
    assert obj
    found = obj["spec"]["template"]["metadata"].get("annotations") or {}
    return found.get(ANNOTATION)


def settle(api: Api, kind: str, name: str, updated: int | None = None, **more: Any) -> None:
    """As its controller leaves it when `updated` pods (all by default) are of the newest template."""
    obj = api.get(kind, name)
    assert obj
    wanted = 2 if kind == "DaemonSet" else obj["spec"]["replicas"]
    new = wanted if updated is None else updated
    seen = obj["metadata"]["generation"]
    if kind == "DaemonSet":
        status = {
            "observedGeneration": seen, "desiredNumberScheduled": wanted, "numberReady": wanted,
            "currentNumberScheduled": wanted, "numberMisscheduled": 0, "numberAvailable": wanted,
            "updatedNumberScheduled": new,
        }  # fmt: skip
    else:
        status = {"observedGeneration": seen, "replicas": wanted, "readyReplicas": wanted,
                  "availableReplicas": wanted, "updatedReplicas": new}  # fmt: skip
    api.merge(kind, name, {"status": status | more}, "status")


def run_pod(api: Api, app: str, started: float, suffix: str = "0") -> None:
    """A pod of a workload, or the same one again, whose container has started at that time."""
    name = f"{app}-{suffix}"
    if api.get("Pod", name) is None:
        api.apply(
            {
                "apiVersion": "v1", "kind": "Pod",
                "metadata": {"name": name, "labels": {"app": app}},
                "spec": {"containers": [{"name": "server", "image": "none.invalid/none"}]},
            }
        )  # fmt: skip
    stamp = datetime.fromtimestamp(started, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    container = {
        "name": "server", "image": "x", "imageID": "", "ready": True, "restartCount": 0,
        "state": {"running": {"startedAt": stamp}},
    }  # fmt: skip
    api.merge("Pod", name, {"status": {"phase": "Running", "containerStatuses": [container]}},
              "status")  # fmt: skip


class Controllers:
    """Plays the controllers of some workloads: each new template is everywhere after a while.

    Attributes:
        seen: (seconds, kind/name, revision), as new templates were seen, and "done" when complete.
    """

    def __init__(self, api: Api, *names: tuple[str, str], seconds: float = 0.1) -> None:
        self.seen: list[tuple[float, str, str | None]] = []
        self._api = Api(api.plane, api.namespace)
        self._names = names
        self._seconds = seconds
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        observed: dict[tuple[str, str], int] = {}
        while not self._stop.wait(0.05):
            for kind, name in self._names:
                obj = self._api.get(kind, name)
                if obj is None or observed.get((kind, name)) == obj["metadata"]["generation"]:
                    continue
                found = revision(self._api, kind, name)
                self.seen.append((time.monotonic(), f"{kind}/{name}", found))
                if self._stop.wait(self._seconds):
                    return
                observed[kind, name] = obj["metadata"]["generation"]
                self.seen.append((time.monotonic(), f"{kind}/{name}", "done"))
                settle(self._api, kind, name)

    def __enter__(self) -> Controllers:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(10)
        self._api.close()
