"""Where `make compat` looks for a Python, and what it says where there is none."""

import os
import subprocess
import sys

import pytest

from hack.tools import ROOT
from tests.compat.python import NoPythonError, candidates, find_python, version_of


def python(path, version):
    """A program that says it is a Python of that version."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\necho {version}\n")
    path.chmod(0o755)
    return path


def test_the_one_that_is_named_comes_first_and_alone(tmp_path):
    python(tmp_path / "bin" / "python3.13", "3 13 0")
    named = python(tmp_path / "named", "3 12 9")
    environ = {"STACKSTORE_COMPAT_PYTHON": str(named), "PATH": str(tmp_path / "bin")}
    assert find_python(environ) == (named, (3, 12, 9))
    python(named, "3 11 0")
    with pytest.raises(NoPythonError, match=r"STACKSTORE_COMPAT_PYTHON .* 3\.12 or newer"):
        find_python(environ)


def test_then_those_on_path_then_those_of_pyenv_oldest_first(tmp_path):
    on_path = [python(tmp_path / "bin" / f"python3.{n}", f"3 {n} 0") for n in (13, 12)]
    root = tmp_path / "pyenv"
    of_pyenv = [
        python(root / "versions" / v / "bin" / "python", "3 12 1")
        for v in ("3.11.7", "3.12.1", "3.13.0")
    ]
    environ = {"PATH": str(tmp_path / "bin"), "PYENV_ROOT": str(root)}
    assert list(candidates(environ)) == [*on_path, *of_pyenv[1:]]
    python(tmp_path / ".pyenv" / "versions" / "3.12.1" / "bin" / "python", "3 12 1")
    found, _ = find_python({"HOME": str(tmp_path), "PATH": ""})
    assert found.is_relative_to(tmp_path / ".pyenv")


def test_one_that_does_not_run_is_passed_over(tmp_path):
    broken = tmp_path / "bin" / "python3.13"
    broken.parent.mkdir()
    broken.write_text("#!/bin/sh\nexit 127\n")
    broken.chmod(0o755)
    good = python(tmp_path / "bin" / "python3.12", "3 12 1")
    assert find_python({"PATH": str(tmp_path / "bin")}) == (good, (3, 12, 1))
    assert version_of(tmp_path / "absent") is None


def test_a_real_python_tells_its_version():
    assert version_of(sys.executable) == sys.version_info[:3]


@pytest.mark.parametrize(("module", "code"), [("tests.compat", 3), ("tests.compat.python", 1)])
def test_without_one_the_command_says_so_in_its_exit_code_too(tmp_path, module, code):
    environ = {
        "HOME": str(tmp_path),
        "PATH": str(tmp_path),
        "PYTHONPATH": os.environ.get("PYTHONPATH", ""),
    }
    done = subprocess.run(
        [sys.executable, "-m", module],
        cwd=ROOT,
        env=environ,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code
    assert done.stdout == ""
    assert "the real server needs a Python 3.12 or newer, and there is none" in done.stderr
    assert "STACKSTORE_COMPAT_PYTHON" in done.stderr
    assert not list(tmp_path.iterdir())
