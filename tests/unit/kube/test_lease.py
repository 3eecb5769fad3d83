"""When a lease is free, by what one process has seen of it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from stackstore_operator.kube.lease import Elector, Observed, Timing

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


class Server:
    """Keeps one Lease; the answer to the write of that number is held back until `go`."""

    def __init__(self, slow: int) -> None:
        self.lease: dict[str, Any] = {"metadata": {"uid": "u", "resourceVersion": "0"}, "spec": {}}
        self.written = asyncio.Event()
        self.go = asyncio.Event()
        self._slow = slow
        self._writes = 0

    async def once(
        self, method: str, _: str, __: str, ___: str, *, body: Any = None, seconds: float
    ) -> dict[str, Any]:
        if method == "PUT":
            assert body["metadata"]["resourceVersion"] == self.lease["metadata"]["resourceVersion"]
            self._writes += 1
            self.lease = {
                "metadata": {"uid": "u", "resourceVersion": str(self._writes)},
                "spec": body["spec"],
            }
            if self._writes == self._slow:
                self.written.set()
                await self.go.wait()
        return self.lease


@pytest.mark.parametrize("write", [1, 2], ids=["it is won", "it is renewed"])
async def test_it_is_given_back_when_the_end_comes_while(write):
    server = Server(slow=write)

    async def work() -> None:
        await asyncio.Event().wait()

    elector = Elector(server, "ns", "me", Timing(15.0, 10.0, 0.01, 0.01, 5.0))  # type: ignore[arg-type]
    running = asyncio.create_task(elector.run(work))
    await server.written.wait()
    running.cancel()
    await asyncio.sleep(0)
    server.go.set()
    await asyncio.gather(running, return_exceptions=True)
    assert running.cancelled()
    assert server.lease["spec"]["holderIdentity"] == ""
