"""Opening a Postgres connection: with what the snapshot says, and with nothing else."""

from __future__ import annotations

import errno
import socket
import ssl

import asyncpg

from stackstore.errors import ConfigError
from stackstore.pools.faults import Fault
from stackstore.pools.slots import LoginRefusedError, UnreachableError
from stackstore.pools.target import Target
from stackstore.pools.tls import Attempt, attempts

CONNECT_TIMEOUT_SECONDS = 10.0

SILENCE_SECONDS = 30
"""A peer that acknowledges nothing for so long is gone, whatever the kernel's patience."""

ANSWER_GRACE_SECONDS = 5.0
"""What a statement's answer may take beyond the server's own statement timeout."""

OLDEST_VERSION = 13
"""Of Postgres; docs/databases.md lists what is asked of it."""

# Anything that the parameters leave open is filled from the environment and the home directory.
_NOTHING_FROM_OUTSIDE: dict[str, object] = {
    "direct_tls": False,
    "target_session_attrs": "any",
    "krbsrvname": "postgres",
    "gsslib": "gssapi",
}

_NOTHING_NAMED: dict[str, object] = {"statement_cache_size": 0}

_REFUSALS = (
    asyncpg.InvalidPasswordError,
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
    asyncpg.InsufficientPrivilegeError,
)


async def connect(target: Target) -> asyncpg.Connection:
    """Open one connection.

    Raises:
        LoginRefusedError: the server said no, or TLS can't be had as asked.
        UnreachableError: anything else.
    """
    where = f"{target.login.host}:{target.login.port}"
    try:
        ways = attempts(target.tls)
    except ConfigError as error:
        raise LoginRefusedError(f"{where}: {error}", Fault.CA) from None
    failure: LoginRefusedError | UnreachableError | None = None
    for way in ways:
        connection, failure, declined = await _connect(target, way, where)
        if connection is not None:
            return connection
        if not declined:
            break
    assert failure is not None  # noqa: S101 - there is at least one way
    # Raised here, outside any `except`: a driver's error may quote what it was given, and would stay
    # with ours as its context.
    raise failure


async def _connect(
    target: Target, way: Attempt, where: str
) -> tuple[asyncpg.Connection | None, LoginRefusedError | UnreachableError | None, bool]:
    """The connection, or why there is none and whether the server wants it another way."""
    login = target.login
    settings = {"application_name": target.application_name}
    timeout = target.statement_timeout_seconds
    # A pooler refuses start-up parameters that it doesn't track; there it is set afterwards.
    if timeout is not None and target.pooler == "None":
        settings["statement_timeout"] = str(timeout * 1000)
    connection = None
    try:
        connection = await asyncpg.connect(
            host=login.host,
            port=login.port,
            database=login.database,
            user=login.username,
            # An empty one instead of None, which would send asyncpg to PGPASSWORD and ~/.pgpass.
            password=login.password.get_secret_value() if login.password else "",
            ssl=way or False,
            timeout=CONNECT_TIMEOUT_SECONDS,
            command_timeout=_patience(target),
            server_settings=settings,
            **(_NOTHING_NAMED if not target.names_statements else {}),
            **_NOTHING_FROM_OUTSIDE,
        )
        version = connection.get_server_version()
        if version.major < OLDEST_VERSION:
            await connection.close()
            return None, _too_old(where, version.major), False
        if not target.names_statements:
            _leave_sessions_alone(connection)
        _watch_for_silence(connection)
        if timeout is not None and target.pooler == "Session":
            await connection.execute(f"SET statement_timeout = {timeout * 1000}")
    except BaseException as error:
        if connection is not None:
            connection.terminate()
        if not isinstance(error, Exception):
            raise
        return None, _translated(error, way, where), _declined(error, way)
    return connection, None, False


def _patience(target: Target) -> float | None:
    """How long an answer is waited for; then the server is told to stop, and the connection goes."""
    timeout = target.statement_timeout_seconds
    if timeout is None:
        return None
    if target.pooler == "Transaction":
        # No session is ours to set a timeout in, so this is the only one.
        return timeout
    # The server's own timeout comes first, unless nothing comes from there any more.
    return timeout + ANSWER_GRACE_SECONDS


def _declined(error: Exception, way: Attempt) -> bool:
    if way is not None and (_offers_no_tls(error) or isinstance(error, ssl.SSLError)):
        return True
    # A server's pg_hba.conf speaks so to a connection without TLS, or to one with it.
    return isinstance(error, asyncpg.InvalidAuthorizationSpecificationError)


def _offers_no_tls(error: Exception) -> bool:
    return isinstance(error, ConnectionError) and "rejected SSL upgrade" in str(error)


def _translated(error: Exception, way: Attempt, where: str) -> LoginRefusedError | UnreachableError:
    if _offers_no_tls(error):
        return LoginRefusedError(f"{where}: the server offers no TLS", Fault.NO_TLS)
    if isinstance(error, ssl.SSLCertVerificationError):
        reason = f"the server's certificate was not accepted: {error.verify_message}"
        return LoginRefusedError(f"{where}: {reason}", Fault.CERTIFICATE)
    if isinstance(error, asyncpg.ProtocolViolationError) and (said := _pooler_says(error)):
        return LoginRefusedError(f"{where}: {said[0]}", said[1])
    if isinstance(error, asyncpg.PostgresError):
        reason = f"{where}: {type(error).__name__} (SQLSTATE {error.sqlstate})"
        kind = LoginRefusedError if isinstance(error, _REFUSALS) else UnreachableError
        return kind(reason, _server_says(error, way))
    if isinstance(error, ssl.SSLError):
        # Cut off in the middle, or no TLS at the other end: it says nothing about the login.
        return UnreachableError(
            f"{where}: the TLS handshake failed ({error.reason or 'cut off'})", Fault.HANDSHAKE
        )
    if isinstance(error, OSError):
        # The system's words: they hold addresses at most.
        detail = error.strerror or str(error)
        return UnreachableError(
            f"{where}: {type(error).__name__}{detail and f': {detail}'}", _system_says(error)
        )
    # Whatever it is (a host's name that can't be encoded, say): the pool must go on.
    fault = Fault.NAME if isinstance(error, UnicodeError) else Fault.OTHER
    return UnreachableError(f"{where}: {type(error).__name__}", fault)


def _server_says(error: asyncpg.PostgresError, way: Attempt) -> Fault:
    match error:
        case asyncpg.InvalidPasswordError():
            return Fault.LOGIN
        case asyncpg.InvalidCatalogNameError():
            return Fault.DATABASE
        case asyncpg.InvalidAuthorizationSpecificationError():
            # The file's name stands in the message in every language.
            return Fault.PLAIN if way is None and "pg_hba.conf" in str(error) else Fault.ENTRY
        case asyncpg.InsufficientPrivilegeError():
            return Fault.ENTRY
        case asyncpg.TooManyConnectionsError():
            return Fault.FULL
        case asyncpg.CannotConnectNowError():
            return Fault.STARTING
        case asyncpg.ProtocolViolationError() if "no more connections allowed" in str(error):
            return Fault.FULL  # pgbouncer's max_client_conn
    return Fault.OTHER


def _system_says(error: OSError) -> Fault:
    if isinstance(error, socket.gaierror):
        return Fault.NAME
    if isinstance(error, TimeoutError):
        return Fault.SILENCE
    # Of a host with several addresses there is one error, which tells of each in its text.
    said = str(error)
    closed = isinstance(error, ConnectionRefusedError) or f"[Errno {errno.ECONNREFUSED}]" in said
    return Fault.CLOSED if closed else Fault.OTHER


def _leave_sessions_alone(connection: asyncpg.Connection) -> None:
    """To look up a type asyncpg turns `jit` off for its session and on again: of one and another."""
    connection._server_caps = connection._server_caps._replace(jit=False)  # noqa: SLF001 - no other way


def _too_old(where: str, version: int) -> LoginRefusedError:
    return LoginRefusedError(
        f"{where}: the server is PostgreSQL {version}; {OLDEST_VERSION} is the oldest that is served, so "
        "upgrade it",
        Fault.TOO_OLD,
    )


def _pooler_says(error: asyncpg.PostgresError) -> tuple[str, Fault] | None:
    """Why a pooler refuses a login for good; None: it may be let in another time.

    pgbouncer says everything with one SQLSTATE, so its words are looked at. They aren't passed on.
    """
    said = str(error)
    if "unsupported startup parameter" in said:
        told = "a pooler stands before the database; say so in pooler: Session or Transaction"
        return told, Fault.POOLER
    if any(words in said for words in ("authentication failed", "no such user")):
        return f"the pooler refused the login (SQLSTATE {error.sqlstate})", Fault.LOGIN
    if "no such database" in said or ("database" in said and "does not exist" in said):
        return f"the pooler knows no such database (SQLSTATE {error.sqlstate})", Fault.DATABASE
    return None


def _watch_for_silence(connection: asyncpg.Connection) -> None:
    """A host that vanishes without a word would be waited for until the kernel gives up."""
    transport = connection._transport  # noqa: SLF001 - asyncpg has no other way to its socket
    found = transport.get_extra_info("socket")
    if found is None or found.family not in (socket.AF_INET, socket.AF_INET6):
        return
    found.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in (
        ("TCP_KEEPIDLE", 15),
        ("TCP_KEEPINTVL", 5),
        ("TCP_KEEPCNT", 3),
        ("TCP_USER_TIMEOUT", SILENCE_SECONDS * 1000),
    ):
        # Linux has all of them, others have some.
        if hasattr(socket, option):
            found.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
