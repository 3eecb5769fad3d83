"""Secrets in the shapes that other operators and charts publish: what comes of each, and what is said."""

from __future__ import annotations

import base64

import pytest

from stackstore_operator.api.backend import StorageBackend
from stackstore_operator.reconcile.backends import BackendState, look
from stackstore_operator.reconcile.sources import Source
from tests.support.makers import DIRECTORY, NAMES, Made, made
from tests.unit.reconcile.samples import KEY, postgres


def encoded(secret: dict[str, object]) -> Source:
    """As the API server keeps it."""
    strings = secret["stringData"]
    assert isinstance(strings, dict)
    data = {key: base64.b64encode(text.encode()).decode() for key, text in strings.items()}
    return Source.of({**secret, "data": data})


def state(one: Made, backend: StorageBackend | None = None) -> BackendState:
    backend = backend or postgres("it", "db", **one.backend)
    return look(backend, {("db", one.name): encoded(one.secret)}, {}, KEY)


@pytest.mark.parametrize("name", NAMES)
def test_what_comes_of_it(name: str) -> None:
    one = made(name, "db")
    found = state(one)
    if one.lacks:
        assert (found.credentials.status, found.snapshot) == ("False", None)
        assert found.credentials.message == f"Secret '{one.name}' does not give {one.lacks}"
        return
    assert found.snapshot is not None
    assert found.snapshot.type == "sql_postgres"
    current = found.snapshot.current
    assert current.password is not None
    assert one.gives == {
        **current.model_dump(include={"username", "host", "port", "database"}),
        "password": current.password.get_secret_value(),
    }
    said = "; ".join([f"login from Secret '{one.name}'", *one.says])
    assert (found.credentials.status, found.credentials.message) == ("True", said)
    assert found.binding == (one.name if one.binding else "")


@pytest.mark.parametrize("name", NAMES)
def test_a_fixture_says_where_its_facts_are_from(name: str) -> None:
    text = (DIRECTORY / f"{name}.yaml").read_text()
    assert text.startswith("# ")
    assert "ade up" in text or ".yaml" in text


def test_all_makers_of_the_design_are_there() -> None:
    wanted = (
        "cloudnative-pg",
        "crunchy",
        "zalando",
        "crossplane",
        "upbound",
        "servicebinding",
        "bitnami",
    )
    assert [maker for maker in wanted if not any(name.startswith(maker) for name in NAMES)] == []
