"""A TCP proxy on loopback that can be as bad as a network: refuse, swallow, cut, be slow, cut short."""

from __future__ import annotations

import asyncio
import contextlib

from tests.support.postgres import free_port


class Proxy:
    """Stands before a server; `async with` starts and ends it.

    Attributes:
        delay_seconds: how much later everything passes, in each direction.
        cut_after_bytes: after so many bytes from the server a connection is cut; None: never.
        accepted: how many connections came in so far.
    """

    host = "127.0.0.1"

    def __init__(self, target_port: int, target_host: str = "127.0.0.1") -> None:
        self.port = free_port()
        self.target = (target_host, target_port)
        self.delay_seconds = 0.0
        self.cut_after_bytes: int | None = None
        self.accepted = 0
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._listener: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def let_in(self) -> None:
        """Accept connections (again)."""
        if self._listener is None:
            self._listener = await asyncio.start_server(self._serve, self.host, self.port)

    def refuse(self) -> None:
        """Connections are refused from now on; those there are go on."""
        if self._listener is not None:
            self._listener.close()
            self._listener = None

    def swallow(self) -> None:
        """Nothing passes any more, old connections included; new ones are accepted and say nothing."""
        self._flowing.clear()

    def let_through(self) -> None:
        """Things pass again, with what was held back."""
        self._flowing.set()

    def cut(self) -> None:
        """Every connection there is ends at once, as when a machine in between restarts."""
        for writer in list(self._writers):
            writer.transport.abort()

    async def down(self) -> None:
        """As if the server had gone: refused, and what was there is cut and knows it."""
        self.refuse()
        self.cut()
        await asyncio.sleep(0.05)

    async def __aenter__(self) -> Proxy:
        await self.let_in()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.refuse()
        self.cut()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.accepted += 1
        self._writers.add(writer)
        server = None
        try:
            await self._flowing.wait()
            server_reader, server = await asyncio.open_connection(*self.target)
            self._writers.add(server)
            ways = [
                asyncio.create_task(self._pump(reader, server, None)),
                asyncio.create_task(self._pump(server_reader, writer, self.cut_after_bytes)),
            ]
            try:
                await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for way in ways:
                    way.cancel()
                await asyncio.gather(*ways, return_exceptions=True)
        except (OSError, asyncio.CancelledError):
            # It ends here in either case; whoever cancelled waits for the task.
            pass
        finally:
            for end in filter(None, (writer, server)):
                self._writers.discard(end)
                # Not close(): after a handshake that failed it would wait for ever.
                end.transport.abort()
            self._tasks.discard(task)

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, most: int | None
    ) -> None:
        passed = 0
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                await asyncio.sleep(self.delay_seconds)
                await self._flowing.wait()
                if most is not None and passed + len(data) > most:
                    writer.write(data[: most - passed])
                    writer.transport.abort()
                    return
                passed += len(data)
                writer.write(data)
                await writer.drain()
