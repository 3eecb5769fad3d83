"""TLS modes of a Postgres connection, as libpq means them.

https://www.postgresql.org/docs/current/libpq-ssl.html: `Require` encrypts and checks nothing,
unless there is a CA: then it is `VerifyCA`, which checks the chain. `VerifyFull` checks the host's
name as well. Without a CA the two trust the authorities of the system. `Disable` really is no TLS.

Everything is decided here. A mode given to asyncpg as text would let PGSSLROOTCERT, PGSSLCERT and
the files of ~/.postgresql in.
"""

from __future__ import annotations

import functools
import re
import ssl
from typing import TypeAlias

from stackstore.credentials.snapshot import Tls
from stackstore.errors import ConfigError

Attempt: TypeAlias = ssl.SSLContext | None
"""TLS under these conditions, or (None) a connection without it."""

_CERTIFICATE = re.compile(
    r"-----BEGIN (?:TRUSTED |X509 )?CERTIFICATE-----[\sA-Za-z0-9+/=]+?"
    r"-----END (?:TRUSTED |X509 )?CERTIFICATE-----"
)


@functools.lru_cache(maxsize=64)
def attempts(tls: Tls) -> tuple[Attempt, ...]:
    """The ways to try in turn; the next one only where the server declined the one before.

    Raises:
        ConfigError: the CA is not a PEM certificate.
    """
    match tls.mode:
        case "Disable":
            return (None,)
        case "Allow":
            return (None, _unchecked())
        case "Prefer":
            return (_unchecked(), None)
        case "Require" if tls.ca is None:
            return (_unchecked(),)
        case "Require" | "VerifyCA":
            return (_checked(tls.ca, host=False),)
        case "VerifyFull":
            return (_checked(tls.ca, host=True),)


def _unchecked() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _checked(ca: str | None, *, host: bool) -> ssl.SSLContext:
    # Not create_default_context: since Python 3.13 it refuses authorities that libpq takes.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = host
    try:
        if ca is None:
            context.load_default_certs()
        else:
            # Only the certificates: bundles hold comments in any language between them.
            context.load_verify_locations(cadata="\n".join(_CERTIFICATE.findall(ca)))
    except (ssl.SSLError, ValueError):
        raise ConfigError(
            "tls.ca: not a PEM certificate; it must hold one or more "
            "'-----BEGIN CERTIFICATE-----' blocks"
        ) from None
    return context
