"""The example's stack server: a real process on a mounted directory, SQLite and Postgres."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.conftest import Database
from tests.support.kubelet import VolumeDirectory
from tests.support.operator import until
from tests.support.postgres import PostgresServer, die_with_parent, free_port
from tests.support.quickstart import render

ROOT = Path(__file__).resolve().parents[2]
PATH = "/v1/chat/completions"
CANARY = "p@ss/w:rd#1?%-canary"


class Stack:
    """One server on `directory`, as the kubelet would have mounted it."""

    def __init__(self, directory: Path, login: dict[str, str]) -> None:
        self.directory = directory
        self.login = login
        self.config = VolumeDirectory(directory / "config")
        self.storage = VolumeDirectory(directory / "storage")
        self.port = free_port()
        # Short, so that a test needn't wait half a minute to be told that nobody answers.
        self.acquire_timeout_seconds = 3
        self.log = directory / "log"
        self.client = httpx.Client(
            base_url=f"http://127.0.0.1:{self.port}", timeout=30, trust_env=False
        )
        self._process: subprocess.Popen[bytes] | None = None

    def mount(self, **changes: str) -> None:
        """Lay out what the operator renders for the quickstart with this login."""
        self.login |= changes
        plan = render(secret=self.login, sqlite=self.directory / "kv" / "kv.db")
        assert plan.config is not None and plan.secret is not None
        files = dict(plan.secret)
        snapshot = json.loads(files["stackstore.json"])
        pool = snapshot["backends"]["sql_default"]["pool"]
        pool["acquireTimeoutSeconds"] = self.acquire_timeout_seconds
        files["stackstore.json"] = json.dumps(snapshot).encode()
        self.config.write({"config.yaml": plan.config.encode()})
        self.storage.write(files)

    def spawn(self) -> subprocess.Popen[bytes]:
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "examples.stack", "--root", self.directory, "--port", str(self.port)],
                stdout=log, stderr=log, cwd=ROOT, preexec_fn=die_with_parent,
            )  # fmt: skip
        return self._process

    def start(self) -> None:
        self.spawn()
        until(lambda: self.alive() or self.process.poll() is not None, 20, "the stack's start")
        assert self.process.poll() is None, self.log.read_text()

    @property
    def process(self) -> subprocess.Popen[bytes]:
        assert self._process is not None
        return self._process

    def alive(self) -> bool:
        try:
            return self.client.get("/healthz").status_code == 200
        except httpx.TransportError:
            return False

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(20)

    def say(self, text: str, **fields: object) -> httpx.Response:
        body = {"model": "echo", "messages": [{"role": "user", "content": text}], **fields}
        return self.client.post(PATH, json=body)

    def close(self) -> None:
        self.client.close()
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()


@pytest.fixture
def stack(tmp_path: Path, database: Database) -> Iterator[Stack]:
    server = database.server
    made = Stack(
        tmp_path,
        {
            "username": database.role,
            "password": database.password,
            "host": server.host,
            "port": str(server.port),
            "database": database.name,
        },
    )
    made.mount()
    made.start()
    yield made
    made.close()


def error(answer: httpx.Response, status: int) -> dict[str, object]:
    """The error of an answer, which must have OpenAI's shape."""
    assert answer.status_code == status, answer.text
    assert set(answer.json()) == {"error"}
    found: dict[str, object] = answer.json()["error"]
    assert set(found) == {"message", "type", "param", "code"}
    assert found["type"] == ("server_error" if status >= 500 else "invalid_request_error")
    return found


def test_a_completion_is_answered_kept_read_back_and_listed(stack, database):
    made = stack.say("say this again").raise_for_status().json()
    assert made["object"] == "chat.completion"
    assert made["model"] == "echo"
    assert made["choices"] == [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "say this again"},
            "finish_reason": "stop",
        }
    ]
    assert made["usage"] == {"prompt_tokens": 3, "completion_tokens": 3, "total_tokens": 6}
    assert abs(made["created"] - time.time()) < 30
    assert stack.client.get(f"{PATH}/{made['id']}").raise_for_status().json() == made
    listed = stack.client.get(PATH).raise_for_status().json()
    assert listed == {
        "object": "list",
        "data": [made],
        "first_id": made["id"],
        "last_id": made["id"],
        "has_more": False,
    }
    rows = database.server.execute(
        "SELECT id, model FROM stackstore.inference_store", database.name
    )
    assert [tuple(row) for row in rows] == [(made["id"], "echo")]


def test_what_is_kept_is_there_after_a_restart(stack):
    made = stack.say("remember").json()
    assert stack.stop() == 0
    stack.start()
    assert stack.client.get(f"{PATH}/{made['id']}").json() == made


def test_a_completion_needs_both_of_its_stores(stack, database):
    made = stack.say("twice").json()
    with contextlib.closing(sqlite3.connect(stack.directory / "kv" / "kv.db")) as connection:
        assert connection.execute("DELETE FROM stackstore_kv").rowcount == 1
        connection.commit()
    error(stack.client.get(f"{PATH}/{made['id']}"), 404)
    other = stack.say("again").json()
    database.server.execute("DELETE FROM stackstore.inference_store", database.name)
    error(stack.client.get(f"{PATH}/{other['id']}"), 404)


@pytest.mark.parametrize("text", ["", "ü🙂\u2028", "a\0b", "x" * 100_000, '"}{%s;--'])
def test_any_text_comes_back_as_it_was(stack, text):
    made = stack.say(text).raise_for_status().json()
    assert made["choices"][0]["message"]["content"] == text
    assert stack.client.get(f"{PATH}/{made['id']}").json() == made


def test_parts_and_roles_are_understood(stack):
    messages = [
        {"role": "system", "content": "be brief"},
        {
            "role": "user",
            "content": [{"type": "text", "text": "one "}, {"type": "text", "text": "two"}],
        },
        {"role": "assistant", "content": "no"},
    ]
    made = stack.client.post(
        PATH, json={"model": "m", "messages": messages, "temperature": 1}
    ).json()
    assert made["choices"][0]["message"]["content"] == "one two"


def test_a_stream_says_the_same_and_is_kept(stack):
    answer = stack.say("one  two three\n", stream=True)
    assert answer.headers["content-type"].startswith("text/event-stream")
    *events, last, empty = answer.text.split("\n\n")
    assert (last, empty) == ("data: [DONE]", "")
    chunks = [json.loads(event.removeprefix("data: ")) for event in events]
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
    deltas = [chunk["choices"][0]["delta"].get("content", "") for chunk in chunks]
    assert "".join(deltas) == "one  two three\n"
    assert len(deltas) == 5
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks] == [None] * 4 + ["stop"]
    kept = stack.client.get(f"{PATH}/{chunks[0]['id']}").raise_for_status().json()
    assert kept["choices"][0]["message"]["content"] == "one  two three\n"


def test_pages_hold_every_completion_once_newest_first(stack):
    ids = [stack.say(str(number)).json()["id"] for number in range(7)]
    seen, after = [], {}
    for size in (3, 3, 1):
        page = stack.client.get(PATH, params={"limit": 3, **after}).raise_for_status().json()
        assert len(page["data"]) == size
        assert page["has_more"] is (len(seen) + size < 7)
        seen += [completion["id"] for completion in page["data"]]
        assert page["last_id"] == seen[-1]
        after = {"after": seen[-1]}
    assert seen == ids[::-1]
    end = stack.client.get(PATH, params=after).json()
    assert (end["data"], end["first_id"], end["last_id"], end["has_more"]) == (
        [],
        None,
        None,
        False,
    )


def test_bad_requests_are_told_what_is_wrong_and_where(stack):
    good = {"model": "m", "messages": [{"role": "user", "content": "x"}]}
    table = [
        (b"{", None, "not JSON"),
        (b"\xff", None, "not JSON"),
        (b"[]", None, "body"),
        ({}, "model", "model: Field required; messages: Field required"),
        ({**good, "model": ""}, "model", "model: "),
        ({**good, "model": "a\0"}, "model", "model: "),
        ({**good, "model": "m" * 257}, "model", "model: "),
        ({**good, "messages": []}, "messages", "messages: "),
        ({**good, "messages": [{"role": "who", "content": "x"}]}, "messages.0.role", "'user'"),
        ({**good, "messages": [{"role": "user"}]}, "messages.0.content", "required"),
        ({**good, "n": 2}, "n", "n: "),
        ({**good, "stream": "yes"}, "stream", "stream: "),
    ]
    for body, param, words in table:
        content = body if isinstance(body, bytes) else json.dumps(body)
        found = error(stack.client.post(PATH, content=content), 400)
        assert found["param"] == param, body
        assert words in str(found["message"]), body
    for limit in ("0", "101", "-1", "x", "1.5", "", "\uff11", "9" * 5000):
        found = error(stack.client.get(PATH, params={"limit": limit}), 400)
        assert found["param"] == "limit", limit
        assert "1 to 100" in str(found["message"])
    assert (
        error(stack.client.post(PATH, content=b"x" * (1024 * 1024 + 1)), 413)["code"]
        == "body_too_large"
    )
    for completion_id in ("chatcmpl-" + "0" * 32, "nobody", "x" * 4000, "%00", "%FF"):
        assert error(stack.client.get(f"{PATH}/{completion_id}"), 404)["code"] == "not_found"
        assert error(stack.client.get(f"{PATH}?after={completion_id}"), 404)["param"] == "after"
    error(stack.client.get("/nowhere"), 404)
    error(stack.client.delete(PATH), 405)
    assert stack.say("still here").status_code == 200
    assert "Traceback" not in stack.log.read_text()


def test_requests_under_way_are_finished_when_it_is_told_to_end(stack, database):
    stack.say("so that there is a table")

    async def play() -> tuple[httpx.Response, int]:
        holder = await database.server.connect(database.name)
        await holder.execute(
            "BEGIN; LOCK TABLE stackstore.inference_store IN ACCESS EXCLUSIVE MODE"
        )
        request = asyncio.create_task(asyncio.to_thread(stack.say, "in flight"))
        waiting = (
            "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = $1"
        )
        while not await holder.fetchval(waiting, database.name):
            await asyncio.sleep(0.02)
        stack.process.send_signal(signal.SIGTERM)
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", stack.port)
            except ConnectionRefusedError:
                break
            writer.close()
            await asyncio.sleep(0.02)
        assert not request.done()
        assert stack.process.poll() is None
        await holder.execute("ROLLBACK")
        await holder.close()
        answer = await request
        return answer, await asyncio.to_thread(stack.process.wait, 20)

    answer, code = asyncio.run(play())
    assert answer.status_code == 200
    assert code == 0
    rows = database.server.execute("SELECT id FROM stackstore.inference_store", database.name)
    assert answer.json()["id"] in {row["id"] for row in rows}


def test_a_rotation_is_followed_and_shown(stack, database):
    stack.say("before")

    def proven() -> set[object]:
        pools = stack.client.get("/status").raise_for_status().json()["pools"]
        return {pool["proven"] for pool in pools if pool["dialect"] == "postgresql"}

    before = proven()
    stack.mount(password=CANARY)
    database.server.execute(f"ALTER ROLE \"{database.role}\" PASSWORD '{CANARY}'")
    until(lambda: proven() != before, 10)
    assert stack.say("after").status_code == 200
    shown = stack.client.get("/status").text
    assert database.password not in shown + stack.log.read_text()
    assert CANARY not in shown + stack.log.read_text()


def test_without_its_database_it_says_so_and_heals(tmp_path):
    server = PostgresServer.start()
    login = {"username": "app", "password": CANARY, "host": server.host, "port": str(server.port)}
    stack = Stack(tmp_path, {**login, "database": "stack"})
    try:
        asyncio.run(server.create_role("app", CANARY))
        asyncio.run(server.create_database("stack", "app"))
        server.stop(keep=True)
        stack.acquire_timeout_seconds = 4
        stack.mount()
        # It starts without one: a pod that ends itself would not bring the database back.
        stack.start()
        with ThreadPoolExecutor() as threads:
            asked = [
                threads.submit(stack.client.get, "/readyz"),
                threads.submit(stack.client.get, PATH),
                threads.submit(stack.say, "x"),
            ]
        # It does not wait as long as a request may: a probe has little time.
        probe, *requests = (one.result().elapsed.total_seconds() for one in asked)
        assert probe < min(requests)
        for answer in (one.result() for one in asked):
            assert error(answer, 503)["code"] == "storage_unavailable"
            assert answer.headers["retry-after"] == "1"
            assert CANARY not in answer.text
        assert stack.alive()
        server.start_again()
        until(lambda: stack.client.get("/readyz").status_code == 200, 15)
        made = stack.say("y").raise_for_status().json()
        server.stop(keep=True)
        error(stack.client.get(f"{PATH}/{made['id']}"), 503)
        server.start_again()
        until(lambda: stack.client.get("/readyz").status_code == 200, 15)
        assert stack.client.get(f"{PATH}/{made['id']}").json() == made
        assert "Traceback" not in stack.log.read_text()
        assert CANARY not in stack.log.read_text()
    finally:
        stack.close()
        server.stop()


def test_without_its_file_it_says_so_and_heals(tmp_path, database):
    server = database.server
    login = {"username": database.role, "password": database.password, "database": database.name}
    stack = Stack(tmp_path, {**login, "host": server.host, "port": str(server.port)})
    stack.mount()
    (tmp_path / "kv").write_text("in the way of the file's directory")
    try:
        stack.start()
        error(stack.client.get("/readyz"), 503)
        error(stack.say("x"), 503)
        # Not registered, so not there, whatever the other store has.
        rows = server.execute("SELECT id FROM stackstore.inference_store", database.name)
        (tmp_path / "kv").unlink()
        until(lambda: stack.client.get("/readyz").status_code == 200, 10)
        error(stack.client.get(f"{PATH}/{rows[0]['id']}"), 404)
        assert stack.say("y").status_code == 200
    finally:
        stack.close()


def test_it_knows_the_runtime_and_its_http_library_alone():
    script = (
        "import sys, examples.stack.__main__\n"
        "known = {name.partition('.')[0] for name in sys.modules}\n"
        "print(sorted(known & {'stackstore_operator', 'kopf', 'kubernetes', 'httpx', 'tests', 'hack'}))"
    )
    shown = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, check=True
    )
    assert shown.stdout == "[]\n"


def test_a_directory_it_cannot_use_ends_it_with_the_reason(tmp_path):
    stack = Stack(tmp_path, {})
    assert stack.spawn().wait(20) == 1
    assert "storage/stackstore.json" in stack.log.read_text()
    stack.log.unlink()
    stack.mount()
    stack.config.write({"config.yaml": b"distro_name: x\nproviders: {}\nstorage: {backends: 3}\n"})
    assert stack.spawn().wait(20) == 1
    assert "storage.backends" in stack.log.read_text()
    assert "Traceback" not in stack.log.read_text()
    stack.close()


BEFORE_IT_SERVES = """
import os, signal, sys
import stackstore, uvicorn
from examples.stack.__main__ import main

where, real = {
    "while it opens": (stackstore, stackstore.open),
    "before uvicorn takes signals": (uvicorn.Server, uvicorn.Server.serve),
}[sys.argv.pop(1)]

async def late(*arguments, **named):
    os.kill(os.getpid(), signal.SIGTERM)
    return await real(*arguments, **named)

setattr(where, real.__name__, late)
sys.exit(main())
"""


@pytest.mark.parametrize("moment", ["while it opens", "before uvicorn takes signals"])
def test_told_to_end_before_it_serves_it_ends(stack, moment):
    ended = subprocess.run(
        [sys.executable, "-c", BEFORE_IT_SERVES, moment, "--root", stack.directory, "--port", str(free_port())],
        cwd=ROOT, capture_output=True, text=True, timeout=20, check=False,
    )  # fmt: skip
    assert (ended.returncode, ended.stdout) == (0, "")
    assert "Traceback" not in ended.stderr
