"""From what a visit saw to the condition Adopted."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from stackstore.credentials.snapshot import Login, PostgresBackend, SqliteBackend
from stackstore_operator.api.backend import StorageBackend
from stackstore_operator.api.conditions import Reason
from stackstore_operator.probe.finding import Finding, Outcome, Processes, Rows, Sessions, Sight
from stackstore_operator.reconcile.adoption import Part, is_adopted, of_backend, of_stack
from stackstore_operator.reconcile.conditions import Said, timed
from stackstore_operator.reconcile.tally import Use
from tests.unit.reconcile.samples import NOW, postgres

NEW, OLD, OTHER = "0000000a", "0000000b", "0000000c"
STACK, SECOND = "aaaaaaaaaaaa", "bbbbbbbbbbbb"
USE = Use(STACK, frozenset({"sql_default"}), frozenset({OTHER}))
GOOD = Outcome("True", Reason.CONNECTED, "")
SNAPSHOT = PostgresBackend(
    type="sql_postgres",
    current=Login(revision=NEW, host="h", port=1, database="d", username="u"),
)


def processes(**counts: int) -> tuple[Processes, ...]:
    revisions = {"new": NEW, "old": OLD}
    return tuple(Processes("sql_default", revisions[k], n) for k, n in counts.items())


def sessions(**counts: int) -> tuple[Sessions, ...]:
    revisions = {"new": NEW, "old": OLD, "other": OTHER}
    return tuple(Sessions(revisions[k], n) for k, n in counts.items())


def finding(
    *seen: Processes | Sessions, rows: Rows = "read", outcome: Outcome = GOOD, **stacks: Sight
) -> Finding:
    sight = Sight(
        tuple(s for s in seen if isinstance(s, Processes)),
        tuple(s for s in seen if isinstance(s, Sessions)),
    )
    return Finding(NEW, outcome, "16.4", 100, rows, {STACK: sight, **stacks})


def adopted(found: Finding | None, *uses: Use, before: Said | None = None, **status: Any) -> Said:
    return of_backend(with_status(before, **status), SNAPSHOT, found, uses or (USE,))


def with_status(before: Said | None, revision: str = NEW, **spec: Any) -> StorageBackend:
    said = [] if before is None else timed([before], [], 1, NOW)
    backend = postgres(**spec)
    status = backend.status.model_copy(update={"revision": revision, "conditions": said})
    return backend.model_copy(update={"status": status})


@pytest.mark.parametrize(
    ("found", "use", "status", "reason"),
    [
        (finding(*processes(new=3)), USE, "True", Reason.ADOPTED),
        (finding(*processes(new=3), *sessions(new=9)), USE, "True", Reason.ADOPTED),
        (finding(*processes(new=2, old=1)), USE, "False", Reason.PROCESSES_WAITING),
        (finding(*processes(new=3), *sessions(old=1)), USE, "False", Reason.PROCESSES_WAITING),
        # Backends of one address and user share a pool, whose sessions bear any of their revisions.
        (finding(*processes(new=3), *sessions(other=4)), USE, "True", Reason.ADOPTED),
        (finding(*sessions(old=1), rows="missing"), USE, "False", Reason.PROCESSES_WAITING),
        (finding(*sessions(new=1), rows="missing"), USE, "True", Reason.ADOPTED_BY_SESSIONS),
        (finding(*sessions(new=1)), USE, "True", Reason.ADOPTED_BY_SESSIONS),
        (finding(rows="missing"), USE, "Unknown", Reason.NO_PROCESS_SEEN),
        (finding(*sessions(other=4)), USE, "Unknown", Reason.NO_PROCESS_SEEN),
        (finding(*sessions(new=1), rows="unreadable"), USE, "Unknown", Reason.INSTANCES_UNREADABLE),
        (finding(*sessions(old=1), rows="unreadable"), USE, "False", Reason.PROCESSES_WAITING),
        # By `spec.consumers`
        (finding(*processes(new=2)), replace(USE, expected=3), "Unknown", Reason.CONSUMERS_MISSING),
        (finding(*processes(new=3)), replace(USE, expected=3), "True", Reason.ADOPTED),
        (finding(*processes(new=4)), replace(USE, expected=3), "True", Reason.ADOPTED),
        (finding(*processes(new=3, old=1)), replace(USE, expected=3), "False", Reason.PROCESSES_WAITING),
        (finding(), replace(USE, expected=1), "Unknown", Reason.CONSUMERS_MISSING),
        (finding(), replace(USE, expected=0), "True", Reason.ADOPTED),
        (finding(*sessions(new=1)), replace(USE, expected=3), "True", Reason.ADOPTED_BY_SESSIONS),
        # At another address nobody sees who still uses the earlier one.
        (finding(*processes(new=1)), replace(USE, moved=True), "Unknown", Reason.ADDRESS_CHANGED),
        (finding(*processes(new=3)), replace(USE, moved=True, expected=3), "True", Reason.ADOPTED),
    ],
)  # fmt: skip
def test_of_one_stack(found: Finding, use: Use, status: str, reason: Reason) -> None:
    said = adopted(found, use)
    assert (said.type, said.status, said.reason) == ("Adopted", status, reason)
    alone = of_stack([Part("sql_default", visited=True, finding=found, use=use)], None)
    assert (alone.status, alone.reason) == (status, reason)
    assert "'sql_default'" in alone.message


def test_another_stacks_processes_and_another_backends_are_not_its_own() -> None:
    elsewhere = Processes("kv_default", OLD, 7)
    found = finding(*processes(new=1), elsewhere, **{SECOND: Sight(processes(old=1))})
    assert adopted(found).reason is Reason.ADOPTED
    two = adopted(found, USE, replace(USE, stack_id=SECOND))
    assert two.reason is Reason.PROCESSES_WAITING
    assert "1 of 2 processes" in two.message
    assert STACK not in two.message
    assert SECOND not in two.message


def test_stacks_that_are_not_there_yet_keep_nobody_waiting_but_are_told() -> None:
    said = adopted(finding(*processes(new=1)), USE, replace(USE, stack_id=SECOND))
    assert (said.status, said.reason) == ("True", Reason.ADOPTED)
    assert "of some stacks none was seen" in said.message
    assert adopted(finding(), USE, replace(USE, stack_id=SECOND)).reason is Reason.NO_PROCESS_SEEN
    assert adopted(finding(*processes(new=1))).message.endswith("uses the present login")


def test_numbers_are_told_only_while_something_is_waited_for() -> None:
    """Else a status would be written whenever a pod comes or goes."""
    assert adopted(finding(*processes(new=3))) == adopted(finding(*processes(new=4)))
    waiting = adopted(finding(*processes(new=3, old=2), *sessions(old=5)))
    assert "2 of 5 processes" in waiting.message
    assert "5 sessions" in waiting.message
    assert "pooler" not in waiting.message
    assert "pooler" in adopted(finding(*sessions(old=5)), replace(USE, pooled=True)).message


TAKEN_UP = Said("Adopted", "True", Reason.ADOPTED, "as before")
MISSING = Said("Adopted", "Unknown", Reason.CONSUMERS_MISSING, "as before")
UNREACHED = finding(outcome=Outcome("Unknown", Reason.DATABASE_SILENT, ""))
REFUSED = finding(outcome=Outcome("False", Reason.LOGIN_REFUSED, ""))


@pytest.mark.parametrize(
    ("before", "found", "after"),
    [
        # After a restart nothing is known, and nothing changes.
        (TAKEN_UP, None, TAKEN_UP),
        (MISSING, None, MISSING),
        (None, None, Reason.VERIFYING),
        (Said("Adopted", "Unknown", Reason.WAITING), None, Reason.VERIFYING),
        # Who has taken it up does not go back when nobody can look.
        (TAKEN_UP, UNREACHED, TAKEN_UP),
        (TAKEN_UP, REFUSED, TAKEN_UP),
        (MISSING, UNREACHED, Reason.NOT_VERIFIED),
        (None, REFUSED, Reason.NOT_VERIFIED),
        # Pods that come later begin with it.
        (TAKEN_UP, finding(), TAKEN_UP),
        (TAKEN_UP, finding(rows="unreadable"), TAKEN_UP),
        # But who is seen with another one counts.
        (TAKEN_UP, finding(*processes(new=1, old=1)), Reason.PROCESSES_WAITING),
        (MISSING, finding(*processes(new=1)), Reason.ADOPTED),
    ],
)
def test_what_stands_in_the_cluster(
    before: Said | None, found: Finding | None, after: Said | Reason
) -> None:
    said = adopted(found, replace(USE, expected=None), before=before)
    assert after in (said, said.reason)
    condition = None if before is None else timed([before], [], 1, NOW)[0]
    said = of_stack([Part("sql_default", visited=True, finding=found, use=USE)], condition)
    assert after in (said, said.reason)


def test_what_was_taken_up_before_another_login_came_says_nothing_of_it() -> None:
    assert adopted(None, before=TAKEN_UP, revision=OLD).reason is Reason.VERIFYING
    assert adopted(finding(), before=TAKEN_UP, revision=OLD).reason is Reason.NO_PROCESS_SEEN
    assert is_adopted(with_status(TAKEN_UP), NEW)
    assert not is_adopted(with_status(TAKEN_UP), OLD)
    assert not is_adopted(with_status(MISSING), NEW)
    assert not is_adopted(with_status(None), NEW)


def test_where_the_operator_does_not_look() -> None:
    blind = with_status(TAKEN_UP, verification={"mode": "None"})
    assert of_backend(blind, SNAPSHOT, None, [USE]).reason is Reason.VERIFICATION_DISABLED
    file = SqliteBackend(type="sql_sqlite", path="/data/s.db")
    assert of_backend(postgres(), file, None, [USE]).reason is Reason.NOT_APPLICABLE
    assert of_backend(postgres(), None, finding(), [USE]).reason is Reason.WAITING
    assert of_stack([], None).reason is Reason.NOT_APPLICABLE
    part = Part("sql_default", visited=False, finding=None, use=USE)
    said = of_stack([part], None)
    assert said.reason is Reason.VERIFICATION_DISABLED
    assert "'sql_default'" in said.message


def test_the_worst_of_a_stacks_backends_is_told_with_its_name() -> None:
    def part(name: str, found: Finding | None) -> Part:
        use = replace(USE, names=frozenset({name}))
        return Part(name, visited=True, finding=found, use=use)

    first = finding(Processes("first", NEW, 2))
    second = finding(Processes("second", OLD, 2))
    said = of_stack([part("first", first), part("second", second)], None)
    assert said.reason is Reason.PROCESSES_WAITING
    assert "'second'" in said.message
    assert "'first'" not in said.message
    assert of_stack([part("first", first), part("second", None)], None).reason is Reason.VERIFYING
    # A backend that no process has used yet is no reason to wait for it.
    assert of_stack([part("first", first), part("third", first)], None).status == "True"
