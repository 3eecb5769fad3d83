"""Random histories of a stack: whatever happens, every look leaves it at rest and tells no secret."""

from __future__ import annotations

from typing import Any

import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from stackstore.credentials.snapshot import MAX_PREVIOUS, PostgresBackend
from stackstore_operator.reconcile.inputs import StackInputs
from stackstore_operator.reconcile.plan import Plan
from tests.unit.reconcile.samples import (
    DEFAULTS,
    LOGIN,
    UNKNOWN_KIND,
    applied,
    binding,
    change,
    inputs,
    judged,
    postgres,
    snapshot,
    sqlite,
    store,
)

PLATFORM = {"name": "shared", "namespace": "platform"}
CANARY = "cAnArY"
SPECS: list[dict[str, Any]] = [
    *[{"stores": [store("inference")], "defaults": DEFAULTS}] * 4,
    *[{"stores": [store("responses", backendRef=PLATFORM)], "defaults": DEFAULTS}] * 3,
    {"stores": [store("inference")]},
    {"stores": [store("inference"), store("responses", backendRef=PLATFORM)], "defaults": DEFAULTS},
    {"stores": [store("prompts", backendRef=PLATFORM)], "defaults": DEFAULTS},
    {"stores": [store("prompts", backendRef={"name": "kv-default"})]},
    {"stores": [store("responses", retentionSeconds=9)]},
    {"stores": [store("responses")], "consumers": [UNKNOWN_KIND]},
    {"stores": [store("metadata", backendRef={**PLATFORM, "alias": "sql_default"})]},
    {"defaults": {**DEFAULTS, "sql": PLATFORM}},
    {"baseConfigRef": {"name": "base"}, "defaults": DEFAULTS},
]
OWN = postgres()
PLACES = st.fixed_dictionaries(
    {
        "own": st.sampled_from(
            [
                None,
                *[OWN] * 6,
                postgres(postgres={"host": "moved"}),
                *[postgres(maxConnections=n) for n in (1, 31, 61)],
            ]
        ),
        "file": st.sampled_from([None, *[sqlite()] * 8]),
        "shared": st.sampled_from(
            [
                None,
                postgres("shared", "platform"),
                *[postgres("shared", "platform", allowedNamespaces={"from": "All"})] * 4,
                postgres(
                    "shared",
                    "platform",
                    allowedNamespaces={"from": "All"},
                    rotation={"graceSeconds": 0},
                ),
            ]
        ),
        "password": st.sampled_from(
            [None, b"", b"\xff", *(f"{CANARY}{n}".encode() for n in range(9))]
        ),
        "base": st.sampled_from([None, "distro_name: x\nproviders: {}\n", "- broken"]),
        "specs": st.lists(st.sampled_from(SPECS), min_size=1, max_size=3),
        "damage": st.sampled_from([*[None] * 8, "secret", "config_map"]),
        "seconds": st.integers(-400, 400),
    }
)


def moved_on(before: StackInputs | None, step: dict[str, Any]) -> StackInputs:
    """The cluster after a step; outputs and statuses are those there were."""
    statuses = {b.metadata.name: b.status for b in before.bindings} if before else {}
    bindings = []
    for number, spec in enumerate(step["specs"]):
        name = f"b{number}"
        made = binding(name, born=f"2026-01-0{number + 1}T00:00:00Z", **spec)
        bindings.append(made.model_copy(update={"status": statuses.get(name, made.status)}))
    secret = {} if step["password"] is None else {**LOGIN, "password": step["password"]}
    after = inputs(
        *bindings,
        backends=tuple(b for b in (step["own"], step["file"], step["shared"]) if b is not None),
        secrets={key: secret for key in (("chat", "pg-app"), ("platform", "pg-app")) if secret},
        config_maps={("chat", "base"): {"config.yaml": step["base"]}} if step["base"] else {},
    )
    if before is None:
        return after
    kept: dict[str, Any] = {"secret": before.secret, "config_map": before.config_map}
    if step["damage"] is not None:
        kept[step["damage"]] = None
    return change(after, now=before.now + step["seconds"], **kept)


def check(cluster: StackInputs, decided: Plan) -> None:
    told = f"{decided.config} {decided.announcements} {decided.statuses}"
    assert CANARY not in told
    if decided.config is not None:
        # What a config names is in the Secret that goes with it.
        wanted = set(yaml.safe_load(decided.config)["storage"]["backends"])
        assert wanted == set(snapshot(decided).backends)
        required = {"metadata", "inference", "conversations", "prompts", "connectors"}
        assert required <= yaml.safe_load(decided.config)["storage"]["stores"].keys()
    if decided.secret is None:
        return
    shared = cluster.backends.get(("platform", "shared"))
    for name, found in snapshot(decided).backends.items():
        if isinstance(found, PostgresBackend):
            assert len(found.previous) <= MAX_PREVIOUS
            assert all(cluster.now < p.usable_until for p in found.previous)
            hosts = {found.current.host, *(p.host for p in found.previous)}
            assert len({host.endswith(".platform.svc") for host in hosts}) == 1, name
            if shared is not None and shared.spec.allowed_namespaces.from_ == "Same":
                assert not found.current.host.endswith(".platform.svc")


@settings(max_examples=200, deadline=None)
@given(steps=st.lists(PLACES, min_size=1, max_size=7))
def test_every_look_leaves_the_stack_at_rest(steps: list[dict[str, Any]]) -> None:
    cluster: StackInputs | None = None
    for step in steps:
        cluster = moved_on(cluster, step)
        decided = judged(cluster)
        check(cluster, decided)
        cluster = applied(cluster, decided)
        again = judged(cluster)
        assert again.statuses == decided.statuses
        assert again.announcements == ()
        assert again.secret in (None, decided.secret)
        assert again.config in (None, decided.config)
