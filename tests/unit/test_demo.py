"""The demo can say no: its counting and its claims, without its servers."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import socket
import subprocess
import sys

import pytest

from examples.demo.claims import Claims
from examples.demo.load import Load
from examples.demo.processes import Footprint
from examples.demo.rotation import Rotation, new_password
from examples.demo.sampler import Sample, Samples
from tests.support.operator import until


def test_claims_hold_only_when_there_are_some_and_all_do():
    claims = Claims()
    assert not claims.hold
    claims.add("a", True, "1")
    assert claims.hold
    claims.add("b", False, "2")
    claims.add("c", True, "3")
    assert not claims.hold
    assert claims.rows()[1:] == [("✓", "a", "1"), ("✗", "b", "2"), ("✓", "c", "3")]


def test_samples_say_when_and_how_many():
    samples = Samples([Sample(1.0, {"a": 2}), Sample(2.0, {"a": 2, "b": 3}), Sample(3.0, {"b": 4})])
    assert samples.revisions() == {"a", "b"}
    assert samples.first("b") == 2.0
    assert [samples.most(*window) for window in ((0, 1.5), (0, 9), (2.5, 9), (8, 9))] == [
        2,
        5,
        4,
        0,
    ]


def test_a_rotation_is_complete_only_when_the_old_login_is_gone_everywhere():
    def rotation(**changes) -> Rotation:
        facts = {
            "secret_first": True, "secret_at": 10.0, "role_at": 12.0, "swapped_at": 11.5, "first_at": 12.2,
            "last_at": 12.6, "connections": (3, 4, 3), "old_refused": True,
        }  # fmt: skip
        return Rotation(**{**facts, **changes})

    assert rotation().complete
    assert not rotation(first_at=None).complete
    assert not rotation(last_at=None).complete
    assert not rotation(old_refused=False).complete
    assert rotation().possible_at == 12.0
    assert rotation(swapped_at=14.0).possible_at == 14.0
    assert rotation(swapped_at=None).possible_at is None
    assert rotation().row() == (
        "Secret, then role", "+1.50 s", "+2.00 s", "+2.20 s", "+2.60 s", "3 / 4 / 3"
    )  # fmt: skip
    assert rotation(secret_first=False, role_at=8.0, last_at=None).row()[2:5:2] == (
        "-2.00 s",
        "never",
    )


def test_passwords_are_new_and_hard_to_carry():
    one, other = new_password(), new_password()
    assert one != other
    assert set("@/:#?%'\"") < set(one)


async def loaded(answer, seconds: float = 0.3, stop_at: int | None = None) -> Load:
    """A load on a server that answers `answer(number of the request, method, path, body)`.

    It is stopped before its time when that many requests have come.
    """
    numbers = iter(range(10_000))

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := await reader.readuntil(b"\r\n\r\n"):
            method, path, _ = head.decode().split(" ", 2)
            length = re.search(rb"content-length: (\d+)", head.lower())
            body = await reader.readexactly(int(length[1])) if length else b"{}"
            number = next(numbers)
            if number == stop_at:
                made.stop()
            status, shown = answer(number, method, path, json.loads(body))
            text = json.dumps(shown).encode()
            writer.write(
                b"HTTP/1.1 %d x\r\ncontent-length: %d\r\n\r\n" % (status, len(text)) + text
            )

    connections: list[asyncio.Task[None]] = []

    async def until_closed(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(asyncio.current_task())
        with contextlib.suppress(asyncio.IncompleteReadError):
            await serve(reader, writer)
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_server(until_closed, "127.0.0.1") as server:
        port = server.sockets[0].getsockname()[1]
        made = Load(f"http://127.0.0.1:{port}", 2, seconds)
        await made.run()
        await asyncio.gather(*connections)
    return made


def completion(number: int, text: str) -> dict:
    return {"id": f"c{number}", "choices": [{"message": {"content": text}}]}


class Honest:
    """A server that keeps what it is told."""

    def __init__(self) -> None:
        self.kept: dict[str, dict] = {}

    def __call__(self, number: int, method: str, path: str, body: dict) -> tuple[int, dict]:
        if method == "GET":
            return 200, self.kept[path.rpartition("/")[2]]
        made = completion(number, body["messages"][0]["content"])
        self.kept[made["id"]] = made
        return 200, made


async def test_a_load_counts_what_it_asked_and_what_was_acknowledged():
    server = Honest()
    report = (await loaded(server)).report
    assert report.failures == 0
    # Each of the two clients has had a turn, however slow the machine is.
    assert report.requests == 2 * len(report.acknowledged) >= 4
    assert set(report.acknowledged) == set(server.kept)
    assert 0 < report.median <= report.slowest <= report.seconds
    assert report.seconds >= 0.3


async def test_a_load_goes_on_until_it_is_stopped():
    report = (await loaded(Honest(), seconds=120, stop_at=20)).report
    assert report.failures == 0
    assert 20 < report.requests == 2 * len(report.acknowledged) <= 24
    assert report.seconds < 60


@pytest.mark.parametrize(
    ("spoil", "words", "acknowledged"),
    [
        (
            lambda method, made: (503, {"error": "x"}) if method == "POST" else (200, made),
            "503",
            False,
        ),
        (
            lambda method, made: (200, completion(1, "other") if method == "POST" else made),
            "not what was said",
            False,
        ),
        (lambda method, made: (404, {}) if method == "GET" else (200, made), "404", True),
        (lambda method, made: (200, {} if method == "GET" else made), "not what was written", True),
    ],
)
async def test_a_load_takes_nothing_but_the_right_answer(spoil, words, acknowledged):
    server = Honest()

    def answer(number, method, path, body):
        return spoil(method, server(number, method, path, body)[1])

    report = (await loaded(answer)).report
    assert report.failures > 0
    assert words in report.first_failures[0]
    assert bool(report.acknowledged) is acknowledged


async def test_a_load_without_a_server_fails_and_does_not_end_early():
    load = Load("http://127.0.0.1:1", 2, 0.2)
    report = await load.run()
    assert report.failures == report.requests >= 2
    assert report.seconds >= 0.2
    assert "ConnectError" in report.first_failures[0]


def test_a_footprint_names_what_is_left_and_then_nothing():
    script = (
        "import socket, subprocess, sys\n"
        "s = socket.create_server(('127.0.0.1', 0)); print(s.getsockname()[1], flush=True)\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import sys; sys.stdin.read()'],"
        " stdin=subprocess.PIPE)\n"
        "print(child.pid, flush=True)\n"
        "sys.stdin.read()\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None and process.stdin is not None
    port, grandchild = int(process.stdout.readline()), int(process.stdout.readline())
    footprint = Footprint.of_descendants()
    left = footprint.left()
    assert {f"process {process.pid}", f"process {grandchild}", f"port {port}"} <= set(left)
    process.stdin.close()
    process.stdout.close()
    process.wait()
    until(lambda: f"process {grandchild}" not in footprint.left(), 5)
    assert not {f"process {process.pid}", f"port {port}"} & set(footprint.left())
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", port))
