"""The mounted directory is followed through whatever happens to it, and nothing ends that."""

import asyncio
import logging
import os
import socket
import time

import pytest

from stackstore.credentials import watcher as watching
from stackstore.credentials.directory import FILE_NAME, MAX_BYTES, SnapshotDirectory
from stackstore.credentials.snapshot import Snapshot
from stackstore.credentials.watcher import Watcher
from stackstore.errors import ConfigError
from tests.support.kubelet import VolumeDirectory
from tests.support.nobody import as_nobody, public_directory

pytestmark = pytest.mark.timeout(30)


def content(revision: str) -> bytes:
    return Snapshot(stack_id="9d2e41b0c7aa", revision=revision, backends={}).to_bytes()


FIRST, SECOND, THIRD = content("00000001"), content("00000002"), content("00000003")


class Followed:
    """A volume, its watcher, and the revisions it told of."""

    def __init__(self, path):
        self.volume = VolumeDirectory(path)
        self.volume.write({FILE_NAME: FIRST})
        self.directory = SnapshotDirectory(path)
        self.seen = [self.directory.read().revision]
        self.looks = 0
        self.watcher = Watcher(self.directory, self._tell)
        original = self.directory.read_if_changed

        def counted(**arguments):
            self.looks += 1
            return original(**arguments)

        self.directory.read_if_changed = counted

    def _tell(self, snapshot):
        self.seen.append(snapshot.revision)
        if snapshot.revision == "deadbeef":
            raise RuntimeError("c4n4ry")

    async def sees(self, revision):
        async with asyncio.timeout(10):
            while self.seen[-1] != revision:
                await asyncio.sleep(0.01)

    async def looks_on(self, times=2):
        goal = self.looks + times
        async with asyncio.timeout(10):
            while self.looks < goal:
                await asyncio.sleep(0.01)


@pytest.fixture
async def followed(tmp_path, monkeypatch):
    monkeypatch.setattr(watching, "POLL_SECONDS", 0.03)
    monkeypatch.setattr(watching, "URGENT_SECONDS", 0.01)
    made = Followed(tmp_path / "storage")
    made.watcher.start()
    yield made
    await made.watcher.stop()
    seen = list(made.seen)
    made.volume.write({FILE_NAME: content("ffffffff")})
    await asyncio.sleep(0.05)
    assert made.seen == seen, "stopped is stopped"


async def test_a_swap_is_seen(followed):
    followed.volume.write({FILE_NAME: SECOND})
    await followed.sees("00000002")


async def test_a_plain_file_written_in_place_is_seen(tmp_path, followed):
    plain = tmp_path / "plain"
    plain.mkdir()
    (plain / FILE_NAME).write_bytes(FIRST)
    directory = SnapshotDirectory(plain)
    directory.read()
    assert directory.read_if_changed() is None
    (plain / FILE_NAME).write_bytes(SECOND)
    os.utime(plain / FILE_NAME, ns=(1, 1))
    assert directory.read_if_changed().revision == "00000002"


async def test_the_same_content_swapped_in_again_is_nothing_new(followed):
    followed.volume.write({FILE_NAME: FIRST, "other": b""})
    await followed.looks_on(4)
    assert followed.seen == ["00000001"]


async def test_a_hundred_swaps_end_at_the_last(followed):
    for number in range(100):
        followed.volume.write({FILE_NAME: content(f"{number:08x}")})
        await asyncio.sleep(0.001)
    await followed.sees(f"{99:08x}")
    assert followed.seen == sorted(followed.seen)


@pytest.mark.parametrize(
    "broken", [b"", SECOND[:-9], b"\xff" * 10, b"[]", b"[" * 100_000, b" " * (MAX_BYTES + 1)]
)
async def test_a_broken_file_is_told_once_and_the_last_good_stays(followed, caplog, broken):
    followed.volume.write({FILE_NAME: broken})
    await followed.looks_on(5)
    told = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert len(told) == 1
    assert FILE_NAME in told[0].getMessage()
    assert followed.seen == ["00000001"]
    followed.volume.write({FILE_NAME: SECOND})
    await followed.sees("00000002")


async def test_the_directory_goes_and_comes_back(followed, caplog):
    away = followed.volume.path.with_name("away")
    followed.volume.path.rename(away)
    await followed.looks_on(5)
    assert sum("No such file" in record.getMessage() for record in caplog.records) == 1
    away.rename(followed.volume.path)
    await followed.looks_on()
    assert followed.seen == ["00000001"]
    followed.volume.write({FILE_NAME: SECOND})
    await followed.sees("00000002")


async def test_the_link_dangles_and_is_replaced(followed):
    data = followed.volume.path / "..data"
    data.unlink()
    data.symlink_to("nowhere")
    await followed.looks_on(3)
    followed.volume.write({FILE_NAME: SECOND})
    await followed.sees("00000002")


async def test_a_link_to_itself_and_a_directory_in_its_place(followed, caplog):
    file = followed.volume.path / FILE_NAME
    file.unlink()
    file.symlink_to(FILE_NAME)
    await followed.looks_on(3)
    file.unlink()
    file.mkdir()
    await followed.looks_on(3)
    assert "Is a directory" in caplog.text
    file.rmdir()
    file.write_bytes(SECOND)
    await followed.sees("00000002")
    file.unlink()


@pytest.fixture(params=["pipe", "socket", "device"])
def no_file(request, tmp_path):
    """What can be opened or not, but has no content to be read to its end."""
    path = tmp_path / "none" / FILE_NAME
    path.parent.mkdir()
    if request.param == "pipe":
        os.mkfifo(path)
        yield path
    elif request.param == "device":
        path.symlink_to("/dev/zero")
        yield path
    else:
        with pytest.MonkeyPatch.context() as patch, socket.socket(socket.AF_UNIX) as listening:
            # Its whole path may be too long for a socket.
            patch.chdir(path.parent)
            listening.bind(FILE_NAME)
            yield path


@pytest.mark.timeout(5)
def test_what_is_no_plain_file_is_refused_at_once(no_file):
    with pytest.raises(ConfigError, match=f"{no_file}: .*must be a plain file"):
        SnapshotDirectory(no_file.parent).read()


@pytest.mark.timeout(5)
def test_what_becomes_a_pipe_when_it_was_looked_at_does_not_block(tmp_path, monkeypatch):
    (tmp_path / "before").touch()
    os.mkfifo(tmp_path / FILE_NAME)
    directory = SnapshotDirectory(tmp_path)
    looked = (tmp_path / "before").stat()
    monkeypatch.setattr(type(tmp_path), "stat", lambda _: looked)
    with pytest.raises(ConfigError, match="not JSON"):
        directory.read()


@pytest.mark.timeout(10)
async def test_a_pipe_in_its_place_neither_blocks_nor_ends_the_watch(followed, caplog):
    file = followed.volume.path / FILE_NAME
    file.unlink()
    os.mkfifo(file)
    await followed.looks_on(3)
    assert caplog.text.count("must be a plain file") == 1
    file.unlink()
    file.write_bytes(SECOND)
    await followed.sees("00000002")
    file.unlink()


def test_what_could_not_be_read_is_read_when_it_can_be(caplog):
    """Permissions change, the file does not."""
    with public_directory() as path:
        (path / FILE_NAME).write_bytes(FIRST)
        directory = SnapshotDirectory(path)
        directory.read()
        (path / FILE_NAME).write_bytes(SECOND)
        (path / FILE_NAME).chmod(0)
        with as_nobody():
            assert directory.read_if_changed() is None
            assert directory.read_if_changed() is None
        assert caplog.text.count("Permission denied") == 1
        (path / FILE_NAME).chmod(0o644)
        assert directory.read_if_changed().revision == "00000002"


async def test_what_an_observer_raises_does_not_end_it(followed, caplog):
    followed.volume.write({FILE_NAME: content("deadbeef")})
    await followed.sees("deadbeef")
    followed.volume.write({FILE_NAME: SECOND})
    await followed.sees("00000002")
    assert "RuntimeError" in caplog.text
    assert "c4n4ry" not in caplog.text


async def test_refusals_make_it_read_at_once_but_never_spin(tmp_path, monkeypatch):
    # So that nothing else would make it look.
    monkeypatch.setattr(watching, "POLL_SECONDS", 300)
    made = Followed(tmp_path / "storage")
    made.watcher.start()
    await made.looks_on(1)
    made.volume.write({FILE_NAME: SECOND})
    made.watcher.look_again()
    await made.sees("00000002")
    looks, began = made.looks, time.monotonic()
    for _ in range(500):
        made.watcher.look_again()
        await asyncio.sleep(0.001)
    most = (time.monotonic() - began) / watching.URGENT_SECONDS + 1
    assert 2 <= made.looks - looks <= most
    await made.watcher.stop()


async def test_at_rest_it_costs_a_look_each_quarter_of_a_second(tmp_path):
    made = Followed(tmp_path / "storage")
    made.watcher.start()
    began = time.monotonic()
    await asyncio.sleep(1.0)
    await made.watcher.stop()
    most = (time.monotonic() - began) / watching.POLL_SECONDS + 1
    assert 2 <= made.looks <= most


def test_what_has_not_changed_is_not_read(tmp_path, monkeypatch):
    volume = VolumeDirectory(tmp_path / "storage")
    volume.write({FILE_NAME: FIRST})
    directory = SnapshotDirectory(volume.path)
    directory.read()
    volume.write({FILE_NAME: SECOND})
    assert directory.read_if_changed().revision == "00000002"
    read = []
    monkeypatch.setattr(directory, "_bytes", lambda: read.append(1) or SECOND)
    assert directory.read_if_changed() is None
    assert read == []
    assert directory.read_if_changed(force=True) is None
    assert read == [1]


def test_before_the_secret_is_mounted(tmp_path):
    for missing in (tmp_path, tmp_path / "not-there"):
        with pytest.raises(ConfigError, match="mount the stack's Secret as a whole directory"):
            SnapshotDirectory(missing).read()
