"""Consent across namespaces, by the final bytes of the stack's Secret and ConfigMap."""

from __future__ import annotations

import json
from typing import Any

import pytest

from stackstore_operator.api.selector import LabelSelector
from tests.support.operator import Api, binding, postgres_backend, sqlite_backend, until

PASSWORD = "hunter2"
SELECTED = {"from": "Selector", "selector": {"matchLabels": {"stacks": "yes"}}}
REQUIRED = ("inference", "conversations", "prompts", "connectors")


def label(api: Api, **labels: str | None) -> None:
    """Labels of the namespace itself."""
    api.merge("Namespace", api.namespace, {"metadata": {"labels": labels}})


def consent(owner: Api, name: str = "sql-default", **allowed: Any) -> None:
    # Merged as a whole: what isn't said goes.
    patch = {"from": None, "selector": None, **allowed}
    owner.merge("StorageBackend", name, {"spec": {"allowedNamespaces": patch}})


def stack(
    owner: Api, name: str = "chat", backend: str = "sql-default", **spec: Any
) -> dict[str, Any]:
    """A stack whose every sql store is on a backend of another namespace."""
    far = {"name": backend, "namespace": owner.namespace, "alias": "far"}
    return binding(name, name, defaults={"kv": {"name": "kv-default"}, "sql": far}, **spec)


def with_one_store(owner: Api) -> dict[str, Any]:
    """A stack of its own backends, but for one store that the server can do without."""
    far = {"name": "sql-default", "namespace": owner.namespace, "alias": "far"}
    stores = [{"name": "responses", "backendRef": far, "tableName": "mine"}]
    own = {"kv": {"name": "kv-default"}, "sql": {"name": "own"}}
    return binding("chat", "chat", stores, defaults=own)


def outputs(api: Api, name: str = "chat") -> tuple[dict[str, str], dict[str, str]]:
    """Secret and ConfigMap, without the operator's own note."""
    secret = api.data("Secret", f"{name}-storage")
    secret.pop("operator.json", None)
    return secret, api.data("ConfigMap", f"{name}-run-config")


def holds(api: Api, name: str = "chat") -> bool:
    """Whether the login is in the Secret."""
    return PASSWORD in json.dumps(api.data("Secret", f"{name}-storage"))


@pytest.fixture
def owner(other: Api) -> Api:
    other.secret("pg-app", username="app", password=PASSWORD)
    return other


@pytest.fixture
def stranger(api: Api) -> Api:
    api.apply(sqlite_backend(), sqlite_backend("own", "sql_sqlite"))
    return api


LABELS = {"stacks": "yes", "env": "prod"}


def expression(key: str, operator: str, *values: str) -> dict[str, Any]:
    return {"key": key, "operator": operator, **({"values": list(values)} if values else {})}


def by(*expressions: dict[str, Any], **labels: str) -> dict[str, Any]:
    selector = {"matchLabels": labels, "matchExpressions": list(expressions)}
    return {
        "from": "Selector",
        "selector": {key: value for key, value in selector.items() if value},
    }


MATRIX: dict[str, tuple[dict[str, Any], bool]] = {
    "same": ({"from": "Same"}, False),
    "all": ({"from": "All"}, True),
    "everyone": (by(), True),
    "label": (by(stacks="yes"), True),
    "labels": (by(stacks="yes", env="prod"), True),
    "other-value": (by(stacks="no"), False),
    "one-of-two": (by(stacks="yes", env="dev"), False),
    "in": (by(expression("env", "In", "dev", "prod")), True),
    "in-none": (by(expression("env", "In", "dev")), False),
    "not-in": (by(expression("env", "NotIn", "dev")), True),
    "not-in-it": (by(expression("env", "NotIn", "prod")), False),
    "exists": (by(expression("env", "Exists")), True),
    "exists-not": (by(expression("gone", "Exists")), False),
    "does-not-exist": (by(expression("gone", "DoesNotExist")), True),
    "does-exist": (by(expression("env", "DoesNotExist")), False),
    "both": (by(expression("env", "In", "prod"), stacks="yes"), True),
    "half": (by(expression("env", "In", "dev"), stacks="yes"), False),
}


def test_who_is_let_in(owner, stranger):
    label(stranger, **LABELS)
    until(lambda: stranger.get("Namespace", stranger.namespace)["metadata"]["labels"].get("env"))
    for name, (allowed, _) in MATRIX.items():
        owner.apply(postgres_backend(name, allowedNamespaces=allowed))
    for name in MATRIX:
        stranger.apply(stack(owner, name, name))
    owner.apply(sqlite_backend(), binding("mine", "mine", defaults={
        "kv": {"name": "kv-default"}, "sql": {"name": "same", "alias": "far"}}))  # fmt: skip
    for name, (_, granted) in MATRIX.items():
        if granted:
            stranger.ready(name, seconds=30)
            assert holds(stranger, name), name
    owner.ready("mine")
    for name, (_, granted) in MATRIX.items():
        if not granted:
            stranger.wait("StoreBinding", name, "Ready", "Unknown", "NotFoundOrNotAllowed")
            assert outputs(stranger, name) == ({}, {}), name
    # Who lets in makes no difference to the bytes.
    secrets = {
        outputs(stranger, name)[1]["config.yaml"]
        for name, (_, granted) in MATRIX.items()
        if granted
    }
    assert secrets == {outputs(owner, "mine")[1]["config.yaml"]}
    # And the owner is told how many ask, in vain or not.
    for name, (_, granted) in MATRIX.items():
        counts = (int(granted) + (name == "same"), int(not granted))
        until(
            lambda name=name, counts=counts: _counts(owner, name) == counts,
            40,
            lambda name=name: f"{name}: {owner.get('StorageBackend', name)['status']}",
        )


def _counts(owner: Api, name: str) -> tuple[int, int]:
    status = owner.get("StorageBackend", name)["status"]
    return status["bindings"], status["refusedBindings"]


def test_granted_later_revoked_in_use_and_granted_again(owner, stranger):
    owner.apply(postgres_backend())
    stranger.apply(stack(owner))
    stranger.wait("StoreBinding", "chat", "Ready", "Unknown", "NotFoundOrNotAllowed")
    assert outputs(stranger) == ({}, {})
    consent(owner, **{"from": "All"})
    stranger.ready("chat")
    granted = outputs(stranger)
    assert holds(stranger)
    consent(owner, **{"from": "Same"})
    until(lambda: not holds(stranger))
    # The server can't do without: the run config stays, and nothing of the login does.
    secret, config = outputs(stranger)
    assert config == granted[1]
    assert not [key for key in secret if key.startswith("FAR_")]
    assert "far" not in json.loads(secret["stackstore.json"])["backends"]
    stranger.wait("StoreBinding", "chat", "Ready", "Unknown", "NotFoundOrNotAllowed")
    consent(owner, **{"from": "All"})
    until(lambda: outputs(stranger) == granted)
    stranger.ready("chat")


def test_a_store_whose_backend_is_withdrawn_leaves_with_its_keys_and_the_rest_stays(
    owner, stranger
):
    owner.apply(postgres_backend(allowedNamespaces={"from": "All"}))
    stranger.apply(with_one_store(owner))
    stranger.ready("chat")
    granted = outputs(stranger)
    assert stranger.config()["storage"]["stores"]["responses"]["backend"] == "far"
    consent(owner, **{"from": "Same"})
    until(lambda: "responses" not in stranger.config()["storage"]["stores"])
    until(lambda: not holds(stranger))
    withdrawn = outputs(stranger)
    assert set(stranger.config()["storage"]["stores"]) == {"metadata", *REQUIRED}
    assert "far" not in stranger.config()["storage"]["backends"]
    # As if it had never been asked for.
    stranger.merge("StoreBinding", "chat", {"spec": {"stores": []}})
    stranger.ready("chat")
    assert outputs(stranger) == withdrawn
    consent(owner, **{"from": "All"})
    stranger.apply(with_one_store(owner))
    until(lambda: outputs(stranger) == granted)
    stranger.ready("chat")


def test_a_namespace_that_is_relabelled(owner, stranger):
    owner.apply(postgres_backend(allowedNamespaces=SELECTED))
    stranger.apply(stack(owner))
    stranger.wait("StoreBinding", "chat", "Ready", "Unknown", "NotFoundOrNotAllowed")
    label(stranger, stacks="yes")
    stranger.ready("chat")
    granted = outputs(stranger)
    assert holds(stranger)
    label(stranger, stacks="no")
    until(lambda: not holds(stranger))
    assert outputs(stranger)[1] == granted[1]
    until(lambda: _counts(owner, "sql-default") == (0, 1), 20)
    label(stranger, stacks="yes")
    until(lambda: outputs(stranger) == granted)
    stranger.ready("chat")
    # A selector that is changed, and one that goes.
    consent(owner, **by(stacks="no"))
    until(lambda: not holds(stranger))
    consent(owner, **SELECTED)
    until(lambda: outputs(stranger) == granted)
    label(stranger, stacks=None)
    until(lambda: not holds(stranger))


def test_a_stranger_cannot_tell_refused_from_missing(owner, stranger, control_plane, operator):
    owner.apply(postgres_backend("there"), postgres_backend("selects", allowedNamespaces=SELECTED))
    for name in ("there", "selects"):
        owner.wait("StorageBackend", name, "Ready", "True", "Ready")
    for name in ("kv-default", "own"):
        stranger.wait("StorageBackend", name, "Ready", "True", "Ready")
    until(lambda: len(stranger.list("Event")) >= 2, 30)
    _asked(control_plane, operator, stranger, forget=True)
    names = ("there", "selects", "missing")
    told, asked = {}, {}
    for name in names:
        stranger.apply(stack(owner, "asks", name))
        stranger.wait("StoreBinding", "asks", "Ready", "Unknown", "NotFoundOrNotAllowed")
        # It hears no more of it, however long it waits, and whatever else is done there.
        owner.merge("StorageBackend", "there", {"metadata": {"labels": {"touched": name}}})
        until(lambda: _asked(control_plane, operator, stranger))
        status = stranger.get("StoreBinding", "asks")["status"]
        for condition in status["conditions"]:
            del condition["lastTransitionTime"]
        told[name] = json.dumps(status).replace(name, "NAME")
        stranger.delete("StoreBinding", "asks")
        until(lambda: stranger.get("StoreBinding", "asks") is None)
        asked[name] = _asked(control_plane, operator, stranger, forget=True)
    assert len(set(told.values())) == 1, told
    assert [e for e in stranger.list("Event") if e["involvedObject"]["name"] == "asks"] == []
    assert stranger.get("Secret", "asks-storage") is None
    assert asked["there"] == asked["selects"] == asked["missing"]
    # Nothing of it is in the other's namespace either, and nothing was said of a stranger's name.
    assert "asks" not in json.dumps(owner.list("StorageBackend") + owner.list("Event"))
    assert stranger.namespace not in json.dumps(owner.list("StorageBackend") + owner.list("Event"))


_seen: dict[str, int] = {}


def _asked(control_plane: Any, operator: Any, api: Api, *, forget: bool = False) -> set[Any]:
    """What the operator has asked of the API server about a namespace since it was last forgotten."""
    mine = [
        (event["verb"], ref["resource"], ref.get("subresource", ""), ref.get("name", ""))
        for event in control_plane.audit(username=operator.user)
        if (ref := event.get("objectRef", {})).get("namespace") == api.namespace
        # Who uses its own backends is counted, however often.
        and ref["resource"] != "storagebackends"
    ]
    since = _seen.get(api.namespace, 0)
    if forget:
        _seen[api.namespace] = len(mine)
    return set(mine[since:])


ASKED = [
    {"matchLabels": {"stacks": "yes"}},
    {"matchLabels": {"stacks": ""}},
    {"matchLabels": {"stacks": "yes", "env": "prod"}},
    *({"matchExpressions": [expression("env", operator, *values)]}
      for operator, values in (("In", ("prod", "dev")), ("In", ("",)), ("NotIn", ("prod",)), ("NotIn", ("",)),
                               ("NotIn", ("prod", "dev")), ("Exists", ()), ("DoesNotExist", ()))),
    {"matchExpressions": [expression("env", "NotIn", "dev"), expression("env", "Exists")]},
    {"matchLabels": {"stacks": "yes"}, "matchExpressions": [expression("env", "DoesNotExist")]},
]  # fmt: skip


def test_a_selector_means_what_the_api_server_takes_it_for(api):
    made = {}
    for labels in ({}, {"stacks": "yes"}, {"stacks": "no"}, {"stacks": ""}, {"env": "prod"}, {"env": "dev"},
                   {"env": ""}, {"stacks": "yes", "env": "prod"}, {"stacks": "yes", "env": "dev"}):  # fmt: skip
        name = f"{api.namespace}-{len(made)}"
        made[name] = {"of": api.namespace, **labels}
        metadata = {"name": name, "labels": made[name]}
        api.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
    for asked in ASKED:
        terms = [
            f"of={api.namespace}",
            *(f"{key}={value}" for key, value in asked.get("matchLabels", {}).items()),
        ]
        for one in asked.get("matchExpressions", []):
            values = f"({','.join(one.get('values', []))})"
            terms.append({
                "In": f"{one['key']} in {values}", "NotIn": f"{one['key']} notin {values}",
                "Exists": one["key"], "DoesNotExist": f"!{one['key']}",
            }[one["operator"]])  # fmt: skip
        theirs = {obj["metadata"]["name"] for obj in api.list("Namespace", ",".join(terms))}
        selector = LabelSelector.model_validate(asked)
        assert {name for name, labels in made.items() if selector.matches(labels)} == theirs, asked
