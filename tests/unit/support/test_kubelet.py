"""The stand-in for the kubelet: what a pod sees of its volumes, and when."""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.controlplane import ControlPlane
from tests.support.kubelet import Kubelet, Mount, VolumeDirectory
from tests.support.operator import until


def modes(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def target(path: Path) -> str:
    return str(path.readlink())


@contextlib.contextmanager
def directory(path: Path) -> Iterator[int]:
    opened = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield opened
    finally:
        os.close(opened)


def visible(path: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in path.iterdir() if not p.name.startswith("..")}


def test_it_is_laid_out_as_the_kubelet_does(tmp_path):
    volume = VolumeDirectory(tmp_path / "v")
    assert volume.write({"a": b"1", "b.txt": b"2"})
    data = tmp_path / "v" / "..data"
    assert data.is_symlink()
    assert target(data).startswith("..20")
    assert "/" not in target(data)
    assert {p.name for p in (tmp_path / "v").iterdir()} == {
        "..data",
        target(data),
        "a",
        "b.txt",
    }
    assert target(tmp_path / "v" / "a") == "..data/a"
    assert visible(tmp_path / "v") == volume.read() == {"a": b"1", "b.txt": b"2"}


@pytest.mark.parametrize(("mode", "directory"), [(0o644, 0o755), (0o600, 0o700)])
def test_files_and_directories_have_the_mode_whatever_the_umask(tmp_path, mode, directory):
    before = os.umask(0o027)
    try:
        VolumeDirectory(tmp_path / "v", mode).write({"a": b"1"})
    finally:
        os.umask(before)
    assert modes(tmp_path / "v" / "a") == mode
    assert modes(tmp_path / "v") == modes((tmp_path / "v" / "..data").resolve()) == directory


def test_the_same_content_swaps_nothing(tmp_path):
    volume = VolumeDirectory(tmp_path)
    volume.write({"a": b"1"})
    before = target(tmp_path / "..data")
    assert not volume.write({"a": b"1"})
    assert target(tmp_path / "..data") == before


def test_keys_come_and_go_and_the_earlier_directory_goes(tmp_path):
    volume = VolumeDirectory(tmp_path)
    volume.write({"a": b"1", "b": b"1"})
    volume.write({"b": b"2", "c": b"2"})
    assert visible(tmp_path) == {"b": b"2", "c": b"2"}
    assert not (tmp_path / "a").is_symlink()
    assert len([p for p in tmp_path.iterdir() if p.name.startswith("..20")]) == 1


def test_what_a_crash_left_behind_is_no_hindrance(tmp_path):
    volume = VolumeDirectory(tmp_path)
    volume.write({"a": b"1"})
    (tmp_path / "..data_tmp").symlink_to("..nowhere")
    assert VolumeDirectory(tmp_path).write({"a": b"2"})
    assert visible(tmp_path) == {"a": b"2"}
    assert not (tmp_path / "..data_tmp").is_symlink()


def test_a_write_that_fails_leaves_the_earlier_state(tmp_path):
    volume = VolumeDirectory(tmp_path)
    volume.write({"a": b"1"})
    with pytest.raises(OSError, match="No such file"):
        volume.write({"a": b"2", "no/such": b"2"})
    assert visible(tmp_path) == {"a": b"1"}


def test_a_reader_never_sees_a_mixture_nor_a_gap(tmp_path):
    volume = VolumeDirectory(tmp_path)
    size = 50_000
    volume.write({"a": b"0" * size, "b": b"0" * size})
    stop, seen, wrong = threading.Event(), set(), []

    def read() -> None:
        while not stop.is_set():
            # The directory is opened once: what is read in it is of one state.
            with contextlib.suppress(FileNotFoundError), directory(tmp_path / "..data") as opened:
                contents = []
                for name in ("a", "b"):
                    with os.fdopen(os.open(name, os.O_RDONLY, dir_fd=opened), "rb") as file:
                        contents.append(file.read())
                if contents[0] != contents[1] or len(contents[0]) != size:
                    wrong.append((contents[0][:1], contents[1][:1], len(contents[0])))
                seen.add(contents[0][:1])
            time.sleep(0.0005)

    def look() -> None:
        while not stop.is_set():
            try:
                os.readlink(tmp_path / "..data")  # noqa: PTH115 - as little as possible between two looks
            except FileNotFoundError:
                wrong.append("there was no ..data")

    def open_one() -> None:
        while not stop.is_set():
            try:
                content = (tmp_path / "a").read_bytes()
            except FileNotFoundError:
                continue  # swapped between resolving `..data` and opening the file
            if len(content) != size or content.count(content[:1]) != size:
                wrong.append(len(content))
            time.sleep(0.0005)

    readers = [threading.Thread(target=target) for target in (read, look, open_one)]
    for reader in readers:
        reader.start()
    # Readers and writer share one interpreter; a tenth of these swaps would do.
    number, deadline = 0, time.monotonic() + 2
    while number < 150 and time.monotonic() < deadline:
        number += 1
        digit = str(number % 10).encode()
        volume.write({"a": digit * size, "b": digit * size})
        time.sleep(0.001)
    stop.set()
    for reader in readers:
        reader.join()
    assert wrong == []
    assert len(seen) > 3


@pytest.fixture(scope="module")
def plane():
    made = ControlPlane.start()
    yield made
    made.stop()


@pytest.fixture
def namespace(plane):
    name = f"k-{secrets.token_hex(5)}"
    plane.kubectl("create", "namespace", name)
    return name


def put(plane: ControlPlane, namespace: str, kind: str, name: str, **fields) -> None:
    metadata = {"name": name, "namespace": namespace}
    plane.apply({"apiVersion": "v1", "kind": kind, "metadata": metadata, **fields})


def mounts(tmp_path: Path) -> list[Mount]:
    return [Mount("Secret", "s", tmp_path / "s"), Mount("ConfigMap", "c", tmp_path / "c")]


def test_both_kinds_are_laid_out_and_followed(plane, namespace, tmp_path):
    put(plane, namespace, "Secret", "s", stringData={"password": "p@ss"}, data={"raw": "AP8="})
    put(
        plane, namespace, "ConfigMap", "c", data={"config.yaml": "ü: 1\n"}, binaryData={"b": "AP8="}
    )
    with Kubelet(plane.kubeconfig(), namespace, mounts(tmp_path)) as kubelet:
        # No waiting: start() returns when a pod could start.
        assert visible(tmp_path / "s") == {"password": b"p@ss", "raw": b"\0\xff"}
        assert visible(tmp_path / "c") == {"config.yaml": "ü: 1\n".encode(), "b": b"\0\xff"}
        assert modes(tmp_path / "s" / "password") == 0o600
        assert modes(tmp_path / "c" / "b") == 0o644
        put(plane, namespace, "Secret", "s", stringData={"password": "new"})
        until(lambda: visible(tmp_path / "s").get("password") == b"new", 5)
        # Files are there a moment before the swap is on record.
        until(lambda: len(kubelet.swaps("s")) == 2, 5)
        assert len(kubelet.swaps("c")) == 1


def test_a_change_comes_late_and_in_its_newest_state(plane, namespace, tmp_path):
    put(plane, namespace, "Secret", "s", stringData={"a": "1"})
    put(plane, namespace, "ConfigMap", "c", data={})
    started = time.monotonic()
    with Kubelet(plane.kubeconfig(), namespace, mounts(tmp_path), delay_seconds=2.5) as kubelet:
        began = time.monotonic()
        # The first time it does not come late: a pod's volumes are made before its containers.
        assert began - started < 2.5
        put(plane, namespace, "Secret", "s", stringData={"a": "2"})
        time.sleep(0.7)
        assert visible(tmp_path / "s") == {"a": b"1"}
        put(plane, namespace, "Secret", "s", stringData={"a": "3"})
        until(lambda: visible(tmp_path / "s") != {"a": b"1"}, 10)
        assert time.monotonic() - began > 2.5
        assert visible(tmp_path / "s") == {"a": b"3"}
        until(lambda: len(kubelet.swaps("s")) >= 2, 5)
        assert len(kubelet.swaps("s")) == 2


def test_a_deleted_object_leaves_its_files(plane, namespace, tmp_path):
    put(plane, namespace, "Secret", "s", stringData={"a": "1"})
    put(plane, namespace, "ConfigMap", "c", data={"b": "1"})
    with Kubelet(plane.kubeconfig(), namespace, mounts(tmp_path)):
        plane.kubectl("delete", "secret", "s", "-n", namespace)
        put(plane, namespace, "ConfigMap", "c", data={"b": "2"})
        until(lambda: visible(tmp_path / "c") == {"b": b"2"}, 5)
        assert visible(tmp_path / "s") == {"a": b"1"}


def test_a_pod_without_its_volumes_does_not_start_and_is_told_why(plane, namespace, tmp_path):
    put(plane, namespace, "ConfigMap", "c", data={"b": "1"})
    kubelet = Kubelet(plane.kubeconfig(), namespace, mounts(tmp_path))
    with pytest.raises(TimeoutError, match=f"{namespace}: Secret s: not found$"):
        kubelet.start(timeout_seconds=0.5)
    forbidden = Kubelet(plane.kubeconfig(plane.user([])), namespace, mounts(tmp_path))
    with pytest.raises(TimeoutError, match=r"Secret s: .*403 Forbidden"):
        forbidden.start(timeout_seconds=0.5)


def test_the_api_server_may_be_away_for_a_while(plane, namespace, tmp_path):
    put(plane, namespace, "Secret", "s", stringData={"a": "1"})
    put(plane, namespace, "ConfigMap", "c", data={})
    with Kubelet(plane.kubeconfig(), namespace, mounts(tmp_path)):
        plane.stop_apiserver()
        time.sleep(0.5)
        assert visible(tmp_path / "s") == {"a": b"1"}
        plane.start_apiserver()
        put(plane, namespace, "Secret", "s", stringData={"a": "2"})
        until(lambda: visible(tmp_path / "s") == {"a": b"2"}, 5)


def test_it_goes_on_in_directories_that_are_there(plane, namespace, tmp_path):
    put(plane, namespace, "Secret", "s", stringData={"a": "1"})
    put(plane, namespace, "ConfigMap", "c", data={})
    for _ in range(2):
        with Kubelet(plane.kubeconfig(), namespace, mounts(tmp_path)):
            assert visible(tmp_path / "s") == {"a": b"1"}
