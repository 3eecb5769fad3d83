"""Postgres 13 is the oldest that is served: older ones are told so, and no statement needs a newer."""

from __future__ import annotations

import ast
import asyncio
import contextlib
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

import stackstore
from stackstore.errors import BackendUnavailableError
from stackstore.pools.login import OLDEST_VERSION
from tests.support.world import world_of

NEWER = re.compile(
    r"\bMERGE INTO\b|NULLS (NOT )?DISTINCT|ANY_VALUE|JSON_(TABLE|SCALAR|SERIALIZE|EXISTS|QUERY)"
    r"|RETURNING\s+(WITH|OLD|NEW)\b|\bdate_bin\b|\bregexp_(like|count|instr|substr)\b|string_to_table"
    r"|trim_array|unistr|uuidv[47]|array_(sample|shuffle|sort|reverse)|random_normal|bit_count|multirange"
    r"|SEARCH (BREADTH|DEPTH)|WITHOUT OVERLAPS|security_invoker|pg_input_is_valid|\bCOMPRESSION\b"
    r"|GENERATED ALWAYS AS [^)]*VIRTUAL",
)
"""What Postgres 14 to 18 added to SQL, as far as stores could be tempted."""


def texts() -> list[tuple[str, str]]:
    """Every text of the runtime's code that could be part of a statement, and where it is."""
    return [
        (f"{path.name}:{node.lineno}", node.value)
        for path in sorted(Path(stackstore.__file__).parent.rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]


def test_no_statement_needs_a_newer_one():
    assert OLDEST_VERSION == 13
    assert len(texts()) > 1000
    assert [(place, text) for place, text in texts() if NEWER.search(text)] == []


@contextlib.asynccontextmanager
async def says(port: int, version: bytes) -> AsyncIterator[int]:
    """The server at a port, which says that it is of another version; the port to find that at."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", port)

        async def carry(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
            while data := await source.read(1 << 16):
                # It comes in one piece with the rest of the welcome, and stays as long as it is.
                sink.write(re.sub(rb"(server_version\0)\d\d\.\d", rb"\g<1>" + version, data))
            sink.close()

        await asyncio.gather(
            carry(reader, far_writer), carry(far_reader, writer), return_exceptions=True
        )

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def test_an_older_server_is_refused_by_its_version(database):
    async with says(database.server.port, b"12.9") as port:
        async with world_of(database, acquire_timeout_seconds=1) as world:
            world.logins = [world.login(database.password, port=port)]
            world.offer()
            with pytest.raises(
                BackendUnavailableError, match=r"is PostgreSQL 12; 13 is the oldest"
            ):
                async with world.pool.driver():
                    pass
            assert await world.sessions() == []
        # What one moves to is looked at before it is used.
        async with world_of(database) as world:
            async with world.pool.driver():
                pass
            world.rotate_snapshot(database.password, port=port)
            await world.until(lambda: "PostgreSQL 12" in str(world.pool.pool.status()["trouble"]))
            async with world.pool.driver() as connection:
                assert await connection.fetchval("SELECT 1") == 1


async def test_the_oldest_is_served(database):
    async with says(database.server.port, b"13.0") as port, world_of(database) as world:
        world.logins = [world.login(database.password, port=port)]
        world.offer()
        async with world.pool.driver() as connection:
            assert connection.get_server_version().major == 13


async def test_it_is_another_release_than_the_embedded_one(postgres):
    """Or all of this directory would show nothing new."""
    (row,) = await postgres.run(
        "SELECT current_setting('server_version_num')::int / 10000 AS major"
    )
    assert 13 <= row["major"] < 18
