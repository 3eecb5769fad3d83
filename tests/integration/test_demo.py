"""The demo when it does not come to its end: it says so, and leaves nothing behind."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from examples.demo.processes import Footprint
from hack import tools
from tests.support.postgres import die_with_parent

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory for all of the demo's files: short, for a socket's path, and open to Postgres' user."""
    made = Path(tempfile.mkdtemp(prefix="ssd-"))
    made.chmod(0o711)
    yield made
    shutil.rmtree(made, ignore_errors=True)


def _at_a_terminal() -> None:
    die_with_parent()
    # A shell starts what runs in the background with SIGINT ignored, and that is inherited.
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def demo(place: Path, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "examples.demo"],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=ROOT, preexec_fn=_at_a_terminal,
        env={**os.environ, "TMPDIR": str(place), **environment},
    )  # fmt: skip


def read_until(process: subprocess.Popen[str], words: str) -> str:
    """What it printed up to the line with these words; it is given a minute and a half."""
    assert process.stdout is not None
    seen = []
    timer = threading.Timer(90, process.kill)
    timer.start()
    try:
        for line in process.stdout:
            seen.append(line)
            if words in line:
                return "".join(seen)
    finally:
        timer.cancel()
    raise AssertionError("".join(seen))


@pytest.mark.parametrize(
    ("number", "words"),
    [(signal.SIGTERM, "3. The operator starts"), (signal.SIGINT, "ALTER ROLE")],
)
def test_interrupted_it_ends_everything_and_says_so(place, number, words):
    process = demo(place)
    read_until(process, words)
    footprint = Footprint.of_descendants(process.pid)
    assert len(footprint.processes) > 3
    assert len(footprint.ports) > 3
    process.send_signal(number)
    rest, _ = process.communicate(timeout=60)
    assert process.returncode == 130, rest
    assert "✓  No process, port or file is left behind" in rest
    assert "interrupted" in rest
    assert "Traceback" not in rest
    assert footprint.left() == []
    assert list(place.iterdir()) == []


def test_a_part_that_does_not_start_fails_the_demo_by_name(place):
    found = tools.find(["etcd", "kubectl"])
    assets = place / "assets"
    assets.mkdir()
    for name, path in found.items():
        (assets / name).symlink_to(path)
    broken = assets / "kube-apiserver"
    broken.write_text("#!/bin/sh\necho out of order\nexit 3\n")
    broken.chmod(0o755)
    process = demo(place, KUBEBUILDER_ASSETS=str(assets))
    shown, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "kube-apiserver ended" in shown
    assert "out of order" in shown
    assert "Traceback" not in shown
    assert [entry.name for entry in place.iterdir()] == ["assets"]
