"""`python -m hack.e2e.podnet`: pods reach the machine's loopback and are reached, and nothing else.

A pod has a network namespace with only `lo`. This process holds sockets in both: what a pod connects
to at 127.0.0.1 on one of the `outward` ports goes on to the machine's 127.0.0.1, and the pod's
address, 127.88.x.y on the machine's loopback, leads to the pod's `inward` ports. So two pods may
listen on one port, kubelet's probes arrive, and no packet leaves the machine.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import ctypes
import json
import os
import signal
import socket
import zlib
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from hack.e2e.cniplugin import SOCKET_NAME

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Accepted = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

_CLONE_NEWNET = 0x40000000
_CHUNK = 65536


def address(container: str) -> str:
    """The address of a container, of 127.88.0.0/16: always the same, and hardly another's."""
    number = zlib.crc32(container.encode()) % (256 * 254)
    return f"127.88.{number // 254}.{number % 254 + 1}"


class Namespaces:
    """Makes sockets inside of network namespaces.

    A thread can change its namespace, and a socket stays where it was made; so one thread goes there
    and back, and everything else happens in the machine's own.
    """

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._home = os.open("/proc/self/ns/net", os.O_RDONLY)
        self._thread = ThreadPoolExecutor(1)

    async def made(self, namespace: int, listen: int | None = None) -> socket.socket:
        """A TCP socket in it; with `listen`, one that is bound to that port of 127.0.0.1."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, self._make, namespace, listen)

    def _make(self, namespace: int, listen: int | None) -> socket.socket:
        self._enter(namespace)
        try:
            made = socket.socket()
            made.setblocking(False)
            if listen is not None:
                made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                made.bind(("127.0.0.1", listen))
            return made
        finally:
            self._enter(self._home)

    def _enter(self, namespace: int) -> None:
        if self._libc.setns(namespace, _CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "setns")


@dataclass
class Pod:
    """One pod's namespace (a descriptor of it) and the servers for it."""

    namespace: int
    servers: list[asyncio.Server] = field(default_factory=list)


class Network:
    """The pods there are.

    Args:
        outward: ports of the machine's 127.0.0.1 that every pod reaches at its own.
        inward: ports of every pod that are reached at its address.
    """

    def __init__(self, outward: list[int], inward: list[int]) -> None:
        self._outward = outward
        self._inward = inward
        self._namespaces = Namespaces()
        self._pods: dict[str, Pod] = {}

    async def add(self, container: str, namespace: str) -> str:
        """Connect a pod; returns its address."""
        await self.remove(container)
        pod = self._pods[container] = Pod(os.open(namespace, os.O_RDONLY))
        own = address(container)
        for port in self._outward:
            inside = await self._namespaces.made(pod.namespace, port)
            pod.servers.append(await asyncio.start_server(_out(port), sock=inside))
        for port in self._inward:
            pod.servers.append(await asyncio.start_server(self._in(pod, port), own, port))
        return own

    async def remove(self, container: str) -> None:
        """Disconnect a pod, if there is one."""
        pod = self._pods.pop(container, None)
        if pod is not None:
            for server in pod.servers:
                server.close()
            os.close(pod.namespace)

    def _in(self, pod: Pod, port: int) -> Accepted:
        async def open_inside() -> Streams:
            made = await self._namespaces.made(pod.namespace)
            try:
                await asyncio.get_running_loop().sock_connect(made, ("127.0.0.1", port))
            except BaseException:
                made.close()
                raise
            return await asyncio.open_connection(sock=made)

        async def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await _join((reader, writer), open_inside())

        return accepted


def _out(port: int) -> Accepted:
    async def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await _join((reader, writer), asyncio.open_connection("127.0.0.1", port))

    return accepted


_joined: set[asyncio.Task[None] | None] = set()
"""Nobody else holds these tasks, and the loop holds them only weakly."""


async def _join(near: Streams, opening: Awaitable[Streams]) -> None:
    task = asyncio.current_task()
    _joined.add(task)
    try:
        await _connect(near, opening)
    finally:
        _joined.discard(task)


async def _connect(near: Streams, opening: Awaitable[Streams]) -> None:
    try:
        far = await opening
    except OSError:
        # As if nobody listened.
        near[1].transport.abort()
        return
    await asyncio.gather(_pump(near[0], far[1]), _pump(far[0], near[1]))
    for _, writer in (near, far):
        writer.close()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(_CHUNK):
            writer.write(data)
            await writer.drain()
        writer.write_eof()
    except OSError:
        writer.transport.abort()


async def serve(directory: Path, outward: list[int], inward: list[int]) -> None:
    """Until SIGTERM. The plugin's questions are one JSON object a connection."""
    network = Network(outward, inward)
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)

    async def asked(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        question = json.loads(await reader.readline())
        answer: dict[str, str] = {}
        try:
            if question["command"] == "ADD":
                answer["address"] = await network.add(question["container"], question["namespace"])
            else:
                await network.remove(question["container"])
        except OSError as error:
            answer["error"] = str(error)
        with contextlib.suppress(OSError):
            writer.write(json.dumps(answer).encode() + b"\n")
            await writer.drain()
            writer.close()

    async with await asyncio.start_unix_server(asked, directory / SOCKET_NAME):
        await ended.wait()
        # Connections under way end with the process; nobody is left to whom that matters.
        os._exit(0)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m hack.e2e.podnet", description=__doc__)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--outward", type=int, nargs="*", default=[])
    parser.add_argument("--inward", type=int, nargs="*", default=[])
    arguments = parser.parse_args()
    asyncio.run(serve(arguments.directory, arguments.outward, arguments.inward))
