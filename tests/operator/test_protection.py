"""A backend in use is not deleted, and nothing waits for it for ever; with the controllers running."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.operator.conftest import new_namespace
from tests.support.operator import (
    OWN_NAMESPACE,
    Api,
    OperatorProcess,
    binding,
    postgres_backend,
    rules,
    sqlite_backend,
    until,
)

FINALIZER = "stackstore.dev/in-use"
BACKEND = ("StorageBackend", "sql-default")
SELECTED = {"from": "Selector", "selector": {"matchLabels": {"stacks": "yes"}}}
PATIENCE = 40


@pytest.fixture(scope="module")
def running(full_control_plane, tmp_path_factory):
    full_control_plane.apply(
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": OWN_NAMESPACE}}
    )
    process = OperatorProcess(full_control_plane, tmp_path_factory.mktemp("operator"))
    yield process.start().wait_until_up()
    assert process.stop() == 0, process.log()
    assert "Traceback" not in process.log()


@pytest.fixture
def spaces(full_control_plane, running):
    """A namespace with a backend that takes others by label, and one that it takes."""
    owner = Api(full_control_plane, new_namespace(full_control_plane))
    guest = Api(full_control_plane, new_namespace(full_control_plane, stacks="yes"))
    owner.secret("pg-app", username="app", password="first")
    owner.apply(sqlite_backend(), postgres_backend(allowedNamespaces=SELECTED))
    guest.apply(sqlite_backend())
    yield owner, guest
    for made in (guest, owner):
        if made.get("Namespace", made.namespace):
            made.clear()
        made.close()


def stack(owner: Api, name: str = "chat", backend: str = "sql-default") -> dict:
    far = {"name": backend, "namespace": owner.namespace}
    return binding(name, name, defaults={"kv": {"name": "kv-default"}, "sql": far})


def finalizers(api: Api, name: str = "sql-default") -> list[str] | None:
    """None: the backend is gone."""
    obj = api.get("StorageBackend", name)
    return None if obj is None else obj["metadata"].get("finalizers", [])


def password(api: Api, name: str = "chat") -> str:
    text = api.data("Secret", f"{name}-storage").get("stackstore.json", "{}")
    found = json.loads(text).get("backends", {}).get("sql_default", {})
    return str(found.get("current", {}).get("password"))


def finalized(owner: Api, others: list[str]) -> None:
    owner.merge(*BACKEND, {"metadata": {"finalizers": others}})


def test_it_is_put_on_before_the_first_use_and_taken_off_after_the_last(spaces, running):
    owner, guest = spaces
    owner.wait(*BACKEND, "Ready", "True", "Ready")
    assert finalizers(owner) == []
    # Somebody else's stay where they are, all along.
    finalized(owner, ["example.com/a", "example.com/b"])
    before = len(list(running.writes()))
    guest.apply(stack(owner), stack(owner, "second"))
    guest.ready("chat", "second", seconds=30)
    assert finalizers(owner) == ["example.com/a", "example.com/b", FINALIZER]
    mine = [e for e in list(running.writes())[before:]
            if e["objectRef"]["namespace"] in (owner.namespace, guest.namespace)]  # fmt: skip
    put = [i for i, e in enumerate(mine) if e["objectRef"]["resource"] == "storagebackends"
           and e["objectRef"].get("subresource") is None]  # fmt: skip
    secrets = [i for i, e in enumerate(mine) if e["objectRef"]["resource"] == "secrets"]
    of_sql = [i for i in put if mine[i]["objectRef"]["name"] == "sql-default"]
    assert len(of_sql) == 1, "once, however many stacks ask"
    assert of_sql[0] < secrets[0]
    guest.delete("StoreBinding", "second")
    until(lambda: owner.get(*BACKEND)["status"]["bindings"] == 1, PATIENCE)
    assert FINALIZER in finalizers(owner)
    # A stranger's reference, and one that leads nowhere, are no use.
    owner.merge("Namespace", guest.namespace, {"metadata": {"labels": {"stacks": None}}})
    until(lambda: finalizers(owner) == ["example.com/a", "example.com/b"], PATIENCE)
    assert password(guest) == "None"
    owner.delete(*BACKEND)
    finalized(owner, [])
    until(lambda: finalizers(owner) is None, PATIENCE)


def test_one_that_is_in_use_and_deleted_serves_who_has_it_and_takes_nobody_new(spaces):
    owner, guest = spaces
    owner.apply(binding("mine", "mine", defaults={
        "kv": {"name": "kv-default"}, "sql": {"name": "sql-default"}}))  # fmt: skip
    guest.apply(stack(owner))
    owner.ready("mine", seconds=30)
    guest.ready("chat", seconds=30)
    owner.delete(*BACKEND)
    message = owner.wait(*BACKEND, "Ready", "False", "BackendTerminating", seconds=PATIENCE)
    assert "1 StoreBinding of this namespace: 'mine'; 1 StoreBinding of other namespaces" in message
    assert guest.namespace not in json.dumps(owner.get(*BACKEND)["status"])
    # Those that have it go on, rotations included, and are told.
    until(
        lambda: (
            "is being deleted" in guest.condition("StoreBinding", "chat", "BackendsResolved")[2]
        ),
        PATIENCE,
    )
    owner.secret("pg-app", username="app", password="second")
    until(lambda: (password(guest), password(owner, "mine")) == ("second", "second"), PATIENCE)
    assert guest.condition("StoreBinding", "chat")[:2] == ("True", "Ready")
    # Nobody new: neither another stack, nor another store of a stack that had others.
    guest.apply(stack(owner, "late"))
    message = guest.wait(
        "StoreBinding", "late", "BackendsResolved", "False", "BackendTerminating", seconds=PATIENCE
    )
    assert "takes nobody new" in message
    assert guest.get("Secret", "late-storage") is None
    guest.delete("StoreBinding", "chat")
    until(lambda: "'mine'" in (m := owner.condition(*BACKEND)[2]) and "other" not in m, PATIENCE)
    assert FINALIZER in finalizers(owner)
    # The last one moves away.
    owner.apply(postgres_backend("sql-two"))
    owner.merge("StoreBinding", "mine", {"spec": {"defaults": {"sql": {"name": "sql-two"}}}})
    until(lambda: finalizers(owner) is None, PATIENCE)
    owner.ready("mine", seconds=PATIENCE)
    assert finalizers(owner, "sql-two") == [FINALIZER]
    assert (
        "sql_default"
        not in json.loads(owner.data("Secret", "mine-storage")["stackstore.json"])["backends"]
    )
    guest.wait(
        "StoreBinding",
        "late",
        "BackendsResolved",
        "Unknown",
        "NotFoundOrNotAllowed",
        seconds=PATIENCE,
    )


def test_a_backends_namespace_that_ends_waits_for_nobody_and_its_users_are_told(spaces):
    owner, guest = spaces
    guest.apply(stack(owner))
    guest.ready("chat", seconds=30)
    good = guest.data("Secret", "chat-storage")
    owner.delete("Namespace", owner.namespace)
    until(
        lambda: guest.condition("StoreBinding", "chat")[1] in ("BackendTerminating", "BackendGone"),
        PATIENCE,
    )
    until(lambda: not owner.get("Namespace", owner.namespace), PATIENCE)
    message = guest.wait("StoreBinding", "chat", "Ready", "False", "BackendGone", seconds=PATIENCE)
    assert f"{owner.namespace}/sql-default" in message
    # What was rendered stays: the pods go on, and the database may well be somewhere else.
    assert password(guest) == "first"
    assert guest.data("Secret", "chat-storage").keys() == good.keys()
    told = {e["reason"] for e in guest.list("Event") if e["involvedObject"]["name"] == "chat"}
    assert told & {"BackendTerminating", "BackendGone"}


def test_a_users_namespace_that_ends_lets_go(spaces):
    owner, guest = spaces
    guest.apply(stack(owner))
    guest.ready("chat", seconds=30)
    owner.delete(*BACKEND)
    owner.wait(*BACKEND, "Ready", "False", "BackendTerminating", seconds=PATIENCE)
    guest.delete("Namespace", guest.namespace)
    until(lambda: finalizers(owner) is None, PATIENCE)
    until(lambda: not guest.get("Namespace", guest.namespace), PATIENCE)


def test_with_the_operator_down_nothing_in_use_vanishes_and_all_ends_when_it_starts(
    full_control_plane, spaces, running
):
    owner, guest = spaces
    both = Api(full_control_plane, new_namespace(full_control_plane))
    both.secret("pg-app", username="app", password="first")
    both.apply(sqlite_backend(), postgres_backend(), binding("own", "own", defaults={
        "kv": {"name": "kv-default"}, "sql": {"name": "sql-default"}}))  # fmt: skip
    owner.apply(postgres_backend("held", allowedNamespaces={"from": "All"}))
    owner.apply(postgres_backend("unused", allowedNamespaces={"from": "All"}))
    guest.apply(stack(owner), stack(owner, "keeps", "held"))
    both.ready("own", seconds=30)
    guest.ready("chat", "keeps", seconds=30)
    assert running.stop() == 0
    try:
        for name in ("sql-default", "held", "unused"):
            owner.delete("StorageBackend", name)
        guest.delete("StoreBinding", "chat")
        both.delete("Namespace", both.namespace)
        until(
            lambda: both.get("StorageBackend", "sql-default")["metadata"].get("deletionTimestamp"),
            PATIENCE,
        )
        assert finalizers(owner, "unused") is None
        assert finalizers(owner) == [FINALIZER]
        assert finalizers(owner, "held") == [FINALIZER]
    finally:
        running.start().wait_until_up()
    until(lambda: finalizers(owner) is None, 10)
    until(lambda: both.get("StorageBackend", "sql-default") is None, 10)
    message = owner.wait("StorageBackend", "held", "Ready", "False", "BackendTerminating")
    assert "1 StoreBinding of other namespaces" in message
    assert finalizers(owner, "held") == [FINALIZER]
    owner.secret("pg-app", username="app", password="second")
    until(lambda: "second" in guest.data("Secret", "keeps-storage")["stackstore.json"], PATIENCE)
    until(lambda: not both.get("Namespace", both.namespace), PATIENCE)
    both.close()
    guest.delete("StoreBinding", "keeps")
    until(lambda: finalizers(owner, "held") is None, PATIENCE)


def test_an_operator_of_some_namespaces_holds_none_of_them_up(
    full_control_plane, spaces, running, tmp_path
):
    owner, guest = spaces
    owner.merge(*BACKEND, {"spec": {"allowedNamespaces": {"from": "All", "selector": None}}})
    guest.apply(stack(owner))
    guest.ready("chat", seconds=30)
    assert running.stop() == 0
    try:
        names = [owner.namespace, guest.namespace]
        user = full_control_plane.user(
            [], namespace=OWN_NAMESPACE, own_rules=rules("own-rules.yaml")
        )
        for name in names:
            full_control_plane.grant(user, rules(), name)
        process = OperatorProcess(full_control_plane, tmp_path, user=user, namespaces=names)
        process.start().wait_until_up()
        try:
            # Its rights go with the namespace, so it can't keep what it could not let go of.
            until(lambda: finalizers(owner) == [], PATIENCE)
            owner.delete("Namespace", owner.namespace)
            until(lambda: not owner.get("Namespace", owner.namespace), PATIENCE)
            guest.wait("StoreBinding", "chat", "Ready", "False", "BackendGone", seconds=PATIENCE)
            assert password(guest) == "first"
        finally:
            assert process.stop() == 0
        assert "Traceback" not in process.log()
    finally:
        running.start().wait_until_up()


def test_release_takes_it_off_everything_and_nothing_else(
    full_control_plane, spaces, running, tmp_path
):
    owner, guest = spaces
    guest.apply(stack(owner))
    guest.ready("chat", seconds=30)
    finalized(owner, [*finalizers(owner), "example.com/a"])
    assert running.stop() == 0
    command = [sys.executable, "-m", "stackstore_operator.main", "release"]
    try:
        before = guest.data("Secret", "chat-storage")
        there = [*command, "--kubeconfig", str(full_control_plane.kubeconfig())]
        done = subprocess.run(
            [*there, "--namespaces", owner.namespace],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout == "released 1 of 2 StorageBackends\n"
        assert finalizers(owner) == ["example.com/a"]
        assert finalizers(guest, "kv-default") == [FINALIZER]
        done = subprocess.run(there, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0
        assert finalizers(guest, "kv-default") == []
        assert guest.data("Secret", "chat-storage") == before
    finally:
        running.start().wait_until_up()
    # Who goes on using them is protected again.
    until(lambda: finalizers(owner) == ["example.com/a", FINALIZER], PATIENCE)
    finalized(owner, [FINALIZER])
    shown = subprocess.run(
        [*command, "--help"], capture_output=True, text=True, timeout=60, check=True
    )
    assert "finalizer" in shown.stdout
