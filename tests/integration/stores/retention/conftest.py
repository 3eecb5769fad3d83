"""Stores whose rows grow old, on both engines, and retentions that end with the test."""

from __future__ import annotations

import contextlib

import pytest

from stackstore.stores.retention import leases
from stackstore.stores.retention import retention as module
from tests.integration.stores.retention.worker import Kept


@pytest.fixture
def kept(place) -> Kept:
    return Kept(place.store())


@pytest.fixture
def quick(monkeypatch):
    """Sweeps come soon, and turns last as long as a test says."""
    for name in ("FIRST_SECONDS", "SHORTEST_PERIOD_SECONDS", "LONGEST_PERIOD_SECONDS"):
        monkeypatch.setattr(module, name, 0.05)
    monkeypatch.setattr(module, "SPREAD_SECONDS", 0.0)

    def last(seconds: float) -> None:
        monkeypatch.setattr(leases, "LEASE_MICROSECONDS", int(seconds * 1_000_000))

    return last


@pytest.fixture
async def sweeping():
    """Begin retentions: `sweeping(kept, **options)`."""
    begun = []

    def begin(kept, seconds=..., **options):
        retention = kept.retention(**({} if seconds is ... else {"seconds": seconds}), **options)
        retention.begin()
        begun.append(retention)
        return retention

    yield begin
    for retention in begun:
        with contextlib.suppress(Exception):
            await retention.close()
