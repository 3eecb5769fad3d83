"""A second controller that wants the same fields: bounded writes, told, healed by itself."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from tests.operator.conftest import new_namespace
from tests.support.hasty import WAITS
from tests.support.operator import (
    DEFAULTS,
    Api,
    OperatorProcess,
    binding,
    kv,
    postgres_backend,
    sql,
    sqlite_backend,
    until,
)

RETRY = WAITS.contests.retry


@pytest.fixture
def api(control_plane, hasty) -> Iterator[Api]:
    made = Api(control_plane, new_namespace(control_plane))
    made.secret("pg-app", username="app", password="hunter2")
    made.apply(
        postgres_backend(),
        sqlite_backend(),
        binding(stores=[kv("metadata"), sql("inference")], defaults=DEFAULTS),
    )
    made.ready("chat")
    yield made
    made.clear()
    made.close()


@contextlib.contextmanager
def rival(change: Callable[[int], None], every: float = 0.1) -> Iterator[list[int]]:
    """Somebody who changes something all the time; yields a list of what was done."""
    stop, done = threading.Event(), []

    def run() -> None:
        while not stop.wait(every):
            change(len(done))
            done.append(len(done))

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield done
    finally:
        stop.set()
        thread.join(10)


def writes(operator: OperatorProcess, api: Api, resource: str, since: int = 0) -> int:
    """How often the operator has written objects of a kind of this namespace."""
    found = [
        event
        for event in operator.writes()
        if event["objectRef"].get("namespace") == api.namespace
        and event["objectRef"]["resource"] == resource
        and event["responseStatus"]["code"] < 300
    ]
    return len(found) - since


def of(kind: str, name: str, **content) -> dict:
    return {"apiVersion": "v1", "kind": kind, "metadata": {"name": name, **content.pop("metadata", {})}, **content}  # fmt: skip


@pytest.mark.parametrize("every", [0.1, 1.0])
def test_a_second_controller_that_writes_all_the_time_is_told_and_not_fought(api, hasty, every):
    theirs = of("ConfigMap", "chat-run-config", data={"config.yaml": "theirs: {}\n", "note": "x"})
    before, events = writes(hasty, api, "configmaps"), writes(hasty, api, "events")
    with rival(lambda n: api.apply(theirs), every) as done:
        message = api.wait("StoreBinding", "chat", "Ready", "False", "FieldContested", seconds=30)
        assert "ConfigMap 'chat-run-config': 'user' keeps changing `data[config.yaml]`" in message
        start = time.monotonic()
        statuses = writes(hasty, api, "storebindings")
        at = len(done)
        until(lambda: len(done) > at + 3 and time.monotonic() - start > 2 * RETRY, 60)
        spent = time.monotonic() - start
        written = writes(hasty, api, "configmaps", before)
        assert written <= WAITS.contests.corrections + spent / RETRY + 1
        # It is told once, and by one event.
        assert writes(hasty, api, "storebindings", statuses) == 0
        assert writes(hasty, api, "events", events) == 1
    # The rival is gone: the next retry stays, and what it added stays too.
    api.ready("chat", seconds=30)
    assert "storage" in api.config()
    assert api.data("ConfigMap", "chat-run-config")["note"] == "x"


def test_a_rotation_is_written_while_the_secret_is_contested(api, hasty):
    def revision() -> str:
        text = api.data("Secret", "chat-storage")["stackstore.json"]
        return json.loads(text).get("revision", "")

    def theirs(_: int) -> None:
        # By its own words it changes one key; ours are all put back at once, if they are.
        api.merge("Secret", "chat-storage", {"stringData": {"SQL_DEFAULT_USER": "theirs"}})

    with rival(theirs, 0.1):
        api.wait("StoreBinding", "chat", "Ready", "False", "FieldContested", seconds=30)
        first = revision()
        api.secret("pg-app", username="app", password="second")
        until(lambda: revision() != first, 10)
        assert api.data("Secret", "chat-storage")["SQL_DEFAULT_PASSWORD"] == "second"
    api.ready("chat", seconds=30)
    assert api.data("Secret", "chat-storage")["SQL_DEFAULT_USER"] == "app"
    assert "second" not in json.dumps(api.get("StoreBinding", "chat"))


def test_outputs_that_somebody_keeps_deleting_come_back_now_and_then(api, hasty):
    def theirs(_: int) -> None:
        with contextlib.suppress(AssertionError):
            api.delete("ConfigMap", "chat-run-config")

    with rival(theirs, 0.1):
        message = api.wait("StoreBinding", "chat", "Ready", "False", "FieldContested", seconds=30)
        assert "somebody keeps deleting it" in message
        before = writes(hasty, api, "configmaps")
        start = time.monotonic()
        time.sleep(RETRY)
        # Each return is a create and an apply.
        assert writes(hasty, api, "configmaps", before) <= 2 * (
            (time.monotonic() - start) / RETRY + 1
        )
    api.ready("chat", seconds=30)
    assert "storage" in api.config()


def test_a_status_that_somebody_keeps_changing_is_not_fought_over(api, hasty):
    def theirs(number: int) -> None:
        api.merge("StoreBinding", "chat", {"status": {"revision": f"{number:08}"}}, "status")

    before, events = writes(hasty, api, "storebindings"), writes(hasty, api, "events")
    start = time.monotonic()
    with rival(theirs, 0.1) as done:
        until(lambda: len(done) >= 30, 60)
    spent = time.monotonic() - start
    assert writes(hasty, api, "storebindings", before) <= 3 + spent / RETRY + 1
    assert writes(hasty, api, "events", events) == 0
    text = api.data("Secret", "chat-storage")["stackstore.json"]
    want = json.loads(text)["revision"]
    until(lambda: api.get("StoreBinding", "chat")["status"]["revision"] == want, 30)


def test_what_nobody_fights_over_is_put_back_at_once(api, hasty):
    """Three edits in a row, as a person makes them, are no contest."""
    for number in range(3):
        api.merge("ConfigMap", "chat-run-config", {"data": {"config.yaml": f"n: {number}\n"}})
        until(lambda: "storage" in api.config(), 10)
    assert api.condition("StoreBinding", "chat")[:2] == ("True", "Ready")
