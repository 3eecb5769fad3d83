"""A writer and its lane against a model of the database, over all short histories of faults."""

import asyncio
import itertools

import pytest

from stackstore.errors import BackendUnavailableError, InvalidArgumentError, StoreError
from stackstore.stores.queue import writer as module
from stackstore.stores.queue.lane import Lane
from stackstore.stores.queue.records import Entry, Mark, Record
from stackstore.stores.queue.stats import Counters
from stackstore.stores.queue.writer import Writer

FINE, BEFORE, AFTER = "fine", "lost before it happened", "lost after it happened"


class Rows:
    """What the protocol of `Sink` says, on dictionaries; faults come by a list."""

    def __init__(self, poison=(), faults=()):
        self.poison = set(poison)
        self.faults = list(faults)
        self.rows = {}
        self.letters = []
        self.payloads = []
        self.through = {}
        self.statements = 0
        self.letters_refuse = 0

    async def write(self, records, mark):
        assert len({one.deletes for one in records}) < 2
        if not any(one.deletes for one in records):
            assert len({one.identity for one in records}) == len(records)
        return self.step(mark, lambda: self.apply(records))

    async def set_aside(self, entry, reason, mark, *, with_payload=True):
        def put():
            if self.letters_refuse:
                self.letters_refuse -= 1
                raise InvalidArgumentError("the letter")
            self.letters.append(entry.order + 1)
            self.payloads.append(with_payload)

        return self.step(mark, put)

    def apply(self, records):
        if any(one.payload in self.poison for one in records):
            raise StoreError("poison")
        for one in records:
            if one.deletes:
                self.rows.pop(one.identity, None)
            else:
                self.rows[one.identity] = one.payload

    def step(self, mark, do):
        self.statements += 1
        fault = self.faults.pop(0) if self.faults else FINE
        if fault == BEFORE:
            raise BackendUnavailableError("lost")
        elsewhere = self.through.get(mark.queue, 0)
        if elsewhere == mark.previous:
            do()
            self.through[mark.queue] = mark.sequence
            elsewhere = None
        if fault == AFTER:
            raise BackendUnavailableError("lost")
        return elsewhere


class World:
    def __init__(self, records, rows, *, most=8, queues="q"):
        self.rows = rows
        self.counters = Counters()
        self.done = []
        self.lane = Lane(most, 10**6)
        self.writer = Writer(
            "q", self.lane, number=0, writers=1, sink=rows, counters=self.counters,
            is_durable=lambda queue: False, done=self.done.extend,
        )  # fmt: skip
        for number, record in enumerate(records):
            # The queue may change on the way, as after a replay; numbers begin anew, lower.
            queue = queues[number * len(queues) // len(records)]
            sequence = number + (11 if queue == "p" else 1)
            self.lane.add(Entry(queue, sequence, number, 0.0, *record))

    async def run(self):
        task = asyncio.create_task(self.writer.run())
        async with asyncio.timeout(20):
            while len(self.lane):
                await asyncio.sleep(0)
        self.writer.stop()
        await task


def record(identity, payload, size=1):
    return Record("s", (identity,), "u", size, payload, deletes=payload is None)


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    monkeypatch.setattr(module, "FIRST_PAUSE_SECONDS", 1e-9)
    monkeypatch.setattr(module, "LONGEST_PAUSE_SECONDS", 1e-9)


async def test_every_record_ends_exactly_once_whatever_is_lost():
    """Five records, each subset poisoned, each history of four faults; writes and deletes of two rows."""
    for poison, faults, queues in itertools.product(
        itertools.chain.from_iterable(itertools.combinations(range(5), n) for n in range(4)),
        itertools.product((FINE, BEFORE, AFTER), repeat=4),
        ("q", "pq"),
    ):
        # 3 is a delete, of the row that 0 and 2 write; it can't be poisoned but for itself.
        payloads = ["v0", "v1", "v2", None, "v4"]
        records = [record("ab"[n % 2 if n != 3 else 0], payload) for n, payload in enumerate(payloads)]  # fmt: skip
        poisoned = {payloads[n] for n in poison if n != 3}
        rows = Rows(poisoned, faults)
        world = World(records, rows, queues=queues)
        await world.run()
        case = (poison, faults, queues)
        # What is superseded in its batch is not written, so it may not be found.
        aside = set(rows.letters)
        assert aside <= {n + 1 for n in poison}, case
        assert len(rows.letters) == len(aside), case
        expected = {}
        for number, one in enumerate(records, 1):
            if number in aside or one.payload in poisoned:
                continue
            if one.deletes:
                expected.pop(one.identity, None)
            else:
                expected[one.identity] = one.payload
        assert rows.rows == expected, case
        assert [entry.order for entry in world.done] == list(range(5)), case
        counters = world.counters
        assert (counters.written, counters.dead_letters) == (5 - len(aside), len(aside)), case


async def test_one_poisoned_among_many_costs_few_statements(caplog):
    for place in (0, 1, 63, 64, 100, 127):
        rows = Rows({place})
        world = World([record(n, n) for n in range(128)], rows, most=128)
        await world.run()
        assert rows.letters == [place + 1]
        assert len(rows.rows) == 127
        assert rows.statements <= 22, place
    assert caplog.text.count("set aside") == 6
    assert "poison" in caplog.text, "the reason"


async def test_all_poisoned_costs_few_statements_each():
    rows = Rows(range(200))
    world = World([record(n, n) for n in range(200)], rows, most=128)
    await world.run()
    assert rows.letters == list(range(1, 201))
    assert rows.statements < 200 * 3


async def test_a_letter_that_is_refused_is_written_without_its_payload():
    rows = Rows({"bad"})
    rows.letters_refuse = 1
    world = World([record("a", "bad"), record("b", 1)], rows)
    await world.run()
    assert (rows.letters, rows.payloads, rows.rows) == ([1], [False], {("b",): 1})


async def test_a_letter_that_is_refused_altogether_waits():
    rows = Rows({"bad"})
    rows.letters_refuse = 7
    world = World([record("a", "bad"), record("b", 1)], rows)
    await world.run()
    assert (rows.letters, rows.rows) == ([1], {("b",): 1})
    assert world.counters.retries >= 3


async def test_it_survives_errors_that_are_not_ours():
    class Broken(Rows):
        def apply(self, records):
            if any(one.payload == "odd" for one in records):
                raise RuntimeError("with a value")
            super().apply(records)

    rows = Broken()
    world = World([record("a", "odd"), record("b", 1)], rows)
    await world.run()
    assert (rows.letters, rows.rows) == ([1], {("b",): 1})


async def test_batches_shrink_after_failures_and_grow_again():
    sizes = []

    class Watching(Rows):
        async def write(self, records, mark):
            sizes.append(len(records))
            return await super().write(records, mark)

    rows = Watching(faults=[BEFORE] * 5)
    world = World([record(n, n) for n in range(100)], rows, most=32)
    await world.run()
    assert sizes[:6] == [32, 16, 8, 4, 2, 1]
    assert sizes[6:11] == [2, 4, 8, 16, 32]
    assert world.counters.retries == 5


async def test_batches_end_at_their_bytes_and_a_large_one_goes_alone():
    sizes = []

    class Watching(Rows):
        async def write(self, records, mark):
            sizes.append([one.payload for one in records])
            return await super().write(records, mark)

    world = World([record(n, n, size) for n, size in enumerate([3, 3, 4, 25, 1])], Watching())
    world.lane._most_bytes = 9
    await world.run()
    assert sizes == [[0, 1], [2], [3], [4]]


async def test_a_mark_of_an_earlier_process_is_where_it_goes_on():
    rows = Rows()
    rows.through = {"q": 2}
    world = World([record(n, n) for n in range(4)], rows)
    world.writer.knows({"q": [Mark("q", 1, 0, 2), Mark("q", 2, 0, 9), Mark("q", 1, 1, 9)]})
    gone = world.lane.drop(lambda entry: entry.sequence <= 2)
    assert [entry.sequence for entry in gone] == [1, 2]
    await world.run()
    assert (rows.rows, rows.statements) == ({(2,): 2, (3,): 3}, 1)


async def test_a_database_that_went_back_is_followed():
    """It was restored, or failed over to a standby that lacked the last commits."""
    rows = Rows()
    world = World([record(0, 0)], rows)
    await world.run()
    rows.through = {"q": 0}
    world.lane.add(Entry("q", 2, 1, 0.0, *record(1, 1)))
    world.writer._stopped.clear()
    await world.run()
    assert rows.rows == {(0,): 0, (1,): 1}


@pytest.mark.parametrize(("fault", "known"), [(BEFORE, 0), (AFTER, 3)])
async def test_what_became_of_a_write_that_was_cut_off_is_found_out(fault, known):
    rows = Rows(faults=[fault])
    world = World([record(n, n) for n in range(5)], rows, most=3)
    await world.writer._write(world.lane.take())
    assert [entry.sequence for entry in world.writer.doubted()] == [1, 2, 3]
    rows.faults = [BEFORE]
    assert len(await world.writer.settle()) == 3
    assert await world.writer.settle() == []
    assert world.writer.doubted() == []
    assert len(world.done) == known
    assert len(world.lane) == 5 - known
    assert rows.through["q"] == known


async def test_the_furthest_attempt_stays_in_doubt_when_smaller_ones_follow():
    rows = Rows(faults=[AFTER, BEFORE])
    world = World([record(n, n) for n in range(5)], rows, most=4)
    for size in (4, 2):
        batch = world.lane.take()
        assert len(batch) == size
        assert not await world.writer._write(batch)
    assert [entry.sequence for entry in world.writer.doubted()] == [1, 2, 3, 4]
    assert await world.writer.settle() == []
    assert len(world.done) == 4
