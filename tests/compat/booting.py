"""The real server runs on the quickstart's render, with the environment its pod would have."""

from __future__ import annotations

import contextlib
import json
import secrets
import signal
import socket
import sqlite3
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from stackstore_operator.api.backend import StorageBackend
from stackstore_operator.api.binding import StoreBinding
from stackstore_operator.reconcile.inputs import StackInputs
from stackstore_operator.reconcile.plan import plan
from tests.compat import everything, modelapi
from tests.compat.cases import PASSWORDS
from tests.compat.loading import Result, environment
from tests.support import quickstart
from tests.support.postgres import PostgresServer, die_with_parent, free_port

TABLE = "inference_store"
_BOOT_SECONDS = 60


@dataclass(frozen=True)
class Boot:
    """One way to run the quickstart.

    Attributes:
        password: of the database; None where there is none.
        everything: with every provider that the bare server can run.
    """

    name: str
    kv: str
    sql: str
    password: str | None
    everything: bool = False


BOOTS = (
    Boot("on SQLite", "kv_sqlite", "sql_sqlite", None),
    Boot("on Postgres, a password of digits", "kv_sqlite", "sql_postgres", PASSWORDS["digits"]),
    Boot("on Postgres, a password of specials", "kv_sqlite", "sql_postgres", PASSWORDS["specials"]),
    Boot("all on Postgres", "kv_postgres", "sql_postgres", PASSWORDS["specials"], everything=True),
)


def run(python: Path) -> list[Result]:
    """Boot after boot."""
    results = []
    postgres = PostgresServer.start()
    try:
        with modelapi.serving() as model:
            for boot in BOOTS:
                results += _boot(python, boot, postgres, model)
    finally:
        postgres.stop()
    return results


def _boot(python: Path, boot: Boot, postgres: PostgresServer, model: str) -> list[Result]:
    with tempfile.TemporaryDirectory(prefix="stackstore-compat-") as directory:
        home = Path(directory)
        try:
            config, environ, count = _rendered(boot, postgres, home)
            (home / "config.yaml").write_text(config)
            environ |= {"MODEL_URL": model, "FILES_DIR": str(home / "files")}
            with _server(python, home, environ) as url:
                _use(url)
                stored = count(TABLE)
                if boot.everything:
                    with _client() as client:
                        everything.use(url, client, count)
        except (AssertionError, RuntimeError, httpx.HTTPError, TimeoutError) as problem:
            log = home / "log"
            tail = log.read_text(errors="replace")[-2000:] if log.exists() else ""
            return [(boot.name, f"{type(problem).__name__}: {problem}\n{tail}")]
        stray = sorted(file.name for file in home.rglob("*.db") if file.stem not in {"kv", "sql"})
    results = [(f"{boot.name}: healthy, stores, lists and reads", "")]
    wrong = "" if stored == 2 else f"{TABLE} holds {stored} rows, not 2"
    results.append((f"{boot.name}: the rows are where we said", wrong))
    if boot.everything:
        results.append((f"{boot.name}: every provider stores where it is bound", ""))
    results.append((f"{boot.name}: no other database file", ", ".join(stray)))
    return results


def _rendered(
    boot: Boot, postgres: PostgresServer, home: Path
) -> tuple[str, dict[str, str], Callable[[str], int]]:
    """The config, the environment of the rendered Secret, and what counts a table's rows."""
    objects = {(o["kind"], o["metadata"]["name"]): o for o in quickstart.manifests()}
    spec = {kind: objects["StorageBackend", f"{kind}-default"]["spec"] for kind in ("kv", "sql")}
    on_postgres = spec["sql"]["postgres"], spec["sql"]["credentials"]
    for kind, type_ in (("kv", boot.kv), ("sql", boot.sql)):
        spec[kind].clear()
        spec[kind]["type"] = type_
        if type_.endswith("_postgres"):
            spec[kind]["postgres"], spec[kind]["credentials"] = on_postgres
        else:
            spec[kind]["sqlite"] = {"path": str(home / f"{kind}.db")}
    login = objects["Secret", "pg-app"]["stringData"]
    if boot.password is None:

        def count(rows: str) -> int:
            with contextlib.closing(sqlite3.connect(home / "sql.db")) as connection:
                return int(connection.execute(f"SELECT count(*) FROM {rows}").fetchone()[0])

    else:
        name = f"t{secrets.token_hex(6)}"
        postgres.execute(f"CREATE ROLE {name} LOGIN PASSWORD '{boot.password}'")
        postgres.execute(f"CREATE DATABASE {name} OWNER {name}")
        login |= {
            "username": name,
            "password": boot.password,
            "host": postgres.host,
            "port": str(postgres.port),
            "database": name,
        }

        def count(rows: str) -> int:
            return int(postgres.execute(f"SELECT count(*) FROM {rows}", name)[0][0])

    if boot.everything:
        objects["ConfigMap", "chat-base"]["data"]["config.yaml"] = everything.BASE
        objects["StoreBinding", "chat"]["spec"]["providers"] = everything.PROVIDERS
    config, data = _planned(objects.values())
    return config, environment(data), count


def _planned(objects: Any) -> tuple[str, Mapping[str, bytes]]:
    """What the operator would write; the whole way from the manifests."""
    space = quickstart.NAMESPACE
    by_kind: dict[str, dict[tuple[str, str], Any]] = {}
    for obj in objects:
        name = obj["metadata"]["name"]
        obj["metadata"] |= {"namespace": space, "uid": f"uid-{name}", "generation": 1}
        by_kind.setdefault(obj["kind"], {})[space, name] = obj
    made = plan(
        StackInputs(
            namespace=space,
            stack="chat",
            bindings=tuple(map(StoreBinding.from_object, by_kind["StoreBinding"].values())),
            backends={
                key: StorageBackend.from_object(obj)
                for key, obj in by_kind["StorageBackend"].items()
            },
            secrets={
                key: {name: value.encode() for name, value in obj["stringData"].items()}
                for key, obj in by_kind["Secret"].items()
            },
            config_maps={key: obj["data"] for key, obj in by_kind["ConfigMap"].items()},
            config_map=None,
            secret=None,
            key=b"k" * 32,
        )
    )
    said = [
        f"{c.type}: {c.reason}: {c.message}" for s in made.statuses.values() for c in s.conditions
    ]
    assert made.config is not None and made.secret is not None, "\n".join(said)
    return made.config, made.secret


@contextlib.contextmanager
def _server(python: Path, home: Path, environ: Mapping[str, str]) -> Iterator[str]:
    """The real server on a port of its own, until the block ends."""
    port = free_port()
    with (home / "log").open("wb") as log:
        process = subprocess.Popen(
            [
                python, "-m", "uvicorn", "ogx.core.server.server:create_app", "--factory",
                "--host", "127.0.0.1", "--port", str(port),
            ],
            cwd=home,
            env={
                **environ,
                "HOME": str(home),
                "PATH": "/usr/bin:/bin",
                "SQLITE_STORE_DIR": str(home),
                "OGX_CONFIG": str(home / "config.yaml"),
                "NO_PROXY": "*",
            },
            stdout=log,
            stderr=log,
            preexec_fn=die_with_parent,
        )  # fmt: skip
    url = f"http://127.0.0.1:{port}"
    try:
        _await_health(url, process)
        yield url
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    with socket.socket() as probe:
        # Nobody must be left on the port.
        assert probe.connect_ex(("127.0.0.1", port)) != 0, f"port {port} is still served"


def _await_health(url: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _BOOT_SECONDS
    with _client() as client:
        while True:
            with contextlib.suppress(httpx.TransportError):
                if client.get(f"{url}/v1/health").status_code == 200:
                    return
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError("the server did not become healthy")
            time.sleep(0.1)


def _client() -> httpx.Client:
    # What the machine has set as proxies is not for loopback.
    return httpx.Client(trust_env=False, timeout=30)


def _use(url: str) -> None:
    """Two completions, one of them streamed; both must be there when asked for again."""
    asked = {
        "model": f"openai/{modelapi.MODEL}",
        "messages": [{"role": "user", "content": "A question?"}],
    }
    with _client() as client:
        answer = client.post(f"{url}/v1/chat/completions", json=asked)
        assert answer.status_code == 200, answer.text[:500]
        made = {answer.json()["id"]}
        streamed = client.post(f"{url}/v1/chat/completions", json={**asked, "stream": True})
        assert streamed.status_code == 200, streamed.text[:500]
        for line in streamed.text.splitlines():
            if line.startswith("data: {"):
                made.add(json.loads(line.removeprefix("data: "))["id"])
        assert len(made) == 2, made
        # The server stores in the background.
        deadline = time.monotonic() + 10
        while True:
            answer = client.get(f"{url}/v1/chat/completions")
            assert answer.status_code == 200, answer.text[:500]
            listed = {entry["id"]: entry for entry in answer.json()["data"]}
            if made <= listed.keys():
                break
            assert time.monotonic() < deadline, f"listed {sorted(listed)}, not {sorted(made)}"
            time.sleep(0.1)
        for identity in made:
            answer = client.get(f"{url}/v1/chat/completions/{identity}")
            assert answer.status_code == 200, answer.text[:500]
            content = answer.json()["choices"][0]["message"]["content"]
            assert content == "".join(modelapi.WORDS), content
            question = listed[identity]["input_messages"][0]["content"]
            assert question == "A question?", question
