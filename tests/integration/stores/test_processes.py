"""Real processes that end with 20,000 rows in the queue; the rows are counted from outside."""

import contextlib
import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.stores.conftest import locked

ROOT = Path(__file__).parents[3]
COUNT = 20_000


class Worker:
    """A process of `worker.py`."""

    def __init__(self, place, **task):
        address = {key: value for key, value in place.address.items() if key != "server"}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.integration.stores.worker", json.dumps({"address": address, **task})],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT,
        )  # fmt: skip

    def hear(self):
        line = self.process.stdout.readline()
        assert line, self.process.stderr.read().decode()
        return json.loads(line)

    def go(self):
        self.process.stdin.write(b"go\n")
        self.process.stdin.flush()

    def end(self, number):
        self.process.send_signal(number)
        told = [json.loads(line) for line in self.process.stdout.read().splitlines()]
        self.process.wait(60)
        return told

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            with contextlib.suppress(OSError):
                pipe.close()


async def stored(place):
    return {row[0] for row in await place.sql("SELECT id FROM @t")}


def every(count=COUNT):
    return {f"{number:06d}" for number in range(count)}


async def count_letters(place):
    return (await place.sql("SELECT count(*) FROM @dead_letters"))[0][0]


async def test_sigkill_without_a_journal_loses_at_most_the_queue(place):
    place.pool()
    with Worker(place, count=COUNT) as worker:
        assert worker.hear() == {"started": 0}
        async with locked(place):
            worker.go()
            heard = worker.hear()
            assert heard == {"acknowledged": COUNT, "written": 0}
            worker.end(signal.SIGKILL)
    # All of it was in the queue, so all of it may be lost; what is there was acknowledged.
    assert await stored(place) <= every()


async def test_sigkill_under_way_keeps_what_had_left_the_queue(place):
    place.pool()
    with Worker(place, count=COUNT) as worker:
        worker.hear()
        worker.go()
        heard = worker.hear()
        worker.end(signal.SIGKILL)
    found = await stored(place)
    assert heard["written"] <= len(found) <= COUNT


async def test_sigkill_with_a_journal_loses_nothing(place, tmp_path):
    """Killed with everything queued, killed again in the middle of the replay, then drained."""
    place.pool()
    journal = str(tmp_path / "journal")
    with Worker(place, count=COUNT, journal=journal) as worker:
        worker.hear()
        async with locked(place):
            worker.go()
            assert worker.hear() == {"acknowledged": COUNT, "written": 0}
            worker.end(signal.SIGKILL)
    with Worker(place, journal=journal, writers=3) as worker:
        assert worker.hear() == {"started": COUNT}
        worker.end(signal.SIGKILL)
    with Worker(place, journal=journal, drain=True) as worker:
        assert 0 < worker.hear()["started"] <= COUNT
        assert worker.hear() == {"drained": True}
        (told,) = worker.end(signal.SIGTERM)
    assert told == {"unwritten": [], "unknown": [], "journaled": True}
    assert await stored(place) == every()
    assert await count_letters(place) == 0
    assert list((tmp_path / "journal").iterdir()) == []


async def test_sigterm_drains_the_queue(place):
    place.pool()
    with Worker(place, count=COUNT, grace=60) as worker:
        worker.hear()
        async with locked(place):
            worker.go()
            assert worker.hear() == {"acknowledged": COUNT, "written": 0}
            worker.process.send_signal(signal.SIGTERM)
        told = worker.end(signal.SIGTERM)
    assert told == [{"unwritten": [], "unknown": [], "journaled": False}]
    assert await stored(place) == every()


@pytest.mark.parametrize("with_journal", [False, True])
async def test_sigterm_reports_what_it_could_not_write_in_its_grace(place, tmp_path, with_journal):
    place.pool()
    journal = str(tmp_path / "journal") if with_journal else None
    with Worker(place, count=COUNT, grace=1, journal=journal) as worker:
        worker.hear()
        async with locked(place):
            worker.go()
            worker.hear()
            (told,) = worker.end(signal.SIGTERM)
            assert worker.process.returncode == 0
    found, reported = await stored(place), {*told["unwritten"], *told["unknown"]}
    assert found | reported == every()
    assert not found & set(told["unwritten"])
    assert len(told["unwritten"]) > COUNT - 4 * 500 - 1
    assert told["journaled"] is with_journal
    if with_journal:
        with Worker(place, journal=journal, drain=True) as worker:
            worker.hear()
            assert worker.hear() == {"drained": True}
            worker.end(signal.SIGTERM)
        assert await stored(place) == every()


async def test_two_processes_share_a_directory_and_a_third_takes_over_both(place, tmp_path):
    place.pool()
    journal = str(tmp_path / "journal")
    workers = [Worker(place, count=500, first=first, journal=journal) for first in (0, 500)]
    with workers[0], workers[1]:
        for worker in workers:
            assert worker.hear() == {"started": 0}
        async with locked(place):
            for worker in workers:
                worker.go()
            for worker in workers:
                assert worker.hear() == {"acknowledged": 500, "written": 0}
            workers[0].end(signal.SIGKILL)
            with Worker(place, journal=journal) as heir:
                assert heir.hear() == {"started": 500}, "the other one lives"
                heir.end(signal.SIGKILL)
            workers[1].end(signal.SIGKILL)
    with Worker(place, journal=journal, drain=True) as heir:
        assert heir.hear() == {"started": 1000}
        assert heir.hear() == {"drained": True}
        heir.end(signal.SIGTERM)
    assert await stored(place) == every(1000)
    assert list((tmp_path / "journal").iterdir()) == []
