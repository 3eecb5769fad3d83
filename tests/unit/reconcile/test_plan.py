"""The decisions that a text does not show: what is kept, what goes, and what may never happen."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
import yaml

from stackstore.credentials.snapshot import MAX_PREVIOUS, PostgresBackend
from stackstore_operator.api.backend import StorageBackend
from stackstore_operator.reconcile import record, resolution
from stackstore_operator.reconcile.backends import BackendState
from stackstore_operator.reconcile.composition import compose
from stackstore_operator.reconcile.inputs import StackInputs
from stackstore_operator.reconcile.outputs import is_ours
from stackstore_operator.reconcile.plan import Plan, plan
from stackstore_operator.reconcile.record import RECORD_KEY
from stackstore_operator.render.model import SNAPSHOT_KEY
from tests.unit.reconcile.samples import (
    DEFAULTS,
    FILES,
    INTERACTIONS,
    LOGIN,
    UNKNOWN_KIND,
    applied,
    binding,
    change,
    conditions,
    inputs,
    message,
    postgres,
    snapshot,
    sqlite,
    store,
)

APP = ("chat", "pg-app")


def settled(start: StackInputs) -> StackInputs:
    return applied(start, plan(start))


def rotate(before: StackInputs, password: str, seconds: int = 10, **keys: bytes) -> StackInputs:
    secret = {**LOGIN, "password": password.encode(), **keys}
    return change(before, secrets={APP: secret}, now=before.now + seconds)


def pg(decided: Plan, name: str = "sql_default") -> PostgresBackend:
    found = snapshot(decided).backends[name]
    assert isinstance(found, PostgresBackend)
    return found


def passwords(decided: Plan) -> list[str]:
    found = pg(decided)
    logins = [found.current, *found.previous]
    return [login.password.get_secret_value() for login in logins if login.password]


def edit(before: StackInputs, name: str = "chat", /, **spec: Any) -> StackInputs:
    """The binding as the user has changed it; its status is still the old one."""
    old = next(b for b in before.bindings if b.metadata.name == name)
    new = binding(name, born=old.metadata.creation_timestamp, generation=2, **spec)
    new = new.model_copy(update={"status": old.status})
    return change(before, bindings=tuple(new if b is old else b for b in before.bindings))


def stores(config: str | None) -> dict[str, str]:
    assert config is not None
    return {name: s["backend"] for name, s in yaml.safe_load(config)["storage"]["stores"].items()}


# -- previous logins


def test_a_replaced_login_stays_for_its_grace() -> None:
    start = settled(inputs())
    second = rotate(start, "second")
    decided = plan(second)
    assert passwords(decided) == ["second", "first"]
    assert decided.again_at == second.now + 300
    assert pg(decided).previous[0].revision == pg(plan(start)).current.revision
    after = applied(second, decided)
    assert passwords(plan(change(after, now=second.now + 299))) == ["second", "first"]
    over = plan(change(after, now=second.now + 300))
    assert passwords(over) == ["second"]
    assert over.again_at is None


def test_changed_twice_and_more_keeps_the_newest() -> None:
    current = settled(inputs())
    for number in range(MAX_PREVIOUS + 3):
        current = rotate(current, f"p{number}")
        decided = plan(current)
        current = applied(current, decided)
    assert passwords(decided) == ["p5", "p4", "p3", "p2"]
    # The first of them to expire is the oldest.
    assert decided.again_at == current.now - 20 + 300


def test_changed_back_is_one_login_again() -> None:
    second = settled(rotate(settled(inputs()), "second"))
    decided = plan(rotate(second, "first"))
    assert passwords(decided) == ["first", "second"]


def test_no_grace_keeps_nothing() -> None:
    start = settled(inputs(backends=(postgres(rotation={"graceSeconds": 0}), sqlite())))
    assert passwords(plan(rotate(start, "second"))) == ["second"]


def test_a_shortened_grace_shortens_what_was_granted() -> None:
    second = settled(rotate(settled(inputs()), "second"))
    shorter = change(second, backends=(postgres(rotation={"graceSeconds": 5}), sqlite()))
    assert plan(shorter).again_at == second.now + 5
    none = change(second, backends=(postgres(rotation={"graceSeconds": 0}), sqlite()))
    assert passwords(plan(none)) == ["second"]


def test_a_clock_set_back_does_not_keep_a_login_longer() -> None:
    second = settled(rotate(settled(inputs()), "second"))
    earlier = change(second, now=second.now - 1_000_000)
    decided = plan(earlier)
    assert passwords(decided) == ["second", "first"]
    assert decided.again_at == earlier.now + 300
    # And once is enough: time goes on from there without another write.
    later = change(applied(earlier, decided), now=earlier.now + 60)
    assert plan(later).secret == decided.secret


def test_user_and_host_may_change_with_the_password() -> None:
    start = settled(inputs())
    decided = plan(rotate(start, "second", username=b"app2", host=b"pg-new"))
    assert [pg(decided).current.username, pg(decided).previous[0].username] == ["app2", "app"]
    assert pg(decided).previous[0].host == "pg-rw.chat.svc"


def test_an_earlier_login_of_another_backend_is_never_fallen_back_on() -> None:
    """The same name in the run config, another database: a pod would write into the wrong one."""
    other = postgres("other", credentials={"secretRef": {"name": "other"}})
    secrets = {
        APP: LOGIN,
        ("chat", "other"): {**LOGIN, "password": b"theirs", "host": b"elsewhere"},
    }
    start = settled(inputs(backends=(postgres(), other, sqlite()), secrets=secrets))
    reference = {"name": "other", "alias": "sql_default"}
    moved = edit(
        start,
        stores=[store("inference", backendRef=reference)],
        defaults={**DEFAULTS, "sql": reference},
    )
    decided = plan(moved)
    assert passwords(decided) == ["theirs"]
    noted = record.read(applied(moved, decided).secret, moved.key, "chat", "chat")
    assert noted.origins["sql_default"] == ("chat", "other")


# -- revisions


def revision_with(**spec: Any) -> str:
    return snapshot(plan(inputs(backends=(postgres(**spec), sqlite())))).revision


def test_a_revision_names_address_login_and_tls_and_nothing_else() -> None:
    plain = revision_with()
    for same in (
        {"pool": {"size": 3, "maxOverflow": 0, "recycleSeconds": 7, "acquireTimeoutSeconds": 1}},
        {"statementTimeoutSeconds": 3},
        {"host": "pg-rw", "port": 5432, "database": "stack"},
    ):
        assert revision_with(postgres=same) == plain
    assert revision_with(rotation={"graceSeconds": 1}) == plain
    different = [
        revision_with(postgres={"host": "other"}),
        revision_with(postgres={"port": 6432}),
        revision_with(postgres={"database": "other"}),
        revision_with(postgres={"tls": {"mode": "Disable"}}),
        *(
            snapshot(plan(inputs(secrets={APP: {**LOGIN, key: b"other"}}))).revision
            for key in ("username", "password")
        ),
    ]
    assert len({plain, *different}) == len(different) + 1


def test_a_pool_that_changes_reaches_the_secret_without_a_new_revision_or_login() -> None:
    start = settled(inputs())
    bigger = change(start, backends=(postgres(postgres={"pool": {"size": 4}}), sqlite()))
    decided = plan(bigger)
    assert pg(decided).pool.size == 4
    assert pg(decided).previous == ()
    assert snapshot(decided).revision == snapshot(plan(start)).revision
    assert decided.config == plan(start).config


def test_other_tls_is_another_revision_of_the_same_login() -> None:
    start = settled(inputs())
    plain = change(start, backends=(postgres(postgres={"tls": {"mode": "Disable"}}), sqlite()))
    decided = plan(plain)
    assert pg(decided).tls.mode == "Disable"
    assert pg(decided).previous == ()
    assert snapshot(decided).revision != snapshot(plan(start)).revision


def test_the_config_holds_no_address_and_no_login() -> None:
    start = inputs()
    rotated = rotate(start, "second", username=b"u2", host=b"h2", database=b"d2", port=b"1")
    assert plan(start).config == plan(rotated).config


# -- what heals


@pytest.mark.parametrize("what", ["secret", "backend", "base"])
def test_what_was_missing_heals_when_it_appears(what: str) -> None:
    whole = inputs(
        binding(stores=[store("inference")], defaults=DEFAULTS, baseConfigRef={"name": "base"}),
        config_maps={("chat", "base"): {"config.yaml": "distro_name: chat\nproviders: {}"}},
    )
    lacking = {
        "secret": change(whole, secrets={}),
        "backend": change(whole, backends=(sqlite(),)),
        "base": change(whole, config_maps={}),
    }[what]
    reason = {
        "secret": "BackendNotReady",
        "backend": "NotFoundOrNotAllowed",
        "base": "BaseConfigNotFound",
    }[what]
    decided = plan(lacking)
    assert decided.config is None
    assert decided.secret is None
    assert conditions(decided)["Ready"] == ("Unknown", reason)
    healed = change(whole, bindings=applied(lacking, decided).bindings)
    decided = plan(healed)
    assert conditions(decided)["Ready"] == ("True", "Ready")
    assert decided.config == plan(whole).config
    assert [a.reason for a in decided.announcements] == ["Ready"]


def test_what_goes_missing_keeps_the_last_good() -> None:
    start = settled(inputs())
    for lacking, ready in (
        (change(start, secrets={}), ("Unknown", "BackendNotReady")),
        (change(start, backends=()), ("False", "BackendGone")),
    ):
        decided = plan(lacking)
        assert decided.config is None
        assert decided.secret == plan(start).secret
        assert conditions(decided)["Ready"] == ready


def test_previous_logins_expire_although_the_secret_is_gone() -> None:
    second = settled(rotate(settled(inputs()), "second"))
    decided = plan(change(second, secrets={}, now=second.now + 301))
    assert passwords(decided) == ["second"]
    assert decided.again_at is None


def test_an_output_that_was_deleted_or_edited_is_put_back() -> None:
    start = settled(inputs())
    good = plan(start)
    assert start.secret is not None
    for damaged in (
        change(start, secret=None, config_map=None),
        change(start, config_map={**(start.config_map or {}), "data": {"config.yaml": "{{{"}}),
        change(
            start, secret={**start.secret, "data": {SNAPSHOT_KEY: base64.b64encode(b"{}").decode()}}
        ),
        change(
            start, secret={**start.secret, "data": {RECORD_KEY: base64.b64encode(b"[1]").decode()}}
        ),
        change(start, secret={**start.secret, "data": {RECORD_KEY: "not base64!"}}),
        change(start, secret={**start.secret, "data": None}),
    ):
        decided = plan(damaged)
        assert (decided.config, decided.secret) == (good.config, good.secret)


# -- names that are taken


def stranger(name: str, **metadata: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": name, "namespace": "chat", "uid": "u", **metadata},
        "data": {"a": "Yg=="},
    }


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("Secret 'chat-storage'", {"secret": stranger("chat-storage")}),
        ("ConfigMap 'chat-run-config'", {"config_map": stranger("chat-run-config")}),
    ],
)
def test_an_object_that_is_not_ours_is_never_written(kind: str, changes: dict[str, Any]) -> None:
    decided = plan(change(inputs(), **changes))
    assert decided.config is None
    assert decided.secret is None
    assert conditions(decided)["Rendered"] == ("False", "OutputNameTaken")
    assert kind in message(decided, "Rendered")


def test_rotations_arrive_while_the_config_maps_name_is_taken() -> None:
    start = change(settled(inputs()), config_map=stranger("chat-run-config"))
    decided = plan(rotate(start, "second"))
    assert decided.config is None
    assert passwords(decided) == ["second", "first"]


def test_ours_is_told_by_label_and_owner_or_by_what_we_applied() -> None:
    labels = {"app.kubernetes.io/managed-by": "stackstore-operator", "stackstore.dev/stack": "chat"}
    owners = [
        {
            "apiVersion": "stackstore.dev/v1alpha1",
            "kind": "StoreBinding",
            "name": "chat",
            "uid": "u",
        }
    ]
    created_by_us = [{"manager": "stackstore-operator", "operation": "Update"}]
    applied_by_us = [{"manager": "stackstore-operator", "operation": "Apply"}]
    assert is_ours(stranger("x", labels=labels, ownerReferences=owners), "chat")
    assert is_ours(stranger("x", managedFields=applied_by_us), "chat")
    # Created, and the operator was killed before it applied the rest.
    assert is_ours(stranger("x", labels=labels, managedFields=created_by_us), "chat")
    for foreign in (
        {},
        {"labels": labels},
        {"ownerReferences": owners},
        {"labels": {**labels, "stackstore.dev/stack": "other"}, "ownerReferences": owners},
        {"labels": labels, "ownerReferences": [{"kind": "Deployment", "uid": "u"}]},
        {"managedFields": [{"manager": "helm", "operation": "Apply"}]},
        {"managedFields": created_by_us},
        {"labels": labels, "ownerReferences": [{**owners[0], "apiVersion": "x/v1"}]},
    ):
        assert not is_ours(stranger("x", **foreign), "chat")


# -- several bindings


def pair(young: dict[str, Any], backends: tuple[Any, ...] | None = None) -> StackInputs:
    old = binding("old", stores=[store("inference")], defaults=DEFAULTS)
    return inputs(old, binding("young", born="2026-01-02T00:00:00Z", **young), backends=backends)


ELSEWHERE = {"name": "elsewhere"}


def test_a_binding_that_is_not_resolved_holds_the_first_render_back() -> None:
    """Its store would go to `defaults` for now, and its first rows with it."""
    start = pair({"stores": [store("prompts", backendRef=ELSEWHERE)]})
    decided = plan(start)
    assert decided.config is None
    assert decided.secret is None
    assert conditions(decided, "young")["Ready"] == ("Unknown", "NotFoundOrNotAllowed")
    assert conditions(decided, "old")["Rendered"] == ("Unknown", "Waiting")
    assert "'young'" in message(decided, "Rendered", "old")
    there = (postgres(), sqlite(), postgres("elsewhere"))
    healed = plan(pair({"stores": [store("prompts", backendRef=ELSEWHERE)]}, there))
    assert stores(healed.config)["prompts"] == "elsewhere"


def test_rotations_arrive_while_another_binding_is_not_resolved() -> None:
    start = settled(pair({"stores": [store("responses")]}))
    held = edit(start, "young", stores=[store("responses", backendRef=ELSEWHERE)])
    decided = plan(rotate(held, "second"))
    assert decided.config is None
    assert passwords(decided) == ["second", "first"]


@pytest.mark.parametrize(
    "spec",
    [
        {"stores": [store("prompts", backendRef=ELSEWHERE, retentionSeconds=9)]},
        {"stores": [store("prompts", backendRef=ELSEWHERE), store("inference")]},
    ],
    ids=["unsupported", "conflict"],
)
def test_a_binding_no_longer_accepted_does_not_give_up_its_stores(spec: dict[str, Any]) -> None:
    there = (postgres(), sqlite(), postgres("elsewhere"))
    start = settled(pair({"stores": [store("prompts", backendRef=ELSEWHERE)]}, there))
    changed = edit(start, "young", **spec)
    decided = plan(changed)
    assert decided.config is None
    assert decided.secret == plan(start).secret
    assert conditions(decided, "young")["Accepted"][0] == "False"
    assert conditions(decided, "old")["Rendered"] == ("Unknown", "Waiting")
    assert message(decided, "Rendered", "old") == (
        "the store 'prompts' would move: StoreBinding 'young', which binds it, is not accepted"
    )
    # Rotations of both backends go on arriving, those of the one that only `young` uses as well.
    later = plan(rotate(applied(changed, decided), "second"))
    assert pg(later, "elsewhere").current.password == pg(later).current.password
    assert passwords(later) == ["second", "first"]


def test_neither_does_it_give_up_its_providers_fields() -> None:
    entry = {"provider_id": "builtin", "provider_type": "inline::builtin", "config": {}}
    base = yaml.safe_dump({"distro_name": "x", "providers": {"interactions": [entry]}})
    old = binding(
        "old", stores=[store("inference")], defaults=DEFAULTS, baseConfigRef={"name": "base"}
    )
    young = binding("young", born="2026-01-02T00:00:00Z", providers=[INTERACTIONS])
    start = settled(inputs(old, young, config_maps={("chat", "base"): {"config.yaml": base}}))
    assert "table_name: interactions" in (plan(start).config or "")
    decided = plan(edit(start, "young", providers=[INTERACTIONS], consumers=[UNKNOWN_KIND]))
    assert decided.config is None
    assert "field 'interactions/builtin/store' would move" in message(decided, "Rendered", "old")


def test_a_conflict_leaves_the_stack_rendered() -> None:
    young = {"stores": [store("inference", tableName="mine"), store("prompts", tableName="p")]}
    decided = plan(pair(young))
    assert conditions(decided, "old")["Ready"] == ("True", "Ready")
    assert conditions(decided, "young")["Ready"] == ("False", "Conflict")
    assert (
        yaml.safe_load(decided.config or "")["storage"]["stores"]["inference"]["table_name"]
        == "inference_store"
    )
    # And it goes on being rendered, whatever else the older one changes.
    start = applied(pair(young), decided)
    changed = edit(start, "old", stores=[store("inference"), store("responses")], defaults=DEFAULTS)
    assert "responses" in stores(plan(changed).config)


def test_the_older_may_change_what_the_younger_lost() -> None:
    start = settled(pair({"stores": [store("inference", tableName="mine")]}))
    moved = [store("inference", tableName="other")]
    decided = plan(edit(start, "old", stores=moved, defaults=DEFAULTS))
    assert "table_name: other" in (decided.config or "")


def test_an_unsupported_binding_holds_back_only_what_it_alone_binds() -> None:
    held = plan(pair({"stores": [store("prompts", retentionSeconds=9)]}))
    assert held.config is None
    assert "which alone binds the store 'prompts'" in message(held, "Rendered", "old")
    rendered = plan(pair({"consumers": [UNKNOWN_KIND]}))
    assert conditions(rendered, "old")["Ready"] == ("True", "Ready")


def test_a_binding_that_is_gone_gives_up_its_stores() -> None:
    there = (postgres(), sqlite(), postgres("elsewhere"))
    start = settled(pair({"stores": [store("prompts", backendRef=ELSEWHERE)]}, there))
    decided = plan(change(start, bindings=start.bindings[:1]))
    assert stores(decided.config)["prompts"] == "sql_default"
    assert set(snapshot(decided).backends) == {"kv_default", "sql_default"}


def test_rotations_arrive_while_no_binding_is_accepted() -> None:
    start = settled(inputs())
    changed = edit(start, defaults=DEFAULTS, consumers=[UNKNOWN_KIND])
    decided = plan(rotate(changed, "second"))
    assert decided.config is None
    assert conditions(decided)["Accepted"] == ("False", "NotYetSupported")
    assert passwords(decided) == ["second", "first"]


# -- consent

PLATFORM = {"name": "sql-shared", "namespace": "platform"}


def shared(name: str = "responses", allowed: str = "All") -> StackInputs:
    return inputs(
        binding(stores=[store("inference"), store(name, backendRef=PLATFORM)], defaults=DEFAULTS),
        backends=(
            postgres(),
            sqlite(),
            postgres("sql-shared", "platform", allowedNamespaces={"from": allowed}),
        ),
        secrets={APP: LOGIN, ("platform", "pg-app"): {**LOGIN, "password": b"theirs"}},
    )


def withdraw(before: StackInputs) -> StackInputs:
    return change(before, backends=(postgres(), sqlite(), postgres("sql-shared", "platform")))


def test_withdrawn_consent_takes_the_keys_and_the_stores() -> None:
    start = settled(shared())
    assert stores(plan(start).config)["responses"] == "sql_shared"
    decided = plan(withdraw(start))
    assert "responses" not in stores(decided.config)
    assert decided.secret is not None
    assert not any(key.startswith("SQL_SHARED") for key in decided.secret)
    assert b"theirs" not in b"".join(decided.secret.values())
    # At the next look nothing tells that it was once allowed; nothing changes any more.
    again = plan(applied(withdraw(start), decided))
    assert again.config is None
    assert again.secret == decided.secret
    assert again.statuses == decided.statuses
    # And consent that comes back heals it.
    back = change(applied(withdraw(start), decided), backends=tuple(start.backends.values()))
    assert stores(plan(back).config)["responses"] == "sql_shared"


def test_withdrawn_consent_says_the_same_at_every_look_to_the_other_bindings_too() -> None:
    old = binding("old", stores=[store("inference")], defaults=DEFAULTS)
    young = binding("young", stores=[store("responses", backendRef=PLATFORM)])
    start = settled(change(shared(), bindings=(old, young)))
    decided = plan(withdraw(start))
    assert "responses" not in stores(decided.config)
    assert conditions(decided, "old")["Rendered"] == ("Unknown", "Waiting")
    again = plan(applied(withdraw(start), decided))
    assert again.statuses == decided.statuses


def test_a_reference_that_now_leads_elsewhere_is_not_what_was_withdrawn() -> None:
    start = settled(shared())
    elsewhere = {"name": "elsewhere", "alias": "sql_shared"}
    changed = edit(
        start,
        stores=[store("inference"), store("responses", backendRef=elsewhere)],
        defaults=DEFAULTS,
    )
    decided = plan(withdraw(changed))
    assert decided.config is None
    assert b"theirs" not in b"".join((decided.secret or {}).values())


def test_a_required_store_does_not_move_when_consent_is_withdrawn() -> None:
    """The config stays, so that the server says what it lacks instead of writing elsewhere."""
    start = settled(shared("prompts"))
    decided = plan(withdraw(start))
    assert decided.config is None
    assert decided.secret is not None
    assert set(snapshot(decided).backends) == {"kv_default", "sql_default"}
    assert b"theirs" not in b"".join(decided.secret.values())


def test_withdrawn_consent_counts_for_a_binding_that_is_not_accepted() -> None:
    start = settled(shared())
    changed = edit(
        start,
        stores=[store("responses", backendRef=PLATFORM)],
        defaults=DEFAULTS,
        consumers=[UNKNOWN_KIND],
    )
    decided = plan(withdraw(changed))
    assert decided.config is None
    assert b"theirs" not in b"".join((decided.secret or {}).values())


def test_a_reference_to_a_backend_that_refuses_takes_nothing_away() -> None:
    """Same name, another namespace, no consent yet: what is rendered serves on."""
    theirs = postgres(namespace="platform")
    start = settled(inputs(backends=(postgres(), sqlite(), theirs)))
    reference = {"name": "sql-default", "namespace": "platform"}
    changed = edit(
        start,
        stores=[store("inference", backendRef=reference)],
        defaults=DEFAULTS | {"sql": reference},
    )
    decided = plan(changed)
    assert decided.config is None
    assert decided.secret == plan(start).secret


def test_refused_and_missing_look_the_same_to_a_stranger() -> None:
    refused, missing = (
        plan(shared(allowed="Same")),
        plan(change(shared(), backends=(postgres(), sqlite()))),
    )
    assert refused == missing
    assert conditions(refused)["Ready"] == ("Unknown", "NotFoundOrNotAllowed")
    assert refused.announcements == ()


def test_a_strangers_message_tells_nothing_of_the_owners_secret() -> None:
    start = change(shared(), secrets={APP: LOGIN})
    decided = plan(start)
    assert conditions(decided)["BackendsResolved"] == ("Unknown", "BackendNotReady")
    assert "pg-app" not in message(decided, "BackendsResolved")
    mine = plan(inputs(secrets={}))
    assert "SecretNotFound: there is no Secret 'pg-app'" in message(mine, "BackendsResolved")


# -- other


def test_both_families_are_checked() -> None:
    for bad in (
        {"stores": [store("inference", backendRef={"name": "kv-default"})]},
        {"stores": [store("metadata", backendRef={"name": "sql-default"})]},
        {"defaults": {"kv": {"name": "sql-default"}}},
        {"providers": [{**FILES, "backendRef": {"name": "kv-default"}}]},
    ):
        decided = plan(inputs(binding(**bad)))
        assert conditions(decided)["BackendsResolved"] == ("False", "FamilyMismatch")


def test_an_unsupported_backend_is_not_used() -> None:
    unsupported = sqlite(maxConnections=5)
    decided = plan(inputs(backends=(postgres(), unsupported)))
    assert conditions(decided)["BackendsResolved"] == ("False", "BackendNotReady")
    assert "`spec.maxConnections` of a SQLite file" in message(decided, "BackendsResolved")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("- a list", "BaseConfigInvalid"),
        ("a: [", "BaseConfigInvalid"),
        ("a: &x 1\nb: *x\n", "BaseConfigInvalid"),
        ("", "BaseConfigInvalid"),
        ("x" * 600_000, "BaseConfigInvalid"),
    ],
)
def test_a_base_config_that_is_no_config(text: str, reason: str) -> None:
    bound = binding(stores=[store("inference")], defaults=DEFAULTS, baseConfigRef={"name": "base"})
    decided = plan(inputs(bound, config_maps={("chat", "base"): {"config.yaml": text}}))
    assert decided.config is None
    assert conditions(decided)["Rendered"] == ("False", reason)


def test_an_event_tells_of_a_change_and_only_once() -> None:
    start = settled(inputs())
    assert plan(start).announcements == ()
    broken = change(start, secrets={APP: {**LOGIN, "password": b""}})
    (event,) = plan(broken).announcements
    assert (event.name, event.warning, event.reason) == ("chat", True, "BackendNotReady")
    assert plan(applied(broken, plan(broken))).announcements == ()


def test_the_plan_and_its_inputs_do_not_show_the_secret_or_the_key() -> None:
    start = inputs(secrets={APP: {**LOGIN, "password": b"canary-7781"}})
    decided = plan(start)
    assert "canary-7781" not in repr(decided)
    assert "a key of tests" not in repr(start)
    assert "canary-7781" not in json.dumps([s.model_dump() for s in decided.statuses.values()])


def test_a_backend_is_looked_at_once_however_many_references_lead_to_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """To take a large CA apart costs time of the operator's one loop."""
    looks: list[str] = []
    real = resolution.look

    def counted(backend: StorageBackend, *rest: Any) -> BackendState:
        looks.append(backend.metadata.name)
        return real(backend, *rest)

    monkeypatch.setattr(resolution, "look", counted)
    names = ("inference", "responses", "conversations", "prompts")
    found = inputs(binding(stores=[store(name) for name in names], defaults=DEFAULTS))
    composition = compose(found.namespace, found.bindings)
    resolved = resolution.resolve(found, composition)
    assert all(said.status == "True" for said in resolved.said.values())
    assert looks.count("sql-default") == 1
