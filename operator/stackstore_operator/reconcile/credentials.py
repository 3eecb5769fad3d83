"""From a Secret's keys to a login: explicit keys, else well-known ones; parts before URIs. Pure."""

from __future__ import annotations

import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, replace

from pydantic import SecretStr

from stackstore.credentials.snapshot import Login, Tls
from stackstore_operator.api.backend import Credentials, Postgres
from stackstore_operator.api.conditions import Reason
from stackstore_operator.reconcile import addresses, secretkeys
from stackstore_operator.reconcile.addresses import Address
from stackstore_operator.reconcile.secretkeys import CredentialsProblem, SecretKeys

__all__ = ["CredentialsProblem", "Resolved", "certificates", "resolve"]

_CERTIFICATE = re.compile(
    r"-----BEGIN CERTIFICATE-----[A-Za-z0-9+/=\s]+-----END CERTIFICATE-----", re.ASCII
)
DEFAULT_PORT = 5432
_MAX_LENGTH = 65_536
"""Of a user, a password and a database: a server takes no longer ones, and all stacks carry them."""


@dataclass(frozen=True, slots=True)
class Resolved:
    """A login (without its revision yet) and how it is protected.

    Attributes:
        stale: what is worth knowing of a URI that says something else than the parts beside it;
            empty when there is none.
    """

    login: Login
    tls: Tls
    stale: str = ""


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
    reader = SecretKeys(credentials.secret_ref.name, secret)
    stated = _stated(reader, postgres, credentials)
    known = _known(reader, postgres, stated)
    hinted, hint = reader.hint()
    host = stated.host or known.host or hint.host
    username = stated.username or known.username or hint.username
    password = stated.password or known.password
    if password is None and username == secretkeys.SUPERUSER:
        password = reader.known(secretkeys.SUPERUSER_PASSWORD)
    password = password or hint.password
    database = stated.database or known.database or hint.database
    if not (username and password and host and database):
        found = Address(host, None, database, username, password)
        raise CredentialsProblem(Reason.SECRET_KEY_MISSING, _missing(reader, found))
    for what, value in (("user", username), ("password", password), ("database", database)):
        if len(value) > _MAX_LENGTH:
            raise CredentialsProblem(
                Reason.SECRET_INVALID,
                f"the {what} that Secret '{reader.name}' gives has more than {_MAX_LENGTH} characters",
            )
    login = Login(
        host=addresses.qualified(host, namespace),
        port=stated.port or known.port or hint.port or DEFAULT_PORT,
        database=database,
        username=username,
        password=SecretStr(password),
    )
    # A URI speaks of the database itself, not of a pooler before it.
    direct = replace(known, host=None) if _pooler(reader, postgres) else known
    stale = _stale(hinted, hint, direct, namespace)
    return Resolved(login, _tls(reader, postgres, credentials, ca), stale)


def _stated(reader: SecretKeys, postgres: Postgres, credentials: Credentials) -> Address:
    """What the backend's object says, by its own fields and by the keys that it names."""
    keys = credentials.keys
    uri = reader.uri(keys.uri) if keys.uri is not None else Address()
    port = postgres.port or reader.port(keys.port)
    if postgres.host is not None:
        host = postgres.host
    elif keys.host is not None:
        found = reader.host(keys.host)
        host = found.host or ""
        port = port or found.port or reader.known_port() or DEFAULT_PORT
    elif uri.host is not None:
        # A URI without a port says 5432, whatever else the Secret holds.
        host, port = uri.host, port or uri.port or DEFAULT_PORT
    else:
        host = ""
    return Address(
        host=host or None,
        port=port,
        database=postgres.database or reader.named(keys.database) or uri.database,
        username=reader.named(keys.username) or uri.username,
        password=reader.named(keys.password) or uri.password,
    )


def _known(reader: SecretKeys, postgres: Postgres, stated: Address) -> Address:
    """What stands under well-known keys, as far as nobody has said it."""
    host, port = None, None
    through = _pooler(reader, postgres)
    if stated.host is not None:
        port = None if stated.port else reader.known_port()
    elif through is not None:
        found = reader.host(through)
        host = found.host
        port = reader.known_port(secretkeys.POOLER_PORT) or found.port or DEFAULT_PORT
    elif (key := reader.first(secretkeys.HOST)) is not None:
        found = reader.host(key)
        host = found.host
        port = None if stated.port else reader.known_port() or found.port
    elif stated.port is None:
        port = reader.known_port()
    return Address(
        host=host,
        port=port,
        database=None if stated.database else reader.known(secretkeys.DATABASE),
        username=None if stated.username else reader.known(secretkeys.USERNAME),
        password=None if stated.password else reader.known(secretkeys.PASSWORD),
    )


def _pooler(reader: SecretKeys, postgres: Postgres) -> str | None:
    """The key of the pooler's host: who says that one stands between means that of the Secret."""
    return None if postgres.pooler == "None" else reader.first(secretkeys.POOLER_HOST)


def _missing(reader: SecretKeys, found: Address) -> str:
    password: tuple[str, ...] = secretkeys.PASSWORD
    if found.username == secretkeys.SUPERUSER:
        password += secretkeys.SUPERUSER_PASSWORD
    looked_for = {
        "a user": (found.username, secretkeys.USERNAME),
        "a password": (found.password, password),
        "a host": (found.host, (*secretkeys.HOST, "`spec.postgres.host`")),
        "a database": (found.database, (*secretkeys.DATABASE, "`spec.postgres.database`")),
    }
    missing = [
        f"{what} (looked for {reader.looked_for(names)})"
        for what, (value, names) in looked_for.items()
        if not value
    ]
    hint = ""
    if not found.username and reader.has(secretkeys.SUPERUSER_PASSWORD):
        hint = (
            ". A Bitnami chart's own Secret names no user: with `serviceBindings.enabled: true` the chart "
            "makes one that does"
        )
    return (
        f"Secret '{reader.name}' does not give {'; '.join(missing)}; it has {reader.names()}"
        f"{reader.unread()}{hint}"
    )


def _stale(key: str | None, uri: Address, known: Address, namespace: str) -> str:
    """Which parts a well-known URI says otherwise than the keys beside it, which win.

    Only what was taken from well-known keys is compared: who names a key or writes a host means it.
    """
    differing = [
        name
        for name in ("username", "password", "database")
        if getattr(known, name) and getattr(uri, name) not in (None, getattr(known, name))
    ]
    if known.host and uri.host:
        ours = addresses.canonical(known.host, namespace)
        if addresses.canonical(uri.host, namespace) != ours:
            differing.append("host")
        elif known.port and known.port != (uri.port or DEFAULT_PORT):
            differing.append("port")
    if not differing:
        return ""
    return f"the URI under '{key}' is stale, it has another {', '.join(differing)}: it is not used"


def _tls(reader: SecretKeys, postgres: Postgres, credentials: Credentials, ca: str | None) -> Tls:
    mode = postgres.tls.mode
    if mode not in ("VerifyCA", "VerifyFull"):
        return Tls(mode=mode)
    text = ca or reader.named(credentials.keys.ca) or reader.known(secretkeys.CA)
    if text is None:
        return Tls(mode=mode)
    found = certificates(text)
    if found is None:
        raise CredentialsProblem(
            Reason.CA_INVALID, "the CA is not PEM text of one or more certificates"
        )
    return Tls(mode=mode, ca=found)


def certificates(text: str) -> str | None:
    """The certificates of a PEM text alone: bundles carry comments, some Secrets a key as well."""
    found = "\n".join(_CERTIFICATE.findall(text))
    try:
        ssl.create_default_context(cadata=found)
    except (ssl.SSLError, ValueError):
        return None
    return f"{found}\n" if found else None
