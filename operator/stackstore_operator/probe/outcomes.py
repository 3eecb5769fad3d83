"""From what went wrong with a connection to what a backend's owner is told. Pure."""

from __future__ import annotations

from typing import NamedTuple

from stackstore.pools.faults import Fault
from stackstore_operator.api.conditions import Reason, Status
from stackstore_operator.probe.finding import Outcome

_UNREACHED = "if the pods reach it and the operator is not to, set `spec.verification.mode` to None"


class _Telling(NamedTuple):
    status: Status
    reason: Reason
    words: str


_TELLINGS = {
    Fault.LOGIN: _Telling(
        "False",
        Reason.LOGIN_REFUSED,
        "refuses the user or the password; put the right ones into the Secret of `spec.credentials`, "
        "or give the role that password",
    ),
    Fault.ENTRY: _Telling(
        "False",
        Reason.ACCESS_DENIED,
        "does not let this user in: it may not log in, lacks CONNECT on the database, or no line of "
        f"pg_hba.conf is for it; {_UNREACHED}",
    ),
    Fault.PLAIN: _Telling(
        "False",
        Reason.TLS_REQUIRED,
        "lets this user in with TLS only, or not at all from the operator's address (no line of "
        "pg_hba.conf is for a connection without TLS); set `spec.postgres.tls.mode` to Require or "
        f"more, or add a line; {_UNREACHED}",
    ),
    Fault.DATABASE: _Telling(
        "False",
        Reason.DATABASE_NOT_FOUND,
        "has no database of that name; create it, or correct the name in `spec.postgres.database` or "
        "in the Secret",
    ),
    Fault.NO_TLS: _Telling(
        "False",
        Reason.TLS_NOT_OFFERED,
        "offers no TLS; turn it on there, or set `spec.postgres.tls.mode` to Disable",
    ),
    Fault.CERTIFICATE: _Telling(
        "False",
        Reason.CERTIFICATE_NOT_TRUSTED,
        "shows a certificate that is not accepted ({detail}); name the authority that issued it in "
        "`spec.postgres.tls.caRef`, and in VerifyFull a host that the certificate is for",
    ),
    Fault.CA: _Telling(
        "False", Reason.CA_INVALID, "can't be checked: the CA is not a PEM certificate"
    ),
    Fault.POOLER: _Telling(
        "False",
        Reason.POOLER_UNDECLARED,
        "is a pooler; say so in `spec.postgres.pooler`: Session or Transaction",
    ),
    Fault.TOO_OLD: _Telling("False", Reason.SERVER_TOO_OLD, "is too old: {detail}"),
    Fault.FULL: _Telling(
        "Unknown",
        Reason.TOO_MANY_CONNECTIONS,
        "has no connection left for the operator's one; raise its max_connections (or the limit of "
        "the role or the database), or lower what its users may hold",
    ),
    Fault.STARTING: _Telling(
        "Unknown", Reason.SERVER_STARTING, "starts, recovers or shuts down; it is tried again"
    ),
    Fault.NAME: _Telling(
        "Unknown",
        Reason.HOST_NOT_FOUND,
        f"is a name without an address; correct the host, or make its Service; {_UNREACHED}",
    ),
    Fault.SILENCE: _Telling(
        "Unknown",
        Reason.DATABASE_SILENT,
        "did not answer in time; a NetworkPolicy or a firewall may stand between, or the server "
        f"hangs; {_UNREACHED}",
    ),
    Fault.CLOSED: _Telling(
        "Unknown",
        Reason.CONNECTION_REFUSED,
        f"refuses connections: nothing listens there; start it, or correct the port; {_UNREACHED}",
    ),
    Fault.HANDSHAKE: _Telling(
        "Unknown",
        Reason.TLS_FAILED,
        "broke off the TLS handshake; what listens there may be no Postgres, or speak another TLS",
    ),
    Fault.OTHER: _Telling(
        "Unknown", Reason.UNREACHABLE, f"can't be reached ({{detail}}); {_UNREACHED}"
    ),
}


def connected(where: str, version: str, *, read_only: bool) -> Outcome:
    """The login works.

    Args:
        where: host and port.
        version: the server's, such as "16.4".
        read_only: it takes no writes.
    """
    told = f"logged in to {where}, PostgreSQL {version}"
    if read_only:
        told += (
            "; it is read-only (a standby, or default_transaction_read_only), so that no store can "
            "write: name the primary's address"
        )
    return Outcome("True", Reason.CONNECTED, told)


def failed(where: str, fault: Fault, detail: str = "") -> Outcome:
    """It doesn't, or nobody knows.

    Args:
        where: host and port.
        fault: what went wrong.
        detail: the runtime's own words for it, which hold no values.
    """
    telling = _TELLINGS[fault]
    # An error's words begin with the place.
    detail = detail.removeprefix(f"{where}: ")
    return Outcome(
        telling.status, telling.reason, f"{where} {telling.words.replace('{detail}', detail)}"
    )
