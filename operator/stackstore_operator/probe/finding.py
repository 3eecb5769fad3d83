"""What one visit to a database found. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from stackstore_operator.api.conditions import Reason, Status

Rows = Literal["read", "missing", "unreadable"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """Whether the login works: True, False (it was refused) or Unknown (nobody answered).

    Attributes:
        message: for the backend's owner; the same words as long as it is the same.
    """

    status: Status
    reason: Reason
    message: str


@dataclass(frozen=True, slots=True)
class Processes:
    """How many living processes of a stack have proven a revision of a backend last.

    Attributes:
        backend: its name in the stack's run config.
    """

    backend: str
    revision: str
    count: int


@dataclass(frozen=True, slots=True)
class Sessions:
    """How many sessions of the database say that they are a stack's, and of which revision."""

    revision: str
    count: int


@dataclass(frozen=True, slots=True)
class Sight:
    """What is seen of one stack."""

    processes: tuple[Processes, ...] = ()
    sessions: tuple[Sessions, ...] = ()


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found with one login.

    Attributes:
        revision: of the login.
        server_version: such as "16.4"; empty when it isn't known.
        max_connections: how many sessions the server lets this user have in this database; None when
            it isn't known.
        rows: whether processes could be read: "missing" when no process of ours was ever there.
        sights: by the stack's id, who is seen there.
    """

    revision: str
    outcome: Outcome
    server_version: str = ""
    max_connections: int | None = None
    rows: Rows = "unreadable"
    sights: Mapping[str, Sight] = field(default_factory=dict)
