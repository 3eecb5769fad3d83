"""Alive and ready: each sign, by a clock that the test sets."""

from __future__ import annotations

import pytest

from stackstore_operator.telemetry.health import Health, Limits

LIMITS = Limits(stall=60, silence=100, outage=15, deaf=3)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def health(clock) -> Health:
    return Health(LIMITS, clock)


def begin(health: Health) -> None:
    health.begun("the first list")
    health.answered(True)


async def pulse(health: Health) -> None:
    """One beat."""
    beating = health.beat()
    beating.send(None)
    beating.close()


def test_before_the_first_watch_it_is_alive_and_not_ready(health):
    health.expect("kopf")
    assert health.ails() == []
    assert health.lacks() == ["kopf is not there yet", "the first list is not there yet"]
    health.begun("the first list")
    assert health.lacks() == ["kopf is not there yet"]
    health.begun("kopf")
    assert health.lacks() == []
    assert Health().lacks(), "without anything else the first list is waited for"


def test_a_stalled_loop_is_dead_even_when_the_api_server_is_away(health, clock):
    begin(health)
    clock.now += 59
    assert health.ails() == []
    clock.now += 2
    assert health.ails() == ["the event loop has stood still for 61 s"]
    assert health.lacks() == health.ails()


async def test_a_loop_that_goes_on_is_alive(health, clock):
    begin(health)
    clock.now += 90
    await pulse(health)
    assert health.ails() == []


async def test_an_outage_costs_readiness_only_however_long(health, clock):
    begin(health)
    health.heard("Secret")
    health.answered(False)
    assert health.lacks() == [], "one bad answer is none yet"
    clock.now += 16
    health.answered(False)
    await pulse(health)
    assert health.lacks() == ["the API server does not answer"]
    assert health.ails() == []
    clock.now += 100_000
    health.answered(False)
    await pulse(health)
    assert health.ails() == []
    health.answered(True)
    health.heard("Secret")
    assert health.lacks() == []


async def test_a_silent_watch_is_dead_while_the_api_server_answers(health, clock):
    begin(health)
    health.heard("Secret", "a")
    health.heard("Secret", "b")
    health.heard("ConfigMap", "a")
    clock.now += 99
    health.heard("Secret", "a")
    clock.now += 2
    health.heard("ConfigMap", "a")
    health.answered(True)
    await pulse(health)
    assert health.ages() == {"Secret": 101, "ConfigMap": 0}
    assert health.ails() == ["the watch of Secret has been silent for 101 s"]
    health.heard("Secret", "b")
    assert health.ails() == []


def test_a_watch_that_misses_again_and_again_is_dead_unless_it_tells_something(health):
    begin(health)
    for _ in range(2):
        health.missed("StoreBinding")
    assert health.ails() == []
    health.told("StoreBinding")
    for _ in range(3):
        assert health.ails() == []
        health.missed("StoreBinding")
    assert health.ails() == ["the watch of StoreBinding misses what lists show"]
    health.missed("StorageBackend")
    health.told("StorageBackend")
    assert len(health.ails()) == 1
