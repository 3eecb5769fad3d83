"""Several processes on the same records: nothing is lost, done twice, or left after a kill."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from pathlib import Path

from stackstore.access import User, acting_as
from stackstore.stores.batches import BatchesStore
from stackstore.stores.vector_stores import VectorStoresStore
from tests.integration.stores.records.conftest import ALICE, EVE

ROOT = Path(__file__).parents[4]


@contextlib.asynccontextmanager
async def processes(place, *whats):
    """One for each, all of them told to begin at one moment."""
    # So that they find the database, not what it is made of.
    place.pool()
    await place.sql("SELECT 1")
    started = [
        await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.integration.stores.records.process",
            json.dumps({"what": what, "address": place.address, "number": n}),
            cwd=ROOT, env={**os.environ, "PYTHONWARNINGS": "error"},
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        )
        for n, what in enumerate(whats)
    ]  # fmt: skip
    try:
        for process in started:
            assert await process.stdout.readline() == b"ready\n"
        for process in started:
            process.stdin.write(b"\n")
        yield started
    finally:
        for process in started:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()


async def answers(started):
    outputs = await asyncio.gather(*(process.communicate() for process in started))
    assert [process.returncode for process in started] == [0] * len(started)
    return [json.loads(out) for out, _ in outputs]


async def unfinished(authorized, count):
    batches = BatchesStore(authorized(), "batches")
    made = set()
    for n in range(count):
        with acting_as(ALICE if n % 2 else EVE):
            made.add(
                (await batches.create_batch(input_file_id="f", endpoint="/v1/embeddings"))["id"]
            )
    return made


async def test_two_workers_share_the_work(place, authorized):
    made = await unfinished(authorized, 24)
    async with processes(place, "work", "work") as started:
        done = await answers(started)
    assert sorted(done[0] + done[1]) == sorted(made)
    rows = await place.sql("SELECT id FROM @batches WHERE status = 'completed'")
    assert {row[0] for row in rows} == made


async def test_what_a_killed_worker_had_is_gone_on_with(place, authorized):
    """D13: after a restart OGX leaves it in progress for ever."""
    made = await unfinished(authorized, 10)
    async with processes(place, "hang") as (killed,):
        had = set(json.loads(await killed.stdout.readline()))
        assert len(had) == 4
        killed.kill()
        await killed.wait()
    batches = BatchesStore(authorized(), "batches")
    done = {claim.document["id"] for claim in await batches.claims.unfinished()}
    assert done == made - had
    async with asyncio.timeout(20):
        # Its claims end.
        while done != made:
            await asyncio.sleep(0.05)
            done |= {claim.document["id"] for claim in await batches.claims.unfinished()}


async def test_two_processes_attach_and_all_is_counted(place, authorized):
    stores = VectorStoresStore(authorized(), "vector_stores")
    with acting_as(User("alice")):
        await stores.create_vector_store({"id": "vs"})
        async with processes(place, "attach", "attach") as started:
            await answers(started)
        store = await stores.retrieve_vector_store("vs")
        assert store["file_counts"]["completed"] == store["file_counts"]["total"] == 10
        assert store["usage_bytes"] == 30
        found = await stores.list_files("vs", limit=100)
        assert {one["id"] for one in found.data} == {
            f"f{number}-{n}" for number in (0, 1) for n in range(0, 10, 2)
        }
    assert await place.sql("SELECT count(*) FROM @vector_stores__file_contents") == [(10,)]


async def test_two_processes_on_an_empty_database_end_each_batch_once(place, authorized):
    async with processes(place, "same", "same") as started:
        zero, one = await answers(started)
    assert not set(zero) & set(one) and len(zero) + len(one) == 15
    batches = BatchesStore(authorized(), "batches")
    with acting_as(User("alice")):
        found = (await batches.list_batches(limit=100)).data
        assert len(found) == 15
        for batch in found:
            number = int(batch["status"] == "cancelled")
            assert (f"by{number}" in batch, f"by{1 - number}" in batch) == (True, False)
            assert batch["id"] in (zero, one)[number]
