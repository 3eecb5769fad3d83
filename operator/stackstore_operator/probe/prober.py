"""Visits every database that is followed: one at a time each, few at once in all, off every look.

What was found is kept here, in memory, for the login that it was found with; a look at the backend
or at a stack asks for it, and never waits. After a restart nothing is known, and the conditions that
stand in the cluster stay until there is a new finding.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from stackstore.credentials.snapshot import PostgresBackend
from stackstore_operator.api.conditions import Reason
from stackstore_operator.probe.finding import Finding
from stackstore_operator.probe.pace import pause
from stackstore_operator.probe.visit import visit

logger = logging.getLogger(__name__)

Key = tuple[str, str]
"""Namespace and name of a StorageBackend."""

AT_ONCE = 64
"""Visits under way. Each is one socket; logging in costs 3 ms of the loop."""

HANGING = (Reason.DATABASE_SILENT, Reason.HOST_NOT_FOUND)
_NEWCOMER_SECONDS = 10.0
"""When a stack has come, how soon its processes are looked for."""


@dataclass(frozen=True, slots=True)
class Subject:
    """What is visited.

    Attributes:
        backend: as stacks get it; its current login is the one that is tried.
        period: seconds between two visits.
        stacks: ids of those that use it.
    """

    backend: PostgresBackend
    period: float
    stacks: frozenset[str] = frozenset()

    @property
    def way(self) -> object:
        """What makes another login of it."""
        return self.backend.current, self.backend.tls, self.backend.pooler


@dataclass(eq=False)
class _Followed:
    subject: Subject
    first_within: float
    hangs: bool
    restless: bool = False
    finding: Finding | None = None
    failures: int = 0
    visits: int = 0
    due: float = 0.0
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None


class Prober:
    """Visits databases, for as long as this process leads.

    Args:
        at_once: how many visits may be under way; those to databases that hung last time get half.
        call: makes one visit.

    Attributes:
        found: called after each visit with the backend's key, what was found with the same login the
            time before (None: nothing yet), and what was found now.
    """

    def __init__(
        self,
        *,
        at_once: int = AT_ONCE,
        call: Callable[[PostgresBackend], Awaitable[Finding]] = visit,
    ) -> None:
        self.found: Callable[[Key, Finding | None, Finding], None] = lambda *_: None
        self._call = call
        self._places = asyncio.Semaphore(at_once)
        self._hanging = asyncio.Semaphore(max(1, at_once // 2))
        self._followed: dict[Key, _Followed] = {}
        self._leaving: set[asyncio.Task[None]] = set()

    def follow(
        self,
        key: Key,
        subject: Subject,
        *,
        first_within: float = 0.0,
        hangs: bool = False,
        restless: bool = False,
    ) -> None:
        """Visit this database from now on; what is followed already goes on at its own pace.

        Another login is tried at once, and what a visit with the one before it would find is nobody's
        any more.

        Args:
            key: the backend's.
            subject: what to visit.
            first_within: seconds in which the first visit is made, if nothing is followed yet: those
                of many backends are spread over that time.
            hangs: the database did not answer last time, if nothing is followed yet.
            restless: processes are taking up the present login; look more often.
        """
        known = self._followed.get(key)
        if known is None or known.subject.way != subject.way:
            wait = first_within * random.random() if known is None else 0.0  # noqa: S311
            self.forget(key)
            made = _Followed(subject, wait, hangs, restless)
            made.task = asyncio.get_running_loop().create_task(self._follow(key, made))
            self._followed[key] = made
            return
        sooner = restless and not known.restless
        if subject.stacks - known.subject.stacks:
            # Whoever came has processes that will be there soon.
            known.visits = 0
            known.due = min(known.due, asyncio.get_running_loop().time() + _NEWCOMER_SECONDS)
        if sooner:
            known.visits = 0
        known.subject, known.restless = subject, restless
        known.changed.set()

    def forget(self, key: Key) -> None:
        """Visit it no more, and drop what is known of it."""
        known = self._followed.pop(key, None)
        if known is not None and known.task is not None:
            known.task.cancel()
            self._leaving.add(known.task)
            known.task.add_done_callback(self._leaving.discard)

    def finding(self, key: Key) -> Finding | None:
        """What was found last, with the login that was followed then; None: nothing yet."""
        known = self._followed.get(key)
        return None if known is None else known.finding

    async def close(self) -> None:
        """End every visit, and forget all."""
        for key in list(self._followed):
            self.forget(key)
        await asyncio.gather(*self._leaving, return_exceptions=True)

    # -- inside

    async def _follow(self, key: Key, followed: _Followed) -> None:
        loop = asyncio.get_running_loop()
        followed.due = loop.time() + followed.first_within
        while True:
            await self._until_due(followed)
            try:
                finding = await self._visit(followed)
            except Exception as error:  # noqa: BLE001 - one database's oddity is not the others'
                # The type only: what a driver says may quote anything.
                logger.warning("visiting the database of %s/%s: %s", *key, type(error).__name__)
                followed.failures += 1
                followed.due = loop.time() + pause(0.0, followed.failures, None)
                continue
            before, followed.finding = followed.finding, finding
            followed.hangs = finding.outcome.reason in HANGING
            followed.failures = 0 if finding.outcome.status == "True" else followed.failures + 1
            followed.visits += 1
            # Without this, those that began together would come together for ever.
            followed.due = loop.time() + self._pause(followed) * random.uniform(0.9, 1.0)  # noqa: S311
            self.found(key, before, finding)

    async def _until_due(self, followed: _Followed) -> None:
        loop = asyncio.get_running_loop()
        while (left := followed.due - loop.time()) > 0:
            followed.changed.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(left):
                    await followed.changed.wait()
                # Another pace may be wanted by now; never a slower one than was said.
                if followed.finding is not None:
                    followed.due = min(followed.due, loop.time() + self._pause(followed))

    def _pause(self, followed: _Followed) -> float:
        restless = followed.visits if followed.restless else None
        return pause(followed.subject.period, followed.failures, restless)

    async def _visit(self, followed: _Followed) -> Finding:
        async with contextlib.AsyncExitStack() as held:
            if followed.hangs:
                # Many that hang never take all places: who answers is visited in time.
                await held.enter_async_context(self._hanging)
            await held.enter_async_context(self._places)
            return await self._call(followed.subject.backend)
