"""Who wins between the bindings of one stack, and what the other is told."""

from __future__ import annotations

from typing import Any

import pytest

from stackstore_operator.reconcile.composition import Composition, compose
from tests.unit.reconcile.samples import (
    DEFAULTS,
    FILES,
    OWN_RESPONSES,
    UNKNOWN_KIND,
    binding,
    store,
)

LATER = "2026-01-02T00:00:00Z"


def both(old: dict[str, Any], young: dict[str, Any], **more: Any) -> Composition:
    return compose("chat", [binding("young", born=LATER, **young), binding("old", **old, **more)])


def refusal(composition: Composition, name: str = "young") -> tuple[str, str]:
    said = composition.accepted[name]
    assert said.status == "False"
    return said.reason, said.message


def accepted(composition: Composition) -> set[str]:
    return {name for name, said in composition.accepted.items() if said.status == "True"}


def test_what_does_not_meet_is_united() -> None:
    found = both(
        {"stores": [store("inference")], "baseConfigRef": {"name": "base", "key": "k"}},
        {
            "stores": [store("metadata")],
            "providers": [FILES],
            "defaults": DEFAULTS,
            "serverRelease": "ogx-1.5",
        },
    )
    assert accepted(found) == {"old", "young"}
    assert [s.name for s in found.stores] == ["inference", "metadata"]
    assert [(s.family, s.backend, s.place) for s in found.stores] == [
        ("sql", "sql_default", "inference_store"),
        ("kv", "kv_default", "registry"),
    ]
    assert [p.field for p in found.providers] == ["metadata_store"]
    assert found.base_config == (("chat", "base"), "k")
    assert found.defaults is not None
    assert found.release.name == "ogx-1.5"


@pytest.mark.parametrize(
    ("old", "young", "what"),
    [
        (
            {"stores": [store("inference")]},
            {"stores": [store("inference", tableName="x")]},
            "store 'inference'",
        ),
        ({"stores": [store("inference")]}, {"stores": [store("inference")]}, "store 'inference'"),
        (
            {"providers": [FILES]},
            {"providers": [{**FILES, "tableName": "x"}]},
            "provider field 'files/localfs/metadata_store'",
        ),
        (
            {"baseConfigRef": {"name": "a"}},
            {"baseConfigRef": {"name": "b"}},
            "`spec.baseConfigRef`",
        ),
        (
            {"baseConfigRef": {"name": "a"}},
            {"baseConfigRef": {"name": "a", "key": "b"}},
            "`spec.baseConfigRef`",
        ),
        (
            {"defaults": {"kv": {"name": "a"}}},
            {"defaults": {"kv": {"name": "b"}}},
            "`spec.defaults`",
        ),
        (
            {"defaults": {"kv": {"name": "a"}}},
            {"defaults": {"sql": {"name": "b"}}},
            "`spec.defaults`",
        ),
        ({"rollout": {}}, {"rollout": {"strategy": "None"}}, "`spec.rollout`"),
    ],
)
def test_the_younger_is_told_who_was_there_before(old: Any, young: Any, what: str) -> None:
    found = both(old, young)
    assert accepted(found) == {"old"}
    reason, message = refusal(found)
    assert reason == "Conflict"
    assert message.startswith(what)
    assert "StoreBinding 'old' of this stack is older" in message
    # The same the other way round: age decides, not the order they are read in.
    assert (
        both(old, young).accepted
        == compose("chat", [binding("old", **old), binding("young", born=LATER, **young)]).accepted
    )


@pytest.mark.parametrize(
    "same",
    [
        {"baseConfigRef": {"name": "a"}},
        {"defaults": DEFAULTS},
        {"rollout": {"strategy": "HotReload"}},
        {"serverRelease": "ogx-1.5"},
    ],
)
def test_saying_the_same_for_the_stack_is_no_conflict(same: dict[str, Any]) -> None:
    assert accepted(both(same, same)) == {"old", "young"}


def test_the_own_namespace_written_out_is_the_same_default() -> None:
    named = {"kv": {"name": "kv-default", "namespace": "chat"}, "sql": DEFAULTS["sql"]}
    assert accepted(both({"defaults": DEFAULTS}, {"defaults": named})) == {"old", "young"}
    other = {"kv": {"name": "kv-default", "namespace": "platform"}, "sql": DEFAULTS["sql"]}
    assert accepted(both({"defaults": DEFAULTS}, {"defaults": other})) == {"old"}


def test_age_decides_before_the_name() -> None:
    found = compose(
        "chat",
        [
            binding("a", born=LATER, stores=[store("inference")]),
            binding("z", stores=[store("inference")]),
        ],
    )
    assert accepted(found) == {"z"}


def test_ties_are_broken_by_name() -> None:
    found = compose(
        "chat",
        [binding("b", stores=[store("inference")]), binding("a", stores=[store("inference")])],
    )
    assert accepted(found) == {"a"}
    assert "StoreBinding 'a'" in refusal(found, "b")[1]


def test_of_three_the_oldest_wins_and_the_refused_claim_nothing() -> None:
    found = compose(
        "chat",
        [
            binding("c", born="2026-01-03T00:00:00Z", stores=[store("prompts")]),
            binding("b", born=LATER, stores=[store("inference"), store("prompts")]),
            binding("a", stores=[store("inference")]),
        ],
    )
    assert accepted(found) == {"a", "c"}
    assert [s.name for s in found.stores] == ["inference", "prompts"]
    assert {use.binding for use in found.uses} == {"a", "c"}


@pytest.mark.parametrize(
    "reference",
    [
        {"name": "sql.default"},
        {"name": "other", "alias": "sql_default"},
        {"name": "sql-default", "namespace": "platform"},
    ],
)
def test_two_backends_of_one_name_are_an_error_of_the_younger(reference: dict[str, str]) -> None:
    found = both(
        {"stores": [store("inference")]}, {"stores": [store("prompts", backendRef=reference)]}
    )
    reason, message = refusal(found)
    assert reason == "NameCollision"
    theirs = f"{reference.get('namespace', 'chat')}/{reference['name']}"
    assert f"StorageBackend '{theirs}' would be named 'sql_default'" in message
    assert "as 'chat/sql-default' is by the older StoreBinding 'old'" in message
    assert message.startswith("spec.stores[prompts]")
    assert "`backendRef.alias`" in message
    renamed = both(
        {"stores": [store("inference")]},
        {"stores": [store("prompts", backendRef={**reference, "alias": "x"})]},
    )
    assert accepted(renamed) == {"old", "young"}


def test_names_may_meet_inside_one_binding_too() -> None:
    found = compose(
        "chat",
        [
            binding(
                stores=[store("inference"), store("prompts", backendRef={"name": "sql.default"})]
            )
        ],
    )
    reason, message = refusal(found, "chat")
    assert reason == "NameCollision"
    assert (
        "'chat/sql.default' would be named 'sql_default' in the run config, as 'chat/sql-default' is;"
        in message
    )


def test_one_backend_may_have_two_names() -> None:
    found = both(
        {"stores": [store("inference")]},
        {"stores": [store("prompts", backendRef={"name": "sql-default", "alias": "second"})]},
    )
    assert {use.name for use in found.uses} == {"sql_default", "second"}


def test_every_reference_has_a_path_for_people() -> None:
    found = compose(
        "chat", [binding(stores=[store("metadata")], providers=[FILES], defaults=DEFAULTS)]
    )
    assert [(use.path, use.family) for use in found.uses] == [
        ("spec.stores[metadata]", "kv"),
        ("spec.providers[files/localfs/metadata_store]", "sql"),
        ("spec.defaults.kv", "kv"),
        ("spec.defaults.sql", "sql"),
    ]


@pytest.mark.parametrize(
    ("spec", "path"),
    [
        ({"consumers": [UNKNOWN_KIND]}, "`spec.consumers[Rollout/x]` of argoproj.io/v1alpha1"),
        (
            {"consumers": [{"apiVersion": "v1", "name": "x"}]},
            "only Deployment (apps/v1), StatefulSet",
        ),
        (
            {"stores": [store("prompts", retentionSeconds=1)]},
            "`spec.stores[prompts].retentionSeconds`",
        ),
        (
            {"providers": [{**FILES, "retentionSeconds": 1}]},
            "`spec.providers[files/localfs/metadata_store].retentionSeconds`",
        ),
        (
            {"stores": [store("responses", durability={"mode": "Journal", "path": "/j"})]},
            "`spec.stores[responses].durability.mode: Journal`",
        ),
    ],
)
def test_what_is_not_there_yet_is_refused_by_name(spec: dict[str, Any], path: str) -> None:
    reason, message = refusal(compose("chat", [binding(**spec)]), "chat")
    assert reason == "NotYetSupported"
    assert path in message


@pytest.mark.parametrize(
    "spec",
    [
        {"rollout": {"strategy": "None"}},
        {
            "stores": [
                store("inference", durability={"mode": "Memory"}, numWriters=1, maxWriteQueueSize=1)
            ]
        },
        {"stores": [store("inference", durability={"mode": "Journal", "path": "/j"})]},
        {
            "stores": [
                store(name, retentionSeconds=9)
                for name in ("inference", "responses", "conversations")
            ]
        },
        {"providers": [{**OWN_RESPONSES, "retentionSeconds": 9}]},
    ],
)
def test_what_is_served_is_accepted(spec: dict[str, Any]) -> None:
    assert accepted(compose("chat", [binding(**spec)])) == {"chat"}
