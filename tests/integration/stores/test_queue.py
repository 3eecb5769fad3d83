"""What a queue promises, on both engines."""

import asyncio
import json
import logging
import os
import random

import pytest

from stackstore.errors import (
    BackendUnavailableError,
    InvalidArgumentError,
    NotFoundError,
    StackstoreError,
    StoreBusyError,
)
from stackstore.sql import JsonText
from stackstore.stores.queue import Mark, Record, TableSink, WriteQueue
from stackstore.stores.queue.marking import WARY_WRITES
from tests.integration.stores.conftest import deleting, locked, until
from tests.integration.stores.worker import SCHEMA

CANARY = "c4n4ry"


def now():
    return asyncio.get_running_loop().time()


async def test_what_is_put_is_there_as_it_went_in(place, use):
    from datetime import UTC, datetime

    each = await use(place)
    moment = datetime(2025, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
    body = {"text": "é\0\ud800", "list": [1, 2.5, None, True]}
    row = {"id": "a", "n": 2**62, "body": body, "note": "n", "at": moment, "x": float("inf")}
    await each.queue.put(each.record(row), now() + 5)
    await each.queue.put(each.record({"id": "b", "body": JsonText('{"a": 1}')}), now() + 5)
    await each.flush()
    found = await each.store.fetch_one("t", {"id": "a"})
    assert {name: found[name] for name in row} == row
    other = await each.store.fetch_one("t", {"id": "b"})
    assert (other["body"], other["note"], other["n"]) == ({"a": 1}, None, None)
    stats = each.stats
    assert (stats.acknowledged, stats.written, stats.rows, stats.bytes) == (2, 2, 0, 0)
    assert stats.oldest_seconds == 0


async def test_a_lone_row_goes_at_once_and_many_share_a_transaction(place, use):
    each = await use(place, writers=2)
    await each.put("0")
    await each.flush()
    assert each.stats.batch_rows.counts[0] == 1
    async with asyncio.TaskGroup() as group:
        for producer in range(20):
            group.create_task(produce(each, producer, 50))
    await each.flush()
    stats = each.stats
    assert stats.written == 1001
    assert stats.batch_rows.count < 100
    assert stats.batch_rows.total == 1001
    assert stats.write_seconds.count == stats.age_seconds.count == stats.batch_rows.count
    assert len(await each.rows()) == 1001


async def produce(each, producer, count):
    for number in range(count):
        await each.put(f"{producer}-{number}", number)


async def test_writes_and_deletes_of_a_row_keep_their_order(place, use):
    """Random histories of few rows, by several tasks; each row ends as its last acknowledged write."""
    source = random.Random(5)
    each = await use(place, writers=3, batch_rows=7)
    last: dict[str, int] = {}

    async def change(row):
        for number in range(60):
            if source.random() < 0.3:
                await each.delete(row)
                last.pop(row, None)
            else:
                await each.put(row, number)
                last[row] = number
            if source.random() < 0.2:
                await asyncio.sleep(source.random() * 0.004)

    await asyncio.gather(*(change(f"row{number}") for number in range(12)))
    await each.flush()
    assert await each.rows() == last
    stats = each.stats
    assert stats.acknowledged == stats.written == 12 * 60
    assert stats.folded > 0


async def test_deletes_of_many_rows_at_once(place, use):
    each = await use(place, writers=1, batch_rows=2000)
    for number in range(1200):
        await each.put(f"{number:04}", number)
    await each.flush()
    async with locked(place):
        for number in range(1100):
            await each.delete(f"{number:04}")
        await each.put("0000", 5)
    await each.flush()
    assert await each.rows() == {"0000": 5} | {f"{n}": n for n in range(1100, 1200)}


async def test_a_full_queue_lets_in_first_come_first_served_until_the_deadline(place, use):
    each = await use(place, writers=1, max_rows=5)
    admitted = []

    async def late(name, within):
        try:
            await each.put(name, within=within)
        except StoreBusyError as error:
            return error
        admitted.append(name)
        return None

    async with locked(place):
        for number in range(5):
            await each.put(f"first{number}")
        impatient = asyncio.create_task(late("impatient", 0.1))
        await asyncio.sleep(0.01)
        patient = [asyncio.create_task(late(f"{n:02}", 30)) for n in range(20)]
        error = await impatient
        assert isinstance(error, StoreBusyError)
        assert "queue inference stayed full until the deadline (5 of 5 rows" in str(error)
        assert "not stored" in str(error)
        assert (each.stats.rows, each.stats.waiting, each.stats.busy) == (5, 20, 1)
        assert each.stats.oldest_seconds > 0
        assert admitted == []
    assert await asyncio.gather(*patient) == [None] * 20
    assert admitted == [f"{n:02}" for n in range(20)]
    await each.flush()
    assert set(await each.rows()) == {f"first{n}" for n in range(5)} | set(admitted)


async def test_bytes_are_bounded_too(place, use):
    each = await use(place, writers=1, max_bytes=10_000)
    async with locked(place):
        await each.put("a", size=6_000)
        with pytest.raises(StoreBusyError, match="6000 of 10000 bytes"):
            await each.put("b", size=6_000, within=0.05)
        await each.put("c", size=4_000)
        with pytest.raises(StoreBusyError):
            await each.put("d", size=1, within=0.05)
    with pytest.raises(InvalidArgumentError, match="10001 bytes and the whole queue takes 10000"):
        await each.put("large", size=10_001)
    await each.put("whole", size=10_000)
    await each.flush()
    assert set(await each.rows()) == {"a", "c", "whole"}


@pytest.mark.parametrize("how", ["cancelled", "too late"])
async def test_who_gives_up_lets_those_behind_in_who_fit(place, use, how):
    each = await use(place, writers=1, max_bytes=10_000)
    async with locked(place):
        await each.put("a", size=6_000)
        within = 0.1 if how == "too late" else 30
        large = asyncio.create_task(each.put("large", size=9_000, within=within))
        await asyncio.sleep(0.01)
        small = asyncio.create_task(each.put("small", size=1_000, within=30))
        await asyncio.sleep(0.01)
        assert each.stats.waiting == 2
        if how == "cancelled":
            large.cancel()
        with pytest.raises((StoreBusyError, asyncio.CancelledError)):
            await large
        async with asyncio.timeout(5):
            await small
    await each.flush()
    assert set(await each.rows()) == {"a", "small"}


async def test_who_is_cancelled_leaves_nothing_or_his_row(place, use):
    each = await use(place, writers=2, max_rows=4)
    async with locked(place):
        for number in range(4):
            await each.put(f"in{number}")
        waiting = [asyncio.create_task(each.put(f"{n:02}", within=30)) for n in range(30)]
        await asyncio.sleep(0.01)
        for task in waiting[::2]:
            task.cancel()
        await asyncio.sleep(0)
        assert each.stats.waiting == 15
    for task in waiting[1::2]:
        await task
    await each.flush()
    expected = {f"in{n}" for n in range(4)} | {f"{n:02}" for n in range(1, 30, 2)}
    assert set(await each.rows()) == expected
    assert (each.stats.rows, each.stats.bytes, each.stats.waiting) == (0, 0, 0)


async def test_cancelled_in_the_moment_in_which_there_is_room(place, use):
    """At every moment of the way: what is left is nothing or the whole row, and room for the next."""
    each = await use(place, writers=1, max_rows=1)
    told = set()
    for turns in range(40):
        await each.put("first", turns)
        task = asyncio.create_task(each.put(f"{turns:02}", turns))
        for _ in range(turns * 3):
            await asyncio.sleep(0)
        if not task.cancel():
            told.add(f"{turns:02}")
        else:
            try:
                await task
                told.add(f"{turns:02}")
            except asyncio.CancelledError:
                pass
    await each.flush()
    rows = await each.rows()
    assert told <= set(rows)
    assert (each.stats.rows, each.stats.bytes, each.stats.waiting) == (0, 0, 0)
    assert each.stats.written == each.stats.batch_rows.total


async def test_a_user_waits_for_his_own_rows_only(place, use):
    each = await use(place)
    assert await each.queue.wait_for(each.person("eve"), now() - 1), "there is nothing to wait for"
    await each.put("a", user="alice")
    assert await each.queue.wait_for(each.person("alice"), now() + 10)
    assert await each.rows() == {"a": 0}
    async with locked(place):
        await each.put("b", user="bob")
        assert await each.queue.wait_for(each.person("alice"), now() + 10)
        assert not await each.queue.wait_for(each.person("bob"), now() + 0.05)
        assert not await each.queue.flush(now() + 0.05)
        waiting = asyncio.create_task(each.queue.wait_for(each.person("bob"), now() + 20))
        await asyncio.sleep(0.01)
    assert await waiting
    assert await each.rows() == {"a": 0, "b": 0}


async def test_rows_that_come_later_are_not_waited_for(place, use):
    each = await use(place, writers=1, batch_rows=1)
    await each.put("a")
    waiting = asyncio.create_task(each.queue.wait_for(each.person("u"), now() + 20))
    stop = False

    async def go_on():
        number = 0
        while not stop:
            await each.put(f"later{number}")
            number += 1
            await asyncio.sleep(0)

    endless = asyncio.create_task(go_on())
    assert await waiting
    stop = True
    await endless


async def test_a_value_that_is_impossible_is_set_aside_and_the_rest_is_written(place, use, caplog):
    caplog.set_level(logging.DEBUG)
    each = await use(place, writers=1)
    async with locked(place):
        for number in range(60):
            row = {"id": f"{number:02}", "n": number, "note": CANARY, "body": CANARY}
            if number == 17:
                row["note"] = f"{CANARY}\0"
            if number == 40:
                row["n"] = 2**70
            if number == 41:
                row["note"] = {CANARY}
            await each.queue.put(each.record(row, user="alice"), now() + 5)
    await each.flush()
    rows = await each.rows()
    assert set(rows) == {f"{n:02}" for n in range(60)} - {"17", "40", "41"}
    letters = await each.letters()
    assert [(row[0], row[1], bool(row[3])) for row in letters] == [
        (f'["{number}"]', '["one","alice"]', False) for number in (17, 40, 41)
    ]
    assert "holds a NUL" in letters[0][2]
    assert "64 bits" in letters[1][2]
    again = json.loads(bytes(letters[0][4]))
    assert again == {
        "id": "17", "n": 17, "note": f"{CANARY}\0", "body": f'"{CANARY}"', "at": None, "x": None,
    }  # fmt: skip
    assert letters[2][4] is None, "it can't be written down"
    stats = each.stats
    assert (stats.acknowledged, stats.written, stats.dead_letters, stats.rows) == (60, 57, 3, 0)
    assert caplog.text.count("set aside in table dead_letters") == 3
    assert '["17"]' in caplog.text
    assert CANARY not in caplog.text


async def test_a_row_that_the_database_refuses_is_set_aside_too(place, use, caplog):
    each = await use(place, writers=1)
    if place.dialect == "postgresql":
        await place.sql("ALTER TABLE @t ADD CHECK (n <> 13)")
    else:
        await place.sql(
            "CREATE TRIGGER no BEFORE INSERT ON @t WHEN NEW.n = 13 BEGIN SELECT RAISE(ABORT, 'no'); END"
        )
    async with locked(place):
        for number in range(100):
            await each.put(f"{number:02}", number)
    await each.flush()
    assert set((await each.rows()).values()) == set(range(100)) - {13}
    ((identity, owner, reason, _, payload),) = await each.letters()
    assert (identity, owner) == ('["13"]', '["one","u"]')
    assert "constraint" in reason
    assert json.loads(bytes(payload))["n"] == 13
    assert each.stats.batch_rows.count < 12, "found by halving"


async def test_tables_that_vanish_are_made_again(place, use):
    each = await use(place)
    await each.put("a")
    await each.flush()
    await place.sql("DROP TABLE @queue_marks")
    await place.sql("DROP TABLE @dead_letters")
    await place.sql("DELETE FROM @schema_versions WHERE component = 'queues'")
    await place.sql("DROP TABLE @t")
    await each.put("b")
    await each.flush()
    assert await each.rows() == {"b": 0}
    assert await each.letters() == []


async def test_a_table_that_became_another_one_is_waited_for(place, use):
    """It is nobody's fault among the records, so none of them is set aside."""
    each = await use(place)
    await each.put("a")
    await each.flush()
    await place.sql("DROP TABLE @t")
    await place.sql("CREATE TABLE @t (id BIGINT PRIMARY KEY)")
    await each.put("b")
    await until(lambda: each.stats.retries >= 2)
    assert each.stats.dead_letters == 0
    assert "differs" in each.stats.last_trouble
    await place.sql("DROP TABLE @t")
    await each.flush()
    assert await each.rows() == {"b": 0}
    assert each.stats.last_trouble == ""


async def test_numbers_beyond_32_bits(place, use):
    each = await use(place, writers=1)
    each.queue._sequence = 2**40
    await each.put("a")
    await each.put("b\0")
    await each.flush()
    assert await each.rows() == {"a": 0}
    ((_, _, _, sequence),) = await each.marks()
    assert sequence == 2**40 + 2


async def test_a_mark_tells_a_retry_what_happened(place, use):
    """The protocol of a sink, step by step."""
    each = await use(place)
    sink = each.sink
    one, two = each.record({"id": "a", "n": 1}), each.record({"id": "a", "n": 2})
    assert await sink.write([one], Mark("q", 4, 1, 10)) is None
    assert await sink.write([two], Mark("q", 4, 1, 12)) == 10, "it was not at 0"
    assert await each.rows() == {"a": 1}
    assert await sink.write([], Mark("q", 4, 1, 10, previous=10)) is None, "only looks"
    assert await sink.write([two], Mark("q", 4, 1, 12, previous=10)) is None
    assert await sink.write([deleting(one)], Mark("q", 4, 2, 11)) is None
    assert await each.rows() == {}
    marks = {(mark.queue, mark.writers, mark.lane, mark.sequence) for mark in await sink.marks("q")}
    assert marks == {("q", 4, 1, 12), ("q", 4, 2, 11)}
    assert await sink.write([], Mark("j", 1, 0, 5, durable=True)) is None
    await place.sql("UPDATE @queue_marks SET touched = touched - 100000")
    assert await sink.write([], Mark("q", 4, 1, 12, previous=12)) is None, "touches it"
    await sink.tidy()
    assert {(row[0], row[2]) for row in await each.marks()} == {("q", 1), ("j", 0)}
    await sink.forget("q")
    assert {row[0] for row in await each.marks()} == {"j"}


async def test_the_end_writes_what_is_there_and_leaves_no_marks(place, use):
    each = await use(place)
    for number in range(300):
        await each.put(f"{number:03}")
    remains = await each.queue.shutdown(20)
    assert (remains.count, remains.journaled) == (0, False)
    assert len(await each.rows()) == 300
    assert await each.marks() == []
    with pytest.raises(BackendUnavailableError, match="it is closed; the record was not stored"):
        await each.put("late")
    assert await each.queue.shutdown(5) == remains


async def test_the_end_reports_what_it_could_not_write(place, use, caplog):
    each = await use(place, writers=2, max_rows=50)
    async with locked(place):
        for number in range(50):
            await each.put(f"{number:02}", number)
        waiting = asyncio.create_task(each.put("late", within=30))
        await asyncio.sleep(0.01)
        begin = now()
        remains = await each.queue.shutdown(1.0)
        assert now() - begin < 6
        with pytest.raises(StoreBusyError, match="being shut down"):
            await waiting
    left = [key for _, key in (*remains.unwritten, *remains.unknown)]
    assert sorted(left) == [f"{n:02}" for n in range(50)]
    stored = await each.rows()
    assert not set(stored) & {key for _, key in remains.unwritten}
    assert "they are lost" in caplog.text


async def test_the_end_is_cancelled(place, use, caplog):
    each = await use(place)
    async with locked(place):
        await each.put("a")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await each.queue.shutdown(60)
    assert '["a"]' in caplog.text


async def test_whose_it_is(place, use):
    each = await use(place)
    fresh = WriteQueue(each.sink, name="x")
    with pytest.raises(StackstoreError, match=r"call start\(\) first"):
        await fresh.put(each.record({"id": "a"}), now() + 1)
    assert (await fresh.shutdown(1)).count == 0
    with pytest.raises(StackstoreError, match="started before"):
        await each.queue.start()

    async def elsewhere():
        for call in (
            lambda: each.queue.put(Record("s", ("a",), "u", 1, None), 0),
            lambda: each.queue.flush(0),
            lambda: each.queue.shutdown(1),
        ):
            with pytest.raises(StackstoreError, match="another event loop"):
                await call()

    await asyncio.to_thread(lambda: asyncio.run(elsewhere()))
    await each.put("still works")
    await each.flush()


@pytest.mark.filterwarnings("ignore:This process.*is multi-threaded:DeprecationWarning")
async def test_a_forked_child_is_told(place, use):
    each = await use(place)
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            each.queue._check_open()
        except StackstoreError as error:
            os.write(writing, str(error).encode())
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    os.close(writing)
    told = os.read(reading, 1000).decode()
    os.close(reading)
    assert "this process was forked after it was started" in told


async def test_records_are_checked_when_they_are_made(place, use):
    each = await use(place)
    for row in ({"n": 1}, {"id": None}, {"id": 1.5}):
        with pytest.raises(InvalidArgumentError, match="primary key \\(id\\) has to be given"):
            each.record(row)
    with pytest.raises(InvalidArgumentError, match="can't be written as JSON"):
        each.record({"id": "a", "body": {CANARY}})
    with pytest.raises(InvalidArgumentError, match="no column"):
        each.record({"id": "a", "nope": 1})
    for column in ("owner_id", "owner_key"):
        with pytest.raises(InvalidArgumentError, match="the store's own"):
            each.record({"id": "a", column: 1})
    tables = each.sink._tables
    with pytest.raises(NotFoundError, match="knows no table"):
        TableSink(tables, "other")
    tables.store.declare("shared", SCHEMA)
    with pytest.raises(InvalidArgumentError, match="unique per owner"):
        TableSink(tables, "shared")
    small, large = each.record({"id": "a"}), each.record({"id": "a", "note": "語" * 5000})
    assert large.size > 10_000 > small.size
    assert large.identity == ('["one","u"]', "a")
    assert small.shard == large.shard == each.record({"id": "a"}, user="bob").shard
    assert each.record({"id": "a"}, shard="mine").shard == "mine"


async def test_numbers_that_are_out_of_range(place, use):
    each = await use(place)
    for options in ({"writers": 0}, {"writers": 65}, {"max_rows": 0}, {"max_bytes": 0}):
        with pytest.raises(InvalidArgumentError, match="write queue is a whole number from 1"):
            WriteQueue(each.sink, name="x", **options)


async def test_rows_that_are_there_already_are_replaced_and_expected_from_then_on(place, use):
    each = await use(place, writers=1)
    for number in range(3):
        await each.put(f"{number}", number)
    await each.flush()
    marking = each.sink._marking
    assert marking.hopes()
    async with locked(place):
        for number in range(2, 6):
            await each.put(f"{number}", 10 * number)
    await each.flush()
    assert await each.rows() == {"0": 0, "1": 1, "2": 20, "3": 30, "4": 40, "5": 50}
    # On Postgres what is met costs an error in the server's log, so it is not hoped again at once.
    assert marking.hopes() == (place.dialect == "sqlite")
    assert each.stats.retries == each.stats.dead_letters == 0
    await each.put("2", 7)
    await each.flush()
    assert (await each.rows())["2"] == 7
    for _ in range(WARY_WRITES):
        marking.hopes()
    assert marking.hopes()
