"""Whether stacks have taken up the present login of their backends: the conditions `Adopted`. Pure.

Like `Verified`, the condition is about the revision beside it in the status: what was so stays until
there is a new finding, and who has taken a login up does not go back when the database can't be
looked into for a while.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from stackstore.credentials.snapshot import PostgresBackend, SqliteBackend
from stackstore_operator.api.backend import StorageBackend
from stackstore_operator.api.conditions import Condition, Reason
from stackstore_operator.probe.finding import Finding
from stackstore_operator.reconcile.conditions import Said, known, repeated
from stackstore_operator.reconcile.tally import Seen, Use, seen
from stackstore_operator.reconcile.verification import is_visited

_WORST_FIRST = (
    Reason.PROCESSES_WAITING,
    Reason.INSTANCES_UNREADABLE,
    Reason.CONSUMERS_MISSING,
    Reason.ADDRESS_CHANGED,
    Reason.ADOPTED_BY_SESSIONS,
    Reason.ADOPTED,
)
_STANDING = (*_WORST_FIRST, Reason.NO_PROCESS_SEEN, Reason.NOT_VERIFIED)


@dataclass(frozen=True, slots=True)
class Part:
    """A Postgres backend of a stack.

    Attributes:
        name: in the run config.
        visited: whether the operator looks into its database at all.
        finding: what was found with the login that the stack has now; None: nothing yet.
        use: the stack's use of it.
    """

    name: str
    visited: bool
    finding: Finding | None
    use: Use


def is_adopted(backend: StorageBackend, revision: str) -> bool:
    """Whether every stack uses the login of this revision, as far as the backend's status tells."""
    found = known(backend.status.conditions, "Adopted")
    return backend.status.revision == revision and found is not None and found.status == "True"


def of_backend(
    backend: StorageBackend,
    snapshot: PostgresBackend | SqliteBackend | None,
    finding: Finding | None,
    uses: Sequence[Use],
) -> Said:
    """The condition `Adopted` of a backend.

    Args:
        backend: with the status that stands in the cluster.
        snapshot: what stacks get; None: the login is not resolved.
        finding: what was found with the present login; None: nothing yet.
        uses: of the stacks that it allows.
    """
    if snapshot is None:
        return _unknown(Reason.WAITING, "the backend is not accepted, or its login is not resolved")
    if isinstance(snapshot, SqliteBackend):
        return _unknown(Reason.NOT_APPLICABLE, "a file has no login")
    if not is_visited(backend, snapshot):
        return _unknown(
            Reason.VERIFICATION_DISABLED, "the operator does not look into the database"
        )
    if finding is None or finding.outcome.status != "True":
        same = backend.status.revision == snapshot.current.revision
        return _unseen(known(backend.status.conditions, "Adopted") if same else None, finding)
    found = [(use, seen(finding, use)) for use in uses]
    reason = _together(one.reason for _, one in found)
    said = _said(reason, found, "")
    same = backend.status.revision == snapshot.current.revision
    return _settled(known(backend.status.conditions, "Adopted") if same else None, said)


def of_stack(parts: Sequence[Part], before: Condition | None) -> Said:
    """The condition `Adopted` of a stack's bindings.

    Args:
        parts: its Postgres backends.
        before: the condition in the cluster if it is about the logins that the stack has now.
    """
    if not parts:
        return _unknown(Reason.NOT_APPLICABLE, "no backend has a login")
    blind = [part for part in parts if not part.visited]
    if blind:
        message = f"the operator does not look into the database of backend {_names(blind)}"
        return _unknown(Reason.VERIFICATION_DISABLED, message)
    each = []
    for part in parts:
        if part.finding is None or part.finding.outcome.status != "True":
            return _unseen(before, part.finding, f" of backend '{part.name}'")
        each.append((part, seen(part.finding, part.use)))
    reason = _together(one.reason for _, one in each)
    decisive = [(part, one) for part, one in each if one.reason is reason]
    names = _names([part for part, _ in decisive])
    return _settled(before, _said(reason, [(part.use, one) for part, one in decisive], names))


def _settled(before: Condition | None, now: Said) -> Said:
    """What was taken up stays so: who comes later begins with the present login.

    Without this every pod that an autoscaler adds would make it unknown for a while. Only who is seen
    with another login speaks against it.
    """
    stood = None if before is None else repeated(before)
    if stood is None or stood.status != "True" or stood.reason not in _STANDING:
        return now
    return stood if now.status == "Unknown" else now


def _unseen(before: Condition | None, finding: Finding | None, of: str = "") -> Said:
    """What is said when nothing new is known."""
    stood = None if before is None else repeated(before)
    if (
        stood is not None
        and stood.reason in _STANDING
        and (finding is None or stood.status == "True")
    ):
        return stood
    if finding is None:
        return _unknown(Reason.VERIFYING, f"the database{of} was not looked into yet")
    return _unknown(
        Reason.NOT_VERIFIED,
        f"the database{of} could not be looked into; see the backend's Verified",
    )


def _unknown(reason: Reason, message: str) -> Said:
    return Said("Adopted", "Unknown", reason, message)


def _names(parts: Iterable[Part]) -> str:
    return ", ".join(sorted(f"'{part.name}'" for part in parts))


def _together(reasons: Iterable[Reason]) -> Reason:
    there = set(reasons)
    for reason in _WORST_FIRST:
        if reason in there:
            return reason
    return Reason.NO_PROCESS_SEEN


def _said(reason: Reason, found: Sequence[tuple[Use, Seen]], names: str) -> Said:
    where = f"of backend {names} " if names else ""
    proven = sum(one.proven for _, one in found)
    waiting = sum(one.waiting for _, one in found)
    earlier = sum(one.earlier for _, one in found)
    match reason:
        case Reason.PROCESSES_WAITING:
            told = (
                f"{waiting} of {proven + waiting} processes {where}have not proven the present login "
                f"yet, and {earlier} sessions are of an earlier one"
            )
            if earlier and any(use.pooled for use, _ in found):
                told += "; idle sessions of a pooler stay until it closes them"
            return Said("Adopted", "False", reason, told)
        case Reason.CONSUMERS_MISSING:
            expected = sum(use.expected or 0 for use, _ in found)
            told = (
                f"{proven} processes {where}use the present login, and {expected} are expected; see "
                "whether the pods run and mount the stack's Secret, and whether each has used this "
                "backend yet"
            )
            return Said("Adopted", "Unknown", reason, told)
        case Reason.INSTANCES_UNREADABLE:
            told = (
                f"the table stackstore.instances {where}could not be read; see that the login owns "
                "it, or GRANT USAGE ON SCHEMA stackstore and SELECT ON stackstore.instances to it"
            )
            return Said("Adopted", "Unknown", reason, told)
        case Reason.ADDRESS_CHANGED:
            told = (
                f"the login {where}leads to another address than before, where processes that still "
                "use the earlier one can't be seen; known when the grace of the earlier one is over, "
                "or with `spec.consumers`"
            )
            return Said("Adopted", "Unknown", reason, told)
        case Reason.NO_PROCESS_SEEN:
            told = f"no process {where}was seen: none runs, or none has used it yet"
            return Said("Adopted", "Unknown", reason, told)
    # No numbers: they change as pods come and go, and nothing is to be done about it.
    told = f"every process {where}that was seen uses the present login"
    if reason is Reason.ADOPTED_BY_SESSIONS:
        told += "; a stock server is known by its sessions alone, and one that idles has none"
    if any(one.reason is Reason.NO_PROCESS_SEEN for _, one in found):
        told += "; of some stacks none was seen"
    return Said("Adopted", "True", reason, told)
