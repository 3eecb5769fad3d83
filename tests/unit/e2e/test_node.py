"""What a node on this machine takes, and leaves: without one."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from hack.e2e import cniplugin, leavings, parts, podnet
from hack.e2e.cgroups import Cgroup
from tests.support.operator import until


def test_what_is_missing_is_named_with_the_way_to_get_it(monkeypatch):
    monkeypatch.setattr(parts, "PATH", "/nowhere")
    monkeypatch.setattr(parts, "LOOPBACK_PLUGIN", Path("/nowhere/loopback"))
    (last,) = parts.missing()[-1:]
    assert last.endswith(
        "apt-get install --no-install-recommends "
        "buildah containerd containernetworking-plugins debootstrap mount runc"
    )


def test_elsewhere_than_on_linux_that_is_all_there_is_to_say(monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    assert parts.missing() == ["a node needs Linux, and this is darwin"]


@pytest.mark.parametrize(("set_", "may"), [("000001fffeffffff", True), ("00000000a80425fb", False)])
def test_root_without_the_right_to_mount_is_noticed(set_, may):
    assert parts.may_mount(f"Name:\tx\nCapPrm:\t0\nCapEff:\t{set_}\n") is may


def test_addresses_are_of_the_loopback_and_a_containers_own():
    found = {podnet.address(f"container-{number}") for number in range(50)}
    assert len(found) == 50
    assert podnet.address("a") == podnet.address("a")
    for address in found:
        *head, third, fourth = address.split(".")
        assert (head, 0 <= int(third) <= 255, 1 <= int(fourth) <= 254) == (
            ["127", "88"],
            True,
            True,
        )


def cgroups(mount: Path) -> None:
    """A machine's v1 hierarchies, with v2 beside them."""
    for name in ("memory", "cpuset", "unified"):
        (mount / name).mkdir()
        (mount / name / "cgroup.procs").write_text("")
    (mount / "cpuset" / "cpuset.cpus").write_text("0-1")
    (mount / "cpuset" / "cpuset.mems").write_text("0")
    (mount / "cpu").symlink_to(mount / "memory")


def test_a_cgroup_is_made_in_every_hierarchy_and_can_take_processes(tmp_path):
    cgroups(tmp_path)
    own = Cgroup("mine", tmp_path)
    own.make()
    assert (tmp_path / "memory" / "mine").is_dir()
    assert (tmp_path / "cpuset" / "mine" / "cpuset.cpus").read_text() == "0-1"
    assert not (tmp_path / "unified" / "mine").exists()
    with pytest.raises(FileExistsError):
        own.make()


def test_a_cgroup_is_removed_with_what_is_below_it(tmp_path):
    cgroups(tmp_path)
    own = Cgroup("mine", tmp_path)
    for name in ("memory", "unified"):
        (tmp_path / name / "mine" / "kubepods" / "pod1").mkdir(parents=True)
    assert len(own.there()) >= 2
    assert own.remove() == []
    assert (tmp_path / "memory" / "cgroup.procs").exists()


def test_of_a_run_that_was_killed_processes_and_files_are_found_by_its_directory(
    tmp_path, monkeypatch
):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    place = leavings.Place()
    assert leavings.stale() == []
    (place.root / "owner").write_text("1 0")
    assert leavings.stale() == [place.root]
    script = "import sys, time; print('up', flush=True); time.sleep(600)"
    command = [sys.executable, "-c", script, f"{place.root}/containerd.sock"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as shim:
        assert shim.stdout is not None
        shim.stdout.readline()
        assert leavings.processes(place.root) == [shim.pid]
        threading.Thread(target=shim.wait).start()
        assert leavings.sweep(place.root) == []
        until(lambda: shim.poll() is not None, 10)
    assert not place.root.exists()


def test_what_runs_share_goes_with_the_last_of_them_and_only_if_they_made_it(tmp_path, monkeypatch):
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    theirs.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(leavings, "SHARED", [ours, theirs])
    first = leavings.Place()
    ours.mkdir()
    second = leavings.Place()
    assert first.clear() == []
    assert ours.exists()
    # As in a run: everything temporary is in its own directory.
    monkeypatch.setattr("tempfile.tempdir", str(second.root))
    assert second.clear() == []
    assert not ours.exists()
    assert theirs.exists()


def plugin(directory: Path, **variables: str) -> tuple[int, dict]:
    """The CNI plugin as containerd runs it, from a directory with podnet's socket."""
    script = directory / cniplugin.NAME
    script.write_text(Path(cniplugin.__file__).read_text())
    done = subprocess.run(
        [sys.executable, "-SE", script], env=variables, capture_output=True, text=True, check=False
    )
    return done.returncode, json.loads(done.stdout or "{}")


@pytest.fixture
def answering(tmp_path, monkeypatch):
    """A podnet that answers each question the same; yields the directory, the answer, the questions."""
    # By a short name: a socket's path ends at 107 bytes.
    monkeypatch.chdir(tmp_path)
    answer, questions = {}, []
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(cniplugin.SOCKET_NAME)
        server.listen()

        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection:
                    questions.append(json.loads(connection.makefile().readline()))
                    connection.sendall(json.dumps(answer).encode() + b"\n")

        thread = threading.Thread(target=serve)
        thread.start()
        yield tmp_path, answer, questions
        server.shutdown(socket.SHUT_RDWR)
        thread.join()


ADD = {"CNI_COMMAND": "ADD", "CNI_CONTAINERID": "c", "CNI_NETNS": "/ns", "CNI_IFNAME": "eth0"}


def test_the_plugin_gives_a_pod_the_address_that_podnet_says(answering):
    directory, answer, questions = answering
    answer["address"] = "127.88.1.2"
    code, result = plugin(directory, **ADD)
    assert (code, result["ips"][0]["address"]) == (0, "127.88.1.2/32")
    assert questions == [{"command": "ADD", "container": "c", "namespace": "/ns"}]


def test_the_plugin_says_what_podnet_could_not_do(answering):
    directory, answer, _ = answering
    answer["error"] = "no such namespace"
    assert plugin(directory, **ADD) == (
        1, {"cniVersion": "0.4.0", "code": 100, "msg": "no such namespace"}
    )  # fmt: skip


def test_the_plugin_takes_away_also_when_podnet_is_gone(tmp_path):
    assert plugin(tmp_path, **{**ADD, "CNI_COMMAND": "DEL"}) == (0, {})
    code, result = plugin(tmp_path, **ADD)
    assert code == 1
    assert "podnet does not answer" in result["msg"]


def test_the_plugin_says_which_versions_it_speaks(tmp_path):
    assert plugin(tmp_path, CNI_COMMAND="VERSION")[1]["supportedVersions"] == ["0.3.1", "0.4.0"]
