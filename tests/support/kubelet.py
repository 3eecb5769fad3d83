"""A stand-in for the kubelet: it lays Secret and ConfigMap volumes out as the kubelet does.

It is not the kubelet. It does the one thing that a stack sees of it: a timestamped directory, a
`..data` link renamed over, and a link for each key.
"""

from __future__ import annotations

import datetime
import os
import secrets
import shutil
from collections.abc import Mapping
from pathlib import Path


class VolumeDirectory:
    """One mounted Secret or ConfigMap."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir(parents=True, exist_ok=True)

    def write(self, files: Mapping[str, bytes]) -> bool:
        """Swap to these files, all at once; False when nothing differs."""
        data = self.path / "..data"
        if data.exists() and self.read() == dict(files):
            return False
        stamp = datetime.datetime.now(datetime.UTC).strftime("..%Y_%m_%d_%H_%M_%S.")
        fresh = self.path / (stamp + secrets.token_hex(4))
        fresh.mkdir()
        for name, content in files.items():
            (fresh / name).write_bytes(content)
        old = data.resolve() if data.exists() else None
        link = self.path / "..data_tmp"
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
            shutil.rmtree(old)
        return True

    def read(self) -> dict[str, bytes]:
        """The files as they are now."""
        return {file.name: file.read_bytes() for file in (self.path / "..data").iterdir()}
