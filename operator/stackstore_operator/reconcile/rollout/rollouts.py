"""All stacks' rollouts: what is read for them, what they remember, and what they restart."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from stackstore_operator.api.binding import StoreBinding
from stackstore_operator.api.conditions import Reason
from stackstore_operator.kube.client import Client
from stackstore_operator.kube.events import post
from stackstore_operator.kube.workloads import WorkloadName, Workloads
from stackstore_operator.reconcile.composition import by_age
from stackstore_operator.reconcile.contest import Contests, Place
from stackstore_operator.reconcile.inputs import Key
from stackstore_operator.reconcile.rollout.course import Course, Observed, Rhythm
from stackstore_operator.reconcile.rollout.restart import restart, started
from stackstore_operator.reconcile.rollout.stack import Rolling


class Rollouts:
    """Rollouts.

    Args:
        client: the way to the API server.
        contests: how often to put back what others change.
        pace: how long to wait.
        clock: seconds that never jump.
    """

    def __init__(
        self,
        client: Client,
        contests: Contests,
        pace: Rhythm,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = client
        self._contests = contests
        self._pace = pace
        self._clock = clock
        self._courses: dict[Key, Course] = {}

    async def observe(
        self, stack: Key, bindings: Iterable[StoreBinding], found: Workloads
    ) -> Observed:
        """What a rollout has to know; nothing is read for it where nobody asks for one.

        Raises:
            ApiError: the API server could not be asked.
        """
        namespace = stack[0]
        strategies = {b.spec.rollout.strategy for b in bindings if b.spec.rollout is not None}
        starts: dict[WorkloadName, int | None] = {}
        if strategies - {"HotReload"}:
            every = "None" in strategies
            starts = await started(self._client, namespace, found, all_of_them=every)
        return Observed(
            started=starts,
            contested=frozenset(
                name
                for name in found.by_name
                if self._contests.is_contested(_template(namespace, name))
            ),
            course=self._courses.get(stack),
            now=self._clock(),
            pace=self._pace,
        )

    async def roll(
        self, stack: Key, bindings: Sequence[StoreBinding], rolling: Rolling | None
    ) -> list[float]:
        """Restart whom a rollout has come to; what it is for must have been written before.

        Args:
            stack: namespace and name.
            bindings: the stack's; the oldest tells of a restart.
            rolling: what was decided; None: nothing is ever restarted.

        Returns:
            In how many seconds to look again.

        Raises:
            ApiError: the write was refused; nothing is remembered of it.
        """
        if rolling is None:
            self.forget(stack)
            return []
        wanted = rolling.decision.restart
        for target in rolling.targets:
            place = _template(stack[0], (target.state.kind, target.state.name))
            if wanted is None or wanted.uid != target.uid:
                self._contests.agrees(place)
            elif self._contests.may_write(place, wanted.revision):
                await restart(self._client, stack[0], wanted)
                self._contests.wrote(place, wanted.revision)
                oldest = by_age(bindings)[0].metadata
                await post(self._client, "StoreBinding", oldest, _Restarted(wanted.words))
        self._courses[stack] = rolling.decision.course
        again_in = rolling.decision.again_in
        return [] if again_in is None else [again_in]

    def forget(self, stack: Key) -> None:
        """There is no rollout of this stack any more."""
        self._courses.pop(stack, None)


@dataclass(frozen=True, slots=True)
class _Restarted:
    """The event that tells of a restart."""

    whose: str
    warning: bool = False
    reason: str = Reason.ROLLING_OUT

    @property
    def message(self) -> str:
        return f"{self.whose} restarts: the run config or the logins have changed"


def _template(namespace: str, name: WorkloadName) -> Place:
    """Where a workload's pod template is annotated."""
    return Place(f"{name[0]}/template", namespace, name[1])
