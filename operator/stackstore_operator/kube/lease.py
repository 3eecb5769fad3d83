"""Leadership: of several operators one acts, by a Lease (coordination.k8s.io/v1).

Clocks of machines are never compared. A standby takes over when it has seen no renewal for as long
as the lease lasts, by its own monotonic clock; the leader stops acting by its own, earlier. That
clock goes on while a process is paused, so who wakes up late knows at once that it is late.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from stackstore_operator.kube.client import ApiError, Client, Object

logger = logging.getLogger(__name__)

NAME = "stackstore-operator"
FREE_SECONDS = 1
"""What a released lease says it lasts: who comes next need not wait."""


@dataclass(frozen=True, slots=True)
class Timing:
    """How patient each side is, in seconds.

    Attributes:
        lease: how long a standby waits after the last renewal that it saw.
        renew: how long a leader acts after its last renewal; less than `lease`.
        retry: how often the leader renews.
        request: how long one request may take; `retry` and this together are less than `renew`.
        look: how often a standby looks.
    """

    lease: float
    renew: float
    retry: float
    request: float
    look: float

    @classmethod
    def of(cls, lease: float) -> Timing:
        """In proportion to the lease: 15 s gives 10, 2, 4 and 1 s."""
        return cls(lease, lease * 10 / 15, lease * 2 / 15, lease * 4 / 15, min(1.0, lease / 15))


class Observed:
    """What a process has seen of the lease, and since when; pure."""

    def __init__(self) -> None:
        self._record: tuple[Any, ...] | None = None
        self._since = 0.0

    def see(self, lease: Mapping[str, Any], now: float) -> None:
        """Look at the lease at a moment of the monotonic clock."""
        spec = lease.get("spec") or {}
        record = (
            lease["metadata"].get("uid"),
            spec.get("holderIdentity"),
            spec.get("renewTime"),
            spec.get("leaseTransitions"),
        )
        if record != self._record:
            self._record, self._since = record, now

    def is_free(self, lease: Mapping[str, Any], now: float, least: float) -> bool:
        """Whether nobody holds it, or who does was not heard of for as long as it lasts.

        Args:
            lease: as it was seen last.
            now: a moment of the monotonic clock.
            least: how long to wait at least, whatever the lease says of itself.
        """
        spec = lease.get("spec") or {}
        if not spec.get("holderIdentity"):
            return True
        return now >= self._since + max(float(spec.get("leaseDurationSeconds") or 0), least)


class Elector:
    """Takes part in the election, for one process.

    Args:
        client: to the API server.
        namespace: where the Lease is: the operator's own.
        identity: this process's; unlike every other's.
        timing: see there.
    """

    def __init__(self, client: Client, namespace: str, identity: str, timing: Timing) -> None:
        self.identity = identity
        self._client = client
        self._namespace = namespace
        self._timing = timing
        self._observed = Observed()
        self._until = 0.0
        self._lease: Object | None = None
        self._trouble = ""

    @property
    def leads(self) -> bool:
        """Whether this process may act now; asked before each write."""
        return time.monotonic() < self._until

    async def run(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Until cancelled: wait to be the leader, then do the work for as long as it lasts.

        The work is cancelled and waited for when leadership is lost, and it is begun anew with the
        next term. At the end the lease is given back.

        Raises:
            ApiError: the API server refuses access to Leases.
        """
        try:
            while True:
                await self._win()
                await self._term(work)
        finally:
            await self._release()

    # -- inside

    async def _win(self) -> None:
        told = ""
        while not await self._attempt():
            holder = ((self._lease or {}).get("spec") or {}).get("holderIdentity") or ""
            if holder != told:
                told = holder
                logger.info("standing by: %s leads", holder)
            await asyncio.sleep(self._timing.look * random.uniform(0.8, 1.0))  # noqa: S311
        logger.info("leading as %s", self.identity)

    async def _term(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        task = asyncio.create_task(work())
        renewing = asyncio.create_task(self._renew())
        try:
            await asyncio.wait({task, renewing}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for one in (task, renewing):
                one.cancel()
            await asyncio.gather(task, renewing, return_exceptions=True)
        for one in (renewing, task):
            if not one.cancelled():
                one.result()
        logger.warning("not leading any more")

    async def _renew(self) -> None:
        """Renew until it is too late, or somebody else leads."""
        while (left := self._until - time.monotonic()) > 0:
            await asyncio.sleep(min(self._timing.retry, left))
            if self.leads:
                await self._attempt()

    async def _attempt(self) -> bool:
        """Try to get or keep the lease; whether it is ours now.

        Cancelled, it is let finish: otherwise nobody would know whether the lease is ours, nor which
        version of it is to be given back, and the next one would wait it out.
        """
        taking = asyncio.ensure_future(self._take())
        try:
            return await asyncio.shield(taking)
        except asyncio.CancelledError:
            await asyncio.gather(taking, return_exceptions=True)
            raise
        except ApiError as error:
            # Later it is an API server that has just started, and doesn't know its rules yet.
            if error.status in (401, 403) and self._lease is None:
                raise
            if str(error) != self._trouble:
                self._trouble = str(error)
                logger.warning("the lease: %s", error)
            return False

    async def _take(self) -> bool:
        # From before the request: what happened when it was on its way is not ours to count on.
        asked = time.monotonic()
        lease = await self._request("GET")
        if lease is None:
            made = await self._request("POST", self._spec(None))
            return self._won(made, asked)
        self._lease = lease
        self._observed.see(lease, asked)
        mine = (lease.get("spec") or {}).get("holderIdentity") == self.identity
        if not mine:
            # Taken over while this process slept, or given to another by hand.
            self._until = 0.0
            if not self._observed.is_free(lease, asked, self._timing.lease):
                return False
        return self._won(await self._request("PUT", self._spec(lease)), asked)

    def _won(self, lease: Object | None, asked: float) -> bool:
        if lease is None:
            return False
        self._lease = lease
        self._trouble = ""
        self._until = asked + self._timing.renew
        return True

    async def _release(self) -> None:
        """Give it back, so that the next one need not wait."""
        if not self.leads or self._lease is None:
            return
        self._until = 0.0
        lease = self._spec(self._lease)
        lease["spec"] |= {"holderIdentity": "", "leaseDurationSeconds": FREE_SECONDS}
        try:
            await self._request("PUT", lease)
        except ApiError as error:
            logger.warning("the lease could not be given back: %s", error)

    async def _request(self, method: str, body: Object | None = None) -> Object | None:
        """One request; None where the object isn't there, or is another one meanwhile."""
        try:
            return await self._client.once(
                method,
                "Lease",
                self._namespace,
                NAME,
                body=body,
                seconds=self._timing.request,
            )
        except ApiError as error:
            if error.status in (404, 409):
                return None
            raise

    def _spec(self, before: Object | None) -> Object:
        spec = (before or {}).get("spec") or {}
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        mine = spec.get("holderIdentity") == self.identity
        transitions = int(spec.get("leaseTransitions") or 0)
        metadata = {"name": NAME, "namespace": self._namespace}
        if before is not None:
            metadata["resourceVersion"] = before["metadata"]["resourceVersion"]
        return {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": metadata,
            "spec": {
                "holderIdentity": self.identity,
                "leaseDurationSeconds": round(self._timing.lease),
                "acquireTime": spec.get("acquireTime") if mine else now,
                "renewTime": now,
                "leaseTransitions": transitions if mine or before is None else transitions + 1,
            },
        }
