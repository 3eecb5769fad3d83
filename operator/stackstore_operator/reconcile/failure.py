"""What is said of a plan that could not be written. Pure."""

from __future__ import annotations

from dataclasses import replace

from stackstore_operator.api.conditions import Reason
from stackstore_operator.reconcile import conditions
from stackstore_operator.reconcile.conditions import Said
from stackstore_operator.reconcile.inputs import StackInputs
from stackstore_operator.reconcile.plan import Plan, announcements

_REASONS = {str(reason): reason for reason in Reason}


def after_failure(
    inputs: StackInputs,
    decided: Plan,
    message: str,
    reason: Reason = Reason.APPLY_FAILED,
    about: str = "Rendered",
) -> Plan:
    """The same plan, whose bindings say that a write failed instead of that all is written.

    Args:
        inputs: what was planned from.
        decided: the plan.
        message: what the API server answered, or who else writes; it speaks of objects and fields,
            not of contents.
        reason: the reason to give.
        about: the condition that is not as planned.
    """
    statuses = {}
    for binding in inputs.bindings:
        planned = decided.statuses[binding.metadata.name]
        said = [
            Said(c.type, c.status, _REASONS[c.reason], c.message)
            for c in planned.conditions
            if c.type != "Ready"
        ]
        said = [
            Said(about, "False", reason, message)
            if one.type == about and (about != "Rendered" or one.status == "True")
            else one
            for one in said
        ]
        parts = conditions.lowering(said)
        statuses[binding.metadata.name] = planned.model_copy(
            update={
                "conditions": conditions.timed(
                    [conditions.summary(parts), *said],
                    binding.status.conditions,
                    binding.metadata.generation,
                    inputs.now,
                ),
                # The revision that is in force is the one that was written before.
                "revision": binding.status.revision if about == "Rendered" else planned.revision,
            }
        )
    return replace(decided, statuses=statuses, announcements=announcements(inputs, statuses))
