"""The journal: acknowledged means on the disk, and whoever comes next writes it, once."""

import asyncio
import contextlib
import fcntl
import resource
import sqlite3

import pytest

from stackstore.errors import BackendUnavailableError, InvalidArgumentError
from stackstore.stores.queue.journal import Journal
from stackstore.stores.queue.journal_file import Kept, adopt
from stackstore.stores.queue.records import Record
from tests.integration.sql.test_faults import everything
from tests.integration.stores.conftest import locked, until


def files(directory):
    return sorted(path.name for path in directory.iterdir())


def contents(directory):
    """The names of the records that are in journals, past everything."""
    import json

    found = []
    for path in sorted(directory.glob("*.journal")):
        with contextlib.closing(sqlite3.connect(path)) as past:
            found += [
                json.loads(head)[1][1]
                for (head,) in past.execute("SELECT head FROM records ORDER BY sequence")
            ]
    return found


async def crash(each):
    """End a queue as SIGKILL would: nothing more is written, its lock is free."""
    queue = each.queue
    for task in queue._all_tasks():
        task.cancel()
    await asyncio.gather(*queue._all_tasks(), return_exceptions=True)
    queue._starting = None
    queue._tasks = []
    for writer in queue._writers:
        writer._doubt = None
    await queue._journal.settled()
    queue._journal.file.close()
    queue._replay.close()
    queue._remains = object()


async def test_what_is_acknowledged_is_in_the_journal(place, use, tmp_path):
    directory = tmp_path / "journal"
    each = await use(place, journal=directory)
    await each.put("first")
    await each.flush()
    async with locked(place):
        await asyncio.gather(*(each.put(f"{n:03}", n) for n in range(100)))
        await each.delete("first")
        assert sorted(contents(directory)) == [*(f"{n:03}" for n in range(100)), "first"]
        assert each.stats.acknowledged == 102
    await each.flush()
    await until(lambda: contents(directory) == [])
    assert len(await each.rows()) == 100
    marks = await each.marks()
    assert sum(row[0] == each.queue._journal.file.id for row in marks) == len(marks) > 0
    assert (await each.queue.shutdown(10)).count == 0
    assert files(directory) == []
    assert await each.marks() == []


async def test_many_share_a_commit(sqlite_place, use, tmp_path, monkeypatch):
    commits = []
    each = await use(sqlite_place, journal=tmp_path / "journal")
    file = each.queue._journal.file
    commit = file.commit
    monkeypatch.setattr(
        file, "commit", lambda rows, gone: commits.append(len(rows)) or commit(rows, gone)
    )
    await asyncio.gather(*(each.put(f"{n}") for n in range(500)))
    assert sum(commits) == 500
    assert len(commits) < 20
    (synchronous,) = file._open.execute("PRAGMA synchronous").fetchone()
    (mode,) = file._open.execute("PRAGMA journal_mode").fetchone()
    assert (synchronous, mode) == (2, "wal"), "a commit is on the disk when it returns"


@pytest.mark.parametrize("writers", [1, 4, 3])
async def test_the_next_process_writes_what_is_left(place, use, tmp_path, writers):
    directory = tmp_path / "journal"
    first = await use(place, journal=directory)
    await first.put("gone", 1, user="bob")
    await first.put("changed", 1)
    await first.put("old", 1)
    await first.flush()
    await until(lambda: contents(directory) == [])
    async with locked(place):
        await asyncio.gather(*(first.put(f"{n:03}", n) for n in range(100)))
        await first.delete("gone", user="bob")
        await first.put("changed", 2)
        await crash(first)
    assert "gone" in await first.rows()
    second = await use(place, journal=directory, writers=writers)
    assert second.stats.replayed == 102
    assert await second.queue.wait_for(second.person("bob"), asyncio.get_running_loop().time() + 10)
    await second.flush()
    expected = {f"{n:03}": n for n in range(100)} | {"changed": 2, "old": 1}
    assert await second.rows() == expected
    await until(lambda: len(files(directory)) <= 4)
    (name,) = {path.stem for path in directory.glob("*.journal")}
    assert name.startswith("inference-000000000002-"), (
        "the first one is removed, once it is written"
    )
    await second.queue.shutdown(10)
    assert files(directory) == []


async def test_what_is_written_already_is_not_written_again(place, use, tmp_path):
    """The journal still has it, the marks say so; what happened to the rows since stays."""
    directory = tmp_path / "journal"
    first = await use(place, journal=directory)
    first.queue._journal.forget = lambda numbers: None
    for number in range(40):
        await first.put(f"{number:02}", number)
    await first.flush()
    async with locked(place):
        await first.put("unwritten", 7)
        await crash(first)
    assert len(contents(directory)) == 41
    await place.sql("DELETE FROM @t WHERE id < '20'")
    await place.sql("UPDATE @t SET n = -1 WHERE id BETWEEN '20' AND '39'")
    second = await use(place, journal=directory, writers=3)
    assert second.stats.replayed == 41
    await second.flush()
    # The attempt under way when it died may have come through.
    assert second.stats.written <= 1
    assert await second.rows() == {f"{n}": -1 for n in range(20, 40)} | {"unwritten": 7}


async def test_a_process_that_dies_again_and_again(place, use, tmp_path):
    """Each generation adds, writes a part under another number of writers, and dies."""
    directory = tmp_path / "journal"
    expected = {}
    for generation in range(5):
        each = await use(place, journal=directory, writers=1 + generation % 3, batch_rows=5)
        for number in range(30):
            name = f"{number % 20:02}"
            if number % 7 == 6:
                await each.delete(name)
                expected.pop(name, None)
            else:
                await each.put(name, generation * 100 + number)
                expected[name] = generation * 100 + number
        await asyncio.sleep(0.003 * generation)
        await crash(each)
    last = await use(place, journal=directory)
    await last.flush()
    assert await last.rows() == expected
    await last.queue.shutdown(10)
    assert files(directory) == []
    assert await last.marks() == []


async def test_a_poisoned_row_in_a_journal_is_set_aside_once(place, use, tmp_path):
    directory = tmp_path / "journal"
    first = await use(place, journal=directory)
    async with locked(place):
        await first.put("a\0")
        await first.put("b")
        await crash(first)
    second = await use(place, journal=directory)
    await second.flush()
    assert await second.rows() == {"b": 0}
    assert [row[0] for row in await second.letters()] == ['["a\\u0000"]']
    await crash(second)
    third = await use(place, journal=directory)
    await third.flush()
    assert len(await third.letters()) == 1


async def test_the_database_is_down_while_a_journal_is_taken_over(own_postgres, use, tmp_path):
    server, place = own_postgres
    directory = tmp_path / "journal"
    first = await use(place, journal=directory)
    await first.put("known")
    await first.flush()
    async with locked(place):
        await first.put("a", 1)
        await crash(first)
    store = first.store
    await asyncio.to_thread(server.stop, "immediate", keep=True)
    second = await use(place, store=store, table=False, journal=directory)
    await second.put("a", 2)
    await second.put("b", 2)
    assert not await second.queue.flush(asyncio.get_running_loop().time() + 0.3)
    remains = await second.queue.shutdown(0.2)
    assert sorted(key for _, key in remains.unwritten) == ["a", "a", "b"]
    assert (remains.unknown, remains.journaled) == ((), True)
    await asyncio.to_thread(server.start_again)
    third = await use(place, store=store, journal=directory)
    assert third.stats.replayed == 3
    await third.flush()
    assert await third.rows() == {"known": 0, "a": 2, "b": 2}


async def test_a_journal_that_is_in_use_is_left_alone(sqlite_place, use, tmp_path):
    directory = tmp_path / "journal"
    each = await use(sqlite_place, journal=directory)
    async with locked(sqlite_place):
        await each.put("a")
        left, own = adopt(directory, "inference")
        assert left == []
        own.remove()
        others, fresh = adopt(directory, "other")
        assert others == [], "another queue's are not its business"
        fresh.close()
    await each.flush()


async def test_a_journal_that_goes_while_it_is_looked_at(tmp_path, monkeypatch):
    _, own = adopt(tmp_path, "q")
    own.close()
    flock = fcntl.flock

    def late(number, how):
        # Its owner was faster.
        for path in tmp_path.glob("q-000000000001-*.journal*"):
            path.unlink()
        flock(number, how)

    monkeypatch.setattr(fcntl, "flock", late)
    left, fresh = adopt(tmp_path, "q")
    assert left == []
    assert fresh.path.name.startswith("q-000000000002-")
    fresh.remove()
    assert files(tmp_path) == []


async def test_the_disk_of_the_journal_is_full(sqlite_place, use, tmp_path):
    directory = tmp_path / "journal"
    each = await use(sqlite_place, journal=directory, max_rows=50)
    loop = asyncio.get_running_loop()
    refused = 0
    stored = set()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    async with locked(sqlite_place):
        resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, hard))
        try:
            for number in range(40):
                row = {"id": f"{number:02}", "note": "x" * 20_000}
                try:
                    await each.queue.put(each.record(row), loop.time() + 5)
                    stored.add(f"{number:02}")
                except BackendUnavailableError as error:
                    refused += 1
                    said = str(error)
            assert refused > 0
            assert said.startswith(f"journal {directory}")
            assert said.endswith("the record was not stored")
            assert stored
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert each.stats.journal_failures == refused
        assert each.stats.rows == len(stored), "what is refused takes no room"
        assert set(contents(directory)) == stored
    await each.put("after")
    await each.flush()
    assert set(await each.rows()) == stored | {"after"}


async def test_a_full_disk_is_named_and_written_rows_still_leave(sqlite_place, use, tmp_path):
    each = await use(sqlite_place, journal=tmp_path)
    async with locked(sqlite_place):
        await each.put("a")
        file = each.queue._journal.file
        file._open.execute("PRAGMA max_page_count = 10")
        with pytest.raises(
            BackendUnavailableError, match=r"the disk is full; make room \(SQLITE_FULL\)"
        ):
            await each.queue.put(
                each.record({"id": "b", "note": "x" * 200_000}),
                asyncio.get_running_loop().time() + 5,
            )
    await each.flush()
    await until(lambda: contents(tmp_path) == [])


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda path: path.write_bytes(b"not a database, " * 500), "no SQLite file; move it away"),
        (lambda path: path.write_bytes(path.read_bytes()[:4096] + b"\xff" * 4096), "damaged|no journal"),
        (lambda path: sqlite3.connect(path).execute("PRAGMA user_version = 9").connection.close(), "newer release"),
    ],
    ids=["other", "damaged", "newer"],
)  # fmt: skip
async def test_a_journal_that_cannot_be_read_is_named(sqlite_place, use, tmp_path, damage, said):
    """It is not passed over: what was acknowledged is in there."""
    _, own = adopt(tmp_path, "inference")
    own.commit([Kept.of(Record("s", ("a",), "u", 1, None), b"{}")] * 3, [])
    own._open.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    own.close()
    damage(own.path)
    with pytest.raises(BackendUnavailableError, match=said) as caught:
        await use(sqlite_place, journal=tmp_path)
    assert own.path.name in str(caught.value)
    # Its lock is free again, so somebody can repair it; moved away, it goes on.
    (tmp_path / "away").mkdir()
    for path in tmp_path.glob("inference-*"):
        path.rename(tmp_path / "away" / path.name)
    each = await use(sqlite_place, journal=tmp_path)
    await each.put("a")
    await each.flush()


@pytest.mark.parametrize(
    "row",
    [(1, '["s",["a"],"u",false]', 1, b"c4n4ry"), (1, "c4n4ry", 1, b"[]"), (1, '["s"]', 1, b"[]")],
)
async def test_a_record_that_cannot_be_read_is_not_quoted(sqlite_place, use, tmp_path, row):
    _, own = adopt(tmp_path, "inference")
    own._open.execute("INSERT INTO records VALUES (?, ?, ?, ?)", row)
    own.close()
    with pytest.raises(BackendUnavailableError, match="what no journal holds") as caught:
        await use(sqlite_place, journal=tmp_path)
    assert "c4n4ry" not in everything(caught.value)


async def test_a_journal_that_another_program_keeps_locked(
    sqlite_place, use, tmp_path, monkeypatch
):
    monkeypatch.setattr("stackstore.stores.queue.journal_file.BUSY_TIMEOUT_MILLISECONDS", 50)
    each = await use(sqlite_place, journal=tmp_path)
    with contextlib.closing(
        sqlite3.connect(each.queue._journal.file.path, isolation_level=None)
    ) as holder:
        holder.execute("BEGIN IMMEDIATE")
        with pytest.raises(BackendUnavailableError, match="another program keeps it locked"):
            await each.put("a")
    await each.put("b")
    await each.flush()
    assert await each.rows() == {"b": 0}


async def test_a_directory_that_is_none(sqlite_place, use, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(
        BackendUnavailableError, match=r"journal .*/file.*directory must be writable"
    ):
        await use(sqlite_place, journal=tmp_path / "file")
    (tmp_path / "inference-odd.journal").touch()
    with pytest.raises(BackendUnavailableError, match="no journal"):
        await use(sqlite_place, journal=tmp_path)
    with pytest.raises(InvalidArgumentError, match="letters, digits and _"):
        await use(sqlite_place, journal=tmp_path, name="../up")


async def test_cancelled_callers_leave_nothing_or_their_row(sqlite_place, use, tmp_path):
    each = await use(sqlite_place, journal=tmp_path, max_rows=20)
    told = set()

    async def put(name):
        await each.put(name, within=30)
        told.add(name)

    for turn in range(15):
        tasks = [asyncio.create_task(put(f"{turn:02}-{n:02}")) for n in range(30)]
        for _ in range(turn * 2):
            await asyncio.sleep(0)
        for task in tasks[::2]:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    await each.flush()
    rows = await each.rows()
    assert told <= set(rows)
    assert len(rows) == each.stats.written
    stats = each.stats
    assert (stats.rows, stats.bytes, stats.waiting) == (0, 0, 0)


async def test_names_that_text_cannot_hold_survive(sqlite_place, use, tmp_path):
    from datetime import UTC, datetime

    each = await use(sqlite_place, journal=tmp_path)
    moment = datetime(2025, 1, 2, tzinfo=UTC)
    row = {"id": "é", "n": 2**62, "body": {"a": "\0\ud800"}, "note": None, "at": moment, "x": float("-inf")}  # fmt: skip
    async with locked(sqlite_place):
        record = each.record(row, user="u\ud800\0", shard="\ud801\0")
        await each.queue.put(record, asyncio.get_running_loop().time() + 5)
        await crash(each)
    second = await use(sqlite_place, journal=tmp_path)
    assert await second.queue.wait_for(
        second.person("u\ud800\0"), asyncio.get_running_loop().time() + 10
    )
    found = await second.store.fetch_one("t", {"id": "é"})
    assert {name: found[name] for name in row} == row


async def test_what_cannot_be_written_down_is_refused_at_once(sqlite_place, use, tmp_path):
    each = await use(sqlite_place, journal=tmp_path)
    record = each.record({"id": "a", "note": b"bytes"})
    with pytest.raises(InvalidArgumentError, match="can't be written down"):
        await each.queue.put(record, asyncio.get_running_loop().time() + 5)
    assert (each.stats.rows, each.stats.bytes) == (0, 0)


def test_numbers_are_never_used_again(tmp_path):
    """Also not after all records left: a mark would cover a new one."""
    _, own = adopt(tmp_path, "q")
    kept = Kept.of(Record("s", ("u", "a"), "u", 1, None), b"{}")
    assert own.commit([kept, kept], []) == 1
    assert own.commit([], [1, 2]) == 3
    own.close()
    (again,), fresh = adopt(tmp_path, "q")
    assert again.id == own.id
    assert again.records() == []
    assert again.commit([kept], []) == 3
    again.remove()
    fresh.remove()
    assert files(tmp_path) == []
    with pytest.raises(BackendUnavailableError, match="it is closed"):
        fresh.records()


async def test_a_group_that_fails_leaves_the_next_one_its_chance(tmp_path):
    _, own = adopt(tmp_path, "q")
    kept, lost = [], []
    journal = Journal(own, lambda record, number: kept.append(number), lost.append)
    record = Record("s", ("a",), "u", 1, None)
    own._open.execute("PRAGMA query_only = ON")
    loop = asyncio.get_running_loop()
    answers = [loop.create_future() for _ in range(3)]
    for answer in answers:
        journal.append(record, Kept.of(record, b"{}"), answer)
    ended = await asyncio.gather(*answers, return_exceptions=True)
    assert len({id(error) for error in ended}) == 3
    assert all("read-only" in str(error) for error in ended)
    assert (kept, lost) == ([], [record] * 3)
    own._open.execute("PRAGMA query_only = OFF")
    answer = loop.create_future()
    journal.append(record, Kept.of(record, b"{}"), answer)
    await answer
    assert kept == [1]
    own._open.execute("PRAGMA query_only = ON")
    journal.forget([1])
    await journal.settled()
    assert len(own.records()) == 1
    own._open.execute("PRAGMA query_only = OFF")
    # Not forgotten that it is to be forgotten.
    await until(lambda: not own.records())
    await journal.close(remove=True)


async def test_a_journal_is_for_its_own_user_alone(sqlite_place, use, tmp_path):
    directory = tmp_path / "journal"
    each = await use(sqlite_place, journal=directory)
    await each.put("a")
    assert directory.stat().st_mode & 0o777 == 0o700
    files = list(directory.iterdir())
    assert len(files) >= 3
    assert {file.stat().st_mode & 0o077 for file in files} == {0}


async def test_a_directory_whose_volume_is_not_mounted(sqlite_place, use, tmp_path):
    with pytest.raises(BackendUnavailableError, match="not-mounted/journal"):
        await use(sqlite_place, journal=tmp_path / "not-mounted" / "journal")
    assert not (tmp_path / "not-mounted").exists()
