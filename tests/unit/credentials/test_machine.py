"""The credential state machine against a small world, over every reachable state."""

import itertools
from dataclasses import dataclass, replace

import pytest

from stackstore.credentials.machine import Machine

# What a snapshot may list, most preferred first: rotations, a second change, a change back.
SNAPSHOTS = [("A",), ("B", "A"), ("C", "B", "A"), ("A", "B"), ("C",)]
LOGINS = ["A", "B", "C"]
# Whose hosts give no answer: none, one that others can do without, all.
SILENT = [frozenset(), frozenset({"B"}), frozenset(LOGINS)]


@dataclass(frozen=True)
class World:
    """The machine, and what is true outside: which logins the database takes."""

    machine: Machine
    accepts: frozenset
    silent: frozenset = frozenset()
    # What the last attempt of each login showed; the machine may trust nothing else.
    observed: tuple = ()

    def attempt(self, login):
        if login in self.silent:
            return replace(self, machine=self.machine.unreachable(login))
        works = login in self.accepts
        machine = self.machine.accepted(login) if works else self.machine.refused(login)
        observed = dict(self.observed)
        observed[login] = works
        return replace(self, machine=machine, observed=tuple(sorted(observed.items())))


def moves(world):
    for snapshot in SNAPSHOTS:
        yield replace(world, machine=world.machine.saw_snapshot(snapshot))
    for login in LOGINS:
        yield replace(world, accepts=frozenset({login}))
    yield replace(world, accepts=frozenset())
    for silent in SILENT:
        yield replace(world, silent=silent)
    if (login := world.machine.to_prove()) is not None:
        yield world.attempt(login)
    if (login := world.machine.for_new()) is not None:
        yield world.attempt(login)


def key(world):
    # Beyond two failures nothing new happens but longer delays.
    refusals = tuple(sorted((k, min(v, 2)) for k, v in world.machine.refusals.items()))
    absences = tuple(sorted((k, min(v, 1)) for k, v in world.machine.absences.items()))
    machine = (world.machine.targets, world.machine.proven, refusals, absences)
    return (*machine, world.accepts, world.silent, world.observed)


def reachable():
    start = World(Machine().saw_snapshot(("A",)), frozenset({"A"}))
    seen = {key(start): start}
    frontier = [start]
    while frontier:
        following = []
        for world in frontier:
            for after in moves(world):
                if key(after) not in seen:
                    seen[key(after)] = after
                    following.append(after)
        frontier = following
    return list(seen.values())


@pytest.fixture(scope="module")
def worlds():
    found = reachable()
    assert len(found) > 1_500
    return found


def test_only_what_was_seen_to_work_is_proven(worlds):
    for world in worlds:
        if world.machine.proven is not None:
            assert dict(world.observed)[world.machine.proven] is True


def test_while_nothing_is_proven_working_connections_are_left_alone(worlds):
    for world in worlds:
        if world.machine.proven is None:
            assert world.machine.for_new() is None
            assert not world.machine.may_recycle()
            assert not any(world.machine.is_stale(login) for login in LOGINS)


def test_connections_of_the_proven_and_of_the_current_login_are_never_stale(worlds):
    for world in worlds:
        assert not world.machine.is_stale(world.machine.targets[0])
        if world.machine.proven is not None:
            assert not world.machine.is_stale(world.machine.proven)


def test_with_the_current_login_proven_every_other_one_is_stale(worlds):
    checked = 0
    for world in worlds:
        current = world.machine.targets[0]
        if world.machine.proven == current:
            checked += 1
            assert world.machine.may_recycle()
            assert world.machine.to_prove() is None
            for login in LOGINS:
                assert world.machine.is_stale(login) == (login != current)
    assert checked


def test_a_world_that_stands_still_is_served_in_a_few_attempts(worlds):
    for start in worlds:
        world = start
        for _ in range(12):
            # As the pool does: requests use the proven login, the prover tries what is wanted.
            if (login := world.machine.for_new()) is not None:
                world = world.attempt(login)
            if (login := world.machine.to_prove()) is not None:
                world = world.attempt(login)
        offered = set(world.machine.targets)
        answering = world.accepts - world.silent
        if world.machine.targets[0] in answering:
            assert world.machine.proven == world.machine.targets[0]
        elif offered & answering:
            # A proven one whose host fell silent is waited for: going back to an older host would
            # write to a database that others have left.
            assert world.machine.proven in answering | world.silent
        elif not world.accepts and not world.silent:
            assert world.machine.proven is None


def test_a_working_login_is_not_given_up_for_one_that_does_not_work(worlds):
    for world in worlds:
        proven, wanted = world.machine.proven, world.machine.to_prove()
        if proven in world.accepts and wanted is not None and wanted not in world.accepts:
            assert world.attempt(wanted).machine.proven == proven


def test_the_same_snapshot_again_changes_nothing(worlds):
    for world in worlds:
        assert world.machine.saw_snapshot(world.machine.targets) is world.machine


def test_a_previous_login_never_replaces_a_proven_current_one():
    machine = Machine().saw_snapshot(("B", "A")).accepted("B")
    # A connection with A that was being opened when B was proven arrives late.
    assert machine.accepted("A").proven == "B"
    assert machine.accepted("A").is_stale("A")


def test_a_pod_that_starts_in_the_middle_of_a_rotation_tries_both():
    machine = Machine().saw_snapshot(("B", "A"))
    assert machine.to_prove() == "B"
    machine = machine.refused("B")
    assert machine.to_prove() == "A"
    machine = machine.accepted("A")
    assert (machine.for_new(), machine.to_prove()) == ("A", "B")
    assert machine.accepted("B").for_new() == "B"


def test_a_pod_that_starts_behind_a_host_that_is_not_there_tries_the_previous_one():
    machine = Machine().saw_snapshot(("B", "A")).unreachable("B")
    assert machine.to_prove() == "A"
    machine = machine.accepted("A")
    assert (machine.for_new(), machine.to_prove()) == ("A", "B")


def test_no_answer_takes_nothing_back():
    machine = Machine().saw_snapshot(("B", "A")).accepted("B").unreachable("B")
    assert machine.proven == "B"
    assert machine.accepted("B").absences == {}


def test_what_is_withdrawn_serves_until_something_else_is_proven():
    machine = Machine().saw_snapshot(("A",)).accepted("A").saw_snapshot(("B",))
    assert (machine.for_new(), machine.to_prove()) == ("A", "B")
    assert not machine.is_stale("A")
    machine = machine.accepted("B")
    assert machine.is_stale("A")
    assert machine.accepted("A").proven == "B"


def test_silence_is_tried_every_second_however_long_it_lasts():
    machine = Machine().saw_snapshot(("A",))
    for _ in range(200):
        machine = machine.unreachable("A")
    assert machine.retry_delay("A") == 1.0


def test_retry_delays_grow_to_a_second_and_later_to_five():
    machine = Machine().saw_snapshot(("A",))
    delays = [machine.retry_delay("A")]
    for _ in range(70):
        machine = machine.refused("A")
        delays.append(machine.retry_delay("A"))
    assert delays[0] == 0
    assert delays == sorted(delays)
    assert all(later <= 2 * earlier for earlier, later in itertools.pairwise(delays[1:60]))
    assert delays[40] == 1.0
    assert delays[-1] == 5.0


def test_a_new_snapshot_is_tried_at_once_whatever_was_refused_before():
    machine = Machine().saw_snapshot(("A",)).refused("A").refused("A")
    machine = machine.saw_snapshot(("B", "A"))
    assert machine.retry_delay("B") == 0
    assert machine.retry_delay("A") == 0
