"""Serves `/metrics`, `/livez` and `/readyz`, in threads: a stalled event loop must be able to say so."""

from __future__ import annotations

import socket
import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from stackstore_operator.telemetry.health import Health

_CLIENT_SECONDS = 10
_TEXT = "text/plain; charset=utf-8"


class Server:
    """An HTTP server.

    Args:
        bind: the address to listen at, IPv4 or IPv6.
        port: the port; 0: any free one, see `port`.
        health: who is asked.
        registry: what is shown.

    Raises:
        OSError: it can't listen there.
    """

    def __init__(self, bind: str, port: int, health: Health, registry: CollectorRegistry) -> None:
        class Handler(_Handler):
            timeout = _CLIENT_SECONDS

        Handler.health, Handler.registry = health, registry
        family = socket.AF_INET6 if ":" in bind else socket.AF_INET
        listening = type("_Server", (_Listening,), {"address_family": family})
        self._server = listening((bind, port), Handler)
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.2,), name="telemetry", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Listening(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def server_bind(self) -> None:
        # A container that begins again finds connections of the one before at the port.
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # Without the look-up of the host's name, which may take long.
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that went away is nobody's trouble."""


class _Handler(BaseHTTPRequestHandler):
    health: Health
    registry: CollectorRegistry

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        if path == "/livez":
            self._say(self.health.ails())
        elif path == "/readyz":
            self._say(self.health.lacks())
        elif path == "/metrics":
            encode, kind = choose_encoder(self.headers.get("Accept", ""))
            self._send(HTTPStatus.OK, encode(self.registry), kind)
        else:
            self._send(HTTPStatus.NOT_FOUND, b"/metrics, /livez and /readyz are here\n", _TEXT)

    def _say(self, troubles: list[str]) -> None:
        status = HTTPStatus.SERVICE_UNAVAILABLE if troubles else HTTPStatus.OK
        self._send(status, ("\n".join(troubles or ["ok"]) + "\n").encode(), _TEXT)

    def _send(self, status: HTTPStatus, body: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Probes come every few seconds, and tell nothing."""
