"""What makes a Secret complete by the specification of servicebinding.io."""

from __future__ import annotations

from pathlib import Path

import pytest

from stackstore_operator.reconcile.backends import look, status
from stackstore_operator.reconcile.inputs import BackendInputs
from stackstore_operator.reconcile.provisioned import is_meant, shortcoming
from tests.unit.reconcile.samples import KEY, LOGIN, NOW, postgres

PEM = (Path(__file__).parent / "ca.crt").read_bytes()
WHOLE = {**LOGIN, "type": b"postgresql", "uri": b"postgresql://app:first@pg-rw:5432/stack"}


def without(*keys: str) -> dict[str, bytes]:
    return {key: value for key, value in WHOLE.items() if key not in keys}


@pytest.mark.parametrize(
    "secret",
    [
        WHOLE,
        without("uri", "port", "database"),
        without("host", "username", "password"),
        {**WHOLE, "provider": b"bitnami", "certificates": PEM, "other": b"\xff"},
        {**WHOLE, "private-key": b"-----BEGIN EC PRIVATE KEY-----\nx"},
        {**WHOLE, "host": b"2001:db8::1", "uri": b"postgres://u:p%40@[2001:db8::1]/d?sslmode=require"},
        {**WHOLE, "uri": b"jdbc://h"},
    ],
)  # fmt: skip
def test_a_complete_one(secret: dict[str, bytes]) -> None:
    assert shortcoming(secret) == ""


@pytest.mark.parametrize(
    ("secret", "words"),
    [
        (LOGIN, "there is nothing under 'type'"),
        ({**WHOLE, "type": b""}, "there is nothing under 'type'"),
        ({**WHOLE, "host": b"/var/run"}, "'host' is not a host name or an address"),
        ({**WHOLE, "host": b"pg:5432"}, "'host' is not a host name or an address"),
        ({**WHOLE, "port": b"none"}, "'port' is not a port"),
        ({**WHOLE, "username": b""}, "'username' is not a user's name"),
        ({**WHOLE, "password": b"\xff"}, "'password' is not a password"),
        ({**WHOLE, "host": b"\xff"}, "'host' is not a host name or an address"),
        ({**WHOLE, "port": b"\xff"}, "'port' is not a port"),
        ({**WHOLE, "uri": b"\xff"}, "'uri' is not a URI with every part percent-encoded"),
        ({**WHOLE, "certificates": b"none"}, "'certificates' is not PEM text of certificates"),
        ({**WHOLE, "private-key": b"none"}, "'private-key' is not PEM text of a private key"),
        *(
            ({**WHOLE, "uri": uri}, "'uri' is not a URI with every part percent-encoded")
            for uri in (
                b"", b"pg-rw", b"/a", b"postgresql://", b"postgresql:///d", b"postgresql://u:p@ss@h/d",
                b"postgresql://u:p%zz@h/d", b"postgresql://u:p#x@h/d", b"postgresql://u:a b@h/d",
                b"postgresql://u:p@h:0/d", b"postgresql://u:p@h:99999/d", b"postgresql://u:p@[::1/d",
                b"postgresql://" + b"a" * 16_384, "postgresql://u:ü@h/d".encode(), b"postgresql://u:p@h1:1,h2:2/d",
            )
        ),
        (without("uri", "password"), "it has neither 'uri' nor 'password'"),
        ({"type": b"postgresql"}, "it has neither 'uri' nor 'host', 'username', 'password'"),
    ],
)  # fmt: skip
def test_what_one_lacks(secret: dict[str, bytes], words: str) -> None:
    assert shortcoming(secret) == words


def test_whose_maker_meant_it_is_told_and_others_are_not() -> None:
    assert is_meant(WHOLE)
    assert not is_meant(LOGIN)
    key = ("chat", "pg-app")
    assert (
        look(postgres(), {key: LOGIN}, {}, KEY).credentials.message == "login from Secret 'pg-app'"
    )
    broken = {**WHOLE, "uri": b"postgresql://app:fi#rst@pg-rw/stack"}
    said = look(postgres(), {key: broken}, {}, KEY).credentials.message
    assert said.endswith(
        "; no provisioned service (status.binding): 'uri' is not a URI with every part percent-encoded"
    )


def test_the_status_has_it_as_long_as_the_login_is_good() -> None:
    def binding(secret: dict[str, bytes]) -> object:
        found = status(BackendInputs(postgres(), {("chat", "pg-app"): secret}, {}, 0, KEY), NOW)
        return found.model_dump(by_alias=True, exclude_none=True).get("binding")

    assert binding(WHOLE) == {"name": "pg-app"}
    assert binding(LOGIN) is None
    # Complete by the specification, and no login of ours: `database` is missing.
    assert binding(without("database", "uri")) is None
