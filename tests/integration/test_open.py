"""`stackstore.open()` as a server uses it: a run config, a mounted directory, real databases."""

import asyncio
import datetime as dt
import gc
import json
import logging
import os
import pprint
import signal
import subprocess
import sys
import time
import traceback
from pathlib import Path

import pytest

import stackstore
from stackstore.credentials import watcher
from stackstore.credentials.snapshot import (
    Login,
    PoolSettings,
    PostgresBackend,
    PreviousLogin,
    Snapshot,
    SqliteBackend,
    Tls,
)
from tests.support.kubelet import VolumeDirectory

pytestmark = pytest.mark.timeout(60)

CONFIG = """\
providers: {}
storage:
  backends:
    kv_default: {type: kv_postgres, connection_string: "${env.KV_DEFAULT_URL}"}
    sql_default: {type: sql_postgres, connection_string: "${env.SQL_DEFAULT_URL}"}
    kv_file: {type: kv_sqlite, db_path: "${env.KV_FILE_PATH}"}
  stores:
    metadata: {backend: kv_default, namespace: registry}
    inference: {backend: sql_default, table_name: inference_store}
    conversations: {backend: sql_default, table_name: openai_conversations}
"""


class Pod:
    """What a pod has: a config file and a mounted Secret, and a database to point them at."""

    def __init__(self, directory: Path, database) -> None:
        self.database = database
        self.config = directory / "config.yaml"
        self.config.write_text(CONFIG)
        self.file = directory / "kv.db"
        self.mount = directory / "storage"
        self.logins = [self.login(database.password, "00000001")]
        self.changes: dict[str, object] = {}
        self.patience = 3

    def login(self, password, revision, **changes):
        database = self.database
        place = {"host": database.server.host, "port": database.server.port,
                 "database": database.name, "username": database.role}  # fmt: skip
        return Login(**{**place, **changes}, password=password, revision=revision)

    def snapshot(self) -> Snapshot:
        current, *previous = self.logins
        kinds = {"kv_default": "kv_postgres", "sql_default": "sql_postgres"}
        backends = {
            name: PostgresBackend(
                type=kind,
                current=current,
                previous=tuple(
                    PreviousLogin(**dict(login), usable_until=0) for login in previous[:3]
                ),
                tls=Tls(mode="Disable"),
                pool=PoolSettings(size=4, max_overflow=2, acquire_timeout_seconds=self.patience),
                statement_timeout_seconds=30,
            )
            for name, kind in kinds.items()
        }
        file = SqliteBackend(type="kv_sqlite", path=str(self.file))
        return Snapshot(
            stack_id="9d2e41b0c7aa",
            revision=current.revision,
            backends={**backends, "kv_file": file, **self.changes},
        )

    def write(self, content: bytes | None = None) -> None:
        content = self.snapshot().to_bytes() if content is None else content
        VolumeDirectory(self.mount).write({"stackstore.json": content})

    async def open(self):
        self.write()
        return await stackstore.open(self.config, credentials=self.mount)


@pytest.fixture
def pod(tmp_path, database):
    return Pod(tmp_path, database)


async def until(condition, seconds=5.0):
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.01)


def proven(storage):
    return {status["proven"] for status in storage.status() if status["dialect"] == "postgresql"}


async def test_stores_over_one_pool(pod):
    async with await pod.open() as storage:
        registry = storage.kv("metadata")
        await registry.set("model:llama", "meta/llama-3")
        assert await registry.get("model:llama") == "meta/llama-3"
        assert storage.kv("metadata") is registry
        sql = storage.sql("inference")
        assert storage.sql("conversations") is sql
        assert storage.table("inference") == "inference_store"
        file = storage.kv_backend("kv_file", "skills")
        await file.set("a", "b")
        postgres, sqlite = storage.status()
        assert postgres["backends"] == ["kv_default", "sql_default"]
        assert sqlite == {"backends": ["kv_file"], "dialect": "sqlite"}
        (name,) = set(await pod.database.server.sessions(pod.database.role))
        assert name == "stackstore:00000001:9d2e41b0c7aa"
    assert await pod.database.server.sessions(pod.database.role) == []
    assert pod.file.exists()


async def test_without_a_snapshot_the_environment_counts(pod):
    url = f"{pod.database.url}?sslmode=disable"
    environ = {"KV_DEFAULT_URL": url, "SQL_DEFAULT_URL": url, "KV_FILE_PATH": str(pod.file)}
    async with await stackstore.open(pod.config, environ=environ) as storage:
        await storage.kv("metadata").set("a", "b")
        names = await pod.database.server.sessions(pod.database.role)
        assert set(names) == {"stackstore:env:000000000000"}


async def test_the_snapshot_wins_over_the_environment(pod):
    pod.write()
    environ = {"KV_DEFAULT_URL": "postgresql://no:no@127.0.0.1:1/no", "KV_FILE_PATH": "/nowhere"}
    storage = await stackstore.open(pod.config, credentials=pod.mount, environ=environ)
    async with storage:
        await storage.kv("metadata").set("a", "b")


async def test_before_the_secret_is_mounted(pod):
    with pytest.raises(stackstore.ConfigError, match="mount the stack's Secret") as failure:
        await stackstore.open(pod.config, credentials=pod.mount)
    assert str(pod.mount) in str(failure.value)


async def test_a_snapshot_that_does_not_fit(pod):
    pod.changes["kv_default"] = SqliteBackend(type="kv_sqlite", path="/x")
    pod.write()
    with pytest.raises(
        stackstore.ConfigError, match=r"kv_postgres in .* but kv_sqlite in the snap"
    ):
        await stackstore.open(pod.config, credentials=pod.mount)


async def test_a_backend_that_neither_knows(pod):
    content = json.loads(pod.snapshot().to_bytes())
    del content["backends"]["sql_default"]
    pod.write(json.dumps(content).encode())
    with pytest.raises(stackstore.ConfigError, match="SQL_DEFAULT_URL"):
        await stackstore.open(pod.config, credentials=pod.mount, environ={})


async def test_a_broken_ca_names_the_backend(pod):
    snapshot = pod.snapshot()
    broken = snapshot.backends["sql_default"].model_copy(
        update={"tls": Tls(mode="VerifyFull", ca="none")}
    )
    pod.changes["sql_default"] = broken
    pod.write()
    with pytest.raises(stackstore.ConfigError, match=r"backend 'sql_default': tls\.ca"):
        await stackstore.open(pod.config, credentials=pod.mount)


async def test_names_that_are_none(pod):
    async with await pod.open() as storage:
        for call, said in [
            (lambda: storage.kv("nothing"), "it has conversations, inference, metadata"),
            (lambda: storage.kv("inference"), r"use storage\.sql\('inference'\)"),
            (lambda: storage.sql("metadata"), r"use storage\.kv\('metadata'\)"),
            (lambda: storage.sql_backend("kv_default"), "is kv_postgres, not sql_"),
            (lambda: storage.kv_backend("nothing", "n"), "it has kv_default, kv_file, sql_default"),
        ]:
            with pytest.raises(stackstore.InvalidArgumentError, match=said):
                call()


@pytest.mark.parametrize("order", ["secret first", "role first"])
async def test_a_rotation_under_load(pod, order):
    async with await pod.open() as storage:
        registry, failures, done, stop = storage.kv("metadata"), [], 0, False

        async def load(number):
            nonlocal done
            while not stop:
                try:
                    await registry.set(f"k{number}", str(done))
                    done += 1
                except Exception as error:
                    failures.append(error)

        tasks = [asyncio.create_task(load(number)) for number in range(16)]
        await until(lambda: done > 50)
        server, role = pod.database.server, pod.database.role
        pod.logins.insert(0, pod.login("second", "00000002"))
        steps = [pod.write, lambda: server.set_password(role, "second")]
        for step in steps if order == "secret first" else reversed(steps):
            result = step()
            if result is not None:
                await result
            await asyncio.sleep(0.6)
        await until(lambda: proven(storage) == {"00000002"})
        goal = done + 50
        await until(lambda: done > goal)
        assert set(await server.sessions(role)) == {"stackstore:00000002:9d2e41b0c7aa"}
        stop = True
        await asyncio.gather(*tasks)
        assert failures == []


async def test_a_refused_login_makes_it_look_at_once(pod, monkeypatch):
    monkeypatch.setattr(watcher, "POLL_SECONDS", 600.0)
    async with await pod.open() as storage:
        registry = storage.kv("metadata")
        await registry.set("a", "1")
        server, role = pod.database.server, pod.database.role
        pod.logins.insert(0, pod.login("second", "00000002"))
        pod.write()
        await server.set_password(role, "second")
        await server.run(
            f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{role}'"
        )
        await asyncio.sleep(0.05)
        began = time.monotonic()
        assert await registry.get("a") == "1"
        assert time.monotonic() - began < 2


async def test_a_broken_snapshot_keeps_the_last_good(pod, caplog):
    async with await pod.open() as storage:
        registry = storage.kv("metadata")
        await registry.set("a", "1")
        whole = pod.snapshot().to_bytes()
        for broken in (
            b"",
            whole[: len(whole) // 2],
            b"[]",
            whole.replace(b'"version"', b'"vers"'),
        ):
            pod.write(broken)
            await asyncio.sleep(0.3)
            assert await registry.get("a") == "1"
        assert "keeping the last good snapshot" in caplog.text
        pod.logins[0] = pod.login(pod.database.password, "00000009")
        pod.write()
        await until(lambda: proven(storage) == {"00000009"})


async def test_a_withdrawn_backend_does_not_stop_the_others(pod, caplog):
    async with await pod.open() as storage:
        await storage.kv("metadata").set("a", "1")
        content = json.loads(pod.snapshot().to_bytes())
        del content["backends"]["kv_file"]
        content["backends"]["kv_default"]["current"]["revision"] = "00000005"
        content["backends"]["sql_default"]["current"]["revision"] = "00000005"
        pod.write(json.dumps(content).encode())
        await until(lambda: proven(storage) == {"00000005"})
        assert "backend kv_file stays as it was: it is gone from the snapshot" in caplog.text


async def test_closed_while_expired_rows_are_deleted(pod):
    """What a store does by itself must not outlast it, nor keep a connection."""
    storage = await pod.open()
    await storage.kv("metadata").set("a", "1", dt.datetime(2000, 1, 1, tzinfo=dt.UTC))
    await storage.close()
    held = await pod.database.server.connect(pod.database.name)
    storage = await pod.open()
    try:
        async with held.transaction():
            await held.execute("LOCK TABLE stackstore.kv IN EXCLUSIVE MODE")
            assert await storage.kv("metadata").get("a") is None
            # It waits for the lock now.
            await until(lambda: storage.status()[0]["lent"] == 1)
            await storage.close()
            await until(lambda: asyncio.all_tasks() == {asyncio.current_task()})
            assert await pod.database.server.sessions(pod.database.role) == []
    finally:
        await held.close()


async def test_closed_while_requests_run(pod):
    storage = await pod.open()
    registry = storage.kv("metadata")
    await registry.set("a", "1")
    running = [asyncio.create_task(registry.get("a")) for _ in range(40)]
    await asyncio.sleep(0)
    await storage.close()
    for answer in await asyncio.gather(*running, return_exceptions=True):
        assert answer == "1" or isinstance(answer, stackstore.BackendUnavailableError)
    with pytest.raises(stackstore.BackendUnavailableError, match="closed"):
        await registry.get("a")
    await storage.close()

    async def nobody():
        return await pod.database.server.sessions(pod.database.role) == []

    async with asyncio.timeout(5):
        while not await nobody():
            await asyncio.sleep(0.02)
    await until(lambda: asyncio.all_tasks() == {asyncio.current_task()})


SERVER = """
import asyncio, signal, sys
import stackstore

async def main():
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with await stackstore.open(sys.argv[1], credentials=sys.argv[2]) as storage:
        registry = storage.kv("metadata")
        async def load(number):
            while not stop.is_set():
                await registry.set(f"k{number}", "x")
        tasks = [asyncio.create_task(load(number)) for number in range(8)]
        await registry.set("ready", "1")
        print("ready", flush=True)
        await stop.wait()
        await asyncio.gather(*tasks)
    print("closed", flush=True)

asyncio.run(main())
"""


async def test_sigterm_under_load_ends_in_order(pod):
    pod.write()
    command = [sys.executable, "-W", "error", "-c", SERVER, str(pod.config), str(pod.mount)]
    process = await asyncio.to_thread(
        subprocess.Popen, command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert await asyncio.to_thread(process.stdout.readline) == "ready\n"
        shown = Path(f"/proc/{process.pid}/cmdline").read_bytes()
        shown += Path(f"/proc/{process.pid}/environ").read_bytes()
        assert pod.database.password.encode() not in shown
        await asyncio.sleep(0.2)
        began = time.monotonic()
        process.send_signal(signal.SIGTERM)
        out, err = await asyncio.to_thread(process.communicate, timeout=10)
        assert (process.returncode, out, err) == (0, "closed\n", "")
        assert time.monotonic() - began < 3
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
    assert await pod.database.server.sessions(pod.database.role) == []


def chain(error: BaseException) -> str:
    """All that a careless logger could show of an exception."""
    texts, seen, open_ends = [], set(), [error]
    while open_ends:
        found = open_ends.pop()
        if found is None or id(found) in seen:
            continue
        seen.add(id(found))
        texts += [str(found), repr(found), repr(getattr(found, "args", ""))]
        texts += traceback.format_exception(found)
        # As loggers do that show the locals of each frame; the test's own hold the passwords.
        texts += [
            repr(frame.f_locals)
            for frame, _ in traceback.walk_tb(found.__traceback__)
            if "tests" not in frame.f_code.co_filename
        ]
        open_ends += [found.__cause__, found.__context__]
    return "\n".join(texts)


async def test_no_password_is_shown_anywhere(pod, caplog):
    caplog.set_level(logging.DEBUG)
    canaries = ["c4n4ry-first", "c4n4ry-second-'\"\\%s{}", "c4n4ry-third"]
    await pod.database.server.set_password(pod.database.role, canaries[0])
    pod.logins = [pod.login(canaries[0], "00000001")]
    shown = []
    pod.patience = 1
    async with await pod.open() as storage:
        registry, sql = storage.kv("metadata"), storage.sql("inference")
        await registry.set("a", "1")
        # A login that is refused, while old connections serve; then none is accepted at all.
        pod.logins.insert(0, pod.login(canaries[1], "00000002"))
        pod.write()
        await until(lambda: any(status.get("trouble") for status in storage.status()))
        await registry.get("a")
        await pod.database.server.set_password(pod.database.role, canaries[2])
        await pod.database.server.run(
            f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            f"WHERE usename = '{pod.database.role}'"
        )
        await asyncio.sleep(0.1)
        calls = (
            registry.get("a"),
            registry.set("a", "2"),
            sql.fetch_one("no_such_table", where={"a": 1}),
        )
        for call in calls:
            with pytest.raises(stackstore.StackstoreError) as failure:
                await call
            shown.append(chain(failure.value))
        # Files that are broken around the password.
        whole = pod.snapshot().to_bytes()
        for broken in (whole[:-5], whole.replace(b'"host"', b'"hots"'), b"\xff" + whole):
            pod.write(broken)
            await asyncio.sleep(0.3)
            with pytest.raises(stackstore.ConfigError) as failure:
                await stackstore.open(pod.config, credentials=pod.mount)
            shown.append(chain(failure.value))
        ours = [
            one for one in gc.get_objects() if str(type(one).__module__).startswith("stackstore")
        ]
        shown += [repr(found) for found in ours]
        shown += [str(found) for found in ours]
        shown += [
            pprint.pformat(storage.status()),
            repr(storage),
            repr(storage.config),
            caplog.text,
        ]
        shown += [repr(record.args) + repr(record.__dict__) for record in caplog.records]
        shown.append(Path(f"/proc/{os.getpid()}/cmdline").read_text())
        pod.logins.insert(0, pod.login(canaries[2], "00000003"))
        pod.write()
        await until(lambda: proven(storage) == {"00000003"})
        assert await registry.get("a") == "1"
    text = "\n".join(shown) + caplog.text
    assert len(ours) > 20
    assert "refused" in caplog.text
    found = text.find("c4n4ry")
    assert found < 0, text[max(0, found - 300) : found + 50]
