"""Several processes that use one store at the same moment: their side, and the test's."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from pathlib import Path

from stackstore.access import AuthorizedSqlStore
from stackstore.pools.sqlite import SqliteDatabase
from stackstore.sql import SqlStore
from tests.integration.sql.worker import postgres_pool

ROOT = Path(__file__).parents[3]


async def together(place, module, tasks):
    """Run the module once a task, all from one moment on; returns what each printed last."""
    started = []
    try:
        for task in tasks:
            argument = json.dumps({**task, "address": place.address})
            started.append(
                await asyncio.create_subprocess_exec(
                    sys.executable, "-m", module, argument,
                    cwd=ROOT, env={**os.environ, "PYTHONWARNINGS": "error"},
                    stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
                )
            )  # fmt: skip
        async with asyncio.timeout(60):
            for process in started:
                assert await process.stdout.readline() == b"ready\n"
            answers = await asyncio.gather(*(process.communicate(b"\n") for process in started))
        assert [process.returncode for process in started] == [0] * len(started)
        return [json.loads(out) for out, _ in answers]
    finally:
        for process in started:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                await process.wait()


async def serve(work) -> None:
    """Be one of them: `work` takes an AuthorizedSqlStore and the task, and returns the answer."""
    task = json.loads(sys.argv[1])
    address = task["address"]
    pool = (
        SqliteDatabase("sql_default", address["path"])
        if "path" in address
        else postgres_pool(address)
    )
    try:
        print("ready", flush=True)
        sys.stdin.readline()
        print(json.dumps(await work(AuthorizedSqlStore(SqlStore(pool)), task)), flush=True)
    finally:
        await pool.close()
