"""A stand-in for the kubelet: it lays Secret and ConfigMap volumes out as the kubelet does.

It is not the kubelet. It does the one thing that a stack sees of it: a timestamped directory, a
`..data` link renamed over, and a link for each key; and, like the kubelet, it comes late.
"""

from __future__ import annotations

import base64
import datetime
import os
import secrets
import shutil
import ssl
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import httpx
import yaml

POLL_SECONDS = 0.2


class VolumeDirectory:
    """One mounted Secret or ConfigMap.

    Args:
        path: where it is mounted.
        mode: of each file. The kubelet's is 0644; a Secret outside a container is better 0600.
    """

    def __init__(self, path: Path, mode: int = 0o644) -> None:
        self.path = path
        self._mode = mode
        # Whoever may read a file may enter: 0644 goes with 0755, 0600 with 0700.
        self._directory_mode = mode | (mode & 0o444) >> 2
        path.mkdir(parents=True, exist_ok=True)
        path.chmod(self._directory_mode)

    def write(self, files: Mapping[str, bytes]) -> bool:
        """Swap to these files, all at once; False when nothing differs."""
        data = self.path / "..data"
        if data.exists() and self.read() == dict(files):
            return False
        stamp = datetime.datetime.now(datetime.UTC).strftime("..%Y_%m_%d_%H_%M_%S.")
        fresh = self.path / (stamp + secrets.token_hex(4))
        fresh.mkdir(mode=0o700)
        for name, content in files.items():
            # Made closed and opened up: between the two there is content.
            descriptor = os.open(fresh / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
            (fresh / name).chmod(self._mode)
        fresh.chmod(self._directory_mode)
        old = data.resolve() if data.is_symlink() else None
        link = self.path / "..data_tmp"
        link.unlink(missing_ok=True)
        link.symlink_to(fresh.name)
        os.replace(link, data)
        for name in files:
            visible = self.path / name
            if not visible.is_symlink():
                visible.symlink_to(Path("..data") / name)
        for entry in self.path.iterdir():
            if entry.is_symlink() and not entry.name.startswith("..") and entry.name not in files:
                entry.unlink()
        if old is not None:
            shutil.rmtree(old, ignore_errors=True)
        return True

    def read(self) -> dict[str, bytes]:
        """The files as they are now."""
        return {file.name: file.read_bytes() for file in (self.path / "..data").iterdir()}


@dataclass(frozen=True)
class Mount:
    """An object and the directory it is laid out in."""

    kind: Literal["Secret", "ConfigMap"]
    name: str
    path: Path


@dataclass
class _Mounted:
    mount: Mount
    volume: VolumeDirectory
    seen: str | None = None
    due: float | None = None
    ready: bool = False
    trouble: str = "not looked at yet"
    swaps: list[float] = field(default_factory=list)


class Kubelet:
    """Keeps the volumes of one pod as the objects in the API server say.

    The first layout is immediate, since a pod doesn't start without its volumes; every later change
    is laid out `delay_seconds` after it was noticed, in the state the object has by then. An object
    that is deleted leaves its files, as on a real node.

    Args:
        kubeconfig: of a user who may read the objects.
        namespace: where the objects are.
        mounts: what to lay out where.
        delay_seconds: a real kubelet needs up to its sync period (60 s) and half as much again.
    """

    def __init__(
        self, kubeconfig: Path, namespace: str, mounts: Sequence[Mount], delay_seconds: float = 0.0
    ) -> None:
        self.delay_seconds = delay_seconds
        self._namespace = namespace
        self._mounted = [
            _Mounted(mount, VolumeDirectory(mount.path, 0o600 if mount.kind == "Secret" else 0o644))
            for mount in mounts
        ]
        self._client = _client(kubeconfig)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="kubelet stand-in", daemon=True)

    def start(self, timeout_seconds: float = 30.0) -> None:
        """Begin, and wait until every object exists and is laid out.

        Raises:
            TimeoutError: naming what is not there.
        """
        self._thread.start()
        deadline = time.monotonic() + timeout_seconds
        while missing := [m for m in self._mounted if not m.ready]:
            if time.monotonic() > deadline:
                self.stop()
                names = ", ".join(f"{m.mount.kind} {m.mount.name}: {m.trouble}" for m in missing)
                raise TimeoutError(f"no volumes in namespace {self._namespace}: {names}")
            time.sleep(0.02)

    def stop(self) -> None:
        """End; the directories stay."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()
        self._client.close()

    def swaps(self, name: str) -> tuple[float, ...]:
        """The times (`time.monotonic()`) at which an object's directory was swapped."""
        return tuple(at for m in self._mounted if m.mount.name == name for at in m.swaps)

    def __enter__(self) -> Kubelet:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _run(self) -> None:
        while not self._stop.wait(POLL_SECONDS if all(m.ready for m in self._mounted) else 0.05):
            for mounted in self._mounted:
                # The API server may be away for a while; what is laid out stays.
                try:
                    self._look(mounted)
                except httpx.HTTPError as error:
                    mounted.trouble = str(error).splitlines()[0]

    def _look(self, mounted: _Mounted) -> None:
        answer = self._client.get(_path(mounted.mount, self._namespace))
        if answer.status_code == httpx.codes.NOT_FOUND:
            mounted.trouble = "not found"
            return
        answer.raise_for_status()
        obj = answer.json()
        version = obj["metadata"]["resourceVersion"]
        now = time.monotonic()
        if version != mounted.seen and mounted.due is None:
            mounted.due = now + (self.delay_seconds if mounted.ready else 0.0)
        if mounted.due is not None and now >= mounted.due:
            mounted.due = None
            mounted.seen = version
            # Timed before: a reader may have the new files before this thread goes on.
            before = time.monotonic()
            if mounted.volume.write(_files(obj)):
                mounted.swaps.append(before)
            mounted.ready = True


def _client(kubeconfig: Path) -> httpx.Client:
    config = yaml.safe_load(kubeconfig.read_text())
    cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
    authority = base64.b64decode(cluster["certificate-authority-data"]).decode()
    return httpx.Client(
        base_url=cluster["server"],
        headers={"Authorization": f"Bearer {user['token']}"},
        verify=ssl.create_default_context(cadata=authority),
        timeout=5.0,
        trust_env=False,
    )


def _path(mount: Mount, namespace: str) -> str:
    return f"/api/v1/namespaces/{namespace}/{mount.kind.lower()}s/{mount.name}"


def _files(obj: Mapping[str, Any]) -> dict[str, bytes]:
    """What the keys of a Secret or ConfigMap hold."""
    decoded = {**(obj.get("binaryData") or {})}
    if obj["kind"] == "Secret":
        decoded |= obj.get("data") or {}
        plain: dict[str, str] = {}
    else:
        plain = obj.get("data") or {}
    return {
        **{key: base64.b64decode(value) for key, value in decoded.items()},
        **{key: value.encode() for key, value in plain.items()},
    }
