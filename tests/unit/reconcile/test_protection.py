"""Who uses a backend."""

from __future__ import annotations

from typing import Any

import pytest

from stackstore_operator.api.backend import StorageBackend
from stackstore_operator.api.binding import StoreBinding
from stackstore_operator.reconcile.cache import Cache, Unreadable
from stackstore_operator.reconcile.protection import Users, users

KEY = ("p", "sql")
SECONDS = "2026-01-01T00:00:{:02}Z"


def cache(deleted: int | None = None, **allowed: str) -> Cache:
    made = Cache()
    metadata: dict[str, Any] = {"name": "sql", "namespace": "p", "resourceVersion": "1"}
    if deleted is not None:
        metadata["deletionTimestamp"] = SECONDS.format(deleted)
    spec = {"type": "sql_sqlite", "sqlite": {"path": "/a"}, "allowedNamespaces": allowed}
    made.put_backend(StorageBackend.from_object({"metadata": metadata, "spec": spec}))
    return made


def refer(
    made: Cache, namespace: str, name: str, *, stack: str = "", born: int = 5, **more: Any
) -> None:
    far = {"name": "sql", "namespace": "p"}
    spec = {
        "stack": stack or name,
        "stores": [{"name": "inference", "backendRef": far, "tableName": "t"}],
    }
    metadata = {"name": name, "namespace": namespace, "resourceVersion": "1",
                "creationTimestamp": SECONDS.format(born), **more}  # fmt: skip
    made.put_binding(StoreBinding.from_object({"metadata": metadata, "spec": spec}))


def found(made: Cache) -> Users:
    return users(made, KEY, made.backends[KEY].metadata)


def test_bindings_that_may() -> None:
    made = cache(**{"from": "All"})
    assert not found(made)
    refer(made, "p", "mine")
    refer(made, "x", "theirs")
    refer(made, "x", "theirs-too")
    assert found(made) == Users(("mine",), 2)
    assert str(found(made)) == (
        "1 StoreBinding of this namespace: 'mine'; 2 StoreBindings of other namespaces"
    )


def test_a_strangers_reference_is_no_use_unless_its_login_is_still_in_force() -> None:
    made = cache(**{"from": "Same"})
    refer(made, "x", "theirs", stack="s")
    assert not found(made)
    made.note_in_force(("x", "s"), {KEY})
    assert found(made) == Users((), 1)


def test_a_stack_that_names_it_no_more_uses_it_while_its_secret_does() -> None:
    made = cache()
    refer(made, "p", "b", stack="s")
    made.note_in_force(("p", "s"), {KEY})
    made.note_in_force(("p", "s"), set())
    assert found(made)
    made.drop_binding(("p", "b"))
    assert not found(made)


@pytest.mark.parametrize(("born", "held"), [(4, True), (5, False), (6, False)])
def test_who_came_after_the_deletion_holds_nothing_up(born: int, held: bool) -> None:
    made = cache(deleted=5)
    refer(made, "p", "late", born=born)
    assert bool(found(made)) is held
    made.note_in_force(("p", "late"), {KEY})
    assert found(made), "its Secret holds the login"


def test_a_binding_that_is_going_uses_it_as_long_as_its_outputs_are_there() -> None:
    made = cache()
    refer(made, "p", "b", stack="s", deletionTimestamp=SECONDS.format(9))
    assert not found(made)
    made.note_in_force(("p", "s"), {KEY})
    assert found(made) == Users(("b",), 0)


def test_bindings_that_cannot_be_read_use_what_their_secret_holds() -> None:
    made = cache()
    refer(made, "p", "b", stack="s")
    refer(made, "x", "far", stack="s")
    made.note_in_force(("p", "s"), {KEY})
    made.note_in_force(("x", "s"), {KEY})
    for namespace, name in (("p", "b"), ("x", "far")):
        obj = {"metadata": {"namespace": namespace, "name": name}}
        made.put_unreadable_binding((namespace, name), "s", Unreadable(obj, None))  # type: ignore[arg-type]
    assert found(made) == Users(("b",), 1)
    assert not made.unseen()
    made.drop_binding(("p", "b"))
    made.drop_binding(("x", "far"))
    assert not found(made)


def test_a_backend_that_cannot_be_read_is_used_by_its_own_namespace_alone() -> None:
    made = cache(**{"from": "All"})
    refer(made, "p", "mine")
    refer(made, "x", "theirs")
    about = made.backends[KEY].metadata
    made.put_unreadable_backend(KEY, Unreadable({}, None))  # type: ignore[arg-type]
    assert users(made, KEY, about) == Users(("mine",), 0)


def test_many_are_not_all_named() -> None:
    text = str(Users(tuple(f"b{number:02}" for number in range(12)), 0))
    assert "12 StoreBindings of this namespace: 'b00'" in text
    assert text.endswith("'b09' and 2 more")


def test_stacks_that_nobody_has_looked_into_since_the_start_are_known() -> None:
    made = cache()
    assert not made.unseen()
    refer(made, "p", "b", stack="s")
    assert made.unseen()
    made.note_in_force(("p", "s"), set())
    assert not made.unseen()
    made.forget_in_force()
    assert made.unseen()
