"""What a run stands on: a cluster, a Postgres, the loads. Where they come from differs."""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import signal
import subprocess
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path

from hack.e2e.cluster import Cluster, ClusterError, Pod
from hack.e2e.images import Image
from hack.e2e.leavings import Place
from hack.e2e.traffic import Traffic
from hack.tools import ROOT
from tests.support.postgres import PostgresServer

LOGS = ROOT / ".e2e"
SYSTEM = "stackstore-system"
SPACE = "stackstore-e2e"
"""The namespace of the stack; kubectl's own in these kubeconfigs."""

Say = Callable[[str], None]

_SHOWN = {
    "objects.txt": ("get", "all,sbe,sbn,pdb,lease,crd", "--all-namespaces", "--output=wide"),
    "stackstore.yaml": ("get", "sbe,sbn", "--all-namespaces", "--output=yaml"),
    "events.txt": ("get", "events", "--all-namespaces", "--sort-by=.lastTimestamp"),
    "pods.txt": ("describe", "pods", "--all-namespaces"),
    "operator.log": (
        "logs", f"--namespace={SYSTEM}", "--selector=app.kubernetes.io/name=stackstore",
        "--all-containers", "--prefix", "--tail=2000",
    ),
    "stack.log": ("logs", "--selector=app=chat", "--all-containers", "--prefix", "--tail=2000"),
}  # fmt: skip
"""What is kept of a run that failed; Secrets are not among it."""


class Environment(ABC):
    """`start()` makes it, `stop()` ends what there is and may be called at any time.

    Attributes:
        root: a directory for everything, gone in the end.
        password: that the role `user` is made with.
        cluster, postgres: there from `start()` on.
        address: host and port of Postgres, for pods.
        node: the name of the one that is drained.
    """

    user = "app"
    database = "stack"

    cluster: Cluster
    postgres: PostgresServer
    address: tuple[str, int]
    node: str

    def __init__(self) -> None:
        self.place = Place()
        self.root = self.place.root
        self.logs = self.root / "logs"
        self.logs.mkdir()
        self.password = secrets.token_hex(16)
        self.traffic = Traffic(self.logs)
        self._before = dict(os.environ)
        os.environ["TMPDIR"] = tempfile.tempdir = str(self.root)

    @abstractmethod
    def images(self, say: Say) -> dict[str, Image]:
        """`operator` and `stack-example`, built where something has changed."""

    @abstractmethod
    def start(self, images: dict[str, Image], say: Say) -> None:
        """The cluster, with the images loaded, and Postgres; `say` is told how far it is."""

    @abstractmethod
    def settings(self) -> list[str]:
        """What the chart has to be told here, as options of helm."""

    @abstractmethod
    def url(self, pod: Pod) -> str:
        """Where the stack's server in a pod answers."""

    @abstractmethod
    def dead(self) -> list[str]:
        """Parts of the cluster that should run and don't."""

    @abstractmethod
    def end(self) -> list[str]:
        """End what `start()` made; returns what is left, in words."""

    def fill(self) -> None:
        """Postgres: the role and the database of the quickstart."""

        async def make() -> None:
            await self.postgres.create_role(self.user, self.password)
            await self.postgres.create_database(self.database, self.user)

        asyncio.run(make())

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
        self.traffic.stop()
        left = self.end()
        tempfile.tempdir = None
        os.environ.clear()
        os.environ.update(self._before)
        return left
