"""A process of its own that registers what all others do; run as a script with one JSON argument."""

from __future__ import annotations

import asyncio
import json
import sys

from stackstore.access import User, acting_as
from stackstore.errors import ConflictError
from stackstore.kv import KVStore
from stackstore.stores.metadata import MetadataStore
from tests.integration.addresses import pool_of
from tests.integration.processes import begin


async def main(task) -> None:
    pool = pool_of(task["address"])
    kv = KVStore(pool, "registry")
    store = MetadataStore(kv)
    me = f"p{task['number']}"
    try:
        begin()
        won, lost = [], 0
        for n in range(30):
            same = {"type": "model", "identifier": f"same{n}", "provider_id": "p"}
            assert (await store.system.register(same))["provider_id"] == "p"
            with acting_as(User("alice")):
                try:
                    mine = {"type": "model", "identifier": f"m{n}", "provider_id": me}
                    won.append((await store.register(mine))["provider_id"])
                except ConflictError:
                    lost += 1
                # One field each, by compare-and-set.
                while True:
                    there = await store.get("model", f"m{n}")
                    after = {**there, "metadata": {**there.get("metadata", {}), me: n}}
                    try:
                        await store.update(after, expected={"metadata": there.get("metadata")})
                        break
                    except ConflictError:
                        continue
        assert set(won) <= {me}
        print(json.dumps([len(won), lost]))
    finally:
        await kv.close()
        await pool.close()


if __name__ == "__main__":
    asyncio.run(main(json.loads(sys.argv[1])))
