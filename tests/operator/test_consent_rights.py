"""Consent by label when namespaces can't be read, and after a restart; with operators of their own."""

from __future__ import annotations

import pytest

from tests.operator.conftest import new_namespace
from tests.operator.test_consent import SELECTED, holds, outputs, stack
from tests.support.operator import (
    Api,
    OperatorProcess,
    binding,
    operator_user,
    postgres_backend,
    rules,
    sqlite_backend,
    until,
)


@pytest.fixture
def spaces(control_plane):
    """The backend's namespace, and one whose label its selector takes."""
    owner = Api(control_plane, new_namespace(control_plane))
    stranger = Api(control_plane, new_namespace(control_plane, stacks="yes"))
    owner.secret("pg-app", username="app", password="hunter2")
    owner.apply(postgres_backend(allowedNamespaces=SELECTED), sqlite_backend())
    stranger.apply(sqlite_backend(), stack(owner))
    yield owner, stranger
    for made in (stranger, owner):
        made.clear()
        made.close()


def test_labels_that_cannot_be_read_let_nobody_in_and_take_nothing_away(
    control_plane, spaces, tmp_path
):
    owner, stranger = spaces
    blind = operator_user(
        control_plane, [rule for rule in rules() if rule["resources"] != ["namespaces"]]
    )
    process = OperatorProcess(control_plane, tmp_path, user=blind).start().wait_until_up()
    owner.apply(binding("mine", "mine", defaults={
        "kv": {"name": "kv-default"}, "sql": {"name": "sql-default"}}))  # fmt: skip
    message = owner.wait(
        "StorageBackend", "sql-default", "Accepted", "False", "NamespacesNotReadable"
    )
    assert "spec.allowedNamespaces.from" in message
    assert "list and watch namespaces" in message
    # Its own namespace is served, and the process goes on.
    owner.ready("mine")
    stranger.wait("StoreBinding", "chat", "Ready", "Unknown", "NotFoundOrNotAllowed")
    assert outputs(stranger) == ({}, {})
    assert process.stop() == 0
    assert process.log().count("namespaces can't be read") == 1
    # With the right, it is let in.
    process = OperatorProcess(control_plane, tmp_path).start().wait_until_up()
    stranger.ready("chat")
    owner.wait("StorageBackend", "sql-default", "Ready", "True", "Ready")
    granted = outputs(stranger)
    # Started again it writes nothing: that no label is known yet is no reason to take logins away.
    assert process.stop() == 0
    before = len(list(process.writes()))
    process.start().wait_until_up()
    owner.apply(binding("later", "later", defaults={
        "kv": {"name": "kv-default"}, "sql": {"name": "sql-default"}}))  # fmt: skip
    owner.ready("later")
    mine = [e["objectRef"] for e in list(process.writes())[before:]
            if e["objectRef"]["namespace"] == stranger.namespace]  # fmt: skip
    assert [ref for ref in mine if ref["resource"] in ("secrets", "configmaps")] == []
    assert outputs(stranger) == granted
    assert process.stop() == 0
    # And one that lost the right holds on to what is in force, whatever else it does.
    process = OperatorProcess(control_plane, tmp_path, user=blind).start().wait_until_up()
    owner.wait("StorageBackend", "sql-default", "Accepted", "False", "NamespacesNotReadable")
    stranger.wait("StoreBinding", "chat", "Ready", "Unknown", "NotFoundOrNotAllowed")
    assert outputs(stranger) == granted
    # Until the owner says plainly that nobody is let in.
    owner.merge("StorageBackend", "sql-default",
                {"spec": {"allowedNamespaces": {"from": "Same", "selector": None}}})  # fmt: skip
    until(lambda: not holds(stranger))
    assert process.stop() == 0
    assert "Traceback" not in process.log()
