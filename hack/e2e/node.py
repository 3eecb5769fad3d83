"""One real node: etcd, the control plane, containerd and kubelet, all on loopback.

Nothing of it is a service of the machine's, and everything it writes is in one directory.
"""

from __future__ import annotations

import contextlib
import os
import resource
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import yaml

from examples.demo.processes import Child
from hack.e2e import cniplugin, parts
from hack.e2e.cgroups import Cgroup
from hack.e2e.identities import NODE, Identities
from tests.support.postgres import free_port

READY_SECONDS = 120
PODS_SECONDS = 60
HERE = Path(__file__).resolve().parent


class NodeError(Exception):
    """The node does not do what it should; the text says what was seen."""


class Node:
    """`start()` it, `load()` images into it, `stop()` it.

    Args:
        root: a directory for everything, with a short path: sockets' paths end at 107 bytes.
        tools: where etcd, kube-apiserver, … and kubectl are.
        outward: ports of the machine's loopback that pods reach at their own 127.0.0.1, besides the
            API server's.
        inward: ports of pods that are reached at their addresses.
        pause: the image that holds a pod's namespaces; it has to be loaded.
        namespace: the administrator's own, where nothing else is said.
    """

    def __init__(
        self,
        root: Path,
        tools: Mapping[str, Path],
        outward: Sequence[int],
        inward: Sequence[int],
        *,
        pause: str,
        namespace: str,
    ) -> None:
        self.root = root
        self.api_port = free_port()
        self.children: dict[str, Child] = {}
        self._tools = tools
        self._outward = outward
        self._inward = inward
        self._pause = pause
        self.cgroup = Cgroup(root.name)
        self.logs = root / "logs"
        self.logs.mkdir(exist_ok=True)
        self._containerd = root / "containerd"
        self._socket = self._containerd / "containerd.sock"
        self.identities = Identities(root / "identities", self.api_port, namespace)

    @property
    def kubeconfig(self) -> Path:
        """The administrator's."""
        return self.identities.directory / "admin.kubeconfig"

    # -- starting

    def start_control_plane(self) -> None:
        """Etcd and kube-apiserver, then the controllers and the scheduler."""
        etcd, path = f"http://127.0.0.1:{free_port()}", self.identities.path
        self._child("etcd", [
            self._tools["etcd"], "--data-dir", self.root / "etcd", "--listen-client-urls", etcd,
            "--advertise-client-urls", etcd, "--listen-peer-urls", "http://127.0.0.1:0",
            "--unsafe-no-fsync", "--log-level=warn",
        ])  # fmt: skip
        self._child("kube-apiserver", [
            self._tools["kube-apiserver"], f"--etcd-servers={etcd}", "--bind-address=127.0.0.1",
            "--advertise-address=127.0.0.1", f"--secure-port={self.api_port}",
            "--endpoint-reconciler-type=none", "--service-cluster-ip-range=10.96.0.0/24",
            "--authorization-mode=Node,RBAC", "--enable-admission-plugins=NodeRestriction",
            f"--tls-cert-file={path('apiserver.pem')}",
            f"--tls-private-key-file={path('apiserver.pem')}",
            f"--token-auth-file={path('tokens.csv')}",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={path('sa.pub')}",
            f"--service-account-signing-key-file={path('sa.key')}",
            f"--kubelet-client-certificate={path('client.pem')}",
            f"--kubelet-client-key={path('client.pem')}",
            f"--kubelet-certificate-authority={path('ca.crt')}",
            "--kubelet-preferred-address-types=InternalIP",
        ])  # fmt: skip
        self.wait("kube-apiserver is ready", lambda: self._kubectl("get", "--raw=/readyz") == "ok")
        self._child("kube-controller-manager", [
            self._tools["kube-controller-manager"],
            f"--kubeconfig={path('kube-controller-manager.kubeconfig')}", "--leader-elect=false",
            "--bind-address=127.0.0.1", f"--secure-port={free_port()}",
            "--use-service-account-credentials=true",
            f"--service-account-private-key-file={path('sa.key')}",
            f"--root-ca-file={path('ca.crt')}",
        ])  # fmt: skip
        self._child("kube-scheduler", [
            self._tools["kube-scheduler"], f"--kubeconfig={path('kube-scheduler.kubeconfig')}",
            "--leader-elect=false", "--bind-address=127.0.0.1", f"--secure-port={free_port()}",
        ])  # fmt: skip

    def start_containerd(self) -> None:
        """Containerd with a state of its own, and the pods' network."""
        plugins = self.root / "cni"
        plugins.mkdir()
        self._child("podnet", [
            sys.executable, "-m", "hack.e2e.podnet", plugins,
            "--outward", str(self.api_port), *map(str, self._outward),
            "--inward", *map(str, self._inward),
        ])  # fmt: skip
        plugin = plugins / cniplugin.NAME
        source = (HERE / "cniplugin.py").read_text()
        plugin.write_text(f"#!{sys.executable} -SE\n{source}")
        plugin.chmod(0o755)
        (plugins / "loopback").symlink_to(parts.LOOPBACK_PLUGIN)
        (plugins / "10-podnet.conflist").write_text(
            '{"cniVersion": "0.4.0", "name": "podnet", "plugins": [{"type": "podnet"}]}'
        )
        self._containerd.mkdir()
        configuration = (HERE / "containerd.toml").read_text()
        for name, value in {
            "STATE": self._containerd, "PAUSE": self._pause, "PLUGINS": plugins,
            "RUNC": parts.program("runc"),
        }.items():  # fmt: skip
            configuration = configuration.replace(f"@{name}@", str(value))
        (self._containerd / "config.toml").write_text(configuration)
        self._child("containerd", [
            parts.program("containerd"), "--config", self._containerd / "config.toml",
        ])  # fmt: skip
        self.wait("containerd answers", lambda: bool(self._ctr("version")))
        self.wait("podnet answers", (plugins / cniplugin.SOCKET_NAME).exists)

    def load(self, archive: Path | None) -> None:
        """Import an image, as `docker load` would."""
        self._ctr("images", "import", str(archive))

    def start_kubelet(self) -> None:
        """kubelet, and wait until the node is Ready. Its sync period is its own default."""
        self.cgroup.make()
        resolver = self.root / "resolv.conf"
        resolver.write_text("nameserver 127.0.0.1\n")
        health = free_port()
        configuration = {
            **yaml.safe_load((HERE / "kubelet.yaml").read_text()),
            "port": free_port(),
            "healthzPort": health,
            "tlsCertFile": self.identities.path("kubelet.pem"),
            "tlsPrivateKeyFile": self.identities.path("kubelet.pem"),
            "containerRuntimeEndpoint": f"unix://{self._socket}",
            "cgroupRoot": self.cgroup.path,
            "resolvConf": str(resolver),
            "podLogsDir": str(self.root / "podlogs"),
            "volumePluginDir": str(self.root / "volumeplugins"),
            # Raising it needs a right that containers' roots often lack.
            "maxOpenFiles": resource.getrlimit(resource.RLIMIT_NOFILE)[1],
        }
        configuration["authentication"]["x509"]["clientCAFile"] = self.identities.path("ca.crt")
        file = self.root / "kubelet.yaml"
        file.write_text(yaml.safe_dump(configuration))
        self._child("kubelet", [
            self._tools["kubelet"], f"--config={file}",
            f"--kubeconfig={self.identities.path('kubelet.kubeconfig')}",
            f"--hostname-override={NODE}", f"--root-dir={self.root / 'kubelet'}",
            f"--cert-dir={self.root / 'kubelet-pki'}", "--v=2",
        ])  # fmt: skip
        self.wait("kubelet is healthy", lambda: _answers(f"http://127.0.0.1:{health}/healthz"))
        ready = "jsonpath={.status.conditions[?(@.type=='Ready')].status}"
        self.wait(
            "the node is Ready", lambda: self._kubectl("get", "node", NODE, "-o", ready) == "True"
        )
        self.wait(
            "the namespace has its service account",
            lambda: bool(
                self._kubectl("get", "serviceaccount", "default", "-n", "default", "-o", "name")
            ),
        )

    # -- using

    def dead(self) -> list[str]:
        """Processes that should run and don't."""
        return [
            f"{name} ended with {child.returncode}:\n{child.output()[-2000:]}"
            for name, child in self.children.items()
            if child.returncode is not None
        ]

    def wait(self, what: str, holds: Callable[[], bool], seconds: float = READY_SECONDS) -> None:
        """Until it holds.

        Raises:
            NodeError: not in time, or a process of the node's ended.
        """
        deadline = time.monotonic() + seconds
        while not holds():
            if dead := self.dead():
                raise NodeError(f"waiting until {what}: {dead[0]}")
            if time.monotonic() > deadline:
                raise NodeError(f"not after {seconds:g} s: {what}; see {self.logs}")
            time.sleep(0.2)

    # -- ending

    def stop(self) -> None:
        """End pods and processes; what is left is `leavings.sweep()`'s."""
        for name in ("kube-controller-manager", "kube-scheduler"):
            self._end(name)  # first, so that nothing makes the pods anew
        if "kubelet" in self.children and not self.dead():
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._kubectl(
                    "delete", "pods", "--all", "-A", "--grace-period=2",
                    f"--timeout={PODS_SECONDS}s", timeout=PODS_SECONDS + 10,
                )  # fmt: skip
        for name in ("kubelet", "containerd", "podnet", "kube-apiserver", "etcd"):
            self._end(name)

    def _end(self, name: str) -> None:
        child = self.children.pop(name, None)
        if child is not None:
            child.ask()
            # Watches would keep the API server for a minute.
            child.end(time.monotonic() + (3 if name == "kube-apiserver" else 10))

    def _child(self, name: str, command: Sequence[str | Path]) -> None:
        environment = {key: value for key, value in os.environ.items() if key != "KUBECONFIG"}
        environment["PATH"] = parts.PATH
        self.children[name] = Child(name, command, self.logs / f"{name}.log", environment)

    def _kubectl(self, *arguments: str, timeout: float = 30) -> str:
        """What it printed; nothing when it failed."""
        done = subprocess.run(
            [self._tools["kubectl"], f"--kubeconfig={self.kubeconfig}", *arguments],
            capture_output=True, text=True, check=False, timeout=timeout,
        )  # fmt: skip
        return done.stdout if done.returncode == 0 else ""

    def _ctr(self, *arguments: str) -> str:
        command = [parts.program("ctr"), "-a", str(self._socket), "-n", "k8s.io", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
        if done.returncode and arguments[0] != "version":
            raise NodeError(f"ctr {' '.join(arguments)}: {done.stderr}")
        return done.stdout if done.returncode == 0 else ""


def _answers(url: str) -> bool:
    with (
        contextlib.suppress(urllib.error.URLError, OSError),
        urllib.request.urlopen(url, timeout=2),  # noqa: S310
    ):
        return True
    return False
