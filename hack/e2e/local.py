"""A node of this machine's own, and a Postgres beside it."""

from __future__ import annotations

import ctypes
import os

from examples.demo.processes import Footprint
from hack import tools
from hack.e2e.cluster import PORT, Cluster, Pod
from hack.e2e.environment import SPACE, Environment, Say
from hack.e2e.identities import NODE
from hack.e2e.images import Image, Images
from hack.e2e.node import Node, NodeError
from tests.support.postgres import PostgresServer

OPERATOR_PORTS = [8080]
"""Where an operator is asked for its health and its numbers: the chart's `ports.telemetry`."""

_PR_SET_CHILD_SUBREAPER = 36


class Local(Environment):
    """Everything on loopback."""

    node = NODE

    def __init__(self) -> None:
        # containerd's shims leave their parents; so they are found among this process's descendants.
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        # With a stricter one, non-root users of images find no programs in them.
        os.umask(0o022)
        super().__init__()
        self._node: Node | None = None

    def images(self, say: Say) -> dict[str, Image]:
        """By debootstrap and buildah."""
        return Images(self.logs / "images.log", say).make()

    def start(self, images: dict[str, Image], say: Say) -> None:
        """Postgres, the control plane, containerd, kubelet."""
        self.postgres = PostgresServer.start()
        self.address = self.postgres.host, self.postgres.port
        self.fill()
        found = tools.find(list(tools.PACKAGES))
        node = self._node = Node(
            self.root, found, outward=[self.postgres.port], inward=[PORT, *OPERATOR_PORTS],
            pause=images["base"].name, namespace=SPACE,
        )  # fmt: skip
        node.start_control_plane()
        say("the control plane is up")
        node.start_containerd()
        for image in images.values():
            node.load(image.archive)
        say("the images are loaded")
        node.start_kubelet()
        self.cluster = Cluster(node.kubeconfig, found, self.root, self._alive)

    def settings(self) -> list[str]:
        """There are no Services here; a pod's loopback leads to the API server."""
        assert self._node is not None  # noqa: S101 - after start()
        return [
            "--set=image.pullPolicy=Never",
            "--set=extraEnv[0].name=KUBERNETES_SERVICE_HOST,extraEnv[0].value=127.0.0.1",
            "--set=extraEnv[1].name=KUBERNETES_SERVICE_PORT",
            f"--set-string=extraEnv[1].value={self._node.api_port}",
        ]

    def url(self, pod: Pod) -> str:
        """The pod's address leads there."""
        return f"http://{pod.address}:{PORT}"

    def dead(self) -> list[str]:
        """Of the node's processes."""
        return [] if self._node is None else self._node.dead()

    def _alive(self) -> None:
        if dead := self.dead():
            raise NodeError(dead[0])

    def end(self) -> list[str]:
        """The node, Postgres, and whatever is still there."""
        footprint = Footprint.of_descendants()
        if self._node is not None:
            self._node.stop()
        if hasattr(self, "postgres"):
            self.postgres.stop("fast")
        left = self.place.clear()
        _reap()
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
