"""What can go wrong, as exceptions whose text is fit to be shown.

No exception of this package carries a credential's value or a statement's parameters, neither in
its text nor in its cause.
"""

from __future__ import annotations


class StackstoreError(Exception):
    """The root of every error that Stackstore raises on purpose."""


class ConfigError(StackstoreError):
    """A run config or a snapshot file can't be used; the text lists every problem found."""


class BackendUnavailableError(StackstoreError):
    """A backend could not serve in time: unreachable, out of connections, or without a login.

    Worth retrying later; the text names the backend and the last reason.
    """


class CredentialsError(BackendUnavailableError):
    """No login of the current snapshot is accepted by the database."""


class StoreBusyError(BackendUnavailableError):
    """A store's queue stayed full until the deadline: the record was not stored."""


class StoreError(StackstoreError):
    """A store refused an operation because of what it was asked, not of where it runs."""


class NotFoundError(StoreError):
    """The row, table or cursor that was named isn't there (or may not be seen)."""


class ConflictError(StoreError):
    """The write lost against another one: a duplicate key or a failed comparison."""


class InvalidArgumentError(StoreError, ValueError):
    """An argument is out of range or of the wrong shape; the text says what is allowed."""
