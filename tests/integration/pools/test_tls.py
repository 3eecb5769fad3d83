"""The TLS modes: against a front that everybody has, and a Postgres with OpenSSL where there is one."""

import asyncio

import pytest

from stackstore.credentials.snapshot import Login, Tls
from stackstore.errors import ConfigError
from stackstore.pools.login import connect
from stackstore.pools.slots import LoginRefusedError, UnreachableError
from stackstore.pools.target import Target
from stackstore.pools.tls import attempts
from tests.support import ipv6
from tests.support.postgres import PostgresServer, system_binaries
from tests.support.proxy import Proxy
from tests.support.tls import Authority, TlsFront
from tests.support.world import Load, world_of


@pytest.fixture(scope="module")
def authority():
    return Authority()


@pytest.fixture(scope="module")
def stranger():
    return Authority()


@pytest.fixture(scope="module")
def authorities(authority, stranger):
    return {"right": authority, "wrong": stranger}


def target_of(postgres, port: int, tls: Tls, host: str = "127.0.0.1") -> Target:
    login = Login(
        host=host,
        port=port,
        database="postgres",
        username=postgres.superuser,
        password=postgres.password,
    )
    return Target(login, tls, "None", None, "0123456789ab")


async def encrypted(target: Target) -> bool:
    """Connect and use it; whether the client's end is TLS."""
    connection = await connect(target)
    try:
        assert await connection.fetchval("SELECT 1") == 1
        return connection._transport.get_extra_info("ssl_object") is not None
    finally:
        await connection.close()


@pytest.mark.parametrize(
    "case",
    [
        ("Disable", None, ["127.0.0.1"], "plain"),
        ("Allow", None, ["127.0.0.1"], "plain"),
        ("Prefer", None, ["elsewhere.example"], "TLS"),
        ("Require", None, ["elsewhere.example"], "TLS"),
        ("Require", "right", ["elsewhere.example"], "TLS"),
        ("Require", "wrong", ["127.0.0.1"], "unable to get local issuer"),
        ("VerifyCA", "right", ["elsewhere.example"], "TLS"),
        ("VerifyCA", "wrong", ["127.0.0.1"], "unable to get local issuer"),
        ("VerifyCA", None, ["127.0.0.1"], "unable to get local issuer"),
        ("VerifyFull", "right", ["127.0.0.1"], "TLS"),
        ("VerifyFull", "right", ["elsewhere.example", "127.0.0.2"], "IP address mismatch"),
        ("VerifyFull", "wrong", ["127.0.0.1"], "unable to get local issuer"),
        ("VerifyFull", None, ["127.0.0.1"], "unable to get local issuer"),
    ],
)
async def test_modes(postgres, authorities, case):
    mode, ca, names, outcome = case
    authority = authorities["right"]
    pem = authorities[ca].pem if ca else None
    async with TlsFront(authority.issue(*names), postgres.port) as front:
        target = target_of(postgres, front.port, Tls(mode=mode, ca=pem))
        if outcome in ("plain", "TLS"):
            assert await encrypted(target) is (outcome == "TLS")
            assert front.seen == [outcome == "TLS"]
        else:
            with pytest.raises(LoginRefusedError, match=f"certificate was not accepted.*{outcome}"):
                await connect(target)


@pytest.mark.parametrize("host", ["localhost", pytest.param("::1", marks=ipv6.needed)])
async def test_the_name_is_that_of_the_snapshot(postgres, authority, host):
    tls = Tls(mode="VerifyFull", ca=authority.pem)
    async with TlsFront(authority.issue(host), postgres.port) as front:
        assert await encrypted(target_of(postgres, front.port, tls, host))
        with pytest.raises(LoginRefusedError, match="mismatch"):
            await connect(target_of(postgres, front.port, tls, "127.0.0.1"))


@pytest.mark.parametrize("mode", ["Require", "VerifyCA", "VerifyFull"])
async def test_an_expired_certificate(postgres, authority, mode):
    certificate = authority.issue("127.0.0.1", expired=True)
    async with TlsFront(certificate, postgres.port) as front:
        assert await encrypted(target_of(postgres, front.port, Tls(mode="Require")))
        with pytest.raises(LoginRefusedError, match="certificate has expired"):
            await connect(target_of(postgres, front.port, Tls(mode=mode, ca=authority.pem)))


@pytest.mark.parametrize("mode", ["Require", "VerifyCA", "VerifyFull"])
async def test_a_server_without_tls_is_refused(postgres, authority, mode):
    target = target_of(postgres, postgres.port, Tls(mode=mode, ca=authority.pem))
    with pytest.raises(LoginRefusedError, match="offers no TLS"):
        await connect(target)


@pytest.mark.parametrize("mode", ["Disable", "Allow", "Prefer"])
async def test_a_server_without_tls_is_fine(postgres, mode):
    assert not await encrypted(target_of(postgres, postgres.port, Tls(mode=mode)))


WANTS_TLS = [
    ("Disable", None, "28000"),
    ("Allow", None, "TLS"),
    ("Prefer", None, "TLS"),
    ("Require", None, "TLS"),
    ("Require", "right", "TLS"),
    ("Require", "wrong", "not accepted"),
    ("VerifyCA", "right", "TLS"),
    ("VerifyCA", "wrong", "not accepted"),
    ("VerifyFull", "right", "TLS"),
    ("VerifyFull", "wrong", "not accepted"),
]
"""(mode, CA, outcome) on a server that lets in nobody without TLS, whoever plays it."""


@pytest.mark.parametrize("case", WANTS_TLS)
@pytest.mark.parametrize("host", ["localhost", pytest.param("::1", marks=ipv6.needed)])
async def test_a_server_that_wants_tls(postgres, authorities, host, case):
    mode, ca, outcome = case
    tls = Tls(mode=mode, ca=authorities[ca].pem if ca else None)
    certificate = authorities["right"].issue(host)
    async with TlsFront(certificate, postgres.port, only=True) as front:
        target = target_of(postgres, front.port, tls, host)
        if outcome == "TLS":
            assert await encrypted(target)
            # Allow tries without it first.
            assert front.seen[-1] is True
            assert front.seen[:-1] == ([False] if mode == "Allow" else [])
        else:
            with pytest.raises(LoginRefusedError, match=outcome):
                await connect(target)


async def test_cut_in_the_handshake_says_nothing_of_the_login(postgres, authority):
    async with (
        TlsFront(authority.issue("127.0.0.1"), postgres.port) as front,
        Proxy(front.port) as proxy,
    ):
        for most in (0, 1, 100, 700):
            proxy.cut_after_bytes = most
            with pytest.raises(UnreachableError):
                await connect(
                    target_of(postgres, proxy.port, Tls(mode="VerifyFull", ca=authority.pem))
                )


@pytest.mark.parametrize("then", [b"", b"no TLS at all, and no Postgres either"])
async def test_what_agrees_to_tls_and_has_none_says_nothing_of_the_login(postgres, then):
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(8)
        writer.write(b"S")
        await reader.read(1)
        writer.write(then)
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(UnreachableError):
            await connect(target_of(postgres, port, Tls(mode="Require")))


async def test_the_authority_rotates_under_load(database, authority):
    """The snapshot carries the new CA; what was proven serves until the new one is."""
    following = Authority()
    async with (
        TlsFront(authority.issue("127.0.0.1"), database.server.port) as old,
        TlsFront(following.issue("127.0.0.1"), database.server.port) as new,
        Proxy(old.port) as proxy,
        world_of(database) as world,
    ):
        world.tls = Tls(mode="VerifyFull", ca=authority.pem)
        world.logins = [world.login(database.password, port=proxy.port)]
        world.offer()
        async with Load(world) as load:
            world.tls = Tls(mode="VerifyFull", ca=following.pem)
            world.offer()
            await load.more(100)
            assert "certificate was not accepted" in str(world.pool.pool.status()["trouble"])
            proxy.target = ("127.0.0.1", new.port)
            await world.until(lambda: world.pool.pool.machine.to_prove() is None)
            await load.more(100)
        assert load.failures == []
        assert len(new.seen) >= 1


async def test_both_authorities_in_one_bundle_with_comments(postgres, authority, stranger):
    bundle = f"# Zertifikate für später\n{stranger.pem}\n\n# und für heute\n{authority.pem}"
    async with TlsFront(authority.issue("127.0.0.1"), postgres.port) as front:
        assert await encrypted(target_of(postgres, front.port, Tls(mode="VerifyFull", ca=bundle)))


@pytest.mark.parametrize(
    "ca",
    ["", "garbage", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----", "\0", "é",
     "-----BEGIN CERTIFICATE-----\nMIIB"],
)  # fmt: skip
def test_a_ca_that_is_none(ca):
    with pytest.raises(ConfigError, match=r"tls\.ca: not a PEM certificate") as failure:
        attempts(Tls(mode="VerifyFull", ca=ca))
    assert failure.value.__context__ is None or failure.value.__suppress_context__


@pytest.fixture(scope="module")
def server_with_openssl(authority):
    """A Postgres that takes the user "app" over TLS only; not async, for a server starts in no loop."""
    binaries = system_binaries()
    if binaries is None:
        pytest.skip(
            "this machine has no Postgres with OpenSSL below /usr/lib/postgresql, and nothing here can "
            "bring one; the front has shown the same modes (test_a_server_that_wants_tls)"
        )
    settings = ["ssl=on", "ssl_cert_file=server.crt", "ssl_key_file=server.key"]
    server = PostgresServer(binaries, settings)
    certificate = authority.issue("localhost", "127.0.0.1", "::1")
    try:
        server._initialise()
        for name, content in {
            "server.crt": b"".join(part.bytes() for part in certificate.cert_chain_pems),
            "server.key": certificate.private_key_pem.bytes(),
            "pg_hba.conf": b"hostssl all app all scram-sha-256\n"
            b"host all postgres all scram-sha-256\n",
        }.items():
            path = server.data / name
            path.write_bytes(content)
            path.chmod(0o600)
            server.own(path)
        server.start_again()
        asyncio.run(server.create_role("app", "secret"))
        yield server
    finally:
        server.stop()


@pytest.mark.parametrize("case", WANTS_TLS)
@pytest.mark.parametrize("host", ["localhost", pytest.param("::1", marks=ipv6.needed)])
async def test_a_server_with_openssl(server_with_openssl, authorities, host, case):
    mode, ca, outcome = case
    login = Login(
        host=host,
        port=server_with_openssl.port,
        database="postgres",
        username="app",
        password="secret",
    )
    tls = Tls(mode=mode, ca=authorities[ca].pem if ca else None)
    target = Target(login, tls, "None", None, "0123456789ab")
    if outcome != "TLS":
        with pytest.raises(LoginRefusedError, match=outcome):
            await connect(target)
        return
    connection = await connect(target)
    try:
        query = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
        assert await connection.fetchval(query) is True
    finally:
        await connection.close()
