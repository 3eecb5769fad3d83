"""From a Secret's keys to a login: explicit keys, else well-known ones; parts before URIs. Pure.

Messages name keys, never what stands under them.
"""

from __future__ import annotations

import ipaddress
import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from pydantic import SecretStr

from stackstore.credentials.snapshot import Login, Tls
from stackstore_operator.api.backend import StorageBackend
from stackstore_operator.api.conditions import Reason

_USERNAME = ("username", "user", "master_username")
_PASSWORD = ("password",)
_HOST = ("host", "address", "endpoint")
_PORT = ("port",)
_DATABASE = ("database", "dbname")
_URI = ("uri", "url", "connection-string")
_CA = ("ca.crt", "clusterCA", "certificates")
_HOST_NAME = re.compile(r"[A-Za-z0-9_]([-A-Za-z0-9_.]*[A-Za-z0-9_])?\.?")


class CredentialsProblem(Exception):  # noqa: N818 - it becomes a condition, not a traceback
    """The Secret doesn't give a login."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Resolved:
    """A login (without its revision yet) and how it is protected."""

    login: Login
    tls: Tls


def resolve(backend: StorageBackend, secret: Mapping[str, bytes], ca: str | None) -> Resolved:
    """A Postgres backend's login.

    Args:
        backend: its spec says what the Secret doesn't, and which keys hold what.
        secret: the Secret's decoded data.
        ca: PEM text of `tls.caRef`; None when there is none.

    Raises:
        CredentialsProblem: with a reason and a message for the condition.
    """
    spec = backend.spec
    assert spec.postgres is not None  # noqa: S101 - the schema has seen to it
    assert spec.credentials is not None  # noqa: S101 - likewise
    name = spec.credentials.secret_ref.name
    reader = _Reader(name, secret)
    keys = spec.credentials.keys
    uri = reader.uri(keys.uri)
    username = reader.text(keys.username, _USERNAME) or uri.username
    password = reader.text(keys.password, _PASSWORD)
    if password is None and username == "postgres":
        password = reader.text(None, ("postgres-password",))
    password = password if password is not None else uri.password
    host, port = reader.host(keys.host)
    host = spec.postgres.host or host or uri.host
    port = spec.postgres.port or reader.port(keys.port) or port or uri.port or 5432
    database = spec.postgres.database or reader.text(keys.database, _DATABASE) or uri.database
    missing = [
        f"{what} (looked for {', '.join(repr(key) for key in names)})"
        for what, value, names in (
            ("a user", username, _USERNAME),
            ("a password", password, _PASSWORD),
            ("a host", host, (*_HOST, "`spec.postgres.host`")),
            ("a database", database, (*_DATABASE, "`spec.postgres.database`")),
        )
        if not value
    ]
    if missing:
        have = ", ".join(repr(key) for key in sorted(secret)) or "no key"
        raise CredentialsProblem(
            Reason.SECRET_KEY_MISSING,
            f"Secret '{name}' does not give {'; '.join(missing)}; it has {have}",
        )
    if ca is None:
        ca = reader.text(keys.ca, _CA)
    check_ca(ca)
    return Resolved(
        Login(
            host=_qualified(host or "", backend.metadata.namespace),
            port=port,
            database=database or "",
            username=username or "",
            password=SecretStr(password or ""),
        ),
        Tls(mode=spec.postgres.tls.mode, ca=ca),
    )


def check_ca(ca: str | None) -> None:
    """Raise `CredentialsProblem` unless it is PEM certificates (or nothing)."""
    if ca is None:
        return
    try:
        ssl.create_default_context(cadata=ca)
    except (ssl.SSLError, ValueError):
        raise CredentialsProblem(
            Reason.CA_INVALID, "the CA is not PEM text of one or more certificates"
        ) from None


@dataclass(frozen=True, slots=True)
class _Uri:
    username: str | None = None
    password: str | None = None
    host: str | None = None
    port: int | None = None
    database: str | None = None


class _Reader:
    def __init__(self, name: str, secret: Mapping[str, bytes]) -> None:
        self._name = name
        self._secret = secret

    def text(self, explicit: str | None, well_known: tuple[str, ...]) -> str | None:
        """The first of these keys that is there and not empty; an explicit one must be."""
        if explicit is not None:
            if not self._secret.get(explicit):
                state = "is empty in" if explicit in self._secret else "is not in"
                have = ", ".join(repr(key) for key in sorted(self._secret)) or "no key"
                raise CredentialsProblem(
                    Reason.SECRET_KEY_MISSING,
                    f"the key '{explicit}' {state} Secret '{self._name}', which has {have}",
                )
            return self._decoded(explicit)
        for key in well_known:
            if self._secret.get(key):
                return self._decoded(key)
        return None

    def port(self, explicit: str | None) -> int | None:
        text = self.text(explicit, _PORT)
        return None if text is None else self._number(text, explicit or "port")

    def host(self, explicit: str | None) -> tuple[str | None, int | None]:
        """A host, and the port that some makers append to it."""
        text = self.text(explicit, _HOST)
        if text is None:
            return None, None
        key = explicit or next(key for key in _HOST if self._secret.get(key))
        bare, port = text, None
        if text.startswith("["):
            inside, _, rest = text[1:].partition("]")
            bare = inside
            port = self._number(rest[1:], key) if rest.startswith(":") else None
        elif text.count(":") == 1:
            bare, _, tail = text.partition(":")
            port = self._number(tail, key)
        self._check_host(bare, key)
        return bare, port

    def uri(self, explicit: str | None) -> _Uri:
        """The parts of a URI; one that can't be read is only a problem where it is asked for."""
        text = self.text(explicit, _URI)
        if text is None:
            return _Uri()
        key = explicit or next(key for key in _URI if self._secret.get(key))
        try:
            parts = urlsplit(text)
            found = _Uri(
                username=unquote(parts.username) if parts.username else None,
                password=unquote(parts.password) if parts.password else None,
                host=unquote(parts.hostname) if parts.hostname else None,
                port=parts.port,
                database=unquote(parts.path[1:]) or None,
            )
            if parts.scheme not in ("postgres", "postgresql"):
                raise ValueError  # noqa: TRY301 - one answer to every way of being wrong
            if found.host is not None:
                self._check_host(found.host, key)
        except (ValueError, CredentialsProblem):
            if explicit is None:
                return _Uri()
            raise CredentialsProblem(
                Reason.SECRET_INVALID,
                f"the key '{key}' of Secret '{self._name}' must hold a postgresql:// URI with every "
                "part percent-encoded",
            ) from None
        return found

    def _decoded(self, key: str) -> str:
        try:
            text = self._secret[key].decode("utf-8")
        except UnicodeDecodeError:
            raise CredentialsProblem(
                Reason.SECRET_INVALID, f"the key '{key}' of Secret '{self._name}' is not UTF-8 text"
            ) from None
        # Files made with an editor or `echo` end in a line break that nobody means.
        text = text.rstrip("\r\n")
        if "\x00" in text:
            raise CredentialsProblem(
                Reason.SECRET_INVALID,
                f"the key '{key}' of Secret '{self._name}' holds a NUL character",
            )
        return text

    def _number(self, text: str, key: str) -> int:
        if text.isascii() and text.isdigit() and 1 <= int(text[:6]) <= 65_535:
            return int(text)
        raise CredentialsProblem(
            Reason.SECRET_INVALID,
            f"the key '{key}' of Secret '{self._name}' must hold a port between 1 and 65535",
        )

    def _check_host(self, host: str, key: str) -> None:
        if _HOST_NAME.fullmatch(host) or host.startswith("/"):
            return
        try:
            ipaddress.ip_address(host)
        except ValueError:
            raise CredentialsProblem(
                Reason.SECRET_INVALID,
                f"the key '{key}' of Secret '{self._name}' must hold a host name or an address",
            ) from None


def _qualified(host: str, namespace: str) -> str:
    """A bare service name means one of the backend's own namespace, from wherever it is used."""
    if "." in host or ":" in host or host.startswith("/") or host == "localhost":
        return host
    return f"{host}.{namespace}.svc"
