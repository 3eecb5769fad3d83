"""TLS in front of a Postgres that has none: it answers the SSLRequest with a real handshake."""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import threading
from collections.abc import Iterator

_SSL_REQUEST = struct.pack("!II", 8, 80877103)


class Front:
    """A listener on loopback that passes everything on to a Postgres server.

    Attributes:
        encrypted: of every connection that was let through, in order.
    """

    def __init__(self, context: ssl.SSLContext, target: tuple[str, int]) -> None:
        self.encrypted: list[bool] = []
        self._context = context
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: set[socket.socket] = set()

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self._listener.getsockname()[1])

    def accept(self) -> None:
        """Serve until closed."""
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def close(self) -> None:
        """End every connection."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for one in list(self._open):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def _serve(self, client: socket.socket) -> None:
        with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
            stack.enter_context(client)
            first = client.recv(8, socket.MSG_WAITALL)
            if first == _SSL_REQUEST:
                client.sendall(b"S")
                client = stack.enter_context(self._context.wrap_socket(client, server_side=True))
                first = b""
            self.encrypted.append(not first)
            server = stack.enter_context(socket.create_connection(self._target))
            server.sendall(first)
            self._open |= {client, server}
            back = threading.Thread(target=_pump, args=(server, client), daemon=True)
            back.start()
            _pump(client, server)
            back.join()
            self._open -= {client, server}


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
    for one in (source, sink):
        with contextlib.suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def front(context: ssl.SSLContext, target: tuple[str, int]) -> Iterator[Front]:
    """A front that ends with the block."""
    made = Front(context, target)
    thread = threading.Thread(target=made.accept, name="TLS front")
    thread.start()
    try:
        yield made
    finally:
        made.close()
        thread.join(10)
