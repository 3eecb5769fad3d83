"""Which kind cluster is taken where there can be no node."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from hack.e2e import kind

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def clusters(tmp_path, monkeypatch):
    """Programs `kind` and `docker`; the first says that there are these clusters."""

    def make(*names: str) -> None:
        for program in ("kind", "docker"):
            script = tmp_path / program
            script.write_text("#!/bin/sh\n" + "".join(f"echo {name}\n" for name in names))
            script.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")

    monkeypatch.delenv("E2E_KIND", raising=False)
    return make


def test_the_only_one_is_taken(clusters):
    clusters("one")
    assert kind.configured() == "one"


def test_of_several_the_one_that_is_named(clusters, monkeypatch):
    clusters("one", "two")
    assert kind.configured() is None
    monkeypatch.setenv("E2E_KIND", "two")
    assert kind.configured() == "two"
    monkeypatch.setenv("E2E_KIND", "three")
    assert kind.configured() is None


def test_there_is_none_without_kind_or_without_clusters(clusters, monkeypatch, tmp_path):
    clusters()
    assert kind.configured() is None
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    assert kind.configured() is None


def test_without_either_it_says_why_and_ends_with_a_code_of_its_own(tmp_path):
    script = (
        "import os, sys; from hack.e2e import parts; parts.missing = lambda: ['no node: why'];"
        "from hack.e2e.__main__ import main; sys.exit(main())"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, env={"PATH": str(tmp_path)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 77
    assert "make e2e can't be tried here" in done.stderr
    assert "no node: why" in done.stderr
    assert "no kind cluster" in done.stderr
