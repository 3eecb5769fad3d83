"""The operator process visits real databases: what it says of them, and what that leads to."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import socket
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import stackstore
from stackstore.credentials.snapshot import Snapshot
from stackstore_operator.reconcile.outputs import config_map_name, secret_name
from tests.support.controlplane import ControlPlane
from tests.support.kubelet import VolumeDirectory
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
from tests.support.postgres import PostgresServer, quote

SECONDS = 60


@dataclass
class Base:
    """A database with a role of its own on the worker's Postgres."""

    server: PostgresServer
    name: str

    def password(self, password: str) -> None:
        self.server.execute(f'ALTER ROLE "{self.name}" LOGIN PASSWORD {quote(password)}')

    def backend(self, name: str = "sql-default", **spec: Any) -> dict[str, Any]:
        """The manifest, of which the login comes from the Secret `pg-app`."""
        place = {"host": self.server.host, "port": self.server.port, "database": self.name}
        postgres = {**place, "tls": {"mode": "Disable"}, **spec.pop("postgres", {})}
        spec = {"verification": {"mode": "Connect", "periodSeconds": 10}, **spec}
        return postgres_backend(name, postgres=postgres, **spec)

    def login(self, api: Api, password: str, **more: str) -> None:
        api.secret("pg-app", **{"username": self.name, "password": password, **more})


@pytest.fixture
def base(postgres: PostgresServer) -> Iterator[Base]:
    made = Base(postgres, f"t{secrets.token_hex(6)}")
    postgres.execute(f'CREATE ROLE "{made.name}" LOGIN PASSWORD {quote("first")}')
    postgres.execute(f'CREATE DATABASE "{made.name}" OWNER "{made.name}"')
    yield made
    postgres.execute(f'DROP DATABASE "{made.name}" WITH (FORCE)')
    postgres.execute(f'DROP ROLE IF EXISTS "{made.name}"')


def verified(api: Api, status: str, reason: str, name: str = "sql-default") -> str:
    return api.wait("StorageBackend", name, "Verified", status, reason, seconds=SECONDS)


def adopted(api: Api, kind: str, name: str, status: str, reason: str) -> str:
    return api.wait(kind, name, "Adopted", status, reason, seconds=SECONDS)


def snapshot(api: Api) -> Snapshot:
    content = api.data("Secret", secret_name("chat")).get("stackstore.json", "")
    return Snapshot.parse(content.encode(), "test")


def previous(api: Api) -> list[str]:
    """The earlier passwords in the stack's Secret."""
    backend: Any = snapshot(api).backends["sql_default"]
    return [login.password.get_secret_value() for login in backend.previous]


class Pod:
    """The runtime itself, with the stack's outputs mounted; `sync()` is the kubelet's turn."""

    def __init__(self, api: Api, directory: Path) -> None:
        self._api = api
        self._secret = VolumeDirectory(directory / "storage")
        self._config = VolumeDirectory(directory / "config")

    def sync(self) -> None:
        for kind, name, volume in (
            ("Secret", secret_name("chat"), self._secret),
            ("ConfigMap", config_map_name("chat"), self._config),
        ):
            volume.write({k: v.encode() for k, v in self._api.data(kind, name).items()})

    @contextlib.asynccontextmanager
    async def run(self) -> AsyncIterator[stackstore.Storage]:
        self.sync()
        storage = await stackstore.open(
            self._config.path / "config.yaml", credentials=self._secret.path
        )
        try:
            await storage.kv("metadata").set("a", "1")
            yield storage
        finally:
            await storage.close()


def test_a_wrong_password_is_told_and_heals(api: Api, base: Base) -> None:
    base.login(api, "wrong-canary")
    api.apply(base.backend(), base.backend("off", verification={"mode": "None"}), sqlite_backend())
    message = verified(api, "False", "LoginRefused")
    assert f"{base.server.host}:{base.server.port}" in message
    assert "canary" not in message
    api.wait("StorageBackend", "sql-default", "Ready", "False", "LoginRefused", seconds=SECONDS)
    verified(api, "Unknown", "VerificationDisabled", "off")
    verified(api, "Unknown", "NotApplicable", "kv-default")
    base.login(api, "first")
    message = verified(api, "True", "Connected")
    assert "PostgreSQL 18." in message
    api.wait("StorageBackend", "sql-default", "Ready", "True", "Ready", seconds=SECONDS)
    status = (api.get("StorageBackend", "sql-default") or {})["status"]
    assert status["serverVersion"] == message.rpartition(" ")[2]
    shown = api.plane.kubectl("get", "sbe", "-n", api.namespace, "sql-default").splitlines()
    row = dict(zip(shown[0].split(), shown[1].split(), strict=True))
    assert {**row, "AGE": ""} == {
        "NAME": "sql-default", "TYPE": "sql_postgres", "READY": "True", "VERIFIED": "True",
        "ADOPTED": "Unknown", "REVISION": status["revision"], "BINDINGS": "0", "REASON": "Ready",
        "AGE": "",
    }  # fmt: skip


def test_a_role_that_is_dropped_and_a_server_that_stops_and_starts(api: Api, base: Base) -> None:
    server = PostgresServer.start()
    try:
        server.execute(f'CREATE ROLE "{base.name}" LOGIN PASSWORD {quote("first")}')
        server.execute(f'CREATE DATABASE "{base.name}" OWNER "{base.name}"')
        other = Base(server, base.name)
        base.login(api, "first")
        api.apply(base.backend("dropped"), other.backend("stopped"))
        verified(api, "True", "Connected", "dropped")
        verified(api, "True", "Connected", "stopped")
        base.server.execute(f'ALTER DATABASE "{base.name}" OWNER TO postgres')
        base.server.execute(f'DROP ROLE "{base.name}"')
        server.stop("fast", keep=True)
        verified(api, "False", "LoginRefused", "dropped")
        api.wait("StorageBackend", "dropped", "Ready", "False", "LoginRefused", seconds=SECONDS)
        verified(api, "Unknown", "ConnectionRefused", "stopped")
        # Nobody knows that it isn't fine.
        assert api.condition("StorageBackend", "stopped")[:2] == ("True", "Ready")
        base.server.execute(f'CREATE ROLE "{base.name}" LOGIN PASSWORD {quote("first")}')
        server.start_again()
        verified(api, "True", "Connected", "dropped")
        verified(api, "True", "Connected", "stopped")
        api.wait("StorageBackend", "dropped", "Ready", "True", "Ready", seconds=SECONDS)
    finally:
        server.stop()


def test_fifty_black_holes_delay_nobody(api: Api, base: Base) -> None:
    """Listeners that accept and say nothing."""
    hole = socket.create_server(("127.0.0.1", 0), backlog=500)
    try:
        port = hole.getsockname()[1]
        base.login(api, "first")
        api.secret("pg-two", username=base.name, password="one")
        silent = {"postgres": {"host": "127.0.0.1", "port": port, "database": "d",
                               "tls": {"mode": "Disable"}}}  # fmt: skip
        visited = {"verification": {"mode": "Connect", "periodSeconds": 10}}
        api.apply(
            *(postgres_backend(f"hole-{n}", **silent, **visited) for n in range(50)),
            # Its login rotates while its database is silent: verification never delays the Secret.
            postgres_backend("sql-default", "pg-two", **silent, **visited),
            sqlite_backend(),
            binding(stores=[kv("metadata"), sql("inference")], defaults=DEFAULTS),
        )
        api.ready("chat", seconds=SECONDS)
        # The quickest of three: the machine may be busy with something else for a while.
        verifying, rotating = [], []
        for name in ("one", "two", "three"):
            start = time.monotonic()
            api.apply(base.backend(f"good-{name}"))
            verified(api, "True", "Connected", f"good-{name}")
            verifying.append(time.monotonic() - start)
            start = time.monotonic()
            api.secret("pg-two", username=base.name, password=f"next-{name}")
            until(lambda p=f"next-{name}": _current(api) == p, SECONDS)
            rotating.append(time.monotonic() - start)
        # Less than one visit to a black hole takes.
        assert min(verifying) < 8
        assert min(rotating) < 8
        message = verified(api, "Unknown", "DatabaseSilent", "hole-7")
        assert f"127.0.0.1:{port}" in message
        assert api.condition("StorageBackend", "hole-7")[:2] == ("True", "Ready")
        # The login changes twice while a visit hangs; what that finds is of no login any more.
        api.apply(base.backend("hole-9"))
        verified(api, "True", "Connected", "hole-9")
        for n in range(50):
            api.delete("StorageBackend", f"hole-{n}")
    finally:
        hole.close()


def _current(api: Api) -> str:
    backend: Any = snapshot(api).backends["sql_default"]
    return backend.current.password.get_secret_value()


async def test_a_rotation_is_taken_up_and_the_earlier_login_leaves(
    api: Api, base: Base, control_plane: ControlPlane, operator: OperatorProcess, tmp_path: Path
) -> None:
    """The role first; then the kubelet is late, the operator is killed, and at last the pod follows."""

    def writes(kind: str) -> int:
        return sum(
            event["objectRef"].get("namespace") == api.namespace
            and event["objectRef"]["resource"] == kind
            for event in operator.writes()
        )

    await asyncio.to_thread(base.login, api, "first")
    grace = {"rotation": {"graceSeconds": 3600}}
    api.apply(
        base.backend(**grace),
        base.backend("kv-default", type="kv_postgres", **grace),
        binding(stores=[kv("metadata"), sql("inference")], defaults=DEFAULTS),
    )
    await asyncio.to_thread(api.ready, "chat", seconds=SECONDS)
    pod = Pod(api, tmp_path)
    async with pod.run() as storage:
        for name in ("sql-default", "kv-default"):
            await asyncio.to_thread(adopted, api, "StorageBackend", name, "True", "Adopted")
        await asyncio.to_thread(adopted, api, "StoreBinding", "chat", "True", "Adopted")
        await asyncio.to_thread(base.password, "second")
        before = writes("secrets")
        await asyncio.to_thread(base.login, api, "second")
        await asyncio.to_thread(verified, api, "True", "Connected")
        message = await asyncio.to_thread(
            adopted, api, "StorageBackend", "sql-default", "False", "ProcessesWaiting"
        )
        assert "1 of 1 processes" in message
        await asyncio.to_thread(adopted, api, "StoreBinding", "chat", "False", "ProcessesWaiting")
        assert previous(api) == ["first"]

        # After a restart nothing flaps, and nothing is written.
        def versions() -> list[tuple[str, str]]:
            return [
                (obj["metadata"]["name"], str(obj.get("status")))
                for kind in ("StorageBackend", "StoreBinding")
                for obj in api.list(kind)
            ]

        seen = versions()
        written = sum(1 for _ in operator.writes())
        operator.kill9()
        # In this thread: the process would end with another one.
        operator.start()
        await asyncio.to_thread(operator.wait_until_up)
        await asyncio.sleep(2)
        assert versions() == seen
        places = [event["objectRef"] for event in list(operator.writes())[written:]]
        assert [place for place in places if place.get("namespace") == api.namespace] == []
        assert previous(api) == ["first"]

        # The kubelet comes.
        pod.sync()
        for name in ("sql-default", "kv-default"):
            await asyncio.to_thread(adopted, api, "StorageBackend", name, "True", "Adopted")
        await asyncio.to_thread(adopted, api, "StoreBinding", "chat", "True", "Adopted")
        await asyncio.to_thread(until, lambda: previous(api) == [], SECONDS)
        assert _current(api) == "second"
        # One write for the rotation, and one for the leaving.
        await asyncio.sleep(1)
        assert writes("secrets") - before <= 3
        pod.sync()
        await storage.kv("metadata").set("a", "2")
    # Who was the last says goodbye; what was taken up stays so.
    assert api.condition("StoreBinding", "chat", "Adopted")[:2] == ("True", "Adopted")


def test_a_budget_beyond_what_the_server_allows_is_told_and_heals(api: Api, base: Base) -> None:
    base.login(api, "first")
    api.apply(base.backend(maxConnections=100_000))
    message = api.wait("StorageBackend", "sql-default", "WithinBudget", "False", "ServerLimitExceeded",
                       seconds=SECONDS)  # fmt: skip
    assert "`spec.maxConnections` is 100000, and the server lets this login open " in message
    api.wait("StorageBackend", "sql-default", "Ready", "True", "Ready", seconds=SECONDS)
    base.server.execute(f'ALTER ROLE "{base.name}" CONNECTION LIMIT 7')
    api.apply(base.backend(maxConnections=8))
    until(lambda: "is 8, and the server lets this login open 7"
          in api.condition("StorageBackend", "sql-default", "WithinBudget")[2], SECONDS)  # fmt: skip
    api.merge("StorageBackend", "sql-default", {"spec": {"maxConnections": 7}})
    api.wait("StorageBackend", "sql-default", "WithinBudget", "True", "Granted", seconds=SECONDS)


async def test_processes_that_consumers_lead_to_expect(
    api: Api, base: Base, tmp_path: Path
) -> None:
    """Of two pods with one process each one runs; then one is enough."""
    labels = {"app": "chat"}
    containers = [{"name": "server", "image": "example"}]
    api.apply(
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": "chat"},
            "spec": {
                "replicas": 2,
                "selector": {"matchLabels": labels},
                "template": {"metadata": {"labels": labels}, "spec": {"containers": containers}},
            },
        },
        base.backend(),
        base.backend("kv-default", type="kv_postgres"),
        binding(
            stores=[kv("metadata"), sql("inference")],
            defaults=DEFAULTS,
            consumers=[{"apiVersion": "apps/v1", "kind": "Deployment", "name": "chat"}],
        ),
    )
    await asyncio.to_thread(base.login, api, "first")
    await asyncio.to_thread(api.ready, "chat", seconds=SECONDS)

    def missing(kind: str, name: str, words: str) -> None:
        until(
            lambda: words in api.condition(kind, name, "Adopted")[2],
            SECONDS,
            lambda: str(api.condition(kind, name, "Adopted")),
        )
        assert api.condition(kind, name, "Adopted")[:2] == ("Unknown", "ConsumersMissing")

    async with Pod(api, tmp_path).run():
        await asyncio.to_thread(missing, "StorageBackend", "sql-default", "1 processes")
        # Both backends of the binding, or one, as their visits come.
        await asyncio.to_thread(missing, "StoreBinding", "chat", " are expected")
        api.merge("Deployment", "chat", {"spec": {"replicas": 1}})
        for kind, name in (("StorageBackend", "sql-default"), ("StoreBinding", "chat")):
            await asyncio.to_thread(adopted, api, kind, name, "True", "Adopted")
        # One more is asked for, and who has taken the login up does not go back for it.
        api.merge("Deployment", "chat", {"spec": {"replicas": 3}})
        await asyncio.sleep(1)
        assert api.condition("StoreBinding", "chat", "Adopted")[:2] == ("True", "Adopted")
