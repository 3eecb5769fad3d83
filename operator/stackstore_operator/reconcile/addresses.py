"""Addresses of databases as other people write them: `host:port`, brackets, URIs. Pure.

What can't be read is None, without an exception: its text may hold a password.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

_MAX_HOST = 255
MAX_URI = 16_384
"""A longer one is none: a Secret may hold a megabyte, and others wait while it is taken apart."""
_NAME = re.compile(r"[A-Za-z0-9_]([-A-Za-z0-9_.]*[A-Za-z0-9_])?\.?")
_SERVICE = re.compile(r"([^.]+\.[^.]+)\.svc(\..+)?")
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")


@dataclass(frozen=True, slots=True)
class Address:
    """Parts of an address; any may be missing."""

    host: str | None = None
    port: int | None = None
    database: str | None = None
    username: str | None = None
    password: str | None = field(default=None, repr=False)


def port(text: str) -> int | None:
    """A port between 1 and 65535, or None."""
    if text.isascii() and text.isdigit() and len(text) <= 5 and 1 <= int(text) <= 65_535:
        return int(text)
    return None


def is_host(text: str) -> bool:
    """Whether it is a host name, an address, or the directory of a socket."""
    if len(text) > _MAX_HOST:
        return False
    return bool(_NAME.fullmatch(text)) or _is_address(text) or _is_directory(text)


def host_and_port(text: str) -> Address | None:
    """`host`, `host:port`, `::1` or `[::1]:port`; None when it is something else."""
    host, colon, tail = text, "", ""
    if text.startswith("["):
        host, closed, rest = text[1:].partition("]")
        colon, tail = rest[:1], rest[1:]
        if not closed or ":" not in host or colon not in ("", ":"):
            return None
    elif text.count(":") == 1 and not _is_directory(text):
        host, colon, tail = text.partition(":")
    number = port(tail) if colon else None
    if not is_host(host) or (colon and number is None):
        return None
    return Address(host=host, port=number)


def from_uri(text: str) -> Address | None:
    """The parts of a `postgresql://` URI of one host; None when it isn't one, or badly encoded.

    A password that is not percent-encoded can make the rest mean something else, so signs of that
    (`#`, an `@` after the host, a lone `%`) are refused. Options after `?` are not looked at.
    """
    if (
        len(text) > MAX_URI
        or _BAD_ESCAPE.search(text)
        or any(ord(character) <= 32 for character in text)
    ):
        return None
    try:
        parts = urlsplit(text)
        number = parts.port
        host, database, username, password = (
            unquote(part or "", errors="strict")
            for part in (parts.hostname, parts.path[1:], parts.username, parts.password)
        )
    except ValueError:
        return None
    stray = "#" in text or "@" in parts.path or "@" in parts.query
    if parts.scheme not in ("postgres", "postgresql") or stray or number == 0:
        return None
    if any("\x00" in part for part in (host, database, username, password)):
        return None
    if host and not is_host(host):
        return None
    return Address(host or None, number, database or None, username or None, password or None)


def qualified(host: str, namespace: str) -> str:
    """A bare service name means one of the backend's own namespace, from wherever it is used."""
    if "." in host or ":" in host or host.startswith("/") or host == "localhost":
        return host
    return f"{host}.{namespace}.svc"


def canonical(host: str, namespace: str) -> str:
    """One spelling for the many names of one service, to compare with; others only in lower case.

    `pg`, `pg.db`, `pg.db.svc` and `pg.db.svc.cluster.local` are one, seen from namespace `db`.
    """
    if host.startswith("/"):
        return host
    full = qualified(host, namespace).lower().rstrip(".")
    service = _SERVICE.fullmatch(full)
    return full if service is None else service.group(1)


def _is_directory(text: str) -> bool:
    return text.startswith("/") and text.isprintable()


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
