"""When databases are visited, by an event loop whose clock the test turns."""

from __future__ import annotations

import asyncio
import functools
import itertools
import time
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from stackstore.credentials.snapshot import Login, PostgresBackend
from stackstore_operator.api.conditions import Reason
from stackstore_operator.probe.finding import Finding, Outcome
from stackstore_operator.probe.prober import Key, Prober, Subject

KEY = ("chat", "sql-default")
GOOD = Outcome("True", Reason.CONNECTED, "")
REFUSED = Outcome("False", Reason.LOGIN_REFUSED, "")
SILENT = Outcome("Unknown", Reason.DATABASE_SILENT, "")


class Loop(asyncio.SelectorEventLoop):
    """Where nothing is ready, the next timer is due at once."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def time(self) -> float:
        return self.now

    def _run_once(self) -> None:
        if not self._ready and self._scheduled:  # type: ignore[attr-defined]
            self.now = max(self.now, self._scheduled[0].when())  # type: ignore[attr-defined]
        super()._run_once()  # type: ignore[misc]


def turned(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run a test in such a loop."""

    @functools.wraps(test)
    def run(*args: Any, **named: Any) -> None:
        with asyncio.Runner(loop_factory=Loop) as runner:
            runner.run(test(*args, **named))

    return run


def subject(
    revision: str = "00000001", *, period: float = 300, host: str = "h", stacks: str = ""
) -> Subject:
    login = Login(revision=revision, host=host, port=5432, database="d", username="u", password="p")
    backend = PostgresBackend(type="sql_postgres", current=login)
    return Subject(backend, period, frozenset(stacks.split()))


class Databases:
    """What visits find: by host an outcome, or how long it hangs."""

    def __init__(self) -> None:
        self.outcomes: dict[str, Outcome] = {}
        self.seconds: dict[str, float] = {}
        self.times: list[float] = []
        self.hosts: list[str] = []
        self.found: list[tuple[Key, str, str]] = []
        self.ended: list[str] = []
        self.under_way = self.most = 0
        self.prober = Prober(call=self.visit)
        self.prober.found = self.note

    async def visit(self, backend: PostgresBackend) -> Finding:
        host = backend.current.host
        self.times.append(asyncio.get_running_loop().time())
        self.hosts.append(host)
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        try:
            await asyncio.sleep(self.seconds.get(host, 0))
        finally:
            self.under_way -= 1
            self.ended.append(backend.current.revision)
        return Finding(backend.current.revision, self.outcomes.get(host, GOOD))

    def note(self, key: Key, before: Finding | None, found: Finding) -> None:
        self.found.append((key, before.revision if before else "", found.revision))

    async def run(self, seconds: float, also: Callable[[], None] = lambda: None) -> None:
        self.times.clear()
        also()
        await asyncio.sleep(seconds)

    def pauses(self) -> list[float]:
        return [b - a for a, b in itertools.pairwise(self.times)]


@turned
async def test_once_a_period_and_never_all_together() -> None:
    world = Databases()
    for number in range(40):
        world.prober.follow(("n", str(number)), subject(host=str(number)))
    await world.run(400)
    assert len(world.times) == 80
    assert world.times[:40] == [0.0] * 40
    # They began together; the second time they come over a tenth of the period.
    assert 270 <= world.times[40] < 280
    assert 290 < world.times[-1] <= 300
    await world.prober.close()


@turned
async def test_after_a_restart_the_first_visits_are_spread_over_the_period() -> None:
    world = Databases()
    for number in range(60):
        world.prober.follow(("n", str(number)), subject(host=str(number)), first_within=300)
    await world.run(300)
    first = sorted(world.times)[:60]
    assert first[5] > 1
    assert first[30] > 75
    assert max(b - a for a, b in itertools.pairwise(first)) < 60
    await world.prober.close()


@pytest.mark.parametrize("outcome", [REFUSED, SILENT])
@turned
async def test_failures_are_tried_again_at_growing_pauses(outcome: Outcome) -> None:
    world = Databases()
    world.outcomes["h"] = outcome
    world.prober.follow(KEY, subject())
    await world.run(100)
    for pause, bound in zip(world.pauses(), (1, 2, 4, 8, 16, 30), strict=False):
        assert bound * 0.9 <= pause <= bound
    world.outcomes["h"] = GOOD
    await world.run(100)
    assert len(world.times) == 1
    world.outcomes["h"] = outcome
    await world.run(290)
    assert 0.9 <= world.pauses()[0] <= 1
    await world.prober.close()


@turned
async def test_an_oddity_of_the_driver_ends_nothing(caplog: pytest.LogCaptureFixture) -> None:
    calls = 0

    async def odd(backend: PostgresBackend) -> Finding:
        nonlocal calls
        calls += 1
        if calls < 3:
            raise RuntimeError("canary")
        return Finding(backend.current.revision, GOOD)

    prober = Prober(call=odd)
    prober.follow(KEY, subject())
    await asyncio.sleep(4)
    assert prober.finding(KEY) is not None
    assert "RuntimeError" in caplog.text
    assert "canary" not in caplog.text
    await prober.close()


@turned
async def test_while_a_login_is_taken_up_it_looks_more_often() -> None:
    world = Databases()
    world.prober.follow(KEY, subject())
    await world.run(1)
    await world.run(60, lambda: world.prober.follow(KEY, subject(), restless=True))
    for pause, bound in zip(world.pauses(), (2, 4, 8, 16), strict=False):
        assert bound * 0.9 <= pause <= bound
    await world.run(200, lambda: world.prober.follow(KEY, subject()))
    assert len(world.times) <= 1
    await world.prober.close()


@turned
async def test_a_stack_that_comes_is_looked_for_soon() -> None:
    world = Databases()
    world.prober.follow(KEY, subject(stacks="a"))
    await world.run(20)
    await world.run(11, lambda: world.prober.follow(KEY, subject(stacks="a b")))
    assert len(world.times) == 1
    await world.run(100, lambda: world.prober.follow(KEY, subject(stacks="b")))
    assert not world.times
    await world.prober.close()


@turned
async def test_another_login_is_tried_at_once_and_the_last_ones_result_is_nobodys() -> None:
    """It changes twice while a visit hangs."""
    world = Databases()
    world.seconds["h"] = 9
    world.prober.follow(KEY, subject("00000001"))
    await asyncio.sleep(1)
    world.prober.follow(KEY, subject("00000002"))
    await asyncio.sleep(1)
    world.seconds["h"] = 0
    world.prober.follow(KEY, subject("00000003"))
    await asyncio.sleep(0.1)
    finding = world.prober.finding(KEY)
    assert finding is not None
    assert finding.revision == "00000003"
    await asyncio.sleep(30)
    assert world.found == [(KEY, "", "00000003")]
    assert world.ended == ["00000001", "00000002", "00000003"]
    await world.prober.close()


@turned
async def test_nothing_is_known_of_a_login_that_was_not_tried() -> None:
    world = Databases()
    world.prober.follow(KEY, subject("00000001"))
    await asyncio.sleep(1)
    world.seconds["h"] = 9
    world.prober.follow(KEY, subject("00000002"))
    assert world.prober.finding(KEY) is None
    await world.prober.close()


@turned
async def test_a_changed_pool_size_is_no_other_login() -> None:
    world = Databases()
    world.prober.follow(KEY, subject())
    await asyncio.sleep(1)
    small = subject().backend.model_copy(update={"statement_timeout_seconds": 5})
    world.prober.follow(KEY, Subject(small, 300))
    await asyncio.sleep(100)
    assert len(world.times) == 1
    await world.prober.close()


@turned
async def test_who_is_forgotten_is_visited_no_more() -> None:
    world = Databases()
    world.seconds["h"] = 9
    world.prober.follow(KEY, subject())
    await asyncio.sleep(1)
    world.prober.forget(KEY)
    world.prober.forget(KEY)
    await asyncio.sleep(1000)
    assert (len(world.times), world.found, world.under_way) == (1, [], 0)
    assert world.prober.finding(KEY) is None
    await world.prober.close()


@turned
async def test_those_that_hang_never_take_all_places() -> None:
    """Two hundred black holes: the first round takes its time, then whoever answers is never late."""
    world = Databases()
    for number in range(200):
        host = f"hole-{number}"
        world.seconds[host], world.outcomes[host] = 10, SILENT
        world.prober.follow(("n", host), subject(host=host))
    await asyncio.sleep(40)
    assert world.most == 64
    world.most = 0
    for number in range(30):
        world.prober.follow(("n", f"good-{number}"), subject(host=f"good-{number}"))
        began = asyncio.get_running_loop().time()
        while world.prober.finding(("n", f"good-{number}")) is None:
            await asyncio.sleep(0.01)
        assert asyncio.get_running_loop().time() - began < 0.1
        await asyncio.sleep(1)
    assert world.most <= 33
    await world.prober.close()


@turned
async def test_what_hung_before_a_restart_is_known_to_hang() -> None:
    world = Databases()
    for number in range(200):
        host = f"hole-{number}"
        world.seconds[host], world.outcomes[host] = 10, SILENT
        world.prober.follow(("n", host), subject(host=host), hangs=True)
    await asyncio.sleep(1)
    world.prober.follow(KEY, subject())
    await asyncio.sleep(0.1)
    assert world.prober.finding(KEY) is not None
    await world.prober.close()


@turned
async def test_the_clock_of_the_wall_is_nobodys(monkeypatch: pytest.MonkeyPatch) -> None:
    world = Databases()
    world.prober.follow(KEY, subject())
    await asyncio.sleep(1)
    for jump in (-1e6, 1e6):
        monkeypatch.setattr(time, "time", lambda jump=jump: 1.8e9 + jump)
        await world.run(200)
        assert not world.times
        await world.run(110)
        assert len(world.times) == 1
    await world.prober.close()


@turned
async def test_after_the_end_nothing_runs_on() -> None:
    world = Databases()
    world.seconds["h"] = 9
    for number in range(9):
        world.prober.follow(("n", str(number)), subject())
    await asyncio.sleep(1)
    await world.prober.close()
    assert world.under_way == 0
    assert len(asyncio.all_tasks()) == 1
