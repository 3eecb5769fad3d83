"""Whether a backend's login works, as its status says it and as others may ask. Pure.

The condition `Verified` is always about `status.revision`, so that the two together can be read
after a restart: what was verified before stays so until there is a new finding.
"""

from __future__ import annotations

from stackstore.credentials.snapshot import PostgresBackend, SqliteBackend
from stackstore_operator.api.backend import StorageBackend
from stackstore_operator.api.conditions import Condition, Reason
from stackstore_operator.probe.finding import Finding
from stackstore_operator.reconcile.conditions import Said, known, repeated

_OF_NO_LOGIN = (
    Reason.WAITING,
    Reason.VERIFYING,
    Reason.VERIFICATION_DISABLED,
    Reason.NOT_APPLICABLE,
    Reason.NOT_YET_SUPPORTED,
)
"""What says nothing of a login that was tried."""


def is_verifiable(backend: StorageBackend) -> bool:
    """Whether the operator tries this backend's login at all.

    A file, or the directory of a socket, is in the pods alone.
    """
    postgres = backend.spec.postgres
    if postgres is None or (postgres.host or "").startswith("/"):
        return False
    return backend.spec.verification.mode == "Connect"


def is_visited(backend: StorageBackend, snapshot: PostgresBackend) -> bool:
    """The same, when the host is known, which may come from the Secret."""
    return is_verifiable(backend) and not snapshot.current.host.startswith("/")


def verified(backend: StorageBackend, revision: str) -> bool | None:
    """Whether a login works, as far as the backend's status tells; no finding is needed for it.

    Args:
        backend: as it was read last.
        revision: of the login that is asked about.

    Returns:
        True: it was logged in with. False: it was refused. None: it was not tried yet, nobody
        answered, or this backend is never verified (ask `is_verifiable`).
    """
    if backend.status.revision != revision:
        return None
    found = known(backend.status.conditions, "Verified")
    if found is None or found.status == "Unknown":
        return None
    return found.status == "True"


def said(
    backend: StorageBackend,
    snapshot: PostgresBackend | SqliteBackend | None,
    finding: Finding | None,
) -> Said:
    """The condition `Verified`.

    Args:
        backend: with the status that stands in the cluster.
        snapshot: what stacks get; None: the login is not resolved.
        finding: what was found with the present login; None: nothing yet.
    """
    if snapshot is None:
        message = "the backend is not accepted, or its login is not resolved"
        return Said("Verified", "Unknown", Reason.WAITING, message)
    if isinstance(snapshot, SqliteBackend) or snapshot.current.host.startswith("/"):
        what = "file" if isinstance(snapshot, SqliteBackend) else "socket"
        message = f"a {what} in the pods, which the operator can't look at"
        return Said("Verified", "Unknown", Reason.NOT_APPLICABLE, message)
    if backend.spec.verification.mode == "None":
        message = "`spec.verification.mode` is None: the login is not tried"
        return Said("Verified", "Unknown", Reason.VERIFICATION_DISABLED, message)
    if finding is not None:
        outcome = finding.outcome
        return Said("Verified", outcome.status, outcome.reason, outcome.message)
    before = standing(backend, snapshot.current.revision)
    if before is not None:
        return before
    return Said("Verified", "Unknown", Reason.VERIFYING, "the login was not tried yet")


def standing(backend: StorageBackend, revision: str) -> Said | None:
    """What stands in the status about this login, if it was tried; else None."""
    if backend.status.revision != revision:
        return None
    before: Condition | None = known(backend.status.conditions, "Verified")
    found = None if before is None else repeated(before)
    return None if found is None or found.reason in _OF_NO_LOGIN else found
