"""Whom to restart, when, and one after the other: a small cluster that obeys."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field, replace

import pytest

from stackstore_operator.reconcile.consumers import ConsumerState, Progress
from stackstore_operator.reconcile.record import Content
from stackstore_operator.reconcile.rollout.course import Course, Rhythm
from stackstore_operator.reconcile.rollout.decision import Decision, Situation, decide
from stackstore_operator.reconcile.rollout.target import Target

PACE = Rhythm()
DONE = Progress(generation=1, observed=1, wanted=2, updated=2, available=2, pods=2)


def target(name: str = "a", kind: str = "Deployment", **given) -> Target:
    """A consumer that is well, and was restarted for "old"."""
    state = {"progress": DONE, "strategy": "RollingUpdate", "paused": False}
    state |= {key: given.pop(key) for key in list(given) if key in state}
    made = ConsumerState(kind, name, found=True, wanted=2, **state)
    return Target(made, **{"kind": kind, "uid": f"uid-{name}", "revision": "old", **given})


@dataclass
class World:
    """A stack, its consumers and the looks at it; restarted pods need `slow` looks to be available."""

    targets: list[Target]
    revision: str = "new"
    since: int = 1000
    touches: bool = True
    touched: str | None = None
    refused: list[str] = field(default_factory=list)
    unverified: list[str] = field(default_factory=list)
    changes: bool = False
    now: float = 0.0
    course: Course | None = None
    done: bool = False
    restarts: list[tuple[str, str, float]] = field(default_factory=list)

    def look(self) -> Decision:
        content = Content(self.revision, self.since)
        decided = decide(
            Situation(
                touches=self.touches,
                targets=self.targets,
                content=content,
                logins=replace_revision(content),
                touched=self.touched,
                config_version="7-run",
                config_changes=self.changes,
                now=self.now,
                done=self.done,
                refused=self.refused,
                unverified=self.unverified,
                course=self.course,
            ),
            PACE,
        )
        self.course = decided.course
        self.done = decided.said.status == "True"
        if decided.touch is not None:
            self.touched = decided.touch
            self.restarts.append(("ConfigMap", decided.touch, self.now))
        if decided.restart is not None:
            one = decided.restart
            self.restarts.append((one.name, one.revision, self.now))
            index = next(i for i, t in enumerate(self.targets) if t.state.name == one.name)
            old = self.targets[index]
            generation = old.state.progress.generation + 1
            progress = replace(old.state.progress, generation=generation)
            self.targets[index] = replace(
                old, revision=one.revision, state=replace(old.state, progress=progress)
            )
        return decided

    def change(self, name: str, **given) -> None:
        """A controller, or a person, has done something."""
        index = next(i for i, t in enumerate(self.targets) if t.state.name == name)
        old = self.targets[index]
        state = {k: given.pop(k) for k in list(given) if k in ("paused", "strategy", "progress")}
        self.targets[index] = replace(old, state=replace(old.state, **state), **given)

    def settle(self, name: str) -> None:
        """All its pods are replaced and available."""
        (one,) = (t for t in self.targets if t.state.name == name)
        generation = one.state.progress.generation
        self.change(name, progress=replace(DONE, generation=generation, observed=generation))

    def run(self, seconds: float, *, obedient: bool = True) -> Decision:
        """Look as often as it asks to, for some time; restarted pods are available at once."""
        end = self.now + seconds
        while True:
            decided = self.look()
            if obedient and decided.restart is not None:
                self.settle(decided.restart.name)
            if decided.again_in is None or self.now + decided.again_in > end:
                self.now = end
                return decided
            self.now += decided.again_in

    def names(self) -> list[str]:
        return [name for name, _, _ in self.restarts]


def replace_revision(content: Content) -> Content:
    return content._replace(revision=f"logins-{content.revision}")


def test_each_consumer_is_restarted_once_and_in_the_order_given():
    world = World([target("b"), target("a"), target("c", "StatefulSet")])
    said = world.run(60).said
    assert (said.status, said.reason) == ("True", "RolledOut")
    assert world.names() == ["b", "a", "c"]
    assert {revision for _, revision, _ in world.restarts} == {"new"}
    world.run(86_400)
    assert len(world.restarts) == 3


def test_nothing_is_restarted_by_an_operator_that_starts():
    world = World([target("a", revision="new"), target("b", revision="new")])
    for _ in range(3):
        world.course = None
        assert world.run(600).said.status == "True"
    assert world.restarts == []


def test_what_changed_while_the_operator_was_away_is_one_restart():
    world = World([target()])
    world.run(600)
    world.course = None
    world.run(600)
    assert world.names() == ["a"]


def test_quiet_first_and_at_most_thirty_seconds():
    world = World([target()], revision="r0")
    for number in range(20):
        world.revision = f"r{number}"
        world.run(3)
    # Every change within five seconds of the last: each thirty seconds one goes out.
    assert 1 <= len(world.restarts) <= 2
    first = world.restarts[0][2]
    assert first == pytest.approx(30, abs=3.1)
    world.run(60)
    assert world.restarts[-1][1] == "r19"
    assert len(world.restarts) <= 3


def test_changes_together_are_one_restart_five_seconds_after_the_last():
    world = World([target()], revision="r0")
    world.run(2)
    world.revision = "r1"
    world.run(2)
    world.revision = "r2"
    world.run(30)
    assert world.restarts == [("a", "r2", 9.0)]


def test_a_change_that_is_taken_back_in_time_restarts_nobody():
    world = World([target(revision="r0")], revision="r1")
    world.run(3)
    world.revision = "r0"
    assert world.run(60).said.status == "True"
    assert world.restarts == []


def test_the_next_only_after_the_last_is_available():
    world = World([target("a"), target("b")])
    said = world.run(300, obedient=False).said
    assert world.names() == ["a"]
    assert (said.status, said.reason) == ("Unknown", "RollingOut")
    assert "Deployment 'b' wait for it" in said.message
    generation = 2
    for progress in (
        Progress(generation, 1, 2, 2, 2, 2),  # its controller has not seen the template
        Progress(generation, generation, 2, 1, 2, 3),
        Progress(generation, generation, 2, 2, 1, 2),
        Progress(generation, generation, 2, 2, 2, 3),  # an old pod is still there
    ):
        world.change("a", progress=progress)
        world.run(60, obedient=False)
        assert world.names() == ["a"], progress
    world.settle("a")
    world.run(60, obedient=False)
    assert world.names() == ["a", "b"]


@pytest.mark.parametrize("overdue", [True, False])
def test_a_consumer_that_does_not_come_up_stops_it_until_it_is_well(overdue):
    world = World([target("a"), target("b")])
    world.run(20, obedient=False)
    progress = Progress(2, 2, 2, 1, 2, 3)
    world.change("a", progress=progress, overdue=overdue)
    said = world.run(20 if overdue else PACE.stalled + 30, obedient=False).said
    assert (said.status, said.reason) == ("False", "RolloutStalled")
    assert "Deployment 'a': 1 of 2 pods updated, 2 available" in said.message
    assert "Deployment 'b' wait for it" in said.message
    assert world.names() == ["a"]
    world.settle("a")
    world.change("a", overdue=False)
    said = world.run(60).said
    assert world.names() == ["a", "b"]
    assert said.status == "True"


def test_a_deadline_that_an_earlier_template_exceeded_says_nothing_of_this_one():
    world = World([target("a", overdue=True)])
    said = world.run(10, obedient=False).said
    assert said.reason == "RollingOut"


def test_progress_counts_as_long_as_there_is_any():
    world = World([target("a", "StatefulSet")])
    world.run(20, obedient=False)
    for updated in range(2):
        world.change("a", progress=Progress(2, 2, 2, updated, 2, 2))
        assert world.run(PACE.stalled - 60, obedient=False).said.reason == "RollingOut"
    world.settle("a")
    assert world.run(60).said.status == "True"


def test_a_broken_consumer_is_restarted_all_the_same_it_may_be_the_cure():
    world = World([target("a", progress=Progress(1, 1, 2, 2, 0, 2), overdue=True)])
    assert world.run(60).said.status == "True"
    assert world.names() == ["a"]


def test_pods_that_come_and_go_after_a_rollout_are_no_rollout():
    world = World([target("a"), target("b")])
    assert world.run(60).said.status == "True"
    world.change("a", progress=Progress(2, 2, 5, 2, 2, 2))
    assert world.run(3600).said.status == "True"
    # But the next rollout waits for what was restarted and isn't well.
    world.revision = "newer"
    world.run(60, obedient=False)
    assert world.names() == ["a", "b", "a"]


# -- held back


def test_a_refused_login_holds_for_ever_and_is_looked_at_less_and_less_often():
    world = World([target()], refused=["sql-default"])
    world.now = 5.0
    world.course = Course("new", 0.0)
    asked = []
    for _ in range(8):
        decided = world.look()
        asked.append(decided.again_in)
        world.now += decided.again_in
    assert asked == [1, 2, 4, 8, 16, 30, 30, 30]
    assert (decided.said.status, decided.said.reason) == ("Unknown", "RolloutHeld")
    assert "'sql-default' is refused" in decided.said.message
    world.run(86_400)
    assert world.restarts == []
    world.refused = []
    world.run(60)
    assert world.names() == ["a"]


def test_a_login_that_nobody_can_verify_holds_for_two_minutes():
    world = World([target()], unverified=["sql-default"])
    said = world.run(PACE.unverified - 1).said
    assert said.reason == "RolloutHeld"
    assert "after 120 seconds it goes on anyway" in said.message
    assert world.restarts == []
    world.run(2)
    assert world.names() == ["a"]
    assert world.restarts[0][2] == pytest.approx(120, abs=0.1)


def test_it_goes_on_as_soon_as_the_login_is_verified():
    world = World([target()], unverified=["sql-default"])
    world.run(20)
    world.unverified = []
    world.run(1)
    assert world.names() == ["a"]


# -- first sight, by when pods started


@pytest.mark.parametrize(
    ("started", "restarted"), [(None, False), (1001, False), (998, False), (997, True), (0, True)]
)
def test_a_consumer_that_was_never_restarted_is_judged_by_its_pods(started, restarted):
    world = World([target(revision=None, started=started)])
    said = world.run(60).said
    assert said.status == "True"
    assert bool(world.restarts) is restarted


def test_one_that_was_restarted_for_something_else_is_restarted_however_young_its_pods_are():
    world = World([target(revision="old", started=5_000)])
    world.run(60)
    assert world.names() == ["a"]


# -- what its own settings keep back


def test_a_paused_deployment_is_annotated_and_waited_for_by_nobody():
    world = World([target("a", paused=True), target("b")])
    world.run(10, obedient=False)
    # Its controller has seen it, and does nothing.
    world.change("a", progress=Progress(2, 2, 2, 0, 2, 2))
    said = world.run(60).said
    assert world.names() == ["a", "b"]
    assert (said.status, said.reason) == ("Unknown", "RolloutPartial")
    assert said.message == "Deployment 'a' is paused: its pods restart when it is resumed"
    world.change("a", paused=False)
    assert world.run(20).said.reason == "RollingOut"
    world.settle("a")
    assert world.run(60).said.status == "True"
    assert world.names() == ["a", "b"]


@pytest.mark.parametrize("kind", ["StatefulSet", "DaemonSet"])
def test_on_delete_pods_restart_when_somebody_deletes_them(kind):
    world = World([target("a", kind, strategy="OnDelete"), target("b")])
    world.run(10, obedient=False)
    world.change("a", progress=Progress(2, 2, 2, 1, 2, 2))
    said = world.run(60).said
    assert world.names() == ["a", "b"]
    assert (said.status, said.reason) == ("Unknown", "RolloutPartial")
    assert f"{kind} 'a' has the update strategy OnDelete: 1 of its pods" in said.message
    world.settle("a")
    assert world.run(60).said.status == "True"


def test_a_partition_keeps_pods_and_blocks_nobody():
    world = World([target("a", "StatefulSet", partition=1), target("b")])
    world.run(10, obedient=False)
    assert world.names() == ["a"]
    world.change("a", progress=Progress(2, 2, 2, 1, 2, 2))
    said = world.run(60).said
    assert world.names() == ["a", "b"]
    assert (said.status, said.reason) == ("Unknown", "RolloutPartial")
    assert "`partition: 1`: 1 of its pods stay" in said.message
    world.change("a", partition=0)
    world.settle("a")
    assert world.run(60).said.status == "True"


def test_a_consumer_of_no_pods_is_annotated_and_holds_up_nobody():
    world = World([target("a", progress=Progress(1, 1, 0, 0, 0, 0)), target("b")])
    world.run(10, obedient=False)
    world.change("a", progress=Progress(2, 2, 0, 0, 0, 0))
    assert world.run(60).said.status == "True"
    assert world.names() == ["a", "b"]


# -- by the ConfigMap


def servers(*names: str, **given) -> list[Target]:
    return [
        target(n, "OGXServer", lever="ConfigMap", config=False, revision=None, **given)
        for n in names
    ]


def test_readers_of_the_config_map_restart_by_one_write_to_it():
    # What their operator has taken is the version before the write.
    world = World([*servers("s", "t", taken="6-run"), target("a")], touched="old")
    world.run(20, obedient=False)
    assert world.run(30, obedient=False).said.reason == "RollingOut"
    world.change("s", taken="7-run")
    world.change("t", taken="7-run", progress=Progress(2, 2, 2, 1, 2, 3))
    assert world.run(30, obedient=False).said.reason == "RollingOut"
    assert world.names() == ["ConfigMap"]
    world.settle("t")
    assert world.run(30).said.status == "True"
    assert world.names() == ["ConfigMap", "a"]


def test_a_new_run_config_carries_the_annotation_and_waits_for_nothing():
    world = World(servers("s"), touched="old", changes=True, refused=["sql-default"])
    decided = world.look()
    assert decided.touch == "new"
    world.changes = False
    assert world.run(60).said.status == "True"
    assert world.names() == ["ConfigMap"]


def test_a_reader_that_was_never_touched_is_judged_by_its_pods():
    assert World(servers("s", started=5_000)).run(60).said.status == "True"
    world = World(servers("s", started=10))
    world.run(60)
    assert world.names() == ["ConfigMap"]


def test_one_that_restarts_for_the_run_config_by_itself_is_restarted_for_logins_alone():
    world = World([target("s", "OGXServer", config=False, revision="logins-new")])
    assert world.run(60).said.status == "True"
    assert world.restarts == []
    world.revision = "newer"
    world.run(60)
    assert world.restarts[0][:2] == ("s", "logins-newer")


# -- None


def test_none_touches_nothing_and_says_who_is_behind():
    world = World(
        [target("a", started=5), target("b", started=2_000), *servers("s", started=5)],
        touches=False,
    )
    said = world.run(600).said
    assert (said.status, said.reason) == ("Unknown", "RestartNeeded")
    assert "Deployment 'a', OGXServer 's' started before" in said.message
    for name in ("a", "s"):
        world.change(name, started=2_000)
    assert world.run(600).said.status == "True"
    assert world.restarts == []


# -- any order


@pytest.mark.parametrize("order", list(itertools.permutations(["settle", "rotate", "crash"])))
def test_whatever_comes_between_it_ends_with_everybody_on_the_last_revision(order):
    world = World([target("a"), target("b")])
    for what in order:
        world.run(7, obedient=False)
        if what == "settle":
            world.settle("a")
        elif what == "rotate":
            world.revision = "newest"
        else:
            world.course = None
    for name in ("a", "b"):
        world.settle(name)
    assert world.run(60).said.status == "True"
    assert {t.revision for t in world.targets} == {world.revision}
    assert len(world.restarts) <= 4
