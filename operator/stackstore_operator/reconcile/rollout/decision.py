"""Whom to restart now, and what to say of it. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from stackstore_operator.api.conditions import Reason, Status
from stackstore_operator.kube.workloads import WorkloadName
from stackstore_operator.reconcile.conditions import Said
from stackstore_operator.reconcile.record import Content
from stackstore_operator.reconcile.rollout.course import Course, Rhythm
from stackstore_operator.reconcile.rollout.target import ANNOTATION, Target

CONDITION = "RolledOut"
_MARGIN_SECONDS = 2
"""By how much the clocks of a node and of the operator may differ, rounding included."""
_LADDER = (1.0, 2.0, 4.0, 8.0, 16.0, 30.0)


@dataclass(frozen=True, slots=True)
class Situation:
    """What is to be decided about.

    Attributes:
        touches: restart by our own hands; False: say what needs it.
        targets: the consumers that are there, in the order they are to be restarted.
        content: the run config and the logins that are in force now, and since when.
        logins: the same of the logins alone, for who restarts for the run config by itself.
        done: it was said before that all pods have started with it. Pods come and go afterwards.
        touched: what the ConfigMap was last touched for; None: never.
        config_version: the ConfigMap's name and version, as the other operator notes it.
        config_changes: the ConfigMap is written anyway.
        refused: the backends whose login was refused.
        unverified: the backends whose login nobody has verified yet.
        contested: targets from which somebody keeps taking what was written.
        course: what the last look remembered.
        now: monotonic seconds.
    """

    touches: bool
    targets: Sequence[Target]
    content: Content
    logins: Content
    touched: str | None
    config_version: str
    config_changes: bool
    now: float
    done: bool = False
    refused: Sequence[str] = ()
    unverified: Sequence[str] = ()
    contested: frozenset[WorkloadName] = frozenset()
    course: Course | None = None


@dataclass(frozen=True, slots=True)
class Restart:
    """A pod template to annotate.

    Attributes:
        kind: of the object that holds it.
        name: its name.
        uid: its uid: never another object that took the name.
        revision: what the annotation is to say.
        words: what it is called in messages.
    """

    kind: str
    name: str
    uid: str
    revision: str
    words: str


@dataclass(frozen=True, slots=True)
class Decision:
    """What comes of it.

    Attributes:
        said: the condition.
        course: what to remember.
        restart: the one pod template to annotate; None: none now.
        touch: what the ConfigMap is to be annotated with; None: it stays as it is.
        again_in: in how many seconds to look again; None: when something changes.
    """

    said: Said
    course: Course
    restart: Restart | None = None
    touch: str | None = None
    again_in: float | None = None


def decide(s: Situation, pace: Rhythm) -> Decision:
    """Decide."""
    return _Deciding(s, pace).decide()


@dataclass
class _Deciding:
    s: Situation
    pace: Rhythm
    course: Course = field(init=False)

    def __post_init__(self) -> None:
        known = self.s.course
        if known is None or known.revision != self.s.content.revision:
            behind = None if known is None else known.behind
            known = Course(self.s.content.revision, self.s.now, behind)
        self.course = known

    def decide(self) -> Decision:
        behind = [t for t in self.s.targets if self._is_behind(t)]
        if not self.s.touches:
            return self._tell(behind)
        if self.s.config_changes and any(t.lever == "ConfigMap" for t in self.s.targets):
            # The write restarts them all the same; said in it, it is not made twice.
            return self._decided(
                "Unknown", Reason.ROLLING_OUT, "the run config changes",
                touch=self.s.content.revision, again_in=0.5,
            )  # fmt: skip
        busy = [
            t
            for t in self.s.targets
            if t not in behind
            and self._told(t) is not None
            and not t.is_settled(self.s.config_version)
        ]
        if busy and (behind or not self.s.done):
            return self._wait_for(busy[0], behind)
        if not behind:
            return self._done()
        return self._hold(behind) or self._go(behind)

    # -- who is behind

    def _wanted(self, target: Target) -> Content:
        whole = target.lever == "ConfigMap" or target.config
        return self.s.content if whole else self.s.logins

    def _told(self, target: Target) -> str | None:
        return self.s.touched if target.lever == "ConfigMap" else target.revision

    def _is_behind(self, target: Target) -> bool:
        told, wanted = self._told(target), self._wanted(target)
        if self.s.touches and told is not None:
            return told != wanted.revision
        # Nobody has restarted it for us; its pods may have been started since all the same.
        return target.started is not None and target.started + _MARGIN_SECONDS < wanted.since

    # -- what is said and done

    def _tell(self, behind: Sequence[Target]) -> Decision:
        self.course = replace(self.course, behind=None)
        if not behind:
            return self._decided(
                "True", Reason.ROLLED_OUT, "all pods started with what is in force"
            )
        return self._decided(
            "Unknown", Reason.RESTART_NEEDED,
            f"pods of {_listed(behind)} started before the run config or the logins changed, and "
            "`rollout.strategy` is None; restart them if they don't take changes by themselves",
        )  # fmt: skip

    def _wait_for(self, target: Target, behind: Sequence[Target]) -> Decision:
        mark = target.mark()
        if mark != self.course.mark:
            self.course = replace(self.course, mark=mark, moved=self.s.now)
        still = f"; {_listed(behind)} wait for it" if behind else ""
        self.course = replace(self.course, behind=self._since_behind() if behind else None)
        if target.is_overdue or self.s.now - self.course.moved >= self.pace.stalled:
            return self._decided(
                "False", Reason.ROLLOUT_STALLED,
                f"{target.told()}, and it gets no further; see its pods{still}",
                again_in=self.pace.recheck,
            )  # fmt: skip
        return self._decided(
            "Unknown", Reason.ROLLING_OUT, f"{target} restarts{still}", again_in=self.pace.recheck
        )

    def _done(self) -> Decision:
        self.course = replace(self.course, behind=None, mark="", held=0)
        kept = [words for t in self.s.targets if (words := self._kept_back(t))]
        if kept:
            return self._decided("Unknown", Reason.ROLLOUT_PARTIAL, "; ".join(kept))
        return self._decided("True", Reason.ROLLED_OUT, "all pods started with what is in force")

    def _kept_back(self, target: Target) -> str:
        return target.kept_back() if self._told(target) is not None else ""

    def _hold(self, behind: Sequence[Target]) -> Decision | None:
        since = self._since_behind()
        self.course = replace(self.course, behind=since)
        quiet = self.s.now - self.course.changed
        left = min(self.pace.quiet - quiet, self.pace.at_most - (self.s.now - since))
        if left > 0:
            return self._decided(
                "Unknown", Reason.ROLLOUT_WAITING,
                f"{_listed(behind)} will be restarted as soon as nothing changes for "
                f"{self.pace.quiet:g} seconds",
                again_in=left,
            )  # fmt: skip
        if self.s.refused:
            return self._held(
                behind, self.s.refused, "is refused by the database; see its own conditions"
            )
        if self.s.unverified and quiet < self.pace.unverified:
            words = f"is not verified yet; after {self.pace.unverified:g} seconds it goes on anyway"
            return self._held(behind, self.s.unverified, words, self.pace.unverified - quiet)
        return None

    def _held(
        self, behind: Sequence[Target], backends: Sequence[str], why: str, left: float = 30.0
    ) -> Decision:
        again_in = min(_LADDER[min(self.course.held, len(_LADDER) - 1)], left)
        self.course = replace(self.course, held=self.course.held + 1)
        names = ", ".join(f"'{name}'" for name in backends)
        return self._decided(
            "Unknown", Reason.ROLLOUT_HELD,
            f"the restart of {_listed(behind)} waits: the new login of StorageBackend {names} {why}",
            again_in=again_in,
        )  # fmt: skip

    def _go(self, behind: Sequence[Target]) -> Decision:
        first = behind[0]
        restart = Restart(
            first.kind, first.state.name, first.uid, self._wanted(first).revision, str(first)
        )
        if (first.state.kind, first.state.name) in self.s.contested:
            return self._decided(
                "False", Reason.FIELD_CONTESTED,
                f"somebody keeps changing the annotation `{ANNOTATION}` of {first}, which is put back "
                "now and then; make the other leave it alone",
                restart=restart, again_in=self.pace.recheck,
            )  # fmt: skip
        # Where changes go on and on, the next restart is as long away as this one was.
        self.course = replace(self.course, behind=self.s.now, held=0, mark="", moved=self.s.now)
        if first.lever == "ConfigMap":
            return self._decided(
                "Unknown", Reason.ROLLING_OUT, f"{first} restarts",
                touch=self.s.content.revision, again_in=0.5,
            )  # fmt: skip
        return self._decided(
            "Unknown", Reason.ROLLING_OUT, f"{first} restarts",
            restart=restart, again_in=0.5,
        )  # fmt: skip

    def _since_behind(self) -> float:
        return self.s.now if self.course.behind is None else self.course.behind

    def _decided(
        self,
        status: Status,
        reason: Reason,
        message: str,
        *,
        restart: Restart | None = None,
        touch: str | None = None,
        again_in: float | None = None,
    ) -> Decision:
        said = Said(CONDITION, status, reason, message)
        return Decision(said, self.course, restart, touch, again_in)


def _listed(targets: Iterable[Target]) -> str:
    return ", ".join(map(str, targets))
