"""A `kind` cluster that somebody has made: for machines on which there can be no node of our own."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import time
from pathlib import Path

from examples.demo.processes import Child
from hack import tools
from hack.e2e.cluster import PORT, Cluster, ClusterError, Pod
from hack.e2e.environment import SPACE, SYSTEM, Environment, Say
from hack.e2e.images import TARGETS, Image
from tests.support.postgres import PostgresServer, free_port

POSTGRES = "docker.io/library/postgres:18"
FORWARD_SECONDS = 30


def configured() -> str | None:
    """The cluster to use: `E2E_KIND`, or the only one there is; None without kind, docker or cluster."""
    if not (shutil.which("kind") and shutil.which("docker")):
        return None
    shown = subprocess.run(["kind", "get", "clusters"], capture_output=True, text=True, check=False)  # noqa: S607
    names = shown.stdout.split() if shown.returncode == 0 else []
    wanted = os.environ.get("E2E_KIND")
    if wanted:
        return wanted if wanted in names else None
    return names[0] if len(names) == 1 else None


class Published(PostgresServer):
    """A Postgres in a container of kind's network, published on this machine's loopback."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.host, self.port = "127.0.0.1", free_port()
        self.password = "e2e"  # noqa: S105 - of a database that lasts as long as this run


class Kind(Environment):
    """Its nodes run as containers; pods are reached by port-forward."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self._name = name
        self.node = f"{name}-control-plane"
        self._container = f"{self.root.name}-postgres"
        self._forwards: dict[str, tuple[Child, int]] = {}

    def images(self, say: Say) -> dict[str, Image]:
        """By docker, which keeps its own layers."""
        made = {}
        for target, name in TARGETS.items():
            say(f"building {name}")
            full = f"localhost/{name}:e2e"
            self._run("docker", "build", "--target", target, "--tag", full, str(tools.ROOT))
            made[target] = Image(full, None, built=True)
        return made

    def start(self, images: dict[str, Image], say: Say) -> None:
        """The images into the nodes; Postgres beside them."""
        for image in images.values():
            self._run("kind", "load", "docker-image", image.name, "--name", self._name)
        say("the images are loaded")
        kubeconfig = self.root / "kubeconfig"
        kubeconfig.touch(mode=0o600)
        kubeconfig.write_text(self._run("kind", "get", "kubeconfig", "--name", self._name))
        found = tools.find(["kubectl", "helm"])
        self.cluster = Cluster(kubeconfig, found, self.root, lambda: None)
        self.cluster.kubectl("config", "set-context", "--current", f"--namespace={SPACE}")
        server = self.postgres = Published(self._container)
        self._run(
            "docker", "run", "--detach", "--rm", "--name", self._container, "--network", "kind",
            "--publish", f"127.0.0.1:{server.port}:5432",
            "--env", f"POSTGRES_PASSWORD={server.password}", POSTGRES,
        )  # fmt: skip
        where = '{{(index .NetworkSettings.Networks "kind").IPAddress}}'
        host = self._run("docker", "inspect", "--format", where, self._container).strip()
        self.address = host, 5432
        self._await_postgres()
        self.fill()

    def settings(self) -> list[str]:
        """Nothing: a kind cluster has all that a cluster has."""
        return []

    def url(self, pod: Pod) -> str:
        """By a port-forward, which lasts as long as the pod."""
        if pod.uid not in self._forwards:
            port = free_port()
            child = Child(
                "port-forward",
                [
                    self.cluster.tools["kubectl"],
                    "port-forward",
                    f"pod/{pod.name}",
                    f"{port}:{PORT}",
                ],
                self.logs / f"forward-{pod.name}.log",
                self.cluster.environment,
            )
            self._forwards[pod.uid] = child, port
            self.cluster.until(
                f"{pod.name} is forwarded", lambda: "Forwarding" in child.output(), FORWARD_SECONDS
            )
        return f"http://127.0.0.1:{self._forwards[pod.uid][1]}"

    def dead(self) -> list[str]:
        """The nodes are somebody else's to look after."""
        return []

    def end(self) -> list[str]:
        """The cluster stays, without what was put into it."""
        deadline = time.monotonic() + 5
        for child, _ in self._forwards.values():
            child.ask()
            child.end(deadline)
        left = []
        if hasattr(self, "cluster"):
            left = self._clear_cluster()
        with contextlib.suppress(ClusterError):
            self._run("docker", "rm", "--force", self._container)
        return left + self.place.clear()

    def _clear_cluster(self) -> list[str]:
        """After a run that was cut short; after one that was not, there is nothing."""
        crds = ("storagebackends.stackstore.dev", "storebindings.stackstore.dev")
        steps = (
            ("uncordon", self.node),
            ("delete", "namespace", SPACE, "--ignore-not-found", "--timeout=60s"),
            ("delete", "crd", *crds, "--ignore-not-found", "--timeout=60s"),
            ("delete", "namespace", SYSTEM, "--ignore-not-found", "--timeout=60s"),
        )
        left = []
        for step in steps:
            try:
                self.cluster.kubectl(*step)
            except ClusterError as error:
                left.append(str(error))
        return left

    def _await_postgres(self) -> None:
        def answers() -> bool:
            try:
                self.postgres.execute("SELECT 1")
            except Exception:  # noqa: BLE001 - whatever it is, it is asked again
                return False
            return True

        self.cluster.until("Postgres answers", answers)

    def _run(self, *command: str) -> str:
        with Path(self.logs / "kind.log").open("ab") as log:
            done = subprocess.run(command, check=False, stdout=subprocess.PIPE, stderr=log)
        if done.returncode:
            tail = (self.logs / "kind.log").read_text(errors="replace")[-2000:]
            raise ClusterError(f"{' '.join(command[:4])} … failed:\n{tail}")
        return done.stdout.decode()
