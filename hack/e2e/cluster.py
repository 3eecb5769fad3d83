"""The cluster as a person uses it: kubectl, helm, and what they show."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PORT = 8321
WAIT_SECONDS = 90.0


class ClusterError(Exception):
    """A command failed, or a state did not come; the text says which and what was seen."""


@dataclass(frozen=True, slots=True)
class Pod:
    """What matters of a pod."""

    name: str
    uid: str
    address: str
    ready: bool
    restarts: int
    ending: bool


class Cluster:
    """Commands as the administrator.

    Args:
        kubeconfig: of the cluster.
        tools: where kubectl and helm are.
        home: a directory for what the two keep.
        alive: raises when a part of the cluster has ended.
    """

    def __init__(
        self, kubeconfig: Path, tools: Mapping[str, Path], home: Path, alive: Callable[[], None]
    ) -> None:
        self.environment = {
            **os.environ,
            "KUBECONFIG": str(kubeconfig),
            "KUBECACHEDIR": str(home / "kubectl"),
            "HELM_CACHE_HOME": str(home / "helm" / "cache"),
            "HELM_CONFIG_HOME": str(home / "helm" / "config"),
            "HELM_DATA_HOME": str(home / "helm" / "data"),
        }
        self.tools = tools
        self._alive = alive

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        """Run it; returns what it printed.

        Raises:
            ClusterError: it failed.
        """
        return self._run("kubectl", *arguments, stdin=stdin)

    def helm(self, *arguments: str) -> str:
        """Likewise."""
        return self._run("helm", *arguments)

    def _run(self, program: str, *arguments: str, stdin: str | None = None) -> str:
        done = subprocess.run(
            [self.tools[program], *arguments], input=stdin, capture_output=True, text=True,
            check=False, env=self.environment,
        )  # fmt: skip
        if done.returncode:
            raise ClusterError(f"{program} {' '.join(arguments)}:\n{done.stdout}{done.stderr}")
        return done.stdout

    def get(self, *arguments: str) -> dict[str, Any]:
        """An object or a list."""
        found: dict[str, Any] = json.loads(self.kubectl("get", *arguments, "--output=json"))
        return found

    def pods(self, selector: str, *where: str) -> list[Pod]:
        """Oldest first, of the stack's namespace or of another that is said."""
        found = self.get("pods", f"--selector={selector}", *where)["items"]
        found.sort(key=lambda pod: pod["metadata"]["creationTimestamp"])
        return [
            Pod(
                name=pod["metadata"]["name"],
                uid=pod["metadata"]["uid"],
                address=pod["status"].get("podIP", ""),
                ready=any(
                    condition["type"] == "Ready" and condition["status"] == "True"
                    for condition in pod["status"].get("conditions", [])
                ),
                restarts=sum(
                    status["restartCount"] for status in pod["status"].get("containerStatuses", [])
                ),
                ending="deletionTimestamp" in pod["metadata"],
            )
            for pod in found
        ]

    def until(self, what: str, holds: Callable[[], object], seconds: float = WAIT_SECONDS) -> float:
        """Wait until it holds; returns how many seconds that took.

        Raises:
            ClusterError: not in time.
        """
        began = time.monotonic()
        while not holds():
            self._alive()
            if time.monotonic() > began + seconds:
                raise ClusterError(f"not after {seconds:g} s: {what}")
            time.sleep(0.2)
        return time.monotonic() - began
