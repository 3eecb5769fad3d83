"""Plans as texts: whole, readable, compared byte by byte.

`UPDATE_GOLDEN=1 pytest tests/unit/reconcile/test_golden.py` writes them anew; then read the diff.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from stackstore_operator.reconcile.inputs import StackInputs
from stackstore_operator.reconcile.plan import Plan, plan
from tests.unit.reconcile import samples
from tests.unit.reconcile.samples import (
    BASE,
    DEFAULTS,
    FILES,
    LOGIN,
    UNKNOWN_KIND,
    applied,
    binding,
    change,
    postgres,
    sqlite,
    store,
)

HERE = Path(__file__).parent / "golden"
CASES: dict[str, Callable[[], StackInputs]] = {}


def case(function: Callable[[], StackInputs]) -> Callable[[], StackInputs]:
    CASES[function.__name__] = function
    return function


def settled(start: StackInputs) -> StackInputs:
    return applied(start, plan(start))


@case
def quickstart() -> StackInputs:
    return samples.inputs(
        binding(
            stores=[store("metadata"), store("inference"), store("conversations")],
            providers=[FILES],
            defaults=DEFAULTS,
            baseConfigRef={"name": "chat-base"},
        ),
        config_maps={("chat", "chat-base"): {"config.yaml": BASE}},
    )


@case
def all_types_with_tls_pool_and_queue() -> StackInputs:
    certificate = (Path(__file__).parent / "ca.crt").read_text()
    reach = {
        "host": "2001:db8::7", "port": 6432, "database": "we ird", "pooler": "Session",
        "tls": {"mode": "VerifyFull", "caRef": {"name": "pg-ca"}}, "statementTimeoutSeconds": 7,
        "pool": {"size": 3, "maxOverflow": 0, "recycleSeconds": -1, "acquireTimeoutSeconds": 4},
    }  # fmt: skip
    return samples.inputs(
        binding(
            stores=[
                store("metadata", backendRef={"name": "kv.shared", "alias": "kv_shared"}),
                store(
                    "inference",
                    maxWriteQueueSize=500,
                    numWriters=2,
                    retentionSeconds=2_592_000,
                    durability={"mode": "Journal", "path": "/journal"},
                ),
                store("conversations", backendRef={"name": "files"}),
            ],
            defaults=DEFAULTS,
        ),
        backends=(
            postgres(postgres=reach),
            postgres("kv.shared", type="kv_postgres", postgres={"tls": {"mode": "Disable"}}),
            sqlite(),
            sqlite("files", type="sql_sqlite", sqlite={"path": "/data/sql.db"}),
        ),
        secrets={("chat", "pg-app"): {**LOGIN, "password": b"p@ss/w:rd#1?%", "ca.crt": b"unused"}},
        config_maps={("chat", "pg-ca"): {"ca.crt": certificate}},
    )


@case
def two_bindings_compose() -> StackInputs:
    return samples.inputs(
        binding(
            "young", born="2026-01-02T00:00:00Z", stores=[store("responses"), store("metadata")]
        ),
        binding(stores=[store("inference")], defaults=DEFAULTS),
    )


@case
def two_bindings_conflict() -> StackInputs:
    return samples.inputs(
        binding(
            "young",
            born="2026-01-02T00:00:00Z",
            stores=[store("inference", tableName="mine"), store("responses")],
        ),
        binding(stores=[store("inference")], defaults=DEFAULTS),
    )


@case
def rotated() -> StackInputs:
    start = settled(samples.inputs())
    return change(
        start, secrets={("chat", "pg-app"): {**LOGIN, "password": b"second"}}, now=start.now + 60
    )


@case
def from_another_namespace() -> StackInputs:
    return samples.inputs(
        binding(
            stores=[
                store("inference", backendRef={"name": "sql-default", "namespace": "platform"})
            ],
            defaults={**DEFAULTS, "sql": {"name": "sql-default", "namespace": "platform"}},
        ),
        backends=(postgres(namespace="platform", allowedNamespaces={"from": "All"}), sqlite()),
        secrets={("platform", "pg-app"): LOGIN},
    )


@case
def refused_by_another_namespace() -> StackInputs:
    allowed = from_another_namespace()
    return change(allowed, backends=(postgres(namespace="platform"), sqlite()))


@case
def consent_withdrawn() -> StackInputs:
    platform = {"name": "sql-shared", "namespace": "platform"}
    start = samples.inputs(
        binding(
            stores=[store("inference"), store("responses", backendRef=platform)], defaults=DEFAULTS
        ),
        backends=(
            postgres(),
            sqlite(),
            postgres("sql-shared", "platform", allowedNamespaces={"from": "All"}),
        ),
        secrets={
            ("chat", "pg-app"): LOGIN,
            ("platform", "pg-app"): {**LOGIN, "password": b"theirs"},
        },
    )
    return change(
        settled(start), backends=(postgres(), sqlite(), postgres("sql-shared", "platform"))
    )


@case
def secret_lacks_a_password() -> StackInputs:
    lacking = {key: value for key, value in LOGIN.items() if key != "password"}
    return samples.inputs(secrets={("chat", "pg-app"): lacking})


@case
def invalid_change_keeps_the_last_good() -> StackInputs:
    start = settled(samples.inputs())
    bound = [store("inference", backendRef={"name": "kv-default"})]
    changed = binding(generation=2, stores=bound, defaults=DEFAULTS)
    (old,) = start.bindings
    return change(
        start, bindings=(changed.model_copy(update={"status": old.status}),), now=start.now + 9
    )


@case
def not_yet_supported() -> StackInputs:
    return samples.inputs(
        binding(
            stores=[store("prompts", retentionSeconds=60)],
            defaults=DEFAULTS,
            consumers=[UNKNOWN_KIND],
            rollout={"strategy": "Restart"},
        )
    )


@case
def store_missing() -> StackInputs:
    return samples.inputs(binding(stores=[store("inference")]))


def text_of(decided: Plan) -> str:
    lines = []
    for name, status in sorted(decided.statuses.items()):
        lines.append(
            f"StoreBinding {name}: generation {status.observed_generation}, revision "
            f"{status.revision or 'none'}, {status.config_map_name}, {status.secret_name}, {status.stack_id}"
        )
        for c in status.conditions:
            text = f": {c.message}" if c.message else ""
            lines.append(f"  {c.type}={c.status} {c.reason} since {c.last_transition_time}{text}")
    lines += [
        f"event on {a.name}: {'Warning' if a.warning else 'Normal'} {a.reason} {a.message}".rstrip()
        for a in decided.announcements
    ]
    lines.append(f"again at {decided.again_at or 'no time'}")
    if decided.secret is None:
        lines.append("--- Secret: left as it is")
    else:
        lines.append(f"--- Secret: {' '.join(sorted(decided.secret))}")
        for key in ("operator.json", "stackstore.json"):
            lines += [f"--- {key}", decided.secret[key].decode().rstrip()]
    lines += [
        "--- config.yaml",
        "left as it is" if decided.config is None else decided.config.rstrip(),
    ]
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("name", sorted(CASES))
def test_plan_is_as_written_down(name: str) -> None:
    text = text_of(plan(CASES[name]()))
    path = HERE / f"{name}.txt"
    if os.environ.get("UPDATE_GOLDEN"):
        path.write_text(text)
    assert text == path.read_text()


@pytest.mark.parametrize("name", sorted(CASES))
def test_a_plan_that_was_written_is_planned_again(name: str) -> None:
    """At rest nothing is written: the same bytes, the same statuses, no event."""
    start = CASES[name]()
    first = plan(start)
    after = change(applied(start, first), now=start.now + 30)
    second = plan(after)
    assert second.announcements == ()
    assert second.statuses == first.statuses
    if second.secret is not None:
        assert second.secret == (first.secret if first.secret is not None else None)
    if second.config is not None:
        assert second.config == first.config


def test_every_golden_text_has_its_case() -> None:
    assert {path.stem for path in HERE.glob("*.txt")} == set(CASES)
