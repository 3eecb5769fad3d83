"""Postgres connection URIs, taken apart; no text of a refusal quotes any part of one."""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path
from urllib.parse import unquote_to_bytes

from pydantic import SecretStr

from stackstore.config.model import PostgresConnection
from stackstore.credentials.snapshot import TlsMode

SSL_MODES: dict[str, TlsMode] = {
    "disable": "Disable",
    "allow": "Allow",
    "prefer": "Prefer",
    "require": "Require",
    "verify-ca": "VerifyCA",
    "verify-full": "VerifyFull",
}
CHECKING_MODES = ("Require", "VerifyCA", "VerifyFull")
"""The modes under which a CA is looked at; libpq reads `require` with a CA as `verify-ca`."""

_ENCODE = "percent-encode every other character than letters, digits and -._~ in user and password"
_OPTIONS = ("application_name", "options", "sslmode", "sslrootcert")
_STATEMENT_TIMEOUT = re.compile(r"-c ?statement_timeout=([1-9][0-9]{0,8})")


class UriError(Exception):
    """The URI can't be used; the texts are those of a `Problem`."""

    def __init__(self, message: str, allowed: str = "", hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.allowed = allowed
        self.hint = hint


def parse(uri: str) -> tuple[PostgresConnection, bool]:
    """Take a URI apart.

    Args:
        uri: `postgresql://user:password@host:port/database?sslmode=…&sslrootcert=…`. `options` may
            hold a statement timeout. An `application_name` is for stock servers: ours say their own.

    Returns:
        The connection, and whether the URI itself speaks of TLS.

    Raises:
        UriError: it can't be read, or says what Stackstore can't do.
    """
    if re.search(r"[\s\x00-\x1f\x7f]", uri):
        raise UriError(
            "holds a blank, a line break or a control character",
            hint="a Secret made from a file often ends with a line break; else " + _ENCODE,
        )
    scheme, separator, rest = uri.partition("://")
    if not separator or scheme.lower() not in {"postgres", "postgresql"}:
        raise UriError(
            "is not a Postgres URI",
            allowed="postgresql://user:password@host:port/database?sslmode=…",
            hint="a driver's name in the scheme (postgresql+asyncpg) and key=value pairs are not "
            "read",
        )
    rest, has_fragment, _ = rest.partition("#")
    if has_fragment:
        raise UriError("holds a raw '#'", hint=_ENCODE)
    rest, _, query = rest.partition("?")
    authority, _, path = rest.partition("/")
    login, _, address = authority.rpartition("@")
    user, _, password = login.partition(":")
    if "/" in path or "@" in path or "@" in query:
        raise UriError("holds a raw '/', '?' or '@' where none belongs", hint=_ENCODE)
    host, port = _address(address)
    mode, ca, timeout = _options(query)
    username = _decode(user, "user")
    database = _decode(path, "database")
    if not username:
        raise UriError("names no user", allowed="postgresql://user:password@host:port/database")
    if not database:
        raise UriError("names no database", allowed="postgresql://user:password@host:port/database")
    secret = _decode(password, "password")
    return (
        PostgresConnection(
            host=host,
            port=port,
            database=database,
            username=username,
            password=SecretStr(secret) if secret else None,
            ssl_mode=mode or "Prefer",
            ca_path=ca,
            statement_timeout=timeout,
        ),
        bool(mode or ca),
    )


def _address(text: str) -> tuple[str, int]:
    if "," in text:
        raise UriError("names several hosts", hint="Stackstore connects to one; name that one")
    if text.startswith("["):
        host, bracket, after = text[1:].partition("]")
        host = _decode(host, "host")
        try:
            ipaddress.IPv6Address(host)
        except ValueError:
            bracket = ""
        if not bracket or (after and not after.startswith(":")):
            raise UriError("has a broken IPv6 address", allowed="[2001:db8::1]:5432")
        port = after[1:]
    else:
        if text.count(":") > 1:
            raise UriError(
                "has more than one ':' in its address",
                hint=f"an IPv6 address goes into brackets; else {_ENCODE}",
            )
        host, _, port = text.partition(":")
        host = _decode(host, "host")
    if not host:
        raise UriError("names no host", allowed="postgresql://user:password@host:port/database")
    if not port:
        return host, 5432
    if not re.fullmatch(r"[0-9]{1,5}", port) or not 1 <= int(port) <= 65535:
        raise UriError(
            "has no port number after the host's ':'",
            allowed="1 to 65535",
            hint=f"is there a raw '/' or '?' in the password? {_ENCODE}",
        )
    return host, int(port)


def _options(query: str) -> tuple[TlsMode | None, Path | None, float | None]:
    mode: TlsMode | None = None
    ca: Path | None = None
    timeout: float | None = None
    seen: set[str] = set()
    for option in filter(None, query.split("&")):
        key, _, value = option.partition("=")
        if key not in _OPTIONS:
            shown = f"the option '{key}'" if re.fullmatch(r"[a-z_]{1,32}", key) else "an option"
            raise UriError(
                f"has {shown}, which Stackstore does not read", allowed=", ".join(_OPTIONS)
            )
        if key in seen:
            raise UriError(f"has the option '{key}' twice")
        seen.add(key)
        text = _decode(value, key)
        match key:
            case "sslrootcert":
                if not text:
                    raise UriError("has an empty sslrootcert", allowed="the path of a PEM file")
                ca = Path(text)
            case "sslmode":
                if text not in SSL_MODES:
                    raise UriError("has an unknown sslmode", allowed=", ".join(SSL_MODES))
                mode = SSL_MODES[text]
            case "options":
                found = _STATEMENT_TIMEOUT.fullmatch(text)
                if found is None:
                    raise UriError(
                        "has options that Stackstore does not read",
                        allowed="options=-c%20statement_timeout%3D<milliseconds>",
                    )
                timeout = int(found[1]) / 1000
    return mode, ca, timeout


def _decode(text: str, part: str) -> str:
    if re.search(r"%(?![0-9A-Fa-f]{2})", text):
        raise UriError(f"has a raw '%' in its {part}", hint=_ENCODE)
    try:
        decoded = unquote_to_bytes(text).decode()
    except UnicodeDecodeError:
        # `from None`: the decoder's error carries the text.
        raise UriError(f"has a {part} that is not UTF-8 once decoded", hint=_ENCODE) from None
    if "\0" in decoded:
        raise UriError(f"has a NUL in its {part}", hint="Postgres allows none")
    return decoded
