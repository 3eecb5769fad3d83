"""From a Secret's keys to a login: explicit keys, else well-known ones; parts before URIs. Pure.

Messages name keys, never what stands under them. An exception is never raised while another one is
handled: those of decoders and parsers quote what they were given, and would go along as its context.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import SecretStr

from stackstore.credentials.snapshot import Login, Tls
from stackstore_operator.api.backend import Credentials, Postgres
from stackstore_operator.api.conditions import Reason
from stackstore_operator.reconcile import addresses
from stackstore_operator.reconcile.addresses import Address

_USERNAME = ("username", "user", "master_username")
_PASSWORD = ("password",)
_SUPERUSER = "postgres"
_SUPERUSER_PASSWORD = ("postgres-password",)
_HOST = ("host", "address", "endpoint")
_PORT = ("port",)
_DATABASE = ("database", "dbname")
_URI = ("uri", "url", "connection-string")
_CA = ("ca.crt", "clusterCA", "certificates")
_CERTIFICATE = re.compile(
    r"-----BEGIN CERTIFICATE-----[A-Za-z0-9+/=\s]+-----END CERTIFICATE-----", re.ASCII
)
_MAX_NAMES = 20
DEFAULT_PORT = 5432


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


def resolve(
    namespace: str,
    postgres: Postgres,
    credentials: Credentials,
    secret: Mapping[str, bytes],
    ca: str | None,
) -> Resolved:
    """A Postgres backend's login.

    What the backend's object says comes first: its own fields and the keys that it names, among
    them that of a URI. Then well-known keys, and a well-known URI only for what is still missing.

    Args:
        namespace: the backend's; a bare host is a service there.
        postgres: says where the database is, as far as the Secret doesn't.
        credentials: which Secret, and which of its keys hold what.
        secret: the Secret's decoded data.
        ca: PEM text of `tls.caRef`; None when there is none.

    Raises:
        CredentialsProblem: with a reason and a message for the condition.
    """
    reader = _Reader(credentials.secret_ref.name, secret)
    keys = credentials.keys
    uri = reader.uri(keys.uri) if keys.uri is not None else Address()
    hint = reader.hint()
    username = (
        reader.named(keys.username) or uri.username or reader.known(_USERNAME) or hint.username
    )
    password = reader.named(keys.password) or uri.password or reader.known(_PASSWORD)
    if password is None and username == _SUPERUSER:
        password = reader.known(_SUPERUSER_PASSWORD)
    password = password or hint.password
    place = _place(reader, postgres, credentials, uri, hint)
    database = (
        postgres.database
        or reader.named(keys.database)
        or uri.database
        or reader.known(_DATABASE)
        or hint.database
    )
    looked_for = {
        "a user": (username, _USERNAME),
        "a password": (password, _PASSWORD),
        "a host": (place.host, (*_HOST, "`spec.postgres.host`")),
        "a database": (database, (*_DATABASE, "`spec.postgres.database`")),
    }
    missing = [
        f"{what} (looked for {', '.join(names)})"
        for what, (value, names) in looked_for.items()
        if not value
    ]
    if missing or not (username and password and place.host and database):
        raise CredentialsProblem(
            Reason.SECRET_KEY_MISSING,
            f"Secret '{reader.name}' does not give {'; '.join(missing)}; it has {reader.names()}"
            f"{reader.unread()}",
        )
    login = Login(
        host=addresses.qualified(place.host, namespace),
        port=place.port or DEFAULT_PORT,
        database=database,
        username=username,
        password=SecretStr(password),
    )
    return Resolved(login, _tls(reader, postgres, credentials, ca))


def _place(
    reader: _Reader, postgres: Postgres, credentials: Credentials, uri: Address, hint: Address
) -> Address:
    """The host, and the port that goes with it."""
    keys = credentials.keys
    stated = postgres.port or reader.port(keys.port)
    if postgres.host is not None:
        return Address(host=postgres.host, port=stated or reader.known_port() or hint.port)
    if keys.host is not None:
        found = reader.host(keys.host)
        return Address(host=found.host, port=stated or found.port or reader.known_port())
    if uri.host is not None:
        # A URI without a port says 5432, whatever else the Secret holds.
        return Address(host=uri.host, port=stated or uri.port or DEFAULT_PORT)
    key = reader.first(_HOST)
    found = hint if key is None else reader.host(key)
    port = stated or reader.known_port() or found.port or hint.port
    return Address(host=found.host, port=port)


def _tls(reader: _Reader, postgres: Postgres, credentials: Credentials, ca: str | None) -> Tls:
    mode = postgres.tls.mode
    if mode not in ("VerifyCA", "VerifyFull"):
        return Tls(mode=mode)
    text = ca or reader.named(credentials.keys.ca) or reader.known(_CA)
    if text is None:
        return Tls(mode=mode)
    certificates = _certificates(text)
    if certificates is None:
        raise CredentialsProblem(
            Reason.CA_INVALID, "the CA is not PEM text of one or more certificates"
        )
    return Tls(mode=mode, ca=certificates)


def _certificates(text: str) -> str | None:
    """The certificates of a PEM text alone: bundles carry comments, some Secrets a key as well."""
    found = "\n".join(_CERTIFICATE.findall(text))
    try:
        ssl.create_default_context(cadata=found)
    except (ssl.SSLError, ValueError):
        return None
    return f"{found}\n" if found else None


class _Reader:
    """A Secret's keys as text. An empty value counts as none."""

    def __init__(self, name: str, secret: Mapping[str, bytes]) -> None:
        self.name = name
        self._secret = secret

    def named(self, key: str | None) -> str | None:
        """What stands under a key that the backend names: it has to be there."""
        if key is None:
            return None
        text = self._text(key)
        if text is None:
            state = "is empty in" if key in self._secret else "is not in"
            raise CredentialsProblem(
                Reason.SECRET_KEY_MISSING,
                f"the key '{key}' {state} Secret '{self.name}', which has {self.names()}",
            )
        return text

    def first(self, keys: tuple[str, ...]) -> str | None:
        """The first of these keys that holds something."""
        return next((key for key in keys if self._text(key) is not None), None)

    def known(self, keys: tuple[str, ...]) -> str | None:
        """What stands under the first of these keys that holds something."""
        key = self.first(keys)
        return None if key is None else self._text(key)

    def port(self, key: str | None) -> int | None:
        """The port under a key that the backend names."""
        text = self.named(key)
        if text is None:
            return None
        found = addresses.port(text)
        if found is None:
            raise self._invalid(key, "must hold a port between 1 and 65535")
        return found

    def known_port(self) -> int | None:
        """The port under a well-known key."""
        return self.port(self.first(_PORT))

    def host(self, key: str) -> Address:
        """The host under a key, and the port that some makers append to it."""
        found = addresses.host_and_port(self.named(key) or "")
        if found is None:
            raise self._invalid(key, "must hold a host name or an address")
        return found

    def uri(self, key: str) -> Address:
        """The URI under a key that the backend names."""
        found = addresses.from_uri(self.named(key) or "")
        if found is None:
            raise self._invalid(
                key, "must hold a postgresql:// URI of one host with every part percent-encoded"
            )
        return found

    def hint(self) -> Address:
        """A well-known URI, if there is one that can be read: nobody has asked for it."""
        return self._hint()[1]

    def unread(self) -> str:
        """For messages: that a well-known URI could not help."""
        key = self._hint()[0]
        if key is None:
            return ""
        return f", and what stands under '{key}' is not a percent-encoded postgresql:// URI"

    def _hint(self) -> tuple[str | None, Address]:
        """The first well-known URI; its key when it can't be read."""
        key = next((key for key in _URI if self._secret.get(key)), None)
        if key is None:
            return None, Address()
        text = self._secret[key].decode("utf-8", "replace").rstrip("\r\n")
        found = addresses.from_uri(text) if "\ufffd" not in text else None
        return (key, Address()) if found is None else (None, found)

    def names(self) -> str:
        """For messages: which keys the Secret has."""
        names = sorted(self._secret)
        more = f" and {len(names) - _MAX_NAMES} more" if len(names) > _MAX_NAMES else ""
        return (", ".join(repr(name) for name in names[:_MAX_NAMES]) or "no key") + more

    def _text(self, key: str) -> str | None:
        raw = self._secret.get(key, b"")
        text: str | None
        try:
            text = raw.decode("utf-8")
        except UnicodeDecodeError:
            text = None
        if text is None:
            raise self._invalid(key, "is not UTF-8 text")
        if "\x00" in text:
            raise self._invalid(key, "holds a NUL character")
        # Files made with an editor or `echo` end in a line break that nobody means.
        return text.rstrip("\r\n") or None

    def _invalid(self, key: str | None, what: str) -> CredentialsProblem:
        return CredentialsProblem(
            Reason.SECRET_INVALID, f"the key '{key}' of Secret '{self.name}' {what}"
        )
