"""How many processes and sessions of a stack use which login of a backend. Pure.

Two things are looked at. Each process of ours notes in the database which login it has proven last;
and every session, a stock server's too, says by its name of which revision it is. An earlier login
may go when no process and no session is on it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from stackstore_operator.api.conditions import Reason
from stackstore_operator.probe.finding import Finding, Sight


@dataclass(frozen=True, slots=True)
class Use:
    """One stack's use of one backend.

    Attributes:
        stack_id: 12 hex digits.
        names: what the stack's run config calls the backend.
        others: present revisions of the other backends of the stack. Backends with one address and
            user share a pool, whose sessions bear the revision of any of them.
        expected: how many processes there should be; None: nobody says.
        moved: the stack still holds an earlier login for another address.
        pooled: a pooler stands between, which keeps sessions for as long as it likes.
    """

    stack_id: str
    names: frozenset[str]
    others: frozenset[str] = frozenset()
    expected: int | None = None
    moved: bool = False
    pooled: bool = False


@dataclass(frozen=True, slots=True)
class Seen:
    """What is seen of one use.

    Attributes:
        proven: processes that use the present login.
        waiting: processes that use another.
        present: sessions of the present login.
        earlier: sessions of an earlier one.
        reason: what that amounts to.
    """

    proven: int
    waiting: int
    present: int
    earlier: int
    reason: Reason = Reason.NO_PROCESS_SEEN


def seen(finding: Finding, use: Use) -> Seen:
    """Look for one use in what a visit found."""
    proven = waiting = present = earlier = 0
    sight = finding.sights.get(use.stack_id, Sight())
    for group in sight.processes:
        if group.backend in use.names:
            if group.revision == finding.revision:
                proven += group.count
            else:
                waiting += group.count
    for session in sight.sessions:
        if session.revision == finding.revision:
            present += session.count
        elif session.revision not in use.others:
            earlier += session.count
    counted = Seen(proven, waiting, present, earlier)
    return replace(counted, reason=_reason(finding, use, counted))


def _reason(finding: Finding, use: Use, of: Seen) -> Reason:
    if of.waiting or of.earlier:
        return Reason.PROCESSES_WAITING
    if finding.rows == "unreadable":
        return Reason.INSTANCES_UNREADABLE
    if use.expected is not None:
        # A stock server has no rows: how many of its processes there are, nobody can see.
        enough = of.proven >= use.expected or (not of.proven and of.present)
        if not enough:
            return Reason.CONSUMERS_MISSING
    elif use.moved:
        return Reason.ADDRESS_CHANGED
    elif not of.proven and not of.present:
        return Reason.NO_PROCESS_SEEN
    return Reason.ADOPTED if of.proven or not of.present else Reason.ADOPTED_BY_SESSIONS
