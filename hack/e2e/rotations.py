"""A rotation by one Secret, in either order, with a pod that starts in the middle of it."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from examples.demo.load import Report
from examples.demo.processes import Child
from examples.demo.rotation import new_password
from examples.demo.sampler import Sampler
from hack.e2e.cluster import Cluster, Pod
from hack.e2e.traffic import Traffic
from tests.support.postgres import PostgresServer

CLIENTS = 6
MORE_CLIENTS = 10
AROUND_SECONDS = 5.0
MOVED_WITHIN_SECONDS = 180.0
"""kubelet looks once a minute or so, at most 1.5 times its sync period after a change."""


@dataclass(frozen=True)
class Rotation:
    """What was seen; times are seconds from the first of the two changes.

    Attributes:
        secret_at, role_at: when each had changed.
        swapped_at: when the file in the pod that was there before had changed.
        moved_at: when no connection was left on an old login; None: not in time.
        late_started_at, late_ready_at: of the pod that started in the middle.
        before, late: the pods, as they were in the end.
        report: the load on the pod that was there before.
        more: that of clients which came in the middle, to the same pod.
        late_report: the load on the pod that started in the middle.
    """

    secret_at: float
    role_at: float
    swapped_at: float
    moved_at: float | None
    late_started_at: float
    late_ready_at: float
    before: Pod
    late: Pod
    report: Report
    more: Report
    late_report: Report

    @property
    def failures(self) -> int:
        """Requests that failed, of all loads."""
        return self.report.failures + self.more.failures + self.late_report.failures

    @property
    def requests(self) -> int:
        """All of them."""
        return self.report.requests + self.more.requests + self.late_report.requests

    def row(self, order: str) -> tuple[str, ...]:
        """For a table, beside `HEAD`."""
        return (
            order,
            f"{self.secret_at:.1f} s",
            f"{self.role_at:.1f} s",
            f"{self.swapped_at:.1f} s",
            "never" if self.moved_at is None else f"{self.moved_at:.1f} s",
            f"{self.late_started_at:.1f} s / {self.late_ready_at:.1f} s",
            f"{self.failures} of {self.requests}",
            f"{max(self.report.slowest, self.more.slowest) * 1000:.0f} ms",
        )


HEAD = (
    "ORDER",
    "SECRET",
    "ROLE",
    "FILE IN THE POD",
    "ALL ON THE NEW LOGIN",
    "POD IN THE MIDDLE: STARTED / READY",
    "FAILED",
    "SLOWEST REQUEST",
)


class Rotations:
    """Rotates the login of the quickstart's Secret.

    Args:
        cluster: with the Deployment `chat`, which has one pod.
        postgres: where the role is.
        traffic: for the loads.
        user: the role.
        url: where a pod answers.
    """

    def __init__(
        self,
        cluster: Cluster,
        postgres: PostgresServer,
        traffic: Traffic,
        *,
        user: str,
        url: Callable[[Pod], str],
    ) -> None:
        self._cluster = cluster
        self._postgres = postgres
        self._traffic = traffic
        self._user = user
        self._url = url
        self._began = 0.0

    async def secret_first(self) -> Rotation:
        """The Secret; a pod starts; once the pods have it, the role."""
        new = new_password()
        async with Sampler(self._postgres, self._user) as sampler:
            before, load = await self._begin()
            known, link = sampler.samples.revisions(), await self._link(before)
            self._began = time.monotonic()
            await self._change_secret(new)
            secret_at = self._now()
            more = self._traffic.start(self._url(before), MORE_CLIENTS)
            await asyncio.sleep(AROUND_SECONDS)
            late_started_at = self._now()
            await self._scale(2)
            late = await self._late(before)
            late_ready_at = self._now()
            late_load = self._traffic.start(self._url(late), CLIENTS)
            swapped_at = await self._swapped(before, link)
            await self._postgres.set_password(self._user, new)
            role_at = self._now()
            moved_at = await self._moved(sampler, known)
            return await self._end(
                (before, late), (load, more, late_load), secret_at=secret_at, role_at=role_at,
                swapped_at=swapped_at, moved_at=moved_at, late_started_at=late_started_at,
                late_ready_at=late_ready_at,
            )  # fmt: skip

    async def role_first(self) -> Rotation:
        """The role; a pod starts with a login that is worth nothing; the Secret."""
        new = new_password()
        async with Sampler(self._postgres, self._user) as sampler:
            before, load = await self._begin()
            known, link = sampler.samples.revisions(), await self._link(before)
            self._began = time.monotonic()
            await self._postgres.set_password(self._user, new)
            role_at = self._now()
            # They want connections, and nobody can open one.
            more = self._traffic.start(self._url(before), MORE_CLIENTS)
            await asyncio.sleep(AROUND_SECONDS)
            late_started_at = self._now()
            await self._scale(2)
            await asyncio.sleep(AROUND_SECONDS)
            await self._change_secret(new)
            secret_at = self._now()
            swapped_at = await self._swapped(before, link)
            late = await self._late(before)
            late_ready_at = self._now()
            late_load = self._traffic.start(self._url(late), CLIENTS)
            moved_at = await self._moved(sampler, known)
            return await self._end(
                (before, late), (load, more, late_load), secret_at=secret_at, role_at=role_at,
                swapped_at=swapped_at, moved_at=moved_at, late_started_at=late_started_at,
                late_ready_at=late_ready_at,
            )  # fmt: skip

    # -- steps

    def _now(self) -> float:
        return time.monotonic() - self._began

    def _pods(self) -> list[Pod]:
        return [pod for pod in self._cluster.pods("app=chat") if not pod.ending]

    async def _begin(self) -> tuple[Pod, Child]:
        (before,) = await asyncio.to_thread(self._pods)
        load = self._traffic.start(self._url(before), CLIENTS)
        await asyncio.sleep(AROUND_SECONDS)
        return before, load

    async def _change_secret(self, password: str) -> None:
        # By standard input: a command line is shown to everyone by `ps`.
        await asyncio.to_thread(
            self._cluster.kubectl, "patch", "secret", "pg-app",
            "--type=merge", "--patch-file=/dev/stdin",
            stdin=json.dumps({"stringData": {"password": password}}),
        )  # fmt: skip

    async def _scale(self, replicas: int) -> None:
        await asyncio.to_thread(
            self._cluster.kubectl, "scale", "deployment", "chat", f"--replicas={replicas}",
        )  # fmt: skip

    async def _late(self, before: Pod) -> Pod:
        def ready() -> list[Pod]:
            return [pod for pod in self._pods() if pod.ready and pod.uid != before.uid]

        await asyncio.to_thread(
            self._cluster.until, "the pod that started in the middle is ready", ready,
            MOVED_WITHIN_SECONDS,
        )  # fmt: skip
        return ready()[0]

    async def _link(self, pod: Pod) -> str:
        return await asyncio.to_thread(
            self._cluster.kubectl, "exec", pod.name, "--",
            "readlink", "/etc/stack/storage/..data",
        )  # fmt: skip

    async def _swapped(self, pod: Pod, link: str) -> float:
        deadline = time.monotonic() + MOVED_WITHIN_SECONDS
        while await self._link(pod) == link:
            if time.monotonic() > deadline:
                raise RuntimeError(f"the Secret in {pod.name} is still what it was")
            await asyncio.sleep(0.5)
        return self._now()

    async def _moved(self, sampler: Sampler, known: set[str]) -> float | None:
        moved = await sampler.until(
            lambda seen: bool(seen.last.revisions) and not known & seen.last.revisions.keys(),
            MOVED_WITHIN_SECONDS,
        )
        return self._now() if moved else None

    async def _end(self, pods: tuple[Pod, Pod], loads: Sequence[Child], **times: Any) -> Rotation:
        """Of the pod that was there before and the one that started in the middle."""
        await asyncio.sleep(AROUND_SECONDS)
        reports = [await asyncio.to_thread(self._traffic.end, load) for load in loads]
        there = {pod.uid: pod for pod in await asyncio.to_thread(self._pods)}
        gone = [pod.name for pod in pods if pod.uid not in there]
        if gone:
            raise RuntimeError(f"{', '.join(gone)} did not live through the rotation")
        await self._scale(1)
        await asyncio.to_thread(
            self._cluster.until, "one pod is left", lambda: len(self._pods()) == 1
        )
        before, late = (there[pod.uid] for pod in pods)
        return Rotation(**times, before=before, late=late, report=reports[0], more=reports[1],
                        late_report=reports[2])  # fmt: skip
