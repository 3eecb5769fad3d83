"""A backend's own status."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from stackstore_operator.api.backend import StorageBackend, StorageBackendStatus
from stackstore_operator.reconcile.backends import look, status
from stackstore_operator.reconcile.inputs import BackendInputs
from tests.unit.reconcile.samples import KEY, LOGIN, NOW, postgres, sqlite

APP = ("chat", "pg-app")
PEM = (Path(__file__).parent / "ca.crt").read_bytes()


def status_of(
    backend: StorageBackend, secrets: Any = None, config_maps: Any = None
) -> StorageBackendStatus:
    secrets = {APP: LOGIN} if secrets is None else secrets
    return status(BackendInputs(backend, secrets, config_maps or {}, 3, KEY), NOW)


def told(found: StorageBackendStatus) -> dict[str, tuple[str, str]]:
    return {c.type: (c.status, c.reason) for c in found.conditions}


def test_a_good_backend() -> None:
    found = status_of(postgres())
    assert told(found) == {
        "Ready": ("True", "Ready"),
        "Accepted": ("True", "Accepted"),
        "CredentialsResolved": ("True", "Resolved"),
        "Verified": ("Unknown", "Verifying"),
        "Adopted": ("Unknown", "Verifying"),
    }
    assert (found.bindings, found.observed_generation, found.server_version) == (3, 1, "")
    assert len(found.revision) == 8


def test_a_file_needs_no_credentials() -> None:
    found = status_of(sqlite(), {})
    assert told(found)["CredentialsResolved"] == ("True", "NoCredentialsNeeded")
    assert told(found)["Ready"] == ("True", "Ready")
    assert len({found.revision, status_of(sqlite(sqlite={"path": "/other"})).revision}) == 2


@pytest.mark.parametrize(
    ("secrets", "answer", "words"),
    [
        ({}, ("Unknown", "SecretNotFound"), "there is no Secret 'pg-app'"),
        ({APP: {}}, ("False", "SecretKeyMissing"), "it has no key"),
        (
            {APP: {**LOGIN, "password": b""}},
            ("False", "SecretKeyMissing"),
            "a password (looked for password (empty), attribute.password",
        ),
        (
            {APP: {**LOGIN, "port": b"x"}},
            ("False", "SecretInvalid"),
            "the key 'port' of Secret 'pg-app'",
        ),
    ],
)
def test_what_is_wrong_with_its_secret(secrets: Any, answer: tuple[str, str], words: str) -> None:
    found = status_of(postgres(), secrets)
    assert told(found)["CredentialsResolved"] == answer
    assert told(found)["Ready"] == answer
    assert words in found.conditions[0].message
    assert found.revision == ""


def test_what_is_not_there_yet_is_refused_by_name() -> None:
    found = status_of(sqlite(maxConnections=9))
    assert told(found)["Accepted"] == ("False", "NotYetSupported")
    assert told(found)["Ready"] == ("False", "NotYetSupported")
    assert "`spec.maxConnections` of a SQLite file" in found.conditions[0].message


def test_a_file_of_a_backend_that_is_not_accepted_is_not_used_either() -> None:
    assert look(sqlite(maxConnections=1), {}, {}, KEY).snapshot is None


@pytest.mark.parametrize(
    "spec",
    [
        {"verification": {"mode": "None"}},
        {"verification": {"periodSeconds": 60}},
        {"postgres": {"pooler": "Session"}},
        {"postgres": {"pooler": "Transaction"}},
    ],
)
def test_what_is_served_is_accepted(spec: dict[str, Any]) -> None:
    assert told(status_of(postgres(**spec)))["Ready"] == ("True", "Ready")


def test_what_a_stock_server_needs_of_a_pooler_is_told() -> None:
    found = look(postgres(postgres={"pooler": "Transaction"}), {APP: LOGIN}, {}, KEY)
    assert found.snapshot is not None
    assert found.accepted.status == "True"
    assert (
        "pgbouncer 1.21 or newer with `max_prepared_statements` above 0" in found.accepted.message
    )
    for mode in ("None", "Session"):
        assert (
            look(postgres(postgres={"pooler": mode}), {APP: LOGIN}, {}, KEY).accepted.message == ""
        )


VERIFY = {"tls": {"mode": "VerifyFull", "caRef": {"name": "ca"}}}
VERIFY_SECRET = {
    "tls": {"mode": "VerifyCA", "caRef": {"kind": "Secret", "name": "ca", "key": "root"}}
}


@pytest.mark.parametrize(
    ("place", "secrets", "config_maps", "answer"),
    [
        (VERIFY, {}, {}, ("Unknown", "CaNotFound")),
        (VERIFY, {}, {("chat", "ca"): {"other": "x"}}, ("Unknown", "CaNotFound")),
        (VERIFY, {}, {("chat", "ca"): {"ca.crt": "not PEM"}}, ("False", "CaInvalid")),
        (VERIFY, {}, {("chat", "ca"): {"ca.crt": "é"}}, ("False", "CaInvalid")),
        (VERIFY, {}, {("chat", "ca"): {"ca.crt": PEM.decode()}}, ("True", "Resolved")),
        (VERIFY, {}, {("chat", "ca"): {"ca.crt": PEM.decode().ljust(2**18)}}, ("True", "Resolved")),
        (
            VERIFY,
            {},
            {("chat", "ca"): {"ca.crt": PEM.decode().ljust(2**18 + 1)}},
            ("False", "CaInvalid"),
        ),
        (VERIFY, {}, {("other", "ca"): {"ca.crt": PEM.decode()}}, ("Unknown", "CaNotFound")),
        (VERIFY_SECRET, {}, {}, ("Unknown", "CaNotFound")),
        (VERIFY_SECRET, {("chat", "ca"): {"root": b"\xff"}}, {}, ("False", "CaInvalid")),
        (VERIFY_SECRET, {("chat", "ca"): {"root": PEM}}, {}, ("True", "Resolved")),
    ],
)
def test_the_ca(place: Any, secrets: Any, config_maps: Any, answer: tuple[str, str]) -> None:
    found = status_of(postgres(postgres=place), {APP: LOGIN, **secrets}, config_maps)
    assert told(found)["CredentialsResolved"] == answer


BY_LABEL = {"allowedNamespaces": {"from": "Selector", "selector": {"matchLabels": {"a": "b"}}}}


@pytest.mark.parametrize(("spec", "word"), [(BY_LABEL, "False"), ({}, "True")])
def test_labels_that_cannot_be_read_are_told_to_who_asks_for_them(spec: Any, word: str) -> None:
    read = BackendInputs(postgres(**spec), {APP: LOGIN}, {}, 3, KEY, refused=2)
    assert told(status(read, NOW))["Ready"] == ("True", "Ready")
    assert status(read, NOW).refused_bindings == 2
    found = status(dataclasses.replace(read, namespaces_readable=False), NOW)
    assert told(found)["Accepted"][0] == word
    assert told(found)["Ready"][0] == word
    if spec:
        assert told(found)["Ready"] == ("False", "NamespacesNotReadable")
        assert "list and watch namespaces" in found.conditions[0].message
        # What its own namespace uses goes on.
        assert look(postgres(**spec), {APP: LOGIN}, {}, KEY).snapshot is not None
