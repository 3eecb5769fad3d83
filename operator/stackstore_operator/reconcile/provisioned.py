"""Whether a login's Secret can be handed on as that of a servicebinding.io provisioned service. Pure.

The specification (https://github.com/servicebinding/spec, Apache-2.0, "Provisioned Service") lets
whoever finds `status.binding.name` project that Secret into a workload. It asks for an entry `type`
and says what well-known entries have to be. That the Secret alone must be enough to log in is ours:
its reader sees nothing of the StorageBackend.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from urllib.parse import urlsplit

from stackstore_operator.reconcile import addresses
from stackstore_operator.reconcile.credentials import certificates

_LOGIN = ("host", "username", "password")
_PRIVATE_KEY = re.compile(r"-----BEGIN ([A-Z]+ )?PRIVATE KEY-----")


def is_meant(secret: Mapping[str, bytes]) -> bool:
    """Whether its maker had the specification in mind: it then has an entry `type`."""
    return "type" in secret


def shortcoming(secret: Mapping[str, bytes]) -> str:
    """What it lacks to be handed on, by the names of its keys; empty when it lacks nothing."""
    if not secret.get("type"):
        return "there is nothing under 'type'"
    for key, (holds, what) in _ENTRIES.items():
        text = _text(secret.get(key))
        if key in secret and (text is None or not holds(text)):
            return f"'{key}' is not {what}"
    missing = [key for key in _LOGIN if not secret.get(key)]
    if missing and not secret.get("uri"):
        return f"it has neither 'uri' nor {', '.join(repr(key) for key in missing)}"
    return ""


def _text(raw: bytes | None) -> str | None:
    try:
        return None if raw is None else raw.decode("utf-8")
    except UnicodeDecodeError:
        return None


def _is_host(text: str) -> bool:
    return addresses.is_host(text) and not text.startswith("/")


def _is_uri(text: str) -> bool:
    """As RFC 3986 writes them; that of a login is never without a host."""
    if len(text) > addresses.MAX_URI:
        return False
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
    except ValueError:
        return False
    return bool(host and port != 0 and _RFC3986.fullmatch(text))


# No space, nothing outside ASCII, `%` only before two hex digits, brackets only around an address.
_RFC3986 = re.compile(
    r"[a-z][-+.a-z0-9]*://"
    r"(([-.~\w!$&'()*+,;=:]|%[0-9A-F]{2})*@)?"
    r"(\[[0-9A-F:.]+\]|([-.~\w!$&'()*+,;=]|%[0-9A-F]{2})*)(:\d*)?"
    r"(/([-.~\w!$&'()*+,;=:@/]|%[0-9A-F]{2})*)?"
    r"(\?([-.~\w!$&'()*+,;=:@/?]|%[0-9A-F]{2})*)?",
    re.ASCII | re.IGNORECASE,
)

_ENTRIES: Mapping[str, tuple[Callable[[str], bool], str]] = {
    "host": (_is_host, "a host name or an address"),
    "port": (lambda text: addresses.port(text) is not None, "a port"),
    "uri": (_is_uri, "a URI with every part percent-encoded"),
    "username": (bool, "a user's name"),
    "password": (bool, "a password"),
    "certificates": (lambda text: certificates(text) is not None, "PEM text of certificates"),
    "private-key": (lambda text: bool(_PRIVATE_KEY.search(text)), "PEM text of a private key"),
}
