"""What a running operator shows of itself: metrics, probes, log lines, and events that tell a story."""

from __future__ import annotations

import json
import os
import re
import secrets
import signal
import subprocess
import sys
import time

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.support.operator import (
    DEFAULTS,
    OWN_NAMESPACE,
    Api,
    OperatorProcess,
    binding,
    kv,
    postgres_backend,
    sql,
    sqlite_backend,
    until,
)
from tests.support.postgres import free_port

PASSWORD = "hunter2-" + secrets.token_hex(6)
STORES = [kv("metadata"), sql("inference")]


@pytest.fixture(scope="module")
def process(control_plane, tmp_path_factory):
    """One operator with its numbers; the lease is short, so it soon leads."""
    control_plane.apply(
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": OWN_NAMESPACE}}
    )
    made = OperatorProcess(
        control_plane,
        tmp_path_factory.mktemp("operator"),
        module="tests.support.hasty",
        metrics_port=free_port(),
    ).start()
    yield made.wait_until_up()
    assert made.stop() == 0, made.log()
    assert "Traceback" not in made.log()


@pytest.fixture
def api(control_plane, process, namespace):
    made = Api(control_plane, namespace)
    yield made
    made.clear()
    made.close()


def fill(api: Api, password: str = PASSWORD) -> None:
    api.secret("pg-app", username="app", password=password)
    api.apply(postgres_backend(verification={"mode": "None"}), sqlite_backend())
    api.apply(binding(stores=STORES, defaults=DEFAULTS))
    api.ready("chat", seconds=30)


def test_the_numbers_tell_what_it_does(process, api):
    before = {
        (name, tuple(labels.items())): process.metric(name, **labels) for name, labels in COUNTED
    }
    fill(api)
    for (name, labels), value in before.items():
        until(
            lambda n=name, ls=dict(labels), v=value: process.metric(n, **ls) > v,
            10,
            f"{name} {dict(labels)} stays {value}",
        )
    assert process.metric("leader") == 1
    assert process.metric("namespaces", state="open") == 1
    assert process.metric("objects", kind="StoreBinding") >= 1
    assert process.metric("conditions", kind="StoreBinding", type="Ready", status="True") >= 1
    assert time.time() - process.metric("last_success_timestamp_seconds") < 60
    kinds = {
        sample.labels["kind"]
        for family in text_string_to_metric_families(process.probe("/metrics")[1])
        for sample in family.samples
        if family.name == "stackstore_operator_watch_age_seconds"
    }
    assert {"Secret", "ConfigMap", "StorageBackend", "StoreBinding"} <= kinds
    text = process.probe("/metrics")[1]
    assert "process_resident_memory_bytes" in text
    for name in (api.namespace, "pg-app", "chat", PASSWORD):
        assert name not in text


COUNTED = [
    ("reconciles_total", {"kind": "stack", "result": "written"}),
    ("reconciles_total", {"kind": "backend", "result": "written"}),
    ("reconcile_seconds_count", {"kind": "stack"}),
    ("outputs_written_total", {"kind": "Secret"}),
    ("outputs_written_total", {"kind": "ConfigMap"}),
    ("events_posted_total", {"kind": "StoreBinding", "type": "Normal"}),
    ("watch_events_total", {"kind": "StoreBinding"}),
    ("watch_events_total", {"kind": "Secret"}),
    ("api_requests_total", {"verb": "apply", "kind": "StoreBinding/status", "code": "200"}),
    ("api_requests_total", {"verb": "get", "kind": "Secret", "code": "404"}),
    ("api_request_seconds_count", {"verb": "create", "kind": "Secret"}),
]


def test_it_is_alive_and_ready_and_other_paths_are_not_found(process):
    until(lambda: process.probe("/readyz") == (200, "ok\n"), 30, process.log)
    assert process.probe("/livez") == (200, "ok\n")
    code, text = process.probe("/secrets")
    assert code == 404
    assert "/livez" in text


def test_a_loop_that_stands_still_is_not_alive_and_one_that_goes_on_is(process):
    assert process.process is not None
    os.kill(process.process.pid, signal.SIGUSR2)
    until(lambda: process.probe("/livez")[0] == 503, 20, process.log)
    code, text = process.probe("/readyz")
    if code == 503:
        assert "the event loop has stood still" in text
    until(lambda: process.probe("/livez")[0] == 200, 30, process.log)


def test_each_look_that_changes_something_is_one_line_of_json_with_an_id(process, api):
    fill(api)
    name = f"stack {api.namespace}/chat"

    def lines() -> list[dict[str, object]]:
        found = [json.loads(line) for line in process.log().splitlines() if line.startswith("{")]
        return [line for line in found if line.get("object") == name]

    until(lines, 10, process.log)
    line = lines()[-1]
    assert re.fullmatch("[0-9a-f]{8}", str(line["look"]))
    assert re.fullmatch("[0-9a-f]{8}", str(line["revision"]))
    assert line["result"] == "written"
    assert 0 < float(str(line["seconds"])) < 60
    assert line["level"] == "INFO"
    # What was applied in it carries the same id.
    applied = [
        json.loads(text)
        for text in process.log().splitlines()
        if f"Secret {api.namespace}/chat-storage" in text
    ]
    assert {entry["look"] for entry in applied} & {entry["look"] for entry in lines()}
    assert PASSWORD not in process.log()
    # A change that changes nothing of ours is no line.
    count = len(lines())
    api.merge("StoreBinding", "chat", {"metadata": {"annotations": {"note": "x"}}})
    time.sleep(1.0)
    assert len(lines()) == count


def test_the_events_of_a_backend_tell_its_life(process, api):
    api.apply(postgres_backend(verification={"mode": "None"}))
    api.wait("StorageBackend", "sql-default", "Ready", "Unknown", "SecretNotFound", seconds=30)
    api.secret("pg-app", username="app", password=PASSWORD)
    api.wait("StorageBackend", "sql-default", "CredentialsResolved", "True", "Resolved", seconds=30)
    until(lambda: len(told(api)) >= 2, 10, lambda: str(told(api)))
    api.merge("Secret", "pg-app", {"data": {"password": None}})
    api.wait(
        "StorageBackend",
        "sql-default",
        "CredentialsResolved",
        "False",
        "SecretKeyMissing",
        seconds=30,
    )
    until(lambda: len(told(api)) >= 3, 10, lambda: str(told(api)))
    first, second, third = told(api)[:3]
    assert (first["type"], first["reason"]) == ("Warning", "SecretNotFound")
    assert "there is no Secret 'pg-app'" in first["message"]
    assert second["type"] == "Normal"
    assert (third["type"], third["reason"]) == ("Warning", "SecretKeyMissing")
    assert "password" in third["message"]
    assert PASSWORD not in json.dumps(told(api))
    assert {event["source"]["component"] for event in told(api)} == {"stackstore-operator"}


def told(api: Api) -> list[dict[str, object]]:
    events = [e for e in api.list("Event") if e["involvedObject"]["name"] == "sql-default"]
    return sorted(events, key=lambda e: int(e["metadata"]["resourceVersion"]))


def test_a_standby_is_ready_and_does_not_lead(control_plane, process, tmp_path):
    until(lambda: process.metric("leader") == 1, 30, process.log)
    other = OperatorProcess(
        control_plane, tmp_path, module="tests.support.hasty", metrics_port=free_port()
    ).start()
    try:
        until(lambda: other.probe("/readyz")[0] == 200, 30, other.log)
        assert other.metric("leader") == 0
        assert "standing by" in other.log()
    finally:
        assert other.stop() == 0, other.log()


def test_a_port_that_is_taken_is_told(process):
    done = subprocess.run(
        [sys.executable, "-m", "stackstore_operator.main", "run", "--metrics-port", str(process.metrics_port)],
        capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert f"port {process.metrics_port}" in done.stderr
    assert "Traceback" not in done.stderr
