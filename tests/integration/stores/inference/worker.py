"""A process of its own with an inference store; run as a script with one JSON argument.

It prints one JSON line for each thing that a test waits for: how many completions were acknowledged,
and after SIGTERM what its shutdown reported.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from pathlib import Path

from stackstore.access import User, acting_as
from tests.integration.sql.conftest import Place
from tests.integration.stores.inference.conftest import asked, completion, inference
from tests.integration.stores.worker import say

PRODUCERS = 100


async def main(task) -> None:
    address = task["address"]
    place = Place("sqlite" if "path" in address else "postgresql", address)
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, ended.set)
    journal = Path(task["journal"]) if task.get("journal") else None
    store = inference(place, journal=journal, max_write_queue_size=50_000)
    await store.initialize()
    say(started=store.stats().replayed)
    if count := task.get("count", 0):
        with acting_as(User("u0")):
            # So that the table is there, which the test locks.
            await store.list_chat_completions()
        say(ready=True)
        sys.stdin.readline()

        async def produce(number) -> None:
            with acting_as(User(f"u{number % 7}")):
                for place in range(number, count, PRODUCERS):
                    await store.store_chat_completion(completion(f"{place:06d}"), asked("é" * 20))

        await asyncio.gather(*(produce(number) for number in range(PRODUCERS)))
        say(acknowledged=store.stats().acknowledged, written=store.stats().written)
    if task.get("drain"):
        say(drained=await store.flush(60))
    await ended.wait()
    remains = await store.shutdown(task.get("grace", 20))
    say(
        unwritten=[identity[-1] for identity in remains.unwritten],
        unknown=[identity[-1] for identity in remains.unknown],
        journaled=remains.journaled,
    )
    for pool in place.pools:
        await pool.close()


if __name__ == "__main__":
    asyncio.run(main(json.loads(sys.argv[1])))
