"""Which stacks and backends are looked at again after a change."""

from __future__ import annotations

from typing import Any

import pytest

from stackstore_operator.handlers.changes import Changes
from stackstore_operator.reconcile.cache import Cache
from stackstore_operator.reconcile.reconciler import Look


class World:
    def __init__(self) -> None:
        self.looks: set[Look] = set()
        self.cache = Cache()
        self.later: set[Look] = set()
        self.changes = Changes(self.cache, self.looks.add, self.later.add)

    def seen(self) -> set[str]:
        seen = {str(look) for look in self.looks}
        self.looks.clear()
        return seen


@pytest.fixture
def world() -> World:
    return World()


def meta(name: str, version: int = 1, uid: str = "") -> dict[str, Any]:
    return {
        "namespace": "a",
        "name": name,
        "uid": uid or f"u-{name}",
        "resourceVersion": str(version),
        "generation": 1,
    }


def backend(
    name: str = "sql", version: int = 1, secret: str = "pg-app", **more: Any
) -> dict[str, Any]:
    spec = {"type": "sql_postgres", "postgres": {"host": "h.x", "database": "d", **more},
            "credentials": {"secretRef": {"name": secret}}}  # fmt: skip
    return {"metadata": meta(name, version), "spec": spec}


def binding(name: str = "b", version: int = 1, uses: str = "sql", **spec: Any) -> dict[str, Any]:
    store = {"name": "inference", "backendRef": {"name": uses}, "tableName": "t"}
    return {"metadata": meta(name, version), "spec": {"stack": "s", "stores": [store], **spec}}


def test_a_binding_concerns_its_stack_and_its_backends(world):
    world.changes.binding(binding())
    assert world.seen() == {"stack a/s", "backend a/sql"}


def test_a_binding_that_turns_to_another_backend_concerns_both(world):
    world.changes.binding(binding())
    world.seen()
    world.changes.binding(binding(version=2, uses="other"))
    assert world.seen() == {"stack a/s", "backend a/sql", "backend a/other"}
    world.changes.backend(backend())
    assert world.seen() == {"backend a/sql"}


def test_a_backend_concerns_the_stacks_that_refer_to_it(world):
    world.changes.binding(binding())
    world.changes.binding(binding("elsewhere", uses="other", stack="t"))
    world.seen()
    world.changes.backend(backend())
    assert world.seen() == {"backend a/sql", "stack a/s"}


def test_a_backend_concerns_the_stacks_that_still_hold_its_login(world):
    world.changes.binding(binding(uses="other"))
    world.cache.note_in_force(("a", "s"), {("a", "sql")})
    world.seen()
    world.changes.backend(backend())
    assert world.seen() == {"backend a/sql", "stack a/s"}
    # A status write comes back as a newer binding; the login is in force as before.
    world.changes.binding(binding(version=2, uses="other"))
    world.seen()
    world.changes.backend(backend(version=2))
    assert world.seen() == {"backend a/sql", "stack a/s"}
    world.changes.binding(binding(version=2), deleted=True)
    world.seen()
    world.changes.backend(backend(version=3))
    assert world.seen() == {"backend a/sql"}


def test_what_is_no_news_asks_for_nothing(world):
    world.changes.backend(backend(version=5))
    world.changes.binding(binding(version=5))
    world.seen()
    for version in (5, 4):
        world.changes.backend(backend(version=version))
        world.changes.binding(binding(version=version))
    assert world.seen() == set()
    # An object of the same name that was made anew is news.
    fresh = binding(version=6)
    fresh["metadata"]["uid"] = "another"
    world.changes.binding(fresh)
    assert world.seen()


@pytest.mark.parametrize(
    ("kind", "name", "seen"),
    [
        ("Secret", "pg-app", {"backend a/sql", "stack a/s"}),
        ("ConfigMap", "pg-ca", {"backend a/sql", "stack a/s"}),
        ("ConfigMap", "base", {"stack a/s"}),
        ("Secret", "s-storage", {"stack a/s"}),
        ("ConfigMap", "s-run-config", {"stack a/s"}),
        ("Secret", "base", set()),
        ("ConfigMap", "pg-app", set()),
        ("Secret", "pg-ca", set()),
    ],
)
def test_secrets_and_config_maps_concern_who_reads_or_makes_them(world, kind, name, seen):
    ca = {"mode": "VerifyFull", "caRef": {"kind": "ConfigMap", "name": "pg-ca"}}
    world.changes.backend(backend(tls=ca))
    world.changes.binding(binding(baseConfigRef={"name": "base"}))
    world.seen()
    world.changes.referent(kind, "a", name)
    assert world.seen() == seen
    world.changes.referent(kind, "another-namespace", name)
    assert world.seen() == set()


def test_what_vanished_while_nobody_looked_is_noticed(world):
    listed(world, [backend()], [binding(), binding("c", stack="t")])
    world.seen()
    listed(world, [], [binding()])
    assert world.seen() == {"backend a/sql", "stack a/s", "stack a/t"}
    assert world.cache.backends == {}
    assert [b.metadata.name for b in world.cache.users_of(("a", "sql"))] == ["b"]
    listed(world, [], [binding()])
    assert world.seen() == set()


def listed(world: World, backends: list[dict[str, Any]], bindings: list[dict[str, Any]]) -> None:
    with world.changes.listing() as listing:
        listing.backends, listing.bindings = backends, bindings
        listing.namespaces = {None}


def test_what_a_watch_tells_while_everything_is_listed_is_not_undone(world):
    listed(world, [backend("old")], [binding("old")])
    with world.changes.listing() as listing:
        listing.backends, listing.bindings = [backend("old")], [binding("old")]
        listing.namespaces = {None}
        # After the API server answered, and before the answer was looked at:
        world.changes.backend(backend("new", version=7))
        world.changes.binding(binding("new", version=7))
        world.changes.backend(backend("old", version=8), deleted=True)
        world.changes.binding(binding("old", version=8), deleted=True)
        world.changes.binding(binding("back", version=9), deleted=True)
        world.changes.binding(binding("back", version=10))
    assert world.cache.keys() == {
        "StorageBackend": {("a", "new")},
        "StoreBinding": {("a", "new"), ("a", "back")},
    }
    # A listing that fails says nothing of what is gone.
    with pytest.raises(RuntimeError), world.changes.listing():
        raise RuntimeError
    assert world.cache.keys()["StorageBackend"] == {("a", "new")}


def test_of_a_namespace_that_was_not_listed_nothing_is_taken_for_gone(world):
    listed(world, [backend()], [binding()])
    for namespaces, left in (({"other"}, 1), ({"a", "other"}, 0)):
        with world.changes.listing() as listing:
            listing.namespaces = namespaces
        assert len(world.cache.bindings) == len(world.cache.backends) == left


def test_what_cannot_be_read_and_vanished_is_forgotten(world):
    broken, bad = binding(), backend()
    broken["spec"]["stores"] = [{"name": "nonsense"}]
    bad["spec"]["type"] = "sql_mysql"
    listed(world, [bad], [broken])
    assert world.cache.unreadable_of("a", "s")
    world.seen()
    listed(world, [], [])
    assert world.cache.unreadable_of("a", "s") == []
    assert world.cache.unreadable_backends == {}
    assert "backend a/sql" in world.seen()


def test_nothing_is_kept_of_what_is_gone(world):
    for number in range(20):
        world.changes.binding(binding(f"b{number}", uses=f"u{number}", stack=f"s{number}"))
        world.changes.binding(binding(f"b{number}"), deleted=True)
    assert not any(value for name, value in vars(world.cache).items() if isinstance(value, dict)), (
        vars(world.cache)
    )


def test_a_binding_that_is_being_deleted_is_no_longer_of_the_stack(world):
    going = binding()
    going["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    world.changes.binding(going)
    assert world.seen() == {"stack a/s", "backend a/sql"}
    assert world.cache.bindings_of("a", "s") == ()


def test_what_cannot_be_read_holds_its_stack_until_it_can(world):
    world.changes.binding(binding())
    world.changes.backend(backend())
    world.seen()
    broken = binding(version=2)
    broken["spec"]["stores"] = [{"name": "nonsense"}]
    world.changes.binding(broken)
    assert "stack a/s" in world.seen()
    assert len(world.cache.unreadable_of("a", "s")) == 1
    world.changes.binding(binding(version=3))
    assert "stack a/s" in world.seen()
    assert world.cache.unreadable_of("a", "s") == []
    bad = backend(version=2)
    bad["spec"]["type"] = "sql_mysql"
    world.changes.backend(bad)
    assert world.seen() == {"backend a/sql", "stack a/s"}
    assert ("a", "sql") in world.cache.unreadable_backends
    # As after a restart, when nobody knows what it was.
    assert ("a", "sql") not in world.cache.backends
    world.changes.backend(backend(version=3))
    assert world.cache.unreadable_backends == {}


def test_a_workload_concerns_the_stacks_it_runs(world):
    world.changes.binding(
        binding(consumers=[{"name": "server"}, {"kind": "OGXServer", "name": "made"}])
    )
    world.changes.binding(binding("other", stack="t"))
    world.seen()
    for kind, name in (("Deployment", "server"), ("OGXServer", "made"), ("Deployment", "made")):
        world.changes.workload(kind, "a", name)
        assert world.seen() == {"stack a/s"}, (kind, name)
    # What scales is known by its target only: any of its namespace.
    world.changes.workload("HorizontalPodAutoscaler", "a", "whatever")
    assert world.seen() == {"stack a/s"}
    for kind, namespace, name in (
        ("Deployment", "b", "server"), ("StatefulSet", "a", "server"), ("OGXServer", "a", "server"),
        ("HorizontalPodAutoscaler", "b", "whatever"),
    ):  # fmt: skip
        world.changes.workload(kind, namespace, name)
        assert world.seen() == set(), (kind, namespace, name)


def test_a_workload_that_is_no_longer_named_concerns_nobody(world):
    world.changes.binding(binding(consumers=[{"name": "server"}]))
    world.changes.binding(binding(version=2, consumers=[{"name": "new"}]))
    world.seen()
    world.changes.workload("Deployment", "a", "server")
    assert world.seen() == set()
    world.changes.workload("Deployment", "a", "new")
    assert world.seen() == {"stack a/s"}
    world.changes.binding(binding(version=3), deleted=True)
    world.seen()
    world.changes.workload("Deployment", "a", "new")
    world.changes.workload("HorizontalPodAutoscaler", "a", "x")
    assert world.seen() == set()


def space(name: str, *, ending: bool = False, **labels: str) -> dict[str, Any]:
    return {"name": name, "labels": labels} | (
        {"deletionTimestamp": "2026-01-01T00:00:00Z"} if ending else {}
    )


SELECTED = {"from": "Selector", "selector": {"matchLabels": {"stacks": "yes"}}}


def shared(**allowed: Any) -> dict[str, Any]:
    """A backend of the namespace `p` that lets others in."""
    made = backend("sql")
    made["metadata"]["namespace"] = "p"
    made["spec"]["allowedNamespaces"] = allowed
    return made


def far(version: int = 1) -> dict[str, Any]:
    made = binding(version=version)
    made["spec"]["stores"][0]["backendRef"]["namespace"] = "p"
    return made


def test_a_strangers_reference_has_the_backend_looked_at_later_only(world):
    world.changes.backend(shared(**{"from": "Same"}))
    world.seen()
    world.changes.binding(far())
    assert world.seen() == {"stack a/s"}
    assert world.later == {Look("backend", "p", "sql")}
    world.later.clear()
    world.changes.binding(far(), deleted=True)
    assert world.seen() == {"stack a/s"}
    assert world.later == {Look("backend", "p", "sql")}


def test_labels_of_a_namespace_concern_its_stacks_and_whom_they_ask(world):
    world.changes.namespace("Namespace", space("a", stacks="no"), gone=False)
    world.changes.backend(shared(**SELECTED))
    world.changes.binding(far())
    world.seen()
    world.changes.namespace("Namespace", space("a", stacks="no"), gone=False)
    world.changes.namespace("Namespace", space("b", stacks="yes"), gone=False)
    assert world.seen() == set()
    world.changes.namespace("Namespace", space("a", stacks="yes"), gone=False)
    assert world.seen() == {"stack a/s", "backend p/sql"}
    world.changes.namespace("Namespace", space("a", stacks="yes", ending=True), gone=False)
    assert world.seen() == {"stack a/s", "backend p/sql"}
    world.changes.namespace("Namespace", space("a"), gone=True)
    assert world.seen() == {"stack a/s"}
    assert world.cache.namespaces.labels("a") is None


def test_namespaces_that_become_readable_or_not_concern_who_selects(world):
    world.changes.backend(shared(**SELECTED))
    world.changes.backend(backend("other"))
    world.changes.binding(far())
    world.seen()
    world.changes.no_namespaces()
    assert world.seen() == set()
    world.changes.namespace("Namespace", space("z"), gone=False)
    assert world.seen() == {"backend p/sql", "stack a/s"}
    assert world.cache.namespaces.readable
    world.changes.no_namespaces()
    assert world.seen() == {"backend p/sql", "stack a/s"}
    assert not world.cache.namespaces.readable
    assert world.cache.namespaces.labels("z") is None
