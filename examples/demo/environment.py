"""Everything the demo starts, in one directory of its own, and how it all ends."""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import httpx
import yaml

from examples.demo.processes import END_SECONDS, Child, Footprint
from hack import tools
from tests.support.controlplane import ControlPlane
from tests.support.kubelet import Kubelet, Mount
from tests.support.postgres import PostgresServer, free_port

REPOSITORY = Path(__file__).resolve().parents[2]
RULES = REPOSITORY / "charts" / "stackstore" / "files"
KUBELET_DELAY_SECONDS = 1.0
"""A real kubelet needs up to a minute and a half; that would only make the demo longer."""


class DemoError(Exception):
    """A step did not work; the text says which and what was seen."""


class Environment:
    """etcd, kube-apiserver, Postgres, the operator, the stack and the kubelet's stand-in.

    Made in that order by the `start_…` methods; `stop()` ends what there is, in the opposite order,
    and may be called at any time.
    """

    user = "app"
    database = "stack"

    plane: ControlPlane
    postgres: PostgresServer
    kubelet: Kubelet

    def __init__(self) -> None:
        self.root = Path(tempfile.mkdtemp(prefix="stackstore-demo-"))
        # Postgres may run as another user, who has to pass through.
        self.root.chmod(0o711)
        self.password = secrets.token_hex(16)
        self.kubectl_cache = self.root / "kubectl"
        self.kv_path = self.root / "kv" / "kv.db"
        self.stack_port = free_port()
        self.stack_url = f"http://127.0.0.1:{self.stack_port}"
        self.children: dict[str, Child] = {}
        self.passwords = {self.password}
        self._before = dict(os.environ)
        os.environ["TMPDIR"] = tempfile.tempdir = str(self.root)
        # Or kubectl would leave what it learns of this API server in the user's home.
        os.environ["KUBECACHEDIR"] = str(self.kubectl_cache)

    # -- starting

    def start_plane(self) -> None:
        """The API server and its etcd (about four seconds)."""
        self.plane = ControlPlane.start()

    def start_postgres(self) -> None:
        """Postgres, with the role and the database of the quickstart."""
        self.postgres = PostgresServer.start()

        async def fill() -> None:
            await self.postgres.create_role(self.user, self.password)
            await self.postgres.create_database(self.database, self.user)

        asyncio.run(fill())

    def start_operator(self) -> None:
        """The operator, as a user who may do what the chart's rules say and nothing else."""
        everywhere, own = (
            yaml.safe_load((RULES / file).read_text()) for file in ("rules.yaml", "own-rules.yaml")
        )
        user = self.plane.user(everywhere, namespace="stackstore-system", own_rules=own)
        command: list[str | Path] = [
            Path(sys.executable).with_name("stackstore-operator"),
            "run", "--kubeconfig", self.plane.kubeconfig(user),
        ]  # fmt: skip
        self._child("operator", command)

    def start_kubelet(self) -> None:
        """The stand-in for the kubelet, with the stack's two volumes."""
        volumes = self.root / "volumes"
        volumes.mkdir(mode=0o700)
        self.kubelet = Kubelet(
            self.plane.kubeconfig(),
            "default",
            [
                Mount("ConfigMap", "chat-run-config", volumes / "config"),
                Mount("Secret", "chat-storage", volumes / "storage"),
            ],
            KUBELET_DELAY_SECONDS,
        )
        self.kubelet.start()

    def start_stack(self) -> None:
        """The stack, and wait until its stores answer."""
        command: list[str | Path] = [
            sys.executable, "-m", "examples.stack", "--root", self.root / "volumes",
            "--port", str(self.stack_port),
        ]  # fmt: skip
        child = self._child("stack", command)
        deadline = time.monotonic() + 30
        while True:
            try:
                answer = httpx.get(f"{self.stack_url}/readyz", timeout=5, trust_env=False)
                if answer.status_code == httpx.codes.OK:
                    return
                seen = answer.text
            except httpx.HTTPError as error:
                seen = str(error)
            if child.returncode is not None or time.monotonic() > deadline:
                raise DemoError(f"the stack is not ready: {seen}\n{child.output()[-3000:]}")
            time.sleep(0.05)

    def start_load(self, clients: int, seconds: float) -> Child:
        """The load, as a process of its own."""
        command = [
            sys.executable, "-m", "examples.demo.load", "--url", self.stack_url,
            "--clients", str(clients), "--seconds", str(seconds),
        ]  # fmt: skip
        return self._child("load", command)

    def _child(self, name: str, command: Sequence[str | Path]) -> Child:
        environment = {key: value for key, value in os.environ.items() if key != "KUBECONFIG"}
        child = Child(name, command, self.root / f"{name}.log", environment)
        self.children[name] = child
        return child

    # -- using

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        """Run kubectl as the cluster's administrator; returns what it printed."""
        return self.plane.kubectl(*arguments, stdin=stdin)

    def dead(self) -> list[str]:
        """Processes that should run and don't."""
        return [
            f"{name} ended with {child.returncode}:\n{child.output()[-2000:]}"
            for name, child in self.children.items()
            if name != "load" and child.returncode is not None
        ]

    # -- ending

    def stop(self) -> list[str]:
        """End every process, remove every file; returns what is left, which should be nothing."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        footprint = Footprint.of_descendants()
        for child in self.children.values():
            child.ask()
        deadline = time.monotonic() + END_SECONDS
        for child in self.children.values():
            child.end(deadline)
        if hasattr(self, "kubelet"):
            self.kubelet.stop()
        if hasattr(self, "postgres"):
            self.postgres.stop("fast")
        if hasattr(self, "plane"):
            self.plane.stop()
        shutil.rmtree(self.root, ignore_errors=True)
        tempfile.tempdir = None
        os.environ.clear()
        os.environ.update(self._before)
        return footprint.left() + ([str(self.root)] if self.root.exists() else [])


def build_tools() -> Path:
    """The directory of etcd, kube-apiserver and kubectl, built first where they are missing."""
    return tools.find(["etcd", "kube-apiserver", "kubectl"])["kubectl"].parent
