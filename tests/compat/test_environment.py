"""The server's environment is made once, whole or not at all."""

import pytest

from tests.compat import environment
from tests.compat.environment import InstallError, server_python

PYTHON = """\
#!/bin/sh
# Says it is a Python; makes an environment that is a copy of itself; installs while it may.
case "$*" in
*" -c "*) echo 3 12 1 ;;
*" venv "*) for last; do :; done; mkdir -p "$last/bin"; cp "$0" "$last/bin/python" ;;
*" pip "*) echo installed >> "$HOME/log"; test ! -e "$HOME/offline" ;;
esac
"""


@pytest.fixture
def home(tmp_path, monkeypatch):
    python = tmp_path / "python"
    python.write_text(PYTHON)
    python.chmod(0o755)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("STACKSTORE_COMPAT_PYTHON", str(python))
    return tmp_path


def installed(home) -> int:
    log = home / "log"
    return len(log.read_text().splitlines()) if log.exists() else 0


def test_it_is_made_once(home, capsys):
    first = server_python()
    assert first.is_relative_to(home / "cache" / "stackstore" / "ogx")
    assert "once" in capsys.readouterr().out
    assert server_python() == first
    assert installed(home) == 1
    assert capsys.readouterr().out == ""


def test_a_half_made_one_does_not_count(home):
    (home / "offline").touch()
    with pytest.raises(InstallError, match=r"requirements/ogx\.txt: check the network"):
        server_python()
    (home / "offline").unlink()
    python = server_python()
    assert installed(home) == 2
    # As it is after a kill in the middle: everything may be there, but not the mark.
    (python.parent.parent / ".complete").unlink()
    assert server_python() == python
    assert installed(home) == 3


def test_another_lock_or_another_python_is_another_environment(home, monkeypatch, tmp_path):
    first = server_python()
    lock = tmp_path / "ogx.txt"
    lock.write_text("# another\n")
    monkeypatch.setattr(environment, "LOCK", lock)
    second = server_python()
    (home / "python").write_text(PYTHON.replace("3 12 1", "3 12 2"))
    third = server_python()
    assert len({first, second, third}) == 3
