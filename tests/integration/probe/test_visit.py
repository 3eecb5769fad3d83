"""One visit to a real database: what it finds, whatever is wrong, and what it leaves behind."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import time
from collections.abc import AsyncIterator, Awaitable, Callable

import asyncpg
import pytest

from stackstore.credentials.snapshot import Tls
from stackstore_operator.api.conditions import Reason
from stackstore_operator.probe.finding import Finding
from tests.integration.versions.test_oldest import says
from tests.support.postgres import free_port
from tests.support.proxy import Proxy
from tests.support.tls import Authority, TlsFront

CANARY = "c4n4ry"


def told(finding: Finding) -> tuple[str, Reason]:
    assert finding.revision == "0000000a"
    assert CANARY not in repr(finding)
    return finding.outcome.status, finding.outcome.reason


@contextlib.asynccontextmanager
async def server_that(
    answer: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
) -> AsyncIterator[int]:
    """A listener on loopback; its port."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await answer(reader, writer)
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def sessions(door) -> list[str]:
    rows = await door.database.server.run(
        "SELECT application_name FROM pg_stat_activity "
        f"WHERE datname = '{door.database.name}' AND backend_type = 'client backend'"
    )
    return [row[0] for row in rows]


async def test_what_is_right(door):
    finding = await door.visit()
    assert told(finding) == ("True", Reason.CONNECTED)
    assert finding.server_version.startswith("18.")
    assert finding.outcome.message == (
        f"logged in to 127.0.0.1:{door.database.server.port}, PostgreSQL {finding.server_version}"
    )
    assert (finding.rows, dict(finding.sights)) == ("missing", {})
    assert await sessions(door) == []


async def test_the_connection_says_whose_it_is_and_is_one(door):
    """Held at the door of a proxy that is slow, it can be looked at."""
    async with Proxy(door.database.server.port) as proxy:
        proxy.delay_seconds = 0.05
        visiting = asyncio.create_task(door.visit(port=proxy.port))
        names: set[str] = set()
        while not visiting.done():
            seen = await sessions(door)
            assert len(seen) <= 1
            names |= {name for name in seen if name}
        assert told(await visiting) == ("True", Reason.CONNECTED)
        assert proxy.accepted == 1
    assert names == {"stackstore-operator:0000000a"}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"password": CANARY}, Reason.LOGIN_REFUSED),
        ({"password": None}, Reason.LOGIN_REFUSED),
        ({"username": CANARY}, Reason.LOGIN_REFUSED),
        ({"database": CANARY}, Reason.DATABASE_NOT_FOUND),
        ({"tls": Tls(mode="Require")}, Reason.TLS_NOT_OFFERED),
        ({"tls": Tls(mode="VerifyFull", ca="no certificate")}, Reason.CA_INVALID),
    ],
    ids=lambda value: str(value) if isinstance(value, Reason) else "",
)
async def test_what_is_refused(door, change, reason):
    assert told(await door.visit(**change)) == ("False", reason)


@pytest.mark.parametrize(
    "sql", ['ALTER ROLE "{0}" NOLOGIN', 'REVOKE CONNECT ON DATABASE "{0}" FROM PUBLIC, "{0}"']
)
async def test_who_may_not_come_in(door, sql):
    database = door.database
    if sql.startswith("REVOKE"):
        await database.server.run(f'ALTER DATABASE "{database.name}" OWNER TO postgres')
    await database.server.run(sql.format(database.role))
    assert told(await door.visit()) == ("False", Reason.ACCESS_DENIED)


async def test_tls_as_the_runtime_does_it(door):
    good, other = Authority(), Authority()
    port = door.database.server.port
    async with TlsFront(good.issue("127.0.0.1"), port, only=True) as front:
        for tls, answer in (
            (Tls(mode="Disable"), ("False", Reason.TLS_REQUIRED)),
            (Tls(mode="Require"), ("True", Reason.CONNECTED)),
            (Tls(mode="VerifyCA", ca=good.pem), ("True", Reason.CONNECTED)),
            (Tls(mode="VerifyFull", ca=good.pem), ("True", Reason.CONNECTED)),
            (Tls(mode="VerifyFull", ca=other.pem), ("False", Reason.CERTIFICATE_NOT_TRUSTED)),
            (Tls(mode="VerifyCA"), ("False", Reason.CERTIFICATE_NOT_TRUSTED)),
        ):
            assert told(await door.visit(port=front.port, tls=tls)) == answer
    async with TlsFront(good.issue("elsewhere.example"), port) as front:
        checked = await door.visit(port=front.port, tls=Tls(mode="VerifyFull", ca=good.pem))
        assert told(checked) == ("False", Reason.CERTIFICATE_NOT_TRUSTED)
        assert "127.0.0.1" in checked.outcome.message.partition(" ")[2]
        unchecked = await door.visit(port=front.port, tls=Tls(mode="VerifyCA", ca=good.pem))
        assert told(unchecked) == ("True", Reason.CONNECTED)


async def test_what_speaks_no_tls_behind_its_yes(door):
    async def lie(reader, writer):
        await reader.readexactly(8)
        writer.write(b"S")
        await reader.readexactly(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await writer.drain()

    async with server_that(lie) as port:
        finding = await door.visit(port=port, tls=Tls(mode="Require"))
    assert told(finding) == ("Unknown", Reason.TLS_FAILED)


async def test_full(door):
    """Of the role, so that others of this server notice nothing."""
    await door.database.server.run(f'ALTER ROLE "{door.database.role}" CONNECTION LIMIT 1')
    login = door.backend().current
    held = await asyncpg.connect(
        host=login.host, port=login.port, user=login.username, database=login.database,
        password=login.password.get_secret_value(), ssl=False,
    )  # fmt: skip
    assert told(await door.visit()) == ("Unknown", Reason.TOO_MANY_CONNECTIONS)
    await held.close()
    finding = await door.visit()
    assert told(finding) == ("True", Reason.CONNECTED)
    assert finding.max_connections == 1
    await door.database.server.run(f'ALTER DATABASE "{door.database.name}" CONNECTION LIMIT 7')
    await door.database.server.run(f'ALTER ROLE "{door.database.role}" CONNECTION LIMIT -1')
    assert (await door.visit()).max_connections == 7
    await door.database.server.run(f'ALTER DATABASE "{door.database.name}" CONNECTION LIMIT -1')
    assert (await door.visit()).max_connections == 200 - 3


async def test_starting(door):
    fields = b"SFATAL\0VFATAL\0C57P03\0Mthe database system is starting up\0\0"

    async def start(reader, writer):
        await reader.read(100)
        writer.write(b"E" + struct.pack("!i", 4 + len(fields)) + fields)
        await writer.drain()

    async with server_that(start) as port:
        assert told(await door.visit(port=port)) == ("Unknown", Reason.SERVER_STARTING)


async def test_too_old(door):
    async with says(door.database.server.port, b"12.9") as port:
        finding = await door.visit(port=port)
    assert told(finding) == ("False", Reason.SERVER_TOO_OLD)
    assert "PostgreSQL 12; 13 is the oldest" in finding.outcome.message


async def test_nobody_there(door):
    assert told(await door.visit(port=free_port())) == ("Unknown", Reason.CONNECTION_REFUSED)


async def test_a_name_without_an_address(door, monkeypatch):
    """Not asked of any name server."""

    async def nowhere(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", nowhere)
    assert told(await door.visit(host="pg.nowhere")) == ("Unknown", Reason.HOST_NOT_FOUND)


async def test_no_name_at_all(door):
    assert told(await door.visit(host="x" * 64 + ".svc")) == ("Unknown", Reason.HOST_NOT_FOUND)


async def test_silence_ends_in_time(door):
    """At each of its steps: at the door, in the login, and behind it."""
    async with Proxy(door.database.server.port) as proxy:
        proxy.swallow()
        start = time.monotonic()
        assert told(await door.visit(port=proxy.port, seconds=0.5)) == (
            "Unknown",
            Reason.DATABASE_SILENT,
        )
        assert 0.4 < time.monotonic() - start < 5
        proxy.let_through()
        proxy.delay_seconds = 0.1
        for seconds in (0.3, 0.6, 0.9):
            finding = await door.visit(port=proxy.port, seconds=seconds)
            assert told(finding)[1] in (Reason.DATABASE_SILENT, Reason.CONNECTED)
    async with asyncio.timeout(10):
        while await sessions(door):
            await asyncio.sleep(0.05)


async def test_cut_off_anywhere(door):
    async with Proxy(door.database.server.port) as proxy:
        for cut in (1, 30, 200, 500, 700, 900):
            proxy.cut_after_bytes = cut
            status, reason = told(await door.visit(port=proxy.port))
            assert (status, reason) == ("Unknown", Reason.UNREACHABLE) or reason is Reason.CONNECTED


async def test_it_gives_up_when_it_is_told_to(door):
    async with Proxy(door.database.server.port) as proxy:
        proxy.swallow()
        visiting = asyncio.create_task(door.visit(port=proxy.port))
        await asyncio.sleep(0.1)
        visiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await visiting


async def test_a_server_that_takes_no_writes_is_told(door):
    await door.run(f'ALTER ROLE "{door.database.role}" SET default_transaction_read_only = on')
    finding = await door.visit()
    assert told(finding) == ("True", Reason.CONNECTED)
    assert "read-only" in finding.outcome.message


async def test_nothing_from_the_environment(door, monkeypatch):
    for name in ("PGPASSWORD", "PGSSLMODE", "PGOPTIONS", "PGSSLROOTCERT", "PGTARGETSESSIONATTRS"):
        monkeypatch.setenv(name, "/nowhere" if "ROOT" in name else door.database.password)
    assert told(await door.visit(password=None)) == ("False", Reason.LOGIN_REFUSED)
    assert told(await door.visit()) == ("True", Reason.CONNECTED)


class Spy:
    """Between a client and a server; keeps what the client says, by message."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._said = bytearray()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._port)

        async def carry(source, sink, keep):
            while data := await source.read(1 << 16):
                if keep:
                    self._said += data
                sink.write(data)
            sink.close()

        await asyncio.gather(
            carry(reader, far_writer, True),
            carry(far_reader, writer, False),
            return_exceptions=True,
        )

    def messages(self) -> list[tuple[bytes, bytes]]:
        """Type and body of each after the start-up."""
        at = struct.unpack_from("!i", self._said)[0]
        found = []
        while at < len(self._said):
            (length,) = struct.unpack_from("!i", self._said, at + 1)
            found.append(
                (bytes(self._said[at : at + 1]), bytes(self._said[at + 5 : at + 1 + length]))
            )
            at += 1 + length
        return found

    @property
    def start(self) -> bytes:
        return bytes(self._said[: struct.unpack_from("!i", self._said)[0]])


@pytest.mark.parametrize("pooler", ["Session", "Transaction"])
async def test_a_poolers_session_is_left_as_it_was(door, pooler):
    """In transaction mode nothing is named, and nothing is asked outside a transaction."""
    spy = Spy(door.database.server.port)
    async with server_that(spy.serve) as port:
        assert told(await door.visit(port=port, pooler=pooler)) == ("True", Reason.CONNECTED)
    # pgbouncer refuses what it doesn't track.
    assert b"timeout" not in spy.start
    inside = False
    for kind, body in spy.messages():
        if kind == b"Q":
            said = body.rstrip(b"\0").decode()
            inside = {"BEGIN READ ONLY;": True, "COMMIT;": False}.get(said, inside)
            assert inside or said == "COMMIT;"
            assert not said.startswith("SET ") or said.startswith("SET LOCAL ")
        if kind == b"P":
            assert inside
            if pooler == "Transaction":
                assert body.startswith(b"\0")
    assert not inside
