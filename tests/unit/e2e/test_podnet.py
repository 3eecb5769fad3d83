"""What goes in at one end of a joined connection comes out at the other."""

from __future__ import annotations

import asyncio
import contextlib
import gc

from hack.e2e import podnet
from tests.support.postgres import free_port


async def shout(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer only when the other side has said all."""
    heard = await reader.read()
    writer.write(heard.upper())
    await writer.drain()
    writer.close()


async def test_both_directions_arrive_whole_and_end_one_by_one():
    async with await asyncio.start_server(shout, "127.0.0.1") as far:
        port = far.sockets[0].getsockname()[1]
        async with await asyncio.start_server(podnet._out(port), "127.0.0.1") as near:
            reader, writer = await asyncio.open_connection(*near.sockets[0].getsockname()[:2])
            said = b"x" * 1_000_000
            writer.write(said)
            writer.write_eof()
            gc.collect()
            assert await asyncio.wait_for(reader.read(), 30) == said.upper()
            writer.close()
            await writer.wait_closed()
    assert not podnet._joined


async def test_where_nobody_listens_the_connection_ends():
    async with await asyncio.start_server(podnet._out(free_port()), "127.0.0.1") as near:
        reader, writer = await asyncio.open_connection(*near.sockets[0].getsockname()[:2])
        with contextlib.suppress(ConnectionResetError):
            assert await asyncio.wait_for(reader.read(), 30) == b""
        writer.close()
