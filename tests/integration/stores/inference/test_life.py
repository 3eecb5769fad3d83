"""How an inference store begins and ends: loops, forks, journals, and a database that isn't there."""

import asyncio
import os
import sqlite3

import pytest

from stackstore.access import acting_as
from stackstore.errors import BackendUnavailableError, StackstoreError
from tests.integration.sql.conftest import Place
from tests.integration.stores.conftest import until
from tests.integration.stores.inference.conftest import (
    ALICE,
    BOB,
    asked,
    completion,
    delete,
    get,
    ids,
    inference,
    keep,
    locked,
    rows,
)


async def test_it_begins_by_itself_and_once(place, make, tmp_path):
    store = make(place, journal=tmp_path / "journal")
    await asyncio.gather(*(store.initialize() for _ in range(5)))
    await asyncio.gather(*(keep(store, ALICE, f"{number}") for number in range(5)))
    await store.initialize()
    assert len(await ids(store, ALICE)) == 5
    other = make(place)
    await asyncio.gather(*(keep(other, BOB, f"{number}") for number in range(5)))
    assert await other.flush()
    assert len(await rows(place)) == 10


async def test_after_its_end_it_stores_nothing_and_still_reads(place, make):
    store = make(place)
    await keep(store, ALICE, "a")
    remains = await store.shutdown(20)
    assert remains.count == 0
    assert await rows(place) == [("a",)]
    with pytest.raises(BackendUnavailableError, match="closed; the record was not stored"):
        await keep(store, ALICE, "b")
    with pytest.raises(BackendUnavailableError, match="closed"):
        await delete(store, ALICE, "a")
    assert await ids(store, ALICE) == ["a"]
    assert await store.flush()
    await store.initialize()
    assert await store.shutdown(1) == remains


async def test_an_end_without_a_beginning_begins_nothing(place, make, tmp_path):
    journal = tmp_path / "journal"
    store = make(place, journal=journal)
    assert (await store.shutdown(1)).count == 0
    await store.initialize()
    assert await ids(store, ALICE) == []
    assert await store.flush()
    with pytest.raises(BackendUnavailableError, match="closed"):
        await keep(store, ALICE, "a")
    assert not journal.exists()


async def test_an_end_in_the_middle_of_the_beginning(place, make, tmp_path):
    journal = tmp_path / "journal"
    store = make(place, journal=journal)
    beginning = asyncio.create_task(store.initialize())
    await asyncio.sleep(0)
    assert (await store.shutdown(5)).count == 0
    await beginning
    assert list(journal.iterdir()) == [], "it ended in good order"


async def test_the_end_reports_what_it_could_not_write(place, make):
    store = make(place)
    await keep(store, ALICE, "first")
    await store.flush()
    async with locked(place):
        await keep(store, ALICE, *(f"{number:02}" for number in range(20)))
        remains = await store.shutdown(0.5)
    left = {identity[-1] for identity in (*remains.unwritten, *remains.unknown)}
    stored = {name for (name,) in await rows(place)}
    assert left | stored == {"first", *(f"{number:02}" for number in range(20))}
    assert not stored & {identity[-1] for identity in remains.unwritten}
    assert not remains.journaled


async def test_whoever_is_cancelled_leaves_all_or_nothing(place, make):
    store = make(place, num_writers=1, max_write_queue_size=4)
    await keep(store, ALICE, "first")
    await store.flush()
    async with locked(place):
        await keep(store, ALICE, *"abcd")
        waiting = [asyncio.create_task(keep(store, ALICE, f"{n:02}")) for n in range(20)]
        reading = asyncio.create_task(ids(store, ALICE))
        await asyncio.sleep(0.02)
        for task in (*waiting[::2], reading):
            task.cancel()
        await asyncio.sleep(0)
        assert store.stats().waiting == 10
    await asyncio.gather(*waiting[1::2])
    expected = ["first", *"abcd", *(f"{n:02}" for n in range(1, 20, 2))]
    assert await ids(store, ALICE, order="asc", limit=100) == expected
    assert (store.stats().rows, store.stats().waiting) == (0, 0)


async def test_another_loop_is_told(place, make):
    store = make(place)
    await keep(store, ALICE, "a")
    calls = [
        lambda: keep(store, ALICE, "b"),
        lambda: get(store, ALICE, "a"),
        lambda: delete(store, ALICE, "a"),
        lambda: store.flush(1),
        lambda: store.shutdown(1),
    ]

    async def elsewhere():
        for call in calls:
            with pytest.raises(StackstoreError, match="another event loop"):
                await call()

    await asyncio.to_thread(lambda: asyncio.run(elsewhere()))
    assert await ids(store, ALICE) == ["a"]


@pytest.mark.filterwarnings("ignore:This process.*is multi-threaded:DeprecationWarning")
async def test_a_forked_child_is_told(place, make):
    store = make(place)
    await keep(store, ALICE, "a")
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            with acting_as(ALICE):
                asyncio.run(store.store_chat_completion(completion("b"), asked()))
        except StackstoreError as error:
            os.write(writing, str(error).encode())
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    os.close(writing)
    told = os.read(reading, 1000).decode()
    os.close(reading)
    assert "this process was forked after it was started" in told
    assert await ids(store, ALICE) == ["a"]


def test_a_loop_that_ends_and_another_one_with_a_new_store(tmp_path):
    place = Place("sqlite", {"path": str(tmp_path / "sql.db")})

    async def live(name, *, orderly):
        store = inference(place, journal=tmp_path / "journal")
        await keep(store, ALICE, name)
        found = await ids(store, ALICE, order="asc")
        if orderly:
            assert (await store.shutdown(10)).count == 0
        await place.pools.pop().close()
        return found

    assert asyncio.run(live("a", orderly=True)) == ["a"]
    assert asyncio.run(live("b", orderly=False)) == ["a", "b"]
    assert asyncio.run(live("c", orderly=True)) == ["a", "b", "c"]


async def test_the_database_is_not_there_at_the_start(own_postgres, make, tmp_path):
    """Not even its tables are: all is taken, reads say so, and later it is there."""
    server, place = own_postgres
    await asyncio.to_thread(server.stop, "immediate", keep=True)
    how = {"pool": {"acquire_timeout_seconds": 1}, "read_timeout_seconds": 0.2}
    store = make(place, journal=tmp_path / "journal", **how)
    await store.initialize()
    for number in range(50):
        await keep(store, ALICE, f"{number:02}")
    with pytest.raises(BackendUnavailableError, match=r"not written within.*the last write failed"):
        await until(lambda: store.stats().retries > 0)
        await ids(store, ALICE)
    with pytest.raises(BackendUnavailableError):
        await ids(store, BOB)
    remains = await store.shutdown(0.5)
    assert (remains.count, remains.journaled) == (50, True)
    # The next one adopts the journal while the database is still away.
    store = make(place, journal=tmp_path / "journal", **how)
    await store.initialize()
    assert store.stats().replayed == 50
    await keep(store, ALICE, "new")
    await asyncio.to_thread(server.start_again)
    assert await store.flush()
    assert len(await ids(store, ALICE, limit=100)) == 51
    # Replayed ones belong to whom they did, and are written once.
    assert await ids(store, BOB) == []
    assert len(await rows(place)) == 51


async def test_a_read_says_that_the_login_is_refused(postgres_place, make):
    """The first write still waits for a connection then, so it has nothing to say yet."""
    canary = "sk-canary"
    store = make(
        postgres_place,
        pool={"password": canary, "acquire_timeout_seconds": 60},
        read_timeout_seconds=1.0,
    )
    await keep(store, ALICE, "a")
    with pytest.raises(BackendUnavailableError) as error:
        await ids(store, ALICE)
    assert "can't be reached: no login is proven; revision 0badcafe refused" in str(error.value)
    assert "28P01" in str(error.value)
    assert canary not in str(error.value)


async def test_a_journal_that_cannot_be_used_is_named_and_tried_again(place, make, tmp_path):
    journal = tmp_path / "journal"
    journal.write_text("not a directory")
    store = make(place, journal=journal)
    for _ in range(2):
        with pytest.raises(BackendUnavailableError, match="journal"):
            await keep(store, ALICE, "a")
    with pytest.raises(BackendUnavailableError, match="journal"):
        await store.initialize()
    journal.unlink()
    await keep(store, ALICE, "a")
    assert await ids(store, ALICE) == ["a"]


async def test_stores_of_two_names_share_a_directory(place, make, tmp_path):
    journal = tmp_path / "journal"
    store = make(place, journal=journal, name="one")
    await keep(store, ALICE, "a")
    await store.flush()
    async with locked(place):
        await keep(store, ALICE, "b")
        await store.shutdown(0.3)
    other = make(place, journal=journal, name="two")
    await other.initialize()
    assert other.stats().replayed == 0
    heir = make(place, journal=journal, name="one")
    assert await heir.flush()
    assert heir.stats().replayed == 1
    assert await ids(heir, ALICE) == ["b", "a"]


async def test_a_delete_survives_in_the_journal_in_order(place, make, tmp_path):
    """Killed between the acknowledgement and the write, as far as the next one can tell."""
    journal = tmp_path / "journal"
    store = make(place, journal=journal)
    await keep(store, ALICE, "a", "b")
    await keep(store, BOB, "a")
    await store.flush()
    async with locked(place):
        await delete(store, ALICE, "a")
        await keep(store, ALICE, "c")
        await store.shutdown(0.3)
    (file,) = journal.glob("*.journal")
    with sqlite3.connect(file) as kept:
        assert kept.execute("SELECT count(*) FROM records").fetchone() == (2,)
    kept.close()
    heir = make(place, journal=journal)
    await heir.initialize()
    assert await heir.flush()
    assert await ids(heir, ALICE) == ["c", "b"]
    assert await ids(heir, BOB) == ["a"]
