"""Whatever the operator did not hear of, it ends where it should: shown by the last bytes of its outputs."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import time

import pytest

from tests.operator.conftest import new_namespace
from tests.support.controlplane import ControlPlane
from tests.support.front import Front
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

SECONDS = 60
KINDS = ("secrets", "configmaps", "storagebackends", "storebindings")


@pytest.fixture
def plane():
    """A control plane of its own: it is killed and started again."""
    from stackstore_operator.api import crd

    made = ControlPlane.start()
    try:
        made.kubectl("create", "-f", "-", stdin="---\n".join(crd.files().values()))
        made.kubectl("create", "namespace", OWN_NAMESPACE)
        yield made
    finally:
        made.stop()


class Scene:
    """A namespace with stacks whose login and bindings change while something is wrong."""

    def __init__(self, plane: ControlPlane, front: Front, operator: OperatorProcess) -> None:
        self.plane, self.front, self.operator = plane, front, operator
        self.api = Api(plane, new_namespace(plane))
        self.api.secret("pg-app", username="app", password="p-0")
        backend = postgres_backend(verification={"mode": "None"}, rotation={"graceSeconds": 0})
        self.api.apply(backend, sqlite_backend())
        self.turn = 0
        self.bind("s0")
        self.converges()

    def bind(self, stack: str) -> None:
        stores = [kv("metadata", place=stack), sql("inference", place=f"t_{stack}")]
        self.api.apply(binding(stack, stack, stores, defaults=DEFAULTS))

    def change(self) -> None:
        """Another password, another binding in place of the last one, another spec of a backend."""
        self.turn += 1
        self.api.secret("pg-app", username="app", password=f"p-{self.turn}")
        self.api.delete("StoreBinding", f"s{self.turn - 1}")
        self.bind(f"s{self.turn}")
        self.api.merge(
            "StorageBackend", "kv-default", {"spec": {"sqlite": {"path": f"/data/{self.turn}.db"}}}
        )

    def converges(self) -> None:
        stack = f"s{self.turn}"

        def there() -> bool:
            try:
                secret = self.api.data("Secret", f"{stack}-storage")
                paths = json.dumps(self.api.config(stack))
                users = (self.api.get("StorageBackend", "sql-default") or {}).get("status", {})
            except (OSError, AssertionError):
                return False
            return (
                secret.get("SQL_DEFAULT_PASSWORD") == f"p-{self.turn}"
                and f"p-{self.turn}" in secret["stackstore.json"]
                and (self.turn == 0 or f"/data/{self.turn}.db" in paths)
                # The binding that went is no longer counted.
                and users.get("bindings") == 1
            )

        until(there, SECONDS, self.operator.log)
        self.api.ready(stack, seconds=SECONDS)

    def outputs(self) -> dict[str, str]:
        return {
            f"{kind}/{obj['metadata']['name']}": json.dumps(obj.get("data"), sort_keys=True)
            for kind in ("Secret", "ConfigMap")
            for obj in self.api.list(kind)
            if obj["metadata"]["name"].startswith(f"s{self.turn}-")
        }


async def test_whatever_it_missed_it_ends_where_it_should(plane, tmp_path):
    async with Front(plane) as front:
        operator = OperatorProcess(
            plane,
            tmp_path,
            server=front.url,
            module="tests.support.hasty",
            metrics_port=free_port(),
        )
        try:
            await asyncio.to_thread(scenes, plane, front, operator)
        finally:
            front.stalled = False
            if operator.process is not None and operator.process.poll() is None:
                await asyncio.to_thread(operator.stop)


def scenes(plane: ControlPlane, front: Front, operator: OperatorProcess) -> None:
    operator.start().wait_until_up()
    scene = Scene(plane, front, operator)
    until(lambda: operator.probe("/readyz")[0] == 200, SECONDS, operator.log)
    for play in (errors, refusals, deafness, stall, restart, clock):
        began = time.monotonic()
        play(scene)
        print(f"{play.__name__}: {time.monotonic() - began:.1f} s")
    assert operator.process is not None
    assert operator.process.poll() is None, operator.log()
    # An operator that begins anew, at the right time, finds nothing to do.
    last = scene.outputs()
    assert len(last) == 2
    assert operator.stop() == 0, operator.log()
    writes = len(list(operator.writes()))
    operator.start().wait_until_up()
    until(lambda: operator.metric("reconciles_total", kind="stack") > 0, SECONDS, operator.log)
    until(lambda: operator.metric("queue_depth") == 0, SECONDS)
    time.sleep(0.5)
    assert scene.outputs() == last
    assert list(operator.writes())[writes:] == []
    assert operator.stop() == 0, operator.log()
    scene.api.close()


def errors(scene: Scene) -> None:
    """Watches that end with an error; kopf ends the process at one that is not 410."""
    for code in (410, 500):
        until(lambda: scene.front.watching >= 4, SECONDS)
        scene.front.end_watches(code)
        scene.change()
        scene.converges()


def refusals(scene: Scene) -> None:
    """Too many requests, and a server that breaks now and then; 410 in the middle of lists."""
    for refusal in ((429, 1), (503, None), (410, None)):
        scene.front.refused = 0
        scene.front.refusals = [refusal] * 12
        scene.front.end_watches(410)
        scene.change()
        scene.converges()
        assert scene.front.refused >= 6
        scene.front.refusals = []


def deafness(scene: Scene) -> None:
    """Watches that live, and do not tell what changed."""
    scene.front.deaf = set(KINDS)
    missed = scene.operator.metric("watch_missed_total", kind="StoreBinding")
    deadline = time.monotonic() + SECONDS
    # A watch that begins anew in this moment lists, and knows.
    while scene.operator.metric("watch_missed_total", kind="StoreBinding") == missed:
        assert time.monotonic() < deadline, scene.operator.log()
        scene.change()
        scene.converges()
        with contextlib.suppress(AssertionError):
            until(
                lambda: scene.operator.metric("watch_missed_total", kind="StoreBinding") > missed,
                12,
            )
    scene.front.deaf = set()


def stall(scene: Scene) -> None:
    """Connections that swallow everything."""
    scene.front.stalled = True
    scene.change()
    until(lambda: scene.operator.probe("/readyz")[0] == 503, SECONDS, scene.operator.log)
    assert scene.operator.probe("/livez") == (200, "ok\n"), scene.operator.log()
    scene.front.stalled = False
    scene.converges()
    until(lambda: scene.operator.probe("/readyz")[0] == 200, SECONDS, scene.operator.log)


def restart(scene: Scene) -> None:
    """The API server is killed, and things change before anybody has found it again."""
    scene.plane.kill_apiserver()
    time.sleep(0.5)
    assert scene.operator.probe("/livez") == (200, "ok\n"), scene.operator.log()
    scene.plane.start_apiserver()
    scene.change()
    scene.converges()


def clock(scene: Scene) -> None:
    """The wall clock jumps a day ahead, two back, and to where it was."""
    assert scene.operator.process is not None
    for _ in range(3):
        os.kill(scene.operator.process.pid, signal.SIGUSR1)
        scene.change()
        scene.converges()
