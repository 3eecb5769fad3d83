"""A process of its own that works on records; run as a script with one JSON argument."""

from __future__ import annotations

import asyncio
import json
import sys

from stackstore.access import AuthorizedSqlStore, User, acting_as
from stackstore.errors import ConflictError
from stackstore.sql import SqlStore
from stackstore.stores.batches import BatchesStore
from stackstore.stores.vector_stores import VectorStoresStore
from tests.integration.addresses import pool_of
from tests.integration.processes import begin


def say(what) -> None:
    print(json.dumps(what), flush=True)


async def work(batches) -> None:
    """Claim batches and complete them until there are none; say which ones."""
    done = []
    while True:
        claims = await batches.claims.unfinished(seconds=30, limit=3)
        if not claims:
            say(done)
            return
        for claim in claims:
            with acting_as(claim.user):
                batch_id = claim.document["id"]
                await batches.update_batch(batch_id, {"status": "in_progress"}, claim=claim)
                await batches.update_batch(batch_id, {"status": "completed"}, claim=claim)
            done.append(batch_id)


async def hang(batches) -> None:
    """Claim some for a moment, and do nothing more until killed."""
    claims = await batches.claims.unfinished(seconds=1, limit=4)
    say([claim.document["id"] for claim in claims])
    await asyncio.sleep(60)


async def attach(stores, number) -> None:
    """Attach files to one vector store, and take some out again."""
    with acting_as(User("alice")):
        for n in range(10):
            file_id = f"f{number}-{n}"
            await stores.attach_file(
                "vs", file_id, {"status": "completed", "usage_bytes": 3}, [{"n": n}]
            )
            if n % 2:
                await stores.delete_file("vs", file_id)
    say(None)


async def same(batches, number) -> None:
    """Make what all others make, with one key each."""
    ids = []
    with acting_as(User("alice")):
        for n in range(15):
            made = await batches.create_batch(
                input_file_id="f", endpoint="/v1/embeddings", idempotency_key=f"k{n}"
            )
            # Cancelled by one, completed by the other; it becomes one of both.
            status = "cancelled" if number else "completed"
            try:
                await batches.update_batch(made["id"], {"status": status, "model": f"by{number}"})
                ids.append(made["id"])
            except ConflictError:
                pass
    say(ids)


async def main(task) -> None:
    pool = pool_of(task["address"])
    store = AuthorizedSqlStore(SqlStore(pool))
    batches, stores = BatchesStore(store, "batches"), VectorStoresStore(store, "vector_stores")
    try:
        begin()
        match task["what"]:
            case "work":
                await work(batches)
            case "hang":
                await hang(batches)
            case "attach":
                await attach(stores, task["number"])
            case "same":
                await same(batches, task["number"])
    finally:
        await pool.close()


if __name__ == "__main__":
    asyncio.run(main(json.loads(sys.argv[1])))
