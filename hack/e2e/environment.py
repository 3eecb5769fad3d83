"""Everything of a run: the directory, the node, Postgres, the loads; and how it all ends."""

from __future__ import annotations

import asyncio
import ctypes
import os
import secrets
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

from examples.demo.processes import Footprint
from hack import tools
from hack.e2e.cluster import PORT, Cluster, ClusterError
from hack.e2e.images import Image
from hack.e2e.leavings import Place
from hack.e2e.node import Node, NodeError
from hack.e2e.traffic import Traffic
from tests.support.postgres import PostgresServer

LOGS = tools.ROOT / ".e2e"
OPERATOR_PORTS = [8080, 8081, 9090]
"""Where an operator's pod may be asked for its health and its numbers."""

_PR_SET_CHILD_SUBREAPER = 36
_SHOWN = {
    "objects.txt": ("get", "all,sbe,sbn,pdb,lease,crd", "--all-namespaces", "--output=wide"),
    "stackstore.yaml": ("get", "sbe,sbn", "--all-namespaces", "--output=yaml"),
    "events.txt": ("get", "events", "--all-namespaces", "--sort-by=.lastTimestamp"),
    "pods.txt": ("describe", "pods", "--all-namespaces"),
    "operator.log": (
        "logs", "--namespace=stackstore-system", "--selector=app.kubernetes.io/name=stackstore",
        "--all-containers", "--prefix", "--tail=2000",
    ),
    "stack.log": ("logs", "--selector=app=chat", "--all-containers", "--prefix", "--tail=2000"),
}  # fmt: skip
"""What is kept of a run that failed; Secrets are not among it."""


class Environment:
    """Made in the order of its methods; `stop()` ends what there is, and may be called at any time."""

    user = "app"
    database = "stack"

    postgres: PostgresServer
    node: Node
    cluster: Cluster

    def __init__(self) -> None:
        # containerd's shims leave their parents; so they are found among this process's descendants.
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        # With a stricter one, non-root users of images find no programs in them.
        os.umask(0o022)
        self.place = Place()
        self.root = self.place.root
        self.logs = self.root / "logs"
        self.logs.mkdir()
        self.password = secrets.token_hex(16)
        self.traffic = Traffic(self.logs)
        self._before = dict(os.environ)
        os.environ["TMPDIR"] = tempfile.tempdir = str(self.root)

    # -- starting

    def start_postgres(self) -> None:
        """On loopback, with the role and the database of the quickstart."""
        self.postgres = PostgresServer.start()

        async def fill() -> None:
            await self.postgres.create_role(self.user, self.password)
            await self.postgres.create_database(self.database, self.user)

        asyncio.run(fill())

    def start_node(self, images: dict[str, Image], say: Callable[[str], None]) -> None:
        """The node, with the images loaded, until it is Ready; `say` is told how far it is."""
        found = tools.find(list(tools.PACKAGES))
        self.node = Node(
            self.root, found, outward=[self.postgres.port], inward=[PORT, *OPERATOR_PORTS],
            pause=images["base"].name,
        )  # fmt: skip
        self.node.start_control_plane()
        say("the control plane is up")
        self.node.start_containerd()
        for image in images.values():
            self.node.load(image.archive)
        say("the images are loaded")
        self.node.start_kubelet()
        self.cluster = Cluster(self.node.kubeconfig, found, self.root, self.alive)

    def alive(self) -> None:
        """Raise NodeError when a process of the node's has ended."""
        if dead := self.node.dead():
            raise NodeError(dead[0])

    # -- ending

    def keep_logs(self) -> Path:
        """Copy what tells why it failed to where it stays; returns where that is."""
        shutil.rmtree(LOGS, ignore_errors=True)
        shutil.copytree(self.logs, LOGS)
        if hasattr(self, "cluster"):
            for file, arguments in _SHOWN.items():
                try:
                    text = self.cluster.kubectl(*arguments)
                except (ClusterError, subprocess.SubprocessError, OSError) as error:
                    text = str(error)
                (LOGS / file).write_text(text)
        return LOGS

    def stop(self) -> list[str]:
        """End every process, take every trace away; returns what is left, which should be nothing."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        footprint = Footprint.of_descendants()
        self.traffic.stop()
        if hasattr(self, "node"):
            self.node.stop()
        if hasattr(self, "postgres"):
            self.postgres.stop("fast")
        left = self.place.clear()
        _reap()
        tempfile.tempdir = None
        os.environ.clear()
        os.environ.update(self._before)
        return left + footprint.left()


def _reap() -> None:
    """Ask those that became this process's children how they ended, or they stay as zombies."""
    while True:
        try:
            pid, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
