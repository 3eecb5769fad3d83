"""Where a backend stands with its logins, in its own revisions: pure.

Backends that share a pool are opened with the logins of one of them. Each has revisions of its own,
also for the same login, so what the pool has proven is looked for among each one's logins.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Literal

from stackstore.credentials.machine import Machine
from stackstore.credentials.snapshot import Login, PostgresBackend
from stackstore.pools.target import Target

State = Literal["current", "previous", "refused", "unreachable", "unproven"]
"""What new connections of a backend use: its current login; another one (an earlier one, as a rule);
none, for the database refuses; none, for nobody answers; none, for nothing was tried yet."""


def proven_revision(backend: PostgresBackend, machine: Machine[Target]) -> str | None:
    """The backend's own name for the login that is proven; None: none is, or it is none of its."""
    if machine.proven is None:
        return None
    way = _way(machine.proven.login)
    for login in (backend.current, *backend.previous):
        if _way(login) == way:
            return login.revision
    return None


def state(backend: PostgresBackend, machine: Machine[Target]) -> State:
    """Which of its logins is used, or why none is."""
    if machine.proven is not None:
        is_current = _way(machine.proven.login) == _way(backend.current)
        return "current" if is_current else "previous"
    if machine.refusals:
        return "refused"
    return "unreachable" if machine.absences else "unproven"


def _way(login: Login) -> Hashable:
    """What makes two logins one, whatever they are called; a host's name has no case."""
    return login.host.lower(), login.port, login.database, login.username, login.password
