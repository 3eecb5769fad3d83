"""TLS before a Postgres that has none: a front on loopback that answers the SSLRequest itself."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import ssl
import struct

import trustme

from tests.support import ipv6

_SSL_REQUEST = struct.pack("!ii", 8, 80877103)


class Authority:
    """A certificate authority of the test's own, and what it issues."""

    def __init__(self) -> None:
        self._ca = trustme.CA()

    @property
    def pem(self) -> str:
        """Its certificate."""
        return self._ca.cert_pem.bytes().decode()

    def issue(self, *names: str, expired: bool = False) -> trustme.LeafCert:
        """A certificate for host names and addresses."""
        past = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1)
        return self._ca.issue_cert(*names, not_after=past if expired else None)


class TlsFront:
    """Speaks TLS to the client and plain to the server; `async with` starts and ends it.

    Args:
        certificate: what it shows.
        target_port: the server's, on 127.0.0.1.
        only: clients that don't ask for TLS are turned away, as by a server with only `hostssl`.

    Attributes:
        seen: of each connection, whether it asked for TLS.
    """

    def __init__(
        self, certificate: trustme.LeafCert, target_port: int, *, only: bool = False
    ) -> None:
        self.seen: list[bool] = []
        self._target_port = target_port
        self._only = only
        self._context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        certificate.configure_cert(self._context)
        self._tasks: set[asyncio.Task[None]] = set()
        self._listeners: list[asyncio.Server] = []
        self.port = 0

    async def __aenter__(self) -> TlsFront:
        first = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = int(first.sockets[0].getsockname()[1])
        self._listeners = [first]
        if ipv6.on_loopback():
            self._listeners.append(await asyncio.start_server(self._serve, "::1", self.port))
        return self

    async def __aexit__(self, *_: object) -> None:
        for listener in self._listeners:
            listener.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        server = None
        try:
            begin = await reader.readexactly(8)
            asked = begin == _SSL_REQUEST
            self.seen.append(asked)
            if asked:
                writer.write(b"S")
                await writer.start_tls(self._context)
                begin = b""
            elif self._only:
                writer.write(_no_entry())
                await writer.drain()
                return
            server_reader, server = await asyncio.open_connection("127.0.0.1", self._target_port)
            server.write(begin)
            ways = {
                asyncio.create_task(_pump(reader, server)),
                asyncio.create_task(_pump(server_reader, writer)),
            }
            try:
                await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for way in ways:
                    way.cancel()
                await asyncio.gather(*ways, return_exceptions=True)
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            # The client went, or liked the certificate not; or the test is over.
            pass
        finally:
            for end in filter(None, (writer, server)):
                # Not close(): after a handshake that failed it would wait for ever.
                end.transport.abort()
            self._tasks.discard(task)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()


def _no_entry() -> bytes:
    """What a server says whose pg_hba.conf has no line for the connection."""
    fields = b"SFATAL\0VFATAL\0C28000\0Mno pg_hba.conf entry, no encryption\0\0"
    return b"E" + struct.pack("!i", 4 + len(fields)) + fields
