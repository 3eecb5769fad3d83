"""How long is waited between two visits."""

from __future__ import annotations

import pytest

from stackstore_operator.probe.pace import pause


def test_after_failures_it_waits_longer_up_to_half_a_minute() -> None:
    assert [pause(300, n, None) for n in range(1, 8)] == [1, 2, 4, 8, 16, 30, 30]
    assert pause(300, 10_000, None) == 30


def test_while_processes_take_a_login_up_it_looks_soon_and_then_once_a_period() -> None:
    assert [pause(300, 0, n) for n in range(7)] == [2, 2, 4, 8, 16, 30, 30]
    assert pause(300, 0, 23) == 30
    assert pause(300, 0, 24) == 300
    assert pause(300, 0, 10_000) == 300


@pytest.mark.parametrize("restless", [None, 9])
def test_never_less_often_than_once_a_period(restless: int | None) -> None:
    assert pause(10, 0, restless) == 10
