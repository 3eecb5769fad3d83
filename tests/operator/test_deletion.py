"""What goes when bindings and namespaces go, with the controllers that collect garbage running."""

from __future__ import annotations

import pytest

from tests.operator.conftest import new_namespace
from tests.support.operator import (
    DEFAULTS,
    OWN_NAMESPACE,
    Api,
    OperatorProcess,
    binding,
    kv,
    sql,
    sqlite_backend,
    until,
)


@pytest.fixture(scope="module")
def running(full_control_plane, tmp_path_factory):
    full_control_plane.apply(
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": OWN_NAMESPACE}}
    )
    process = OperatorProcess(full_control_plane, tmp_path_factory.mktemp("operator"))
    yield process.start().wait_until_up()
    assert process.stop() == 0, process.log()


@pytest.fixture
def api(full_control_plane, running):
    made = Api(full_control_plane, new_namespace(full_control_plane))
    made.apply(sqlite_backend(), sqlite_backend("sql-default", "sql_sqlite"))
    made.apply(binding(stores=[kv("metadata"), sql("inference")], defaults=DEFAULTS))
    made.ready("chat")
    yield made
    made.close()


def test_the_outputs_go_with_the_last_binding_of_the_stack(api):
    api.apply(binding("second", stores=[sql("conversations", place="talks")]))
    api.ready("second")
    until(lambda: len(api.get("Secret", "chat-storage")["metadata"]["ownerReferences"]) == 2)
    api.delete("StoreBinding", "chat")
    # The second alone is not enough for the server; the last good outputs stay with it.
    api.wait("StoreBinding", "second", "Rendered", "False", "StoreMissing")
    assert api.get("Secret", "chat-storage")
    assert api.get("ConfigMap", "chat-run-config")
    api.delete("StoreBinding", "second")
    until(lambda: not api.get("Secret", "chat-storage"), 20)
    until(lambda: not api.get("ConfigMap", "chat-run-config"), 20)


def test_a_binding_that_is_deleted_and_made_again_has_its_outputs(api):
    before = api.data("Secret", "chat-storage")
    api.delete("StoreBinding", "chat")
    api.apply(binding(stores=[kv("metadata"), sql("inference")], defaults=DEFAULTS))
    api.ready("chat")

    def same_and_owned() -> bool:
        uid = api.get("StoreBinding", "chat")["metadata"]["uid"]
        secret = api.get("Secret", "chat-storage") or {"metadata": {}}
        owners = [o["uid"] for o in secret["metadata"].get("ownerReferences", [])]
        return owners == [uid] and api.data("Secret", "chat-storage") == before

    until(same_and_owned, 20)


def test_a_namespace_ends(api, running):
    api.delete("Namespace", api.namespace)
    until(lambda: not api.get("Namespace", api.namespace), 40)
    assert "Traceback" not in running.log()


def test_a_namespace_ends_once_an_operator_that_was_down_is_back(full_control_plane, api, running):
    assert running.stop() == 0
    try:
        api.delete("Namespace", api.namespace)
        # What uses its backends goes meanwhile.
        until(lambda: not api.get("StoreBinding", "chat"), 40)
    finally:
        running.start().wait_until_up()
    until(lambda: not api.get("StorageBackend", "sql-default"), 10)
    until(lambda: not api.get("Namespace", api.namespace), 40)
