"""Several processes on the same records: nothing is lost, done twice, or left after a kill."""

from __future__ import annotations

import asyncio
import json

from stackstore.access import User, acting_as
from stackstore.stores.batches import BatchesStore
from stackstore.stores.vector_stores import VectorStoresStore
from tests.integration.processes import running, together
from tests.integration.stores.records.conftest import ALICE, EVE

PROCESS = "tests.integration.stores.records.process"


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
    done = await together(PROCESS, place.address, [{"what": "work"}] * 2)
    assert sorted(done[0] + done[1]) == sorted(made)
    rows = await place.sql("SELECT id FROM @batches WHERE status = 'completed'")
    assert {row[0] for row in rows} == made


async def test_what_a_killed_worker_had_is_gone_on_with(place, authorized):
    """D13: after a restart OGX leaves it in progress for ever."""
    made = await unfinished(authorized, 10)
    async with running(PROCESS, place.address, [{"what": "hang"}]) as (killed,):
        killed.stdin.write(b"\n")
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
        await together(PROCESS, place.address, [{"what": "attach"}] * 2)
        store = await stores.retrieve_vector_store("vs")
        assert store["file_counts"]["completed"] == store["file_counts"]["total"] == 10
        assert store["usage_bytes"] == 30
        found = await stores.list_files("vs", limit=100)
        assert {one["id"] for one in found.data} == {
            f"f{number}-{n}" for number in (0, 1) for n in range(0, 10, 2)
        }
    assert await place.sql("SELECT count(*) FROM @vector_stores__file_contents") == [(10,)]


async def test_two_processes_on_an_empty_database_end_each_batch_once(place, authorized):
    # So that they find the database, not what it is made of.
    place.pool()
    await place.sql("SELECT 1")
    zero, one = await together(PROCESS, place.address, [{"what": "same"}] * 2)
    assert not set(zero) & set(one) and len(zero) + len(one) == 15
    batches = BatchesStore(authorized(), "batches")
    with acting_as(User("alice")):
        found = (await batches.list_batches(limit=100)).data
        assert len(found) == 15
        for batch in found:
            number = int(batch["status"] == "cancelled")
            assert batch["model"] == f"by{number}"
            assert batch["id"] in (zero, one)[number]
