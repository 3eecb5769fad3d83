"""The server's own stores connect with the strings we render: TLS as it was asked for, and sockets."""

from __future__ import annotations

import contextlib
import ssl
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import trustme

from stackstore.credentials.snapshot import Login, Tls, TlsMode
from stackstore_operator.render import runconfig, secret
from tests.compat.cases import PASSWORDS, login, postgres, stack
from tests.compat.loading import REVISION, Result, ask, mounted
from tests.compat.tlsfront import Front, front
from tests.support.postgres import PostgresServer


@dataclass(frozen=True)
class Try:
    """A connection.

    Attributes:
        name: the host's name in the server's certificate.
        trusts: whether the CA that is given is the one that made it; None: none is given.
        refused: why it must not work (part of the server's words); empty: it must.
        directly: to the database itself, which has no TLS.
    """

    mode: TlsMode
    refused: str = ""
    name: str = "127.0.0.1"
    trusts: bool | None = None
    directly: bool = False


_NO_TLS = "rejected SSL upgrade"
_UNKNOWN_CA = "unable to get local issuer certificate"
_OTHER_NAME = "IP address mismatch"

TRIES: Mapping[str, Try] = {
    "Disable": Try("Disable"),
    "Require, whoever answers": Try("Require", name="other.example"),
    "Require, and there is no TLS": Try("Require", _NO_TLS, directly=True),
    "VerifyCA, another name": Try("VerifyCA", name="other.example", trusts=True),
    "VerifyCA, another CA": Try("VerifyCA", _UNKNOWN_CA, trusts=False),
    "VerifyFull": Try("VerifyFull", trusts=True),
    "VerifyFull, another name": Try("VerifyFull", _OTHER_NAME, name="other.example", trusts=True),
    "VerifyFull, another CA": Try("VerifyFull", _UNKNOWN_CA, trusts=False),
    "VerifyFull, and there is no TLS": Try("VerifyFull", _NO_TLS, trusts=True, directly=True),
}


@dataclass
class _Place:
    """A database and what stands in front of it, by the name in the certificate."""

    server: PostgresServer
    authority: trustme.CA
    fronts: dict[str, Front] = field(default_factory=dict)


def run(python: Path) -> list[Result]:
    """Try each on a kv and on a sql backend."""
    with tempfile.TemporaryDirectory(prefix="stackstore-compat-") as directory, _place() as place:
        home = Path(directory)
        names, questions = [], []
        for family in ("kv", "sql"):
            for title, one in TRIES.items():
                names.append((f"{family}: TLS {title}", one))
                current = _login(place, one)
                questions.append(_question(home, family, current, _tls(place, one)))
            names.append((f"{family}: a socket's directory", Try("Require")))
            current = _login(place, Try("Require", directly=True))
            current = current.model_copy(update={"host": str(place.server.directory)})
            questions.append(_question(home, family, current, Tls(mode="Require")))
        answers = ask(python, questions, home)["answers"]
        results = []
        for (title, one), answer in zip(names, answers, strict=True):
            if one.refused:
                right = one.refused in answer.get("error", "")
            else:
                right = list(answer.get("found", {}).values()) == ["value"]
            wanted = f"should be refused: {one.refused}" if one.refused else "should work"
            results.append((title, "" if right else f"{answer}, and it {wanted}"))
        plain = TRIES["Disable"].name
        seen = place.fronts[plain].encrypted
        results.append(("TLS only where asked for", "" if {*seen} == {True, False} else f"{seen}"))
        others = place.fronts["other.example"].encrypted
        results.append(("and then always", "" if others and all(others) else f"{others}"))
        return results


@contextlib.contextmanager
def _place() -> Iterator[_Place]:
    server = PostgresServer.start()
    with contextlib.ExitStack() as stack:
        stack.callback(server.stop)
        server.execute(f"CREATE ROLE app LOGIN PASSWORD '{PASSWORDS['specials']}'")
        server.execute("CREATE DATABASE stack OWNER app")
        place = _Place(server, trustme.CA())
        for name in ("127.0.0.1", "other.example"):
            context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            place.authority.issue_cert(name).configure_cert(context)
            place.fronts[name] = stack.enter_context(front(context, (server.host, server.port)))
        yield place


def _login(place: _Place, one: Try) -> Login:
    port = place.server.port if one.directly else place.fronts[one.name].port
    return login(host="127.0.0.1", port=port, password=PASSWORDS["specials"])


def _tls(place: _Place, one: Try) -> Tls:
    authority = place.authority if one.trusts else trustme.CA()
    ca = None if one.trusts is None else authority.cert_pem.bytes().decode()
    return Tls(mode=one.mode, ca=ca)


def _question(home: Path, family: str, current: Login, tls: Tls) -> dict[str, object]:
    made = stack(**{family: postgres(f"{family}_postgres", current=current, tls=tls)})
    mount = Path(tempfile.mkdtemp(dir=home))
    environ = mounted(secret.data(made, REVISION), mount)
    return {"ask": "use", "config": runconfig.config_yaml(made), "environ": environ}
