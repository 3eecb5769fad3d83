"""Of two operators one acts; the other takes over when that one is stopped, killed, cut off or paused."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import threading
import time
from collections import Counter

import pytest

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
from tests.support.proxy import Proxy

TAKEOVER_SECONDS = 20
"""What is promised for the default settings; a loaded machine gets a little more."""


@pytest.fixture
def api(control_plane, namespace):
    made = Api(control_plane, namespace)
    made.secret("pg-app", username="app", password="p-0")
    made.apply(postgres_backend(), sqlite_backend())
    yield made
    made.clear()
    made.close()


@pytest.fixture
def pair(control_plane, tmp_path):
    """The leader and its standby, with the settings that the command has by itself."""
    made = [OperatorProcess(control_plane, tmp_path, lease_seconds=15) for _ in range(2)]
    yield begin(*made)
    for one in made:
        if one.process is not None and one.process.poll() is None:
            os.kill(one.process.pid, signal.SIGCONT)
            assert one.stop() == 0, one.log()
        assert "Traceback" not in one.log()


def begin(leader: OperatorProcess, standby: OperatorProcess):
    leader.start()
    until(lambda: "leading as" in leader.log(), 30, leader.log)
    standby.start()
    until(lambda: "standing by" in standby.log(), 30, standby.log)
    return leader, standby


def stack(number: int):
    return binding(
        f"b{number:03}", f"s{number:03}",
        [kv("metadata", place=f"r{number}"), sql("inference", place=f"t{number}")], defaults=DEFAULTS,
    )  # fmt: skip


def password(api: Api, number: int = 0) -> str:
    return api.data("Secret", f"s{number:03}-storage").get("SQL_DEFAULT_PASSWORD", "")


def takes_over(api: Api, standby: OperatorProcess, value: str, seconds: float) -> float:
    """Change the login; returns how long it took until somebody rendered it."""
    began = time.monotonic()
    api.secret("pg-app", username="app", password=value)
    until(lambda: password(api) == value, seconds, standby.log)
    return time.monotonic() - began


def test_one_acts_and_hands_over_at_once_when_it_is_stopped(api, pair):
    leader, standby = pair
    api.apply(stack(0))
    api.ready("b000")
    assert list(leader.writes())
    assert list(standby.writes()) == []
    began = time.monotonic()
    assert leader.stop() == 0
    stopped = time.monotonic()
    until(lambda: "leading as" in standby.log(), 5, standby.log)
    assert time.monotonic() - stopped < 2
    assert stopped - began < 5
    takes_over(api, standby, "p-1", 5)
    with contextlib.closing(Api(api.plane, OWN_NAMESPACE)) as own:
        [lease] = own.list("Lease")
    assert lease["spec"]["leaseTransitions"] >= 1
    assert lease["spec"]["holderIdentity"].startswith(os.uname().nodename)


def test_killed_under_load_the_other_goes_on_where_it_was(api, pair):
    leader, standby = pair
    for number in range(40):
        api.apply(stack(number))
    until(lambda: len(list(leader.writes())) > 40, 30, leader.log)
    leader.kill9()
    took = takes_over(api, standby, "p-killed", TAKEOVER_SECONDS + 5)
    assert took < TAKEOVER_SECONDS
    api.ready(*(f"b{number:03}" for number in range(40)), seconds=30)
    assert {password(api, number) for number in range(40)} == {"p-killed"}


def test_paused_and_woken_it_writes_nothing_any_more(api, pair):
    leader, standby = pair
    api.apply(stack(0))
    api.ready("b000")
    before = len(list(leader.writes()))
    assert leader.process is not None
    stop = threading.Event()

    def rotate() -> None:
        # So that it has something to do in the moment in which it wakes.
        other = Api(api.plane, api.namespace)
        number = 0
        while not stop.wait(0.05):
            number += 1
            other.secret("pg-app", username="app", password=f"p-{number}")
        other.close()

    rotating = threading.Thread(target=rotate)
    rotating.start()
    try:
        until(lambda: len(list(leader.writes())) > before, 10)
        leader.process.send_signal(signal.SIGSTOP)
        paused = time.monotonic()
        before = len(list(leader.writes()))
        until(lambda: "leading as" in standby.log(), TAKEOVER_SECONDS + 5, standby.log)
        assert time.monotonic() - paused < TAKEOVER_SECONDS
        until(lambda: list(standby.writes()), 10, standby.log)
        leader.process.send_signal(signal.SIGCONT)
        until(lambda: "not leading any more" in leader.log(), 10, leader.log)
        until(lambda: leader.log().count("standing by") == 1, 10, leader.log)
        time.sleep(1)
    finally:
        stop.set()
        rotating.join()
    # What was on its way when it was paused may still arrive; after that it is silent.
    late = list(leader.writes())[before:]
    assert len(late) <= 8, Counter((e["verb"], e["objectRef"]["resource"]) for e in late)
    codes = {event["responseStatus"]["code"] for event in late}
    assert codes <= {200, 409}
    takes_over(api, standby, "p-last", 10)


async def test_cut_off_from_the_api_server_it_stops_before_the_other_begins(
    control_plane, api, tmp_path
):
    loop = asyncio.get_running_loop()
    async with Proxy(int(control_plane.url.rsplit(":", 1)[1])) as proxy:

        def scenario() -> None:
            near = OperatorProcess(
                control_plane, tmp_path, server=f"https://127.0.0.1:{proxy.port}", lease_seconds=15
            )
            leader, standby = begin(
                near, OperatorProcess(control_plane, tmp_path, lease_seconds=15)
            )
            api.apply(stack(0))
            api.ready("b000")
            loop.call_soon_threadsafe(proxy.swallow)
            began = time.monotonic()
            api.secret("pg-app", username="app", password="p-cut")
            until(lambda: "not leading any more" in leader.log(), 20, leader.log)
            stopped = time.monotonic()
            until(lambda: "leading as" in standby.log(), 20, standby.log)
            assert time.monotonic() - stopped > 1, "the two may have acted at once"
            until(lambda: password(api) == "p-cut", 5, standby.log)
            assert time.monotonic() - began < TAKEOVER_SECONDS
            loop.call_soon_threadsafe(proxy.let_through)
            until(lambda: leader.log().count("standing by") == 1, 30, leader.log)
            assert leader.stop() == 0
            assert standby.stop() == 0

        await asyncio.to_thread(scenario)
