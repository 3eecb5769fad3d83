"""Who looks again when something was found out, and who need not."""

from __future__ import annotations

from typing import Any

from stackstore_operator.api.backend import StorageBackend
from stackstore_operator.api.binding import StoreBinding
from stackstore_operator.api.conditions import Reason
from stackstore_operator.probe.finding import Finding, Outcome, Processes, Sight
from stackstore_operator.reconcile import news
from stackstore_operator.reconcile.cache import Cache
from stackstore_operator.reconcile.conditions import Said, timed
from stackstore_operator.reconcile.looks import Look
from stackstore_operator.reconcile.uses import uses_of
from stackstore_operator.render import revision
from tests.unit.reconcile.samples import DEFAULTS, NOW, postgres, sqlite, store

KEY = ("chat", "sql-default")
GOOD = Outcome("True", Reason.CONNECTED, "")
BACKEND = Look("backend", *KEY)
STACKS = ("one", "two")


def bound(stack: str, adopted: str = "", **spec: Any) -> StoreBinding:
    metadata = {"name": stack, "namespace": "chat", "uid": f"uid-{stack}", "resourceVersion": "1"}
    made = StoreBinding.from_object(
        {
            "metadata": metadata,
            "spec": {"stack": stack, "stores": [store("inference")], "defaults": DEFAULTS, **spec},
        }
    )
    said = Said("Adopted", adopted, Reason.ADOPTED) if adopted else None  # type: ignore[arg-type]
    conditions = timed([said], [], 1, NOW) if said else []
    return made.model_copy(
        update={"status": made.status.model_copy(update={"conditions": conditions})}
    )


def cache(*bindings: StoreBinding) -> Cache:
    made = Cache()
    for backend in (postgres(), postgres("second"), sqlite()):
        version = {"resource_version": "1"}
        made.put_backend(
            backend.model_copy(update={"metadata": backend.metadata.model_copy(update=version)})
        )
    for binding in bindings or map(bound, STACKS):
        made.put_binding(binding)
    return made


def finding(**counts: tuple[int, int]) -> Finding:
    """By stack: processes with the present login, and with an earlier one."""
    sights = {
        revision.stack_id("chat", stack): Sight(
            tuple(
                Processes("sql_default", name, count)
                for name, count in zip(("0000000a", "0000000b"), both, strict=True)
                if count
            )
        )
        for stack, both in counts.items()
    }
    return Finding("0000000a", GOOD, "16.4", 100, "read", sights)


def after(before: Finding | None, found: Finding, known: Cache | None = None) -> list[Look]:
    return list(news.of_finding(known or cache(), KEY, before, found))


def test_after_a_visit_the_backend_looks_and_the_stacks_that_it_tells_something_else() -> None:
    start = finding(one=(1, 1), two=(1, 1))
    assert after(start, start) == [BACKEND]
    assert after(start, finding(one=(2, 0), two=(1, 1))) == [BACKEND, Look("stack", "chat", "one")]
    # One more pod is nothing to tell when all is well.
    assert after(finding(one=(2, 0)), finding(one=(3, 0))) == [BACKEND]
    # Nor is another stack's, which nobody has bound here.
    assert after(start, finding(one=(1, 1), two=(1, 1), other=(0, 5))) == [BACKEND]


def test_after_a_restart_only_those_look_of_whom_something_else_is_said() -> None:
    known = cache(bound("one", "True"), bound("two", "True"))
    assert after(None, finding(one=(2, 0), two=(2, 0)), known) == [BACKEND]
    assert after(None, finding(one=(2, 0), two=(1, 1)), known) == [
        BACKEND,
        Look("stack", "chat", "two"),
    ]
    assert len(after(None, finding(one=(2, 0), two=(2, 0)), cache())) == 3


def test_a_backend_that_is_gone_concerns_nobody() -> None:
    known = cache()
    known.drop_backend(KEY)
    assert after(None, finding(one=(1, 0)), known) == []


def status(verified: str = "", adopted: str = "", name: str = "0000000a") -> StorageBackend:
    said = [
        Said("Verified", verified or "Unknown", Reason.CONNECTED),  # type: ignore[arg-type]
        Said("Adopted", adopted or "Unknown", Reason.ADOPTED),  # type: ignore[arg-type]
    ]
    made = postgres()
    update = {"conditions": timed(said, [], 1, NOW), "revision": name}
    return made.model_copy(update={"status": made.status.model_copy(update=update)})


def told(known: Cache, before: StorageBackend, now: StorageBackend) -> list[Look]:
    return list(news.of_status(known, before, now.status))


def test_when_nobody_uses_an_earlier_login_the_stacks_that_hold_one_look() -> None:
    known = cache()
    known.note_earlier(("chat", "one"), {KEY: False})
    known.note_earlier(("chat", "two"), {("chat", "other"): False})
    one = [Look("stack", "chat", "one")]
    assert told(known, status("True"), status("True", "True")) == one
    # Also when it was so before: whoever held it may have come since.
    assert told(known, status("True", "True"), status("True", "True")) == one
    for now in (status("True"), status("", "True"), status("False", "True")):
        assert told(known, now, now) == []
    known.note_earlier(("chat", "one"), {})
    assert told(known, status("True"), status("True", "True")) == []


def test_when_a_login_is_verified_or_refused_those_look_that_restart_for_it() -> None:
    known = cache(bound("one"), bound("two", rollout={"strategy": "Restart"}))
    two = [Look("stack", "chat", "two")]
    for before, now in (("", "True"), ("True", "False"), ("False", "")):
        assert told(known, status(before), status(now)) == two
    assert told(known, status("True"), status("True")) == []


def test_when_a_login_changes_the_backends_look_that_may_share_its_sessions() -> None:
    providers = [
        {
            "api": "files", "providerId": "localfs", "field": "metadata_store",
            "backendRef": {"name": "second"}, "tableName": "files_metadata",
        }
    ]  # fmt: skip
    known = cache(bound("one", providers=providers))
    looks = told(known, status(), status(name="0000000b"))
    assert looks == [Look("backend", "chat", "kv-default"), Look("backend", "chat", "second")]


def test_uses_by_stack_with_names_and_the_other_backends_revisions() -> None:
    again = {"name": "sql-default", "alias": "again"}
    known = cache(
        bound("one", stores=[store("inference"), store("conversations", backendRef=again)]),
        bound("two"),
    )
    other = status(name="0000000c")
    known.put_backend(
        postgres("second").model_copy(
            update={
                "status": other.status,
                "metadata": postgres("second").metadata.model_copy(
                    update={"resource_version": "9"}
                ),
            }
        )
    )
    known.note_earlier(("chat", "one"), {KEY: True})
    known.note_expected(("chat", "two"), 6)
    one, two = sorted(
        uses_of(known, known.backends[KEY]), key=lambda use: len(use.names), reverse=True
    )
    assert one.stack_id == revision.stack_id("chat", "one")
    assert one.names == {"sql_default", "again"}
    assert (one.moved, one.expected) == (True, None)
    assert (two.names, two.moved, two.expected) == ({"sql_default"}, False, 6)
    assert "0000000c" not in two.others


def test_the_revision_of_a_backend_that_refuses_a_stack_is_none_of_its_business() -> None:
    """Otherwise a session named after it would tell whether a guess is right."""
    other = postgres("sql-default", "victim")
    metadata = other.metadata.model_copy(update={"resource_version": "1"})
    status = other.status.model_copy(update={"revision": "0000000c"})
    known = cache(
        bound(
            "one",
            stores=[
                store("inference"),
                store("responses", backendRef={"name": "sql-default", "namespace": "victim"}),
            ],
        )
    )
    known.put_backend(other.model_copy(update={"metadata": metadata, "status": status}))
    assert "0000000c" not in uses_of(known, known.backends[KEY])[0].others
    assert known.usable("chat", ("victim", "sql-default")) is None
    assert (
        known.usable("chat", KEY)
        is not None
        is not known.usable("victim", ("victim", "sql-default"))
    )
