"""helm, as people call it, without anything of the user's own."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from hack import tools

CHART = Path(__file__).resolve().parents[2] / "charts" / "stackstore"


class Helm:
    """helm with a home of its own, and if it is to reach a cluster, a kubeconfig.

    Args:
        home: a directory for what helm keeps.
        kubeconfig: whose cluster it is.
    """

    def __init__(self, home: Path, kubeconfig: Path | None = None) -> None:
        self.binary = tools.find(["helm"])["helm"]
        self.environment = {
            "PATH": f"{self.binary.parent}{os.pathsep}{os.environ['PATH']}",
            "HOME": str(home),
            "HELM_CACHE_HOME": str(home / "cache"),
            "HELM_CONFIG_HOME": str(home / "config"),
            "HELM_DATA_HOME": str(home / "data"),
            # Nothing is reached by accident.
            "KUBECONFIG": str(kubeconfig or home / "nothing"),
        }

    def run(self, *arguments: str | Path, check: bool = True) -> str:
        """What it printed; with check=False also its errors."""
        done = subprocess.run(
            [self.binary, *arguments], env=self.environment, capture_output=True, text=True,
            check=False, timeout=120,
        )  # fmt: skip
        if check and done.returncode:
            raise AssertionError(f"helm {' '.join(map(str, arguments))}: {done.stderr}")
        return done.stdout if check else done.stdout + done.stderr

    def objects(self, *arguments: str | Path) -> Iterator[dict[str, Any]]:
        """What a chart makes of some values; `helm template` as the release `stackstore`."""
        text = self.run("template", "stackstore", CHART, "--namespace", "stackstore-system", *arguments)  # fmt: skip
        yield from filter(None, yaml.safe_load_all(text))
