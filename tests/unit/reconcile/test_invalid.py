"""Objects that an older schema let in."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from stackstore_operator.api.backend import StorageBackend
from stackstore_operator.api.binding import StoreBinding
from stackstore_operator.reconcile import invalid
from tests.unit.reconcile.samples import NOW, postgres

OLD = {
    "type": "Accepted",
    "status": "True",
    "reason": "Accepted",
    "lastTransitionTime": "2020-01-01T00:00:00Z",
}


def refused(kind: type[StorageBackend | StoreBinding], obj: dict[str, Any]) -> ValidationError:
    with pytest.raises(ValidationError) as caught:
        kind.from_object(obj)
    return caught.value


def metadata(name: str = "x") -> dict[str, Any]:
    return {"name": name, "namespace": "chat", "generation": 4}


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"type": "kv_redis"}, "`spec.type`: "),
        (
            {"type": "kv_postgres", "sqlite": {"path": "/x"}},
            "`postgres` and `credentials` must be given for Postgres",
        ),
        ({"type": "kv_sqlite"}, "only `sqlite` for SQLite"),
        (
            {
                "type": "kv_sqlite",
                "sqlite": {"path": "/x"},
                "credentials": {"secretRef": {"name": "a"}},
            },
            "only `sqlite`",
        ),
        ({"type": "sql_postgres", "postgres": {"port": 0}}, "`spec.postgres.port`"),
        ({}, "`spec.type`: Field required"),
        (None, "`spec`: "),
    ],
)
def test_a_backend(spec: Any, words: str) -> None:
    obj = {
        "metadata": metadata(),
        "spec": spec,
        "status": {"conditions": [OLD], "revision": "01234567"},
    }
    found = invalid.backend_status(obj, refused(StorageBackend, obj), NOW)
    ready, accepted, credentials, verified, adopted = found.conditions
    assert (accepted.type, accepted.status, accepted.reason) == ("Accepted", "False", "Invalid")
    assert words in accepted.message
    assert (ready.type, ready.status, ready.message) == ("Ready", "False", accepted.message)
    assert (credentials.type, credentials.status) == ("CredentialsResolved", "Unknown")
    assert [verified.type, adopted.type] == ["Verified", "Adopted"]
    # What was True changed now; what else the status says stays.
    assert accepted.last_transition_time == "2027-01-15T08:00:00Z"
    assert (found.observed_generation, found.revision) == (4, "01234567")


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        (
            {"stack": "chat", "stores": [{"name": "metadata", "backendRef": {"name": "x"}}]},
            "exactly one of `namespace`",
        ),
        ({"stack": "chat", "serverRelease": "ogx-9"}, "`spec.serverRelease`"),
        ({"stack": "UPPER"}, "`spec.stack`"),
    ],
)
def test_a_binding(spec: Any, words: str) -> None:
    obj = {"metadata": metadata(), "spec": spec, "status": {"conditions": "?"}}
    found = invalid.binding_status(obj, refused(StoreBinding, obj), NOW)
    assert [c.type for c in found.conditions] == [
        "Ready",
        "Accepted",
        "BackendsResolved",
        "Rendered",
        "Adopted",
    ]
    assert [c.status for c in found.conditions] == [
        "False",
        "False",
        "Unknown",
        "Unknown",
        "Unknown",
    ]
    assert words in found.conditions[1].message
    again = {**obj, "status": found.model_dump(by_alias=True)}
    assert invalid.binding_status(again, refused(StoreBinding, again), NOW + 60) == found


def test_a_message_holds_no_value() -> None:
    spec = {"type": "sql_postgres", "postgres": {"host": "canary@4471", "port": "canary4471"}}
    error = refused(StorageBackend, {"metadata": metadata(), "spec": spec})
    assert "canary" not in invalid.told(error)
    assert "`spec.postgres.host`" in invalid.told(error)


def test_a_status_that_can_not_be_read_is_no_reason_to_refuse_the_object() -> None:
    good = postgres()
    obj = {
        "metadata": metadata("sql-default"),
        "spec": good.spec.model_dump(by_alias=True, exclude_none=True),
    }
    read = StorageBackend.from_object(
        {**obj, "status": {"conditions": [{"type": 7}], "bindings": "many"}}
    )
    assert read.spec == good.spec
    assert read.status.conditions == []
