"""What the machine must have for a node of its own, and what it lacks."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

PATH = os.environ.get("PATH", "") + ":/usr/local/sbin:/usr/sbin:/sbin"

PACKAGES = {
    "containerd": "containerd",
    "containerd-shim-runc-v2": "containerd",
    "ctr": "containerd",
    "runc": "runc",
    "buildah": "buildah",
    "debootstrap": "debootstrap",
    "mount": "mount",
}
"""Programs, and the package of Debian that has each."""

_CAP_SYS_ADMIN = 21

LOOPBACK_PLUGIN = Path("/usr/lib/cni/loopback")
"""Of the package containernetworking-plugins: it brings up `lo` in a pod."""


def program(name: str) -> str:
    """Where it is; the name itself when it is nowhere."""
    return shutil.which(name, path=PATH) or name


def missing() -> list[str]:
    """Why there can be no node here, a sentence each; nothing: there can be one."""
    if sys.platform != "linux":
        return [f"a node needs Linux, and this is {sys.platform}"]
    found = []
    if os.geteuid() != 0:
        found.append("a node needs root: it mounts, and makes cgroups")
    elif not may_mount(Path("/proc/self/status").read_text()):
        found.append("a node mounts, and this root may not (CAP_SYS_ADMIN is missing)")
    if "overlay" not in Path("/proc/filesystems").read_text():
        found.append(
            "the kernel has no overlay file system, or has not loaded it: modprobe overlay"
        )
    packages = {package for name, package in PACKAGES.items() if not shutil.which(name, path=PATH)}
    if not LOOPBACK_PLUGIN.exists():
        packages.add("containernetworking-plugins")
    if packages:
        found.append(
            "these of Debian's packages are missing: apt-get install --no-install-recommends "
            + " ".join(sorted(packages))
        )
    return found


def may_mount(status: str) -> bool:
    """Whether a process may, by its /proc/<pid>/status."""
    (line,) = [line for line in status.splitlines() if line.startswith("CapEff:")]
    return bool(int(line.split()[1], 16) >> _CAP_SYS_ADMIN & 1)
