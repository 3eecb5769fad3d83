"""When a lease is free, by what one process has seen of it."""

from __future__ import annotations

import pytest

from stackstore_operator.kube.lease import Observed, Timing

WAIT = 15.0


def lease(holder="a", renewed="2026-01-01T00:00:00.000000Z", seconds=15, transitions=0, uid="u"):
    return {
        "metadata": {"uid": uid},
        "spec": {
            "holderIdentity": holder,
            "renewTime": renewed,
            "leaseDurationSeconds": seconds,
            "leaseTransitions": transitions,
        },
    }


def test_a_holder_is_waited_for_from_when_it_was_first_seen():
    observed = Observed()
    observed.see(lease(), 100.0)
    observed.see(lease(), 114.0)
    assert not observed.is_free(lease(), 114.9, WAIT)
    assert observed.is_free(lease(), 115.0, WAIT)


@pytest.mark.parametrize(
    "changed",
    [lease(renewed="2020-01-01T00:00:00.000000Z"), lease(holder="b"), lease(uid="v"), lease(transitions=1)],
    ids=["renewed, by a clock that runs behind", "another holder", "made anew", "another term"],
)  # fmt: skip
def test_any_change_is_a_sign_of_life(changed):
    observed = Observed()
    observed.see(lease(), 100.0)
    observed.see(changed, 110.0)
    assert not observed.is_free(changed, 120.0, WAIT)
    assert observed.is_free(changed, 125.0, WAIT)


@pytest.mark.parametrize("spec", [{}, {"holderIdentity": ""}, {"holderIdentity": None}, None])
def test_what_nobody_holds_is_free_at_once(spec):
    observed = Observed()
    nobody = {"metadata": {"uid": "u"}, "spec": spec}
    observed.see(nobody, 100.0)
    assert observed.is_free(nobody, 100.0, WAIT)


@pytest.mark.parametrize(("says", "waits"), [(60, 60.0), (1, 15.0), (None, 15.0)])
def test_the_longer_of_what_the_holder_says_and_we_wait(says, waits):
    observed = Observed()
    held = lease(seconds=says)
    observed.see(held, 0.0)
    assert not observed.is_free(held, waits - 0.1, WAIT)
    assert observed.is_free(held, waits, WAIT)


@pytest.mark.parametrize("seconds", [1, 3, 15, 60])
def test_a_leader_gives_up_before_anybody_may_follow(seconds):
    timing = Timing.of(seconds)
    assert timing.retry + timing.request < timing.renew
    assert timing.renew < timing.lease
    # A standby may have seen the renewal a request later than it was asked for; that only delays it.
    assert timing.look <= 1
