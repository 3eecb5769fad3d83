"""Conditions as API conventions want them: the transition time moves only with the status."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from stackstore_operator.api.conditions import Condition, Reason, Status

_MAX_MESSAGE = 2_000
INFORMATIVE = ("Adopted", "ConsumersResolved", "Exclusive", "FileExclusive", "WithinBudget")
"""Conditions of a binding that don't lower Ready."""
WARNINGS = (("FileExclusive", "False"), ("WithinBudget", "False"))
"""Conditions of a binding that are told by an event although they don't lower Ready."""
_STOPPING = (("WithinBudget", Reason.BUDGET_EXCEEDED), ("WithinBudget", Reason.WAITING))
"""Except when they say that nothing is rendered for their sake."""
_UNDER_WAY = (("RolledOut", "Unknown"), ("RolledOut", "True"))
"""What counts for Ready only when it is False: pods are replaced one after the other."""
_REASONS = {str(reason): reason for reason in Reason}


@dataclass(frozen=True, slots=True)
class Said:
    """What is said of one condition type, before its times."""

    type: str
    status: Status
    reason: Reason
    message: str = ""


def timed(
    said: Iterable[Said], before: Iterable[Condition], generation: int, now: int
) -> list[Condition]:
    """The conditions to write."""
    known = {condition.type: condition for condition in before}
    stamp = datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    conditions = []
    for one in said:
        old = known.get(one.type)
        unchanged = old is not None and old.status == one.status
        conditions.append(
            Condition(
                type=one.type,
                status=one.status,
                observed_generation=generation,
                last_transition_time=old.last_transition_time if old and unchanged else stamp,
                reason=str(one.reason),
                message=one.message[:_MAX_MESSAGE],
            )
        )
    return conditions


def known(conditions: Iterable[Condition], type_: str) -> Condition | None:
    """The condition of this type, if there is one."""
    return next((condition for condition in conditions if condition.type == type_), None)


def repeated(condition: Condition) -> Said | None:
    """What a condition in the cluster says; None when its reason is none of this release."""
    reason = _REASONS.get(condition.reason)
    if reason is None:
        return None
    return Said(condition.type, condition.status, reason, condition.message)


def turned(before: Iterable[Condition], now: Condition) -> bool:
    """Whether a condition has another status or reason than before: what an event tells."""
    known = {condition.type: (condition.status, condition.reason) for condition in before}
    return known.get(now.type) != (now.status, now.reason)


def summary(parts: Iterable[Said]) -> Said:
    """Ready: True when every part is; else it repeats the first that isn't, False before Unknown.

    When all is well it repeats the last part, which says what came of it.
    """
    parts = list(parts)
    for status in ("False", "Unknown"):
        for part in parts:
            if part.status == status:
                return Said("Ready", part.status, part.reason, part.message)
    return Said("Ready", "True", Reason.READY, parts[-1].message if parts else "")


def lowering(said: Iterable[Said]) -> list[Said]:
    """Those of a binding's conditions that Ready is made of."""
    return [
        one
        for one in said
        if (one.type not in INFORMATIVE or (one.type, one.reason) in _STOPPING)
        and (one.type, one.status) not in _UNDER_WAY
    ]
