"""Named storage backends for LLM stack servers.

`open()` takes a run config and the directory where the stack's Secret is mounted, and gives a
`Storage` whose stores find their database, share its one pool and follow its rotations.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from stackstore.errors import (
    BackendUnavailableError,
    ConfigError,
    ConflictError,
    CredentialsError,
    InvalidArgumentError,
    NotFoundError,
    StackstoreError,
    StoreError,
)

if TYPE_CHECKING:
    from stackstore.storage import Storage, open  # noqa: A004 - read with its package's name

__all__ = [
    "BackendUnavailableError",
    "ConfigError",
    "ConflictError",
    "CredentialsError",
    "InvalidArgumentError",
    "NotFoundError",
    "StackstoreError",
    "Storage",
    "StoreError",
    "open",
]


def __getattr__(name: str) -> object:
    # Late: the operator takes the snapshot's model from this package and needs no database drivers.
    if name in ("Storage", "open"):
        from stackstore import storage  # noqa: PLC0415 - the reason is above

        return getattr(storage, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
