"""What is in no table, what is the system's, and as whom a process goes on with what users began."""

from __future__ import annotations

import pytest

from stackstore.access import AccessDeniedError, Action, Tenancy, User, acting_as
from stackstore.access.access import Access
from stackstore.access.owners import Owner

ALICE = User("alice", {"teams": ["a"]})


def test_names_of_another_kind_are_no_names_of_rows():
    rules = [
        {"permit": {"actions": "read", "resource": "model::a::*"}},
        {"permit": {"actions": "read", "resource": "sql_record::model::b"}},
    ]
    access = Access(rules)
    with acting_as(ALICE):
        asker = access.asker()
    owner = Owner(None, "alice")
    models = access.question_within(Action.READ, "model::", asker).decision(owner)
    rows = access.question(Action.READ, "model", asker).decision(owner)
    assert [models.of(name) for name in ("a::x", "a", "b")] == [True, False, False]
    assert [rows.of(name) for name in ("a::x", "a", "b")] == [False, False, True]


@pytest.mark.parametrize("unowned", ["deny", "policy"])
def test_the_systems_is_there_in_every_tenant_and_decided_as_unowned(unowned):
    own = [{"permit": {"actions": "read"}, "when": "user is owner"}]
    for rules, seen in ((None, True), ("strict", True), (own, False)):
        access = Access(rules, tenancy=Tenancy("multi"), unowned=unowned)
        for tenant in ("t1", "t2"):
            with acting_as(User("alice", {}, tenant)):
                question = access.question(Action.READ, "t", access.asker())
            assert question.of_system.of("x") is seen
    access = Access(own, auth=False)
    assert access.question(Action.READ, "t", access.asker()).of_system.of("x")


MULTI = Tenancy("multi")
SINGLE = Tenancy("single", default_tenant="t")
MOVED = Tenancy("multi", default_tenant="t")
BACK = Tenancy("disabled", default_tenant="t")


@pytest.mark.parametrize(
    ("tenancy", "tenant", "goes_on"),
    [
        (None, None, True),
        (None, "t", False),
        (MULTI, "t", True),
        (MULTI, None, False),
        (SINGLE, None, True),
        (SINGLE, "t", True),
        (SINGLE, "u", False),
        (MOVED, None, True),
        (MOVED, "u", True),
        (BACK, "t", True),
        (BACK, None, True),
        (BACK, "u", False),
    ],
)
def test_it_goes_on_as_the_owner_where_he_would_see_it(tenancy, tenant, goes_on):
    access = Access(tenancy=tenancy)
    owner = Owner(tenant, "alice", {"teams": frozenset(["a"])})
    if not goes_on:
        with pytest.raises(AccessDeniedError):
            access.user_of(owner)
        return
    user = access.user_of(owner)
    assert (user.principal, user.attributes) == ("alice", ALICE.attributes)
    with acting_as(user):
        asker = access.asker()
    assert access.question(Action.READ, "t", asker).decision(owner).always


def test_nobodys_has_nobody_to_go_on_as_but_without_authorization():
    with pytest.raises(AccessDeniedError):
        Access().user_of(Owner())
    open_to_all = Access(auth=False)
    assert open_to_all.user_of(Owner()) is None
    assert open_to_all.user_of(Owner(None, "alice")) is None
    with pytest.raises(AccessDeniedError):
        open_to_all.user_of(Owner("t", "alice"))
