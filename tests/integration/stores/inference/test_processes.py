"""Real processes that end with 20,000 completions in the queue; the rows are counted from outside."""

import json
import signal
import subprocess
import sys

from tests.integration.stores.inference.conftest import letters, locked
from tests.integration.stores.test_processes import ROOT
from tests.integration.stores.test_processes import Worker as AnyWorker

COUNT = 20_000


class Worker(AnyWorker):
    """A process of this folder's `worker.py`."""

    def __init__(self, place, **task):
        address = {key: value for key, value in place.address.items() if key != "server"}
        task = json.dumps({"address": address, **task})
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.integration.stores.inference.worker", task],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT,
        )  # fmt: skip


async def stored(place):
    return {name for (name,) in await place.sql("SELECT id FROM @inference")}


def every(count=COUNT):
    return {f"{number:06d}" for number in range(count)}


async def queued(place, worker, end):
    """Have all of it acknowledged and none of it written, then send a signal."""
    assert worker.hear() == {"started": 0}
    assert worker.hear() == {"ready": True}
    async with locked(place):
        worker.go()
        assert worker.hear() == {"acknowledged": COUNT, "written": 0}
        return end()


async def whose_are_whose(place):
    """Each is the one's who stored it, although nobody was there when it was written."""
    found = await place.sql(
        "SELECT t.id, o.identity FROM @inference t JOIN @owners o ON o.owner_id = t.owner_id"
    )
    assert len(found) == COUNT
    assert all(json.loads(owner)[1] == f"u{int(name) % 100 % 7}" for name, owner in found)


async def test_sigterm_drains_the_queue(place):
    place.pool()
    with Worker(place, count=COUNT, grace=60) as worker:
        await queued(place, worker, lambda: worker.process.send_signal(signal.SIGTERM))
        told = worker.end(signal.SIGTERM)
    assert told == [{"unwritten": [], "unknown": [], "journaled": False}]
    assert await stored(place) == every()
    await whose_are_whose(place)


async def test_sigterm_reports_what_it_could_not_write_in_its_grace(place):
    place.pool()
    with Worker(place, count=COUNT, grace=1) as worker:
        (told,) = await queued(place, worker, lambda: worker.end(signal.SIGTERM))
        assert worker.process.returncode == 0
    found, reported = await stored(place), {*told["unwritten"], *told["unknown"]}
    assert found | reported == every()
    assert not found & set(told["unwritten"])


async def test_sigkill_without_a_journal_loses_at_most_the_queue(place):
    place.pool()
    with Worker(place, count=COUNT) as worker:
        worker.hear()
        worker.hear()
        worker.go()
        heard = worker.hear()
        worker.end(signal.SIGKILL)
    found = await stored(place)
    assert heard["acknowledged"] == COUNT
    assert heard["written"] <= len(found)
    assert found <= every()


async def test_sigkill_with_a_journal_loses_nothing(place, tmp_path):
    """Killed with everything queued, killed again in the middle of the replay, then drained."""
    place.pool()
    journal = str(tmp_path / "journal")
    with Worker(place, count=COUNT, journal=journal) as worker:
        await queued(place, worker, lambda: worker.end(signal.SIGKILL))
    with Worker(place, journal=journal) as worker:
        assert worker.hear() == {"started": COUNT}
        worker.end(signal.SIGKILL)
    with Worker(place, journal=journal, drain=True) as worker:
        assert 0 < worker.hear()["started"] <= COUNT
        assert worker.hear() == {"drained": True}
        (told,) = worker.end(signal.SIGTERM)
    assert told == {"unwritten": [], "unknown": [], "journaled": True}
    assert await stored(place) == every()
    await whose_are_whose(place)
    assert await letters(place) == []
    assert list((tmp_path / "journal").iterdir()) == []
