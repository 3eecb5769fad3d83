"""What a Postgres connection depends on, as a snapshot gives it: pure."""

from __future__ import annotations

from dataclasses import dataclass

from stackstore.credentials.snapshot import Login, Pooler, PostgresBackend, Tls
from stackstore.pools.tls import attempts


@dataclass(frozen=True, slots=True)
class Target:
    """Everything that opening a connection depends on; a change of any of it is a rotation."""

    login: Login
    tls: Tls
    pooler: Pooler
    statement_timeout_seconds: int | None
    stack_id: str

    @property
    def names_statements(self) -> bool:
        """Whether statements may be prepared under names.

        A pooler in transaction mode has each transaction done on any of the server's sessions, where
        a name means nothing, or something else.
        """
        return self.pooler != "Transaction"

    @property
    def application_name(self) -> str:
        """How the server shows the connection (it cuts at 63 bytes)."""
        return f"stackstore:{self.login.revision or 'env'}:{self.stack_id}"


def check(backend: PostgresBackend) -> None:
    """See that it can be had.

    Raises:
        ConfigError: it can't: the CA is none.
    """
    attempts(backend.tls)


def targets(backend: PostgresBackend, stack_id: str) -> tuple[Target, ...]:
    """What a backend of a snapshot offers, most preferred first.

    Raises:
        ConfigError: as `check`.
    """
    check(backend)
    logins = (backend.current, *(previous.as_login() for previous in backend.previous))
    return tuple(
        Target(login, backend.tls, backend.pooler, backend.statement_timeout_seconds, stack_id)
        for login in logins
    )
