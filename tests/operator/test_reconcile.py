"""The operator process against a real API server: what it makes, and how it heals."""

from __future__ import annotations

import base64
import json
import time
from pathlib import Path

import pytest

from tests.support.operator import (
    DEFAULTS,
    UNKNOWN_KIND,
    Api,
    OperatorProcess,
    binding,
    kv,
    postgres_backend,
    sql,
    sqlite_backend,
    until,
)

HEALS_WITHIN = 2.0
CANARY = "c4n4ry+Pässword/9"


def login(api: Api, password: str = "hunter2", name: str = "pg-app") -> None:
    api.secret(name, username="app", password=password)


def quickstart(api: Api, **spec) -> None:
    login(api)
    api.apply(
        postgres_backend(),
        sqlite_backend(),
        binding(stores=[kv("metadata"), sql("inference")], defaults=DEFAULTS, **spec),
    )
    api.ready("chat")


def outputs(api: Api, stack: str = "chat") -> tuple[object, object]:
    secret, config = (
        api.get("Secret", f"{stack}-storage"),
        api.get("ConfigMap", f"{stack}-run-config"),
    )
    assert secret
    assert config
    return secret.get("data"), config.get("data")  # created empty, then filled


def snapshot(api: Api, stack: str = "chat"):
    return json.loads(api.data("Secret", f"{stack}-storage").get("stackstore.json", "{}"))


# -- healing


@pytest.mark.parametrize(
    ("missing", "reason"),
    [("Secret", "SecretNotFound"), ("key", "SecretKeyMissing"), ("backend", "NotFoundOrNotAllowed"),
     ("base config", "BaseConfigNotFound"), ("CA", "CaNotFound")],
)  # fmt: skip
def test_what_is_missing_is_named_and_heals_when_it_appears(api, missing, reason, certificate):
    with_ca = postgres_backend()
    with_ca["spec"]["postgres"]["tls"] = {"mode": "VerifyFull", "caRef": {"name": "pg-ca"}}
    repairs = {
        "Secret": lambda: login(api),
        "key": lambda: login(api),
        "backend": lambda: api.apply(with_ca),
        "base config": lambda: api.config_map(
            "base", config_yaml="distro_name: x\nproviders: {}\n"
        ),
        "CA": lambda: api.config_map("pg-ca", ca_crt=certificate),
    }
    for part, repair in repairs.items():
        if part != missing and {part, missing} != {"Secret", "key"}:
            repair()
    if missing == "key":
        api.secret("pg-app", username="app")
    api.apply(
        sqlite_backend(),
        binding(stores=[kv("metadata"), sql("inference")], defaults=DEFAULTS,
                baseConfigRef={"name": "base"}),
    )  # fmt: skip
    if missing in ("Secret", "key", "CA"):
        api.wait("StorageBackend", "sql-default", "CredentialsResolved",
                 "False" if missing == "key" else "Unknown", reason)  # fmt: skip
        message = api.wait("StoreBinding", "chat", "BackendsResolved",
                           "False" if missing == "key" else "Unknown", "BackendNotReady")  # fmt: skip
        assert reason in message
    elif missing == "backend":
        message = api.wait("StoreBinding", "chat", "BackendsResolved", "Unknown", reason)
        assert "sql-default" in message
    else:
        message = api.wait("StoreBinding", "chat", "Rendered", "Unknown", reason)
        assert "base" in message
    assert api.get("Secret", "chat-storage") is None
    assert api.get("ConfigMap", "chat-run-config") is None
    start = time.monotonic()
    repairs[missing]()
    api.ready("chat")
    assert time.monotonic() - start < HEALS_WITHIN
    assert set(api.config()["storage"]["backends"]) == {"kv_default", "sql_default"}


def test_a_rotation_writes_the_secret_and_keeps_the_previous_login(api):
    quickstart(api)
    config = api.get("ConfigMap", "chat-run-config")
    before = snapshot(api)["backends"]["sql_default"]["current"]
    revision = api.get("StoreBinding", "chat")["status"]["revision"]
    start = time.monotonic()
    login(api, "second")
    until(lambda: snapshot(api)["backends"]["sql_default"]["current"]["password"] == "second")
    assert time.monotonic() - start < HEALS_WITHIN
    backend = snapshot(api)["backends"]["sql_default"]
    (previous,) = backend["previous"]
    assert previous["password"] == "hunter2"
    assert previous["revision"] == before["revision"] != backend["current"]["revision"]
    assert previous["usableUntil"] > time.time() + 250
    assert api.data("Secret", "chat-storage")["SQL_DEFAULT_PASSWORD"] == "second"
    until(
        lambda: api.get("StoreBinding", "chat")["status"]["revision"] == snapshot(api)["revision"]
    )
    assert snapshot(api)["revision"] != revision
    # The run config is shape only: some servers restart at any write to it.
    after = api.get("ConfigMap", "chat-run-config")
    assert after["metadata"]["resourceVersion"] == config["metadata"]["resourceVersion"]


def test_a_previous_login_leaves_the_secret_when_its_grace_is_over(api):
    quickstart(api)
    api.merge("StorageBackend", "sql-default", {"spec": {"rotation": {"graceSeconds": 2}}})
    login(api, "second")
    until(lambda: snapshot(api)["backends"]["sql_default"].get("previous"))
    until(lambda: not snapshot(api)["backends"]["sql_default"].get("previous"), 6)
    assert "hunter2" not in json.dumps(api.data("Secret", "chat-storage"))


# -- the last good render


@pytest.mark.parametrize(
    ("change", "condition", "reason"),
    [
        ({"providers": [{"api": "files", "providerId": "nope", "field": "metadata_store",
                         "backendRef": {"name": "sql-default"}, "tableName": "files"}]},
         "Rendered", "ProviderNotFound"),
        ({"stores": [{**sql("inference"), "backendRef": {"name": "kv-default"}}]},
         "BackendsResolved", "FamilyMismatch"),
        ({"stores": [sql("inference", place="t"), sql("conversations", place="t")]},
         "Rendered", "TableCollision"),
        ({"consumers": [UNKNOWN_KIND]}, "Accepted", "NotYetSupported"),
        ({"stores": [sql("inference", backend="gone")]}, "BackendsResolved", "NotFoundOrNotAllowed"),
        ({"defaults": None}, "Rendered", "StoreMissing"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_a_change_that_is_wrong_leaves_the_last_good_outputs(api, change, condition, reason):
    api.config_map("base", config_yaml="distro_name: x\nproviders: {}\n")
    quickstart(api, baseConfigRef={"name": "base"})
    good = outputs(api)
    api.merge("StoreBinding", "chat", {"spec": change})
    until(lambda: api.condition("StoreBinding", "chat", condition)[1] == reason, what=reason)
    assert (
        api.condition("StoreBinding", "chat")[:2]
        == api.condition("StoreBinding", "chat", condition)[:2]
    )
    assert outputs(api) == good
    # A login that rotates meanwhile is followed all the same.
    login(api, "third")
    until(lambda: snapshot(api)["backends"]["sql_default"]["current"]["password"] == "third")
    assert outputs(api)[1] == good[1]


def test_a_login_in_force_is_followed_even_when_no_binding_names_its_backend_any_more(api):
    quickstart(api)
    login(api, name="pg-two")
    api.apply(postgres_backend("sql-two", "pg-two"))
    # The stores go to another backend, but nothing of it can be rendered: the first stays in force.
    api.merge("StoreBinding", "chat", {"spec": {"stores": [kv("metadata"), sql("inference", "gone")],
                                                "defaults": {**DEFAULTS, "sql": {"name": "sql-two"}}}})  # fmt: skip
    api.wait("StoreBinding", "chat", "BackendsResolved", "Unknown", "NotFoundOrNotAllowed")
    login(api, "second")
    until(
        lambda: snapshot(api)["backends"]["sql_default"]["current"]["password"] == "second",
        HEALS_WITHIN,
    )


def test_a_secret_that_goes_or_breaks_leaves_the_last_good_login(api):
    quickstart(api)
    good = outputs(api)
    api.secret("pg-app", username="app", password="")
    api.wait("StorageBackend", "sql-default", "Ready", "False", "SecretKeyMissing")
    api.delete("Secret", "pg-app")
    api.wait("StorageBackend", "sql-default", "Ready", "Unknown", "SecretNotFound")
    api.wait("StoreBinding", "chat", "Ready", "Unknown", "BackendNotReady")
    assert outputs(api) == good
    login(api)
    api.ready("chat")
    assert outputs(api) == good


def test_a_broken_base_config_leaves_the_last_good_outputs_and_is_told(api):
    api.config_map("base", config_yaml="distro_name: x\nproviders: {}\n")
    quickstart(api, baseConfigRef={"name": "base"})
    good = outputs(api)
    api.config_map("base", config_yaml="distro_name: [x\n")
    message = api.wait("StoreBinding", "chat", "Rendered", "False", "BaseConfigInvalid")
    assert "the base config:2" in message
    assert outputs(api) == good
    api.config_map("base", config_yaml="distro_name: y\nproviders: {}\n")
    api.ready("chat")
    until(lambda: api.config()["distro_name"] == "y")


# -- outputs


@pytest.mark.parametrize("kind", ["Secret", "ConfigMap"])
def test_an_edited_or_deleted_output_is_put_back(api, kind):
    quickstart(api)
    good = outputs(api)
    name, key = {
        "Secret": ("chat-storage", "stackstore.json"),
        "ConfigMap": ("chat-run-config", "config.yaml"),
    }[kind]
    other = base64.b64encode(b"{}").decode() if kind == "Secret" else "nonsense"
    api.merge(kind, name, {"data": {key: other}})
    until(lambda: outputs(api) == good, HEALS_WITHIN)
    api.merge(kind, name, {"metadata": {"labels": {"app.kubernetes.io/managed-by": "stackstore-operator"},
                                        "ownerReferences": None}})  # fmt: skip
    if api.get(kind, name)["metadata"].get("ownerReferences"):
        until(lambda: outputs(api) == good)
    api.delete(kind, name)
    until(lambda: api.get(kind, name), HEALS_WITHIN)
    until(lambda: outputs(api) == good, HEALS_WITHIN)


def test_what_others_add_to_an_output_stays(api):
    quickstart(api)
    extra = {"metadata": {"labels": {"team": "x"}, "annotations": {"note": "y"}},
             "data": {"EXTRA": base64.b64encode(b"z").decode()}}  # fmt: skip
    api.merge("Secret", "chat-storage", extra)
    login(api, "second")
    until(lambda: api.data("Secret", "chat-storage")["SQL_DEFAULT_PASSWORD"] == "second")
    found = api.get("Secret", "chat-storage")
    assert found["metadata"]["labels"]["team"] == "x"
    assert found["metadata"]["annotations"]["note"] == "y"
    assert api.data("Secret", "chat-storage")["EXTRA"] == "z"


@pytest.mark.parametrize("kind", ["Secret", "ConfigMap"])
def test_an_object_of_that_name_that_is_not_ours_is_never_touched(api, kind):
    name = {"Secret": "chat-storage", "ConfigMap": "chat-run-config"}[kind]
    if kind == "Secret":
        api.secret(name, mine="yes")
    else:
        api.config_map(name, mine="yes")
    theirs = api.get(kind, name)
    login(api)
    api.apply(postgres_backend(), sqlite_backend(),
              binding(stores=[kv("metadata"), sql("inference")], defaults=DEFAULTS))  # fmt: skip
    message = api.wait("StoreBinding", "chat", "Rendered", "False", "OutputNameTaken")
    assert name in message
    login(api, "second")
    time.sleep(0.5)
    assert api.get(kind, name) == theirs
    api.delete(kind, name)
    api.ready("chat")
    assert outputs(api)


# -- several bindings


def test_two_bindings_of_one_stack_compose(api):
    quickstart(api)
    api.apply(binding("more", stores=[sql("conversations", place="talks")]))
    api.ready("chat", "more")
    until(lambda: api.config()["storage"]["stores"]["conversations"]["table_name"] == "talks")
    assert api.config()["storage"]["stores"]["inference"]["table_name"] == "inference_table"
    owners = {o["name"] for o in api.get("Secret", "chat-storage")["metadata"]["ownerReferences"]}
    assert owners == {"chat", "more"}
    api.delete("StoreBinding", "more")
    until(lambda: api.config()["storage"]["stores"]["conversations"]["table_name"] != "talks")
    until(lambda: len(api.get("Secret", "chat-storage")["metadata"]["ownerReferences"]) == 1)


def test_the_younger_of_two_bindings_that_disagree_is_told_and_changes_nothing(api):
    quickstart(api)
    good = outputs(api)
    time.sleep(1.1)  # creation times have whole seconds
    api.apply(binding("a-younger", stores=[sql("inference", place="other")]))
    message = api.wait("StoreBinding", "a-younger", "Accepted", "False", "Conflict")
    assert "'chat'" in message
    assert "inference" in message
    assert api.condition("StoreBinding", "chat")[:2] == ("True", "Ready")
    assert outputs(api) == good
    api.delete("StoreBinding", "chat")
    api.merge(
        "StoreBinding",
        "a-younger",
        {
            "spec": {
                "stores": [kv("metadata"), sql("inference", place="other")],
                "defaults": DEFAULTS,
            }
        },
    )
    api.ready("a-younger")
    assert api.config()["storage"]["stores"]["inference"]["table_name"] == "other"


def test_a_backend_of_another_namespace_needs_its_consent(api, other):
    login(other)
    other.apply(postgres_backend())
    api.apply(sqlite_backend())
    far = {"name": "sql-default", "namespace": other.namespace}
    api.apply(
        binding(
            stores=[{**sql("inference"), "backendRef": far}],
            defaults={"kv": {"name": "kv-default"}, "sql": far},
        )
    )
    refused = api.wait(
        "StoreBinding", "chat", "BackendsResolved", "Unknown", "NotFoundOrNotAllowed"
    )
    nowhere = {**far, "name": "not-there"}
    api.merge(
        "StoreBinding",
        "chat",
        {
            "spec": {
                "stores": [{**sql("inference"), "backendRef": nowhere}],
                "defaults": {"kv": {"name": "kv-default"}, "sql": nowhere},
            }
        },
    )
    until(lambda: "not-there" in api.condition("StoreBinding", "chat", "BackendsResolved")[2])
    missing = api.condition("StoreBinding", "chat", "BackendsResolved")[2]
    assert missing.replace("not-there", "sql-default") == refused
    assert other.get("StorageBackend", "sql-default")["status"]["bindings"] == 0
    back = {"kv": {"name": "kv-default"}, "sql": far}
    stores = [{**sql("inference"), "backendRef": far}]
    api.merge("StoreBinding", "chat", {"spec": {"stores": stores, "defaults": back}})
    other.merge("StorageBackend", "sql-default", {"spec": {"allowedNamespaces": {"from": "All"}}})
    api.ready("chat", seconds=HEALS_WITHIN + 3)
    assert snapshot(api)["backends"]["sql_default"]["current"]["password"] == "hunter2"
    # Consent withdrawn: the login leaves the Secret; the run config that can't do without it stays.
    config = outputs(api)[1]
    other.merge("StorageBackend", "sql-default", {"spec": {"allowedNamespaces": {"from": "Same"}}})
    until(lambda: "sql_default" not in snapshot(api)["backends"])
    assert "hunter2" not in json.dumps(api.data("Secret", "chat-storage"))
    assert outputs(api)[1] == config


# -- what it tells


def test_events_have_stable_reasons_and_come_once_a_change(api):
    api.apply(postgres_backend(), sqlite_backend(),
              binding(stores=[kv("metadata"), sql("inference")], defaults=DEFAULTS))  # fmt: skip
    api.wait("StoreBinding", "chat", "Ready", "Unknown", "BackendNotReady")
    login(api)
    api.ready("chat")
    login(api, "second")
    until(lambda: snapshot(api)["backends"]["sql_default"]["current"]["password"] == "second")

    def told():
        return [(e["involvedObject"]["name"], e["type"], e["reason"]) for e in api.list("Event")
                if e["involvedObject"]["kind"] == "StoreBinding"]  # fmt: skip

    until(lambda: ("chat", "Normal", "Ready") in told())
    assert told().count(("chat", "Warning", "BackendNotReady")) == 1
    assert told().count(("chat", "Normal", "Ready")) == 1
    of_backend = [
        (e["type"], e["reason"], e["message"])
        for e in api.list("Event")
        if e["involvedObject"]["name"] == "sql-default"
    ]
    assert sorted(kind[:2] for kind in of_backend) == [
        ("Normal", "Ready"),
        ("Warning", "SecretNotFound"),
    ]
    assert all("pg-app" in message for _, _, message in of_backend)
    assert all(e["source"]["component"] == "stackstore-operator" for e in api.list("Event"))


def test_times_move_with_the_status_only(api):
    quickstart(api)

    def ready():
        return next(
            c
            for c in api.get("StoreBinding", "chat")["status"]["conditions"]
            if c["type"] == "Ready"
        )

    before = ready()
    time.sleep(1.1)
    api.merge(
        "StoreBinding",
        "chat",
        {"spec": {"stores": [kv("metadata", place="other"), sql("inference")]}},
    )
    until(lambda: ready()["observedGeneration"] == before["observedGeneration"] + 1)
    assert ready()["lastTransitionTime"] == before["lastTransitionTime"]


def test_statuses_that_somebody_edits_are_put_right(api):
    quickstart(api)
    good = api.get("StoreBinding", "chat")["status"]
    api.merge(
        "StoreBinding",
        "chat",
        {"status": {"secretName": "wrong", "revision": "00000000"}},
        "status",
    )
    until(lambda: api.get("StoreBinding", "chat")["status"] == good)


def test_a_secrets_value_is_nowhere_but_in_the_stacks_secret(api, operator: OperatorProcess):
    encoded = base64.b64encode(CANARY.encode()).decode()
    # As `kubectl apply` leaves it: a copy of the Secret in an annotation.
    api.apply({
        "apiVersion": "v1", "kind": "Secret",
        "metadata": {"name": "pg-app", "annotations": {"kubectl.kubernetes.io/last-applied-configuration":
                     json.dumps({"stringData": {"password": CANARY}})}},
        "stringData": {"username": "app", "password": CANARY},
    })  # fmt: skip
    api.secret("pg-uri", uri=f"postgresql://app:{CANARY}@/broken host")
    api.apply(postgres_backend(), sqlite_backend(), postgres_backend("other", "pg-uri"),
              binding(stores=[kv("metadata"), sql("inference")], defaults=DEFAULTS))  # fmt: skip
    api.ready("chat")
    api.merge(
        "StoreBinding",
        "chat",
        {"spec": {"stores": [{**sql("inference"), "backendRef": {"name": "other"}}]}},
    )
    until(lambda: api.condition("StoreBinding", "chat")[0] != "True")
    login(api, CANARY + "2")
    until(lambda: snapshot(api)["backends"]["sql_default"]["current"]["password"] == CANARY + "2")
    shown = {
        kind: json.dumps(api.list(kind), ensure_ascii=False)
        for kind in ("Event", "ConfigMap", "StorageBackend", "StoreBinding")
    }
    metadata = [s["metadata"] for s in api.list("Secret") if s["metadata"]["name"] != "pg-app"]
    shown["Secrets' metadata"] = json.dumps(metadata, ensure_ascii=False)
    shown["the operator's output"] = operator.log()
    process = Path(f"/proc/{operator.process.pid}")
    shown["its command line"] = (process / "cmdline").read_text()
    shown["its environment"] = (process / "environ").read_text()
    for where, text in shown.items():
        for secret in (CANARY, encoded, "c4n4ry"):
            assert secret not in text, where


def test_a_write_that_the_api_server_refuses_is_told_and_tried_again(api, control_plane):
    name = f"deny-{api.namespace}"
    policy = {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": name},
        "spec": {
            "failurePolicy": "Fail",
            "matchConstraints": {"resourceRules": [
                {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE", "UPDATE"], "resources": ["secrets"]}]},
            "matchConditions": [{"name": "here", "expression": f"object.metadata.namespace == '{api.namespace}' && object.metadata.name.endsWith('-storage')"}],
            "validations": [{"expression": "false", "message": "no Secrets on Tuesdays"}],
        },
    }  # fmt: skip
    bound = {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": {"name": name},
        "spec": {"policyName": name, "validationActions": ["Deny"]},
    }
    control_plane.apply(policy, bound)

    def refused() -> bool:
        try:
            api.secret("probe-storage", a="b")
        except AssertionError as error:
            return "Tuesdays" in str(error)
        return False

    until(refused, 20)
    login(api)
    api.apply(postgres_backend(), sqlite_backend(),
              binding(stores=[kv("metadata"), sql("inference")], defaults=DEFAULTS))  # fmt: skip
    message = api.wait("StoreBinding", "chat", "Rendered", "False", "ApplyFailed")
    assert "no Secrets on Tuesdays" in message
    assert api.condition("StoreBinding", "chat")[:2] == ("False", "ApplyFailed")
    assert api.get("ConfigMap", "chat-run-config") is None
    control_plane.kubectl(
        "delete", "validatingadmissionpolicybinding,validatingadmissionpolicy", name
    )
    api.ready("chat", seconds=40)
    warnings = [e for e in api.list("Event") if e["reason"] == "ApplyFailed"]
    assert len(warnings) == 1


# -- people who mean harm, or damage things


def bomb() -> str:
    """YAML that PyYAML would expand to 3^25 values."""
    lines = ["a0: &a0 {x: 1}"]
    lines += [f"a{n}: &a{n} {{<<: [*a{n - 1}, *a{n - 1}, *a{n - 1}]}}" for n in range(1, 26)]
    return "\n".join(lines)


@pytest.mark.parametrize(
    "text", [bomb(), "a: !!bool maybe", "a: !!timestamp foo", "[" * 100_000, "a: 1" + ":59" * 100_000],
    ids=["bomb", "bool", "timestamp", "deep", "number"],
)  # fmt: skip
def test_a_damaged_run_config_is_put_back_and_stops_nobody(api, other, text):
    quickstart(api)
    quickstart(other)
    good = outputs(api)
    api.merge("ConfigMap", "chat-run-config", {"data": {"config.yaml": text}})
    until(lambda: outputs(api) == good, 5)
    login(other, "second")
    until(lambda: snapshot(other)["backends"]["sql_default"]["current"]["password"] == "second", 5)


@pytest.mark.parametrize("key", ["operator.json", "stackstore.json"])
@pytest.mark.parametrize("content", [b"[" * 100_000, b"\xff", b"{}", b'{"mac": 1}'])
def test_a_damaged_secret_is_put_back(api, key, content):
    quickstart(api)
    good = outputs(api)
    api.merge("Secret", "chat-storage", {"data": {key: base64.b64encode(content).decode()}})
    until(lambda: outputs(api) == good, 5)


def test_an_object_whose_metadata_is_huge_makes_nobody_deaf(api, other):
    quickstart(other)
    # Accepted by the API server; a watch writes each `<` as six bytes.
    api.apply({
        "apiVersion": "v1", "kind": "Secret",
        "metadata": {"name": "huge", "ownerReferences": [
            {"apiVersion": "v1", "kind": "Nope", "uid": "u", "name": "<" * 1_000_000}]},
    })  # fmt: skip
    login(other, "second")
    until(lambda: snapshot(other)["backends"]["sql_default"]["current"]["password"] == "second", 5)
    api.delete("Secret", "huge")


def test_the_operators_own_note_is_worth_nothing_when_forged(api, other):
    """With it somebody could ask whether another namespace has a backend of some name."""
    login(other)
    other.apply(postgres_backend())
    quickstart(api)
    forged = snapshot(api)
    forged["backends"]["p1"] = forged["backends"]["p2"] = forged["backends"]["sql_default"]
    note = json.loads(api.data("Secret", "chat-storage")["operator.json"])
    note["backends"] |= {"p1": f"{other.namespace}/sql-default", "p2": f"{other.namespace}/no-such"}
    # One reference that leads nowhere, so that the last good Secret is only followed.
    api.merge(
        "StoreBinding", "chat", {"spec": {"stores": [kv("metadata"), sql("inference", "gone")]}}
    )
    api.wait("StoreBinding", "chat", "Ready", "Unknown", "NotFoundOrNotAllowed")
    data = {"stackstore.json": json.dumps(forged), "operator.json": json.dumps(note)}
    encoded = {key: base64.b64encode(text.encode()).decode() for key, text in data.items()}
    api.merge("Secret", "chat-storage", {"data": encoded})
    time.sleep(1.5)
    there = set(snapshot(api)["backends"])
    assert there >= {"p1", "p2"} or not there & {"p1", "p2"}, "the two must not be told apart"


@pytest.mark.parametrize(
    ("keys", "type_", "word"),
    [
        ({"username": "tls.crt", "password": "tls.key"}, "kubernetes.io/tls", "kubernetes.io/tls"),
        ({"username": "token", "password": "token"}, "helm.sh/release.v1", "helm.sh/release.v1"),
    ],
)
def test_a_secret_that_holds_no_login_is_refused_by_its_type(api, keys, type_, word):
    data = {key: base64.b64encode(CANARY.encode()).decode() for key in {*keys.values()}}
    api.apply(
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "pg-app"},
            "type": type_,
            "data": data,
        }
    )
    backend = postgres_backend()
    backend["spec"]["credentials"]["keys"] = keys
    api.apply(
        backend,
        sqlite_backend(),
        binding(stores=[kv("metadata"), sql("inference")], defaults=DEFAULTS),
    )
    message = api.wait(
        "StorageBackend", "sql-default", "CredentialsResolved", "False", "SecretInvalid"
    )
    assert word in message
    assert api.get("Secret", "chat-storage") is None


def test_an_output_is_no_source_of_a_login(api, operator: OperatorProcess):
    """It would change itself for ever."""
    quickstart(api)
    keys = {"username": "SQL_DEFAULT_PASSWORD", "password": "SQL_DEFAULT_USER"}
    credentials = {"secretRef": {"name": "chat-storage"}, "keys": keys}
    api.merge("StorageBackend", "sql-default", {"spec": {"credentials": credentials}})
    message = api.wait("StorageBackend", "sql-default", "Ready", "False", "SecretInvalid")
    assert "made by Stackstore itself" in message
    time.sleep(1)
    before = api.get("Secret", "chat-storage")["metadata"]["resourceVersion"]
    time.sleep(1)
    assert api.get("Secret", "chat-storage")["metadata"]["resourceVersion"] == before


def test_a_revision_tells_nobody_of_another_namespace_whether_a_guess_is_right(api, other):
    for one in (api, other):
        login(one)
        one.apply(postgres_backend())
        one.wait("StorageBackend", "sql-default", "Ready", "True", "Ready")
    mine, theirs = (
        one.get("StorageBackend", "sql-default")["status"]["revision"] for one in (api, other)
    )
    assert mine != theirs


def test_nothing_of_a_backend_is_read_for_whom_it_does_not_allow(
    api, other, control_plane, operator
):
    login(other)
    other.apply(postgres_backend())
    other.wait("StorageBackend", "sql-default", "Ready", "True", "Ready")

    def reads() -> int:
        return sum(
            event["verb"] == "get" and event.get("objectRef", {}).get("resource") == "secrets"
            and event["objectRef"].get("namespace") == other.namespace
            for event in control_plane.audit(username=operator.user)
        )  # fmt: skip

    # Its own looks are over: one comes for the backend, one for its Secret.
    before = -1
    while before != (before := reads()):
        time.sleep(1)
    far = {"name": "sql-default", "namespace": other.namespace}
    api.apply(
        sqlite_backend(),
        binding(
            stores=[{**sql("inference"), "backendRef": far}],
            defaults={"kv": {"name": "kv-default"}},
        ),
    )
    api.wait("StoreBinding", "chat", "Ready", "Unknown", "NotFoundOrNotAllowed")
    time.sleep(0.5)
    assert reads() == before
