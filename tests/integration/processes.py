"""Processes that work on one database at the same moment: the test's side, and theirs."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from pathlib import Path

from stackstore.access import AuthorizedSqlStore
from stackstore.sql import SqlStore
from tests.integration.addresses import pool_of

ROOT = Path(__file__).parents[2]
_PIPES = dict.fromkeys(("stdin", "stdout", "stderr"), asyncio.subprocess.PIPE)


@contextlib.asynccontextmanager
async def running(module, address, tasks):
    """One process a task, all of them where they wait for the word; killed at the end.

    Each task says its number and where the database is, besides what it is given.
    """
    started = []
    try:
        for number, given in enumerate(tasks):
            task = {"number": number, "address": address, **given}
            started.append(
                await asyncio.create_subprocess_exec(
                    sys.executable, "-m", module, json.dumps(task),
                    cwd=ROOT, env={**os.environ, "PYTHONWARNINGS": "error"}, **_PIPES,
                )
            )  # fmt: skip
        async with asyncio.timeout(60):
            for process in started:
                assert await process.stdout.readline() == b"ready\n", await process.stderr.read()
        yield started
    finally:
        for process in started:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                await process.wait()


async def answers(started):
    """Say the word to all of them, wait for their ends, and return each one's lines, as JSON."""
    async with asyncio.timeout(60):
        ended = await asyncio.gather(*(process.communicate(b"\n") for process in started))
    complaints = [
        (process.returncode, error.decode()[-500:])
        for process, (_, error) in zip(started, ended, strict=True)
    ]
    assert complaints == [(0, "")] * len(started)
    return [[json.loads(line) for line in out.decode().splitlines() if line] for out, _ in ended]


async def together(module, address, tasks):
    """Run the module once a task, all from one moment on; returns what each said last."""
    async with running(module, address, tasks) as started:
        return [lines[-1] for lines in await answers(started)]


def begin():
    """Wait for the word: so all start at one moment, however long their imports took."""
    print("ready", flush=True)
    sys.stdin.readline()


async def serve(work) -> None:
    """Be one of them: `work` takes an AuthorizedSqlStore and the task, and returns the answer."""
    task = json.loads(sys.argv[1])
    pool = pool_of(task["address"])
    try:
        begin()
        print(json.dumps(await work(AuthorizedSqlStore(SqlStore(pool)), task)), flush=True)
    finally:
        await pool.close()
