"""A Secret's keys read as text, and the names that other makers give them. Pure.

Messages name keys, never what stands under them. An exception is never raised while another one is
handled: those of decoders and parsers quote what they were given, and would go along as its context.
"""

from __future__ import annotations

from collections.abc import Mapping

from stackstore_operator.api.conditions import Reason
from stackstore_operator.reconcile import addresses
from stackstore_operator.reconcile.addresses import Address

USERNAME = ("username", "user", "master_username")
PASSWORD = ("password", "attribute.password", "attribute.master_password")
"""The last two are Upbound's: what it keeps secret is prefixed, and a cluster has no other."""
SUPERUSER = "postgres"
SUPERUSER_PASSWORD = ("postgres-password",)
HOST = ("host", "address", "endpoint")
PORT = ("port",)
POOLER_HOST = ("pgbouncer-host",)
POOLER_PORT = ("pgbouncer-port",)
DATABASE = ("database", "dbname")
URI = ("uri", "url", "connection-string")
CA = ("ca.crt", "clusterCA", "certificates")
_MAX_NAMES = 20


class CredentialsProblem(Exception):  # noqa: N818 - it becomes a condition, not a traceback
    """The Secret doesn't give a login."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class SecretKeys:
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

    def known_port(self, keys: tuple[str, ...] = PORT) -> int | None:
        """The port under a well-known key."""
        return self.port(self.first(keys))

    def host(self, key: str) -> Address:
        """The host under a key, and the port that some makers append to it."""
        found = addresses.host_and_port(self.named(key) or "")
        if found is None:
            raise self._invalid(key, "must hold one host name or one address")
        return found

    def uri(self, key: str) -> Address:
        """The URI under a key that the backend names."""
        found = addresses.from_uri(self.named(key) or "")
        if found is None:
            raise self._invalid(
                key, "must hold a postgresql:// URI of one host with every part percent-encoded"
            )
        return found

    def hint(self) -> tuple[str | None, Address]:
        """The first well-known URI and its parts: nobody has asked for it, so it may be unreadable."""
        key = self._uri()
        if key is None:
            return None, Address()
        text = self._secret[key].decode("utf-8", "replace").rstrip("\r\n")
        found = addresses.from_uri(text) if "\ufffd" not in text else None
        return key, found or Address()

    def unread(self) -> str:
        """For messages: that a well-known URI could not help."""
        key, found = self.hint()
        if key is None or found != Address():
            return ""
        return (
            f", and what stands under '{key}' is not a postgresql:// URI of one host with every part "
            "percent-encoded"
        )

    def looked_for(self, keys: tuple[str, ...]) -> str:
        """For messages: the keys that were looked for; which of them are there and empty."""
        return ", ".join(f"{key} (empty)" if key in self._secret else key for key in keys)

    def names(self) -> str:
        """For messages: which keys the Secret has."""
        names = sorted(self._secret)
        more = f" and {len(names) - _MAX_NAMES} more" if len(names) > _MAX_NAMES else ""
        return (", ".join(repr(name) for name in names[:_MAX_NAMES]) or "no key") + more

    def has(self, keys: tuple[str, ...]) -> bool:
        """Whether one of these keys is there, whatever it holds."""
        return any(key in self._secret for key in keys)

    def _uri(self) -> str | None:
        return next((key for key in URI if self._secret.get(key)), None)

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
