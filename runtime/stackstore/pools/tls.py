"""TLS modes of a Postgres connection, as libpq means them.

https://www.postgresql.org/docs/current/libpq-ssl.html: `Require` encrypts and checks nothing,
`VerifyCA` checks the chain, `VerifyFull` the host's name as well. `Disable` really is no TLS
(asyncpg takes a missing setting for "prefer").
"""

from __future__ import annotations

import functools
import ssl
from typing import Literal

from stackstore.credentials.snapshot import Tls
from stackstore.errors import ConfigError


@functools.lru_cache(maxsize=64)
def ssl_argument(tls: Tls) -> ssl.SSLContext | Literal["allow", "prefer"] | bool:
    """What asyncpg's `ssl` argument is for these settings.

    Raises:
        ConfigError: the CA is not a PEM certificate.
    """
    match tls.mode:
        case "Disable":
            return False
        case "Allow":
            return "allow"
        case "Prefer":
            return "prefer"
        case "Require":
            return _unchecked()
        case "VerifyCA" | "VerifyFull":
            context = _context(tls.ca)
            context.check_hostname = tls.mode == "VerifyFull"
            return context


def _unchecked() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _context(ca: str | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cadata=ca)
    except ssl.SSLError:
        raise ConfigError(
            "tls.ca: not a PEM certificate; it must hold one or more "
            "'-----BEGIN CERTIFICATE-----' blocks"
        ) from None
