"""Load on a pod, as processes of their own, and what all of them together were promised."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

from examples.demo.load import Report
from examples.demo.processes import Child

MOST_SECONDS = 300
"""However long a story takes: no load goes on for longer."""
END_SECONDS = 70
"""A request under way may wait for a minute before its client gives up."""


class Traffic:
    """Starts and ends loads.

    Attributes:
        acknowledged: ids of all completions that a server said it had kept.
        requests, failures: of all loads that have ended.
    """

    def __init__(self, logs: Path) -> None:
        self.acknowledged: list[str] = []
        self.requests = 0
        self.failures = 0
        self._logs = logs
        self._running: list[Child] = []

    def start(self, url: str, clients: int) -> Child:
        """Load on a pod from now on."""
        command = [
            sys.executable, "-m", "examples.demo.load", "--url", url,
            "--clients", str(clients), "--seconds", str(MOST_SECONDS),
        ]  # fmt: skip
        log = self._logs / f"load-{len(list(self._logs.glob('load-*')))}.log"
        child = Child("load", command, log, os.environ)
        self._running.append(child)
        return child

    def end(self, load: Child) -> Report:
        """End one, and count what it saw.

        Raises:
            RuntimeError: it said nothing that can be counted.
        """
        load.ask()
        load.end(time.monotonic() + END_SECONDS)
        self._running.remove(load)
        if load.returncode != 0:
            raise RuntimeError(f"a load ended with {load.returncode}: {load.output()[-2000:]}")
        report = Report(**json.loads(load.output()))
        self.acknowledged += report.acknowledged
        self.requests += report.requests
        self.failures += report.failures
        return report

    def stop(self) -> None:
        """End whatever still runs."""
        for load in self._running:
            load.ask()
        for load in self._running:
            load.end(time.monotonic() + 2)
        self._running.clear()
