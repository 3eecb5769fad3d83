"""Policies: what is understood, what is refused and how, and what is decided."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from stackstore.access import Action, Tenancy, User, acting_as, current_user, policy
from stackstore.access.owners import Owner
from stackstore.access.policy import DEFAULT, PRESETS, STRICT, decide
from stackstore.errors import InvalidArgumentError

ALL = ["create", "read", "update", "delete"]
ALICE = User("alice", {"roles": ["user", "dev"], "teams": ["a"]})


def said(rules, *, user=ALICE, owner=None, action=Action.READ, table="t", row_id="1"):
    """What a policy says of a row; the owner is a user's."""
    whose = None if owner is None else Owner.of(owner, None)
    return decide(policy(rules).ruling(action, table), user, whose).of(row_id)


def permit(**more):
    return [{"permit": {"actions": ALL}, **more}]


@pytest.mark.parametrize(
    ("when", "owner", "expected"),
    [
        ("user is owner", ALICE, True),
        ("user is owner", User("alice", {}), True),
        ("user is owner", User("Alice"), False),
        ("user is owner", None, False),
        ("user is not owner", ALICE, False),
        ("user is not owner", User("bob"), True),
        ("user is not owner", None, True),
        ("user with dev in roles", None, True),
        ("user with admin in roles", ALICE, False),
        ("user with dev in projects", ALICE, False),
        ("user with admin not in roles", None, True),
        ("user with dev not in roles", ALICE, False),
        ("user with x not in projects", ALICE, True),
        ("user in owners roles", User("bob", {"roles": ["x", "dev"]}), True),
        ("user in owners roles", User("bob", {"roles": ["x"]}), False),
        ("user in owners roles", User("bob", {"roles": []}), False),
        ("user in owners projects", User("bob", {"projects": ["p"]}), False),
        ("user in owners roles", None, False),
        ("user not in owners roles", User("bob", {"roles": ["x", "dev"]}), False),
        ("user not in owners roles", User("bob", {"roles": ["x"]}), True),
        ("user not in owners roles", User("bob"), True),
        ("user not in owners roles", None, True),
        ("resource is unowned", None, True),
        ("resource is unowned", ALICE, False),
        ("  user\tis\n owner ", ALICE, True),
        (["user is owner", "user with dev in roles"], ALICE, True),
        (["user is owner", "user with admin in roles"], ALICE, False),
        ([], None, True),
        (None, None, True),
    ],
)
def test_conditions(when, owner, expected):
    assert said(permit(when=when), owner=owner) is expected
    if when:
        # `unless`: where not all of it holds.
        assert said(permit(unless=when), owner=owner) is not expected


def test_the_first_rule_that_fits_decides_and_none_refuses():
    rules = [
        {"forbid": {"actions": "delete"}},
        {"permit": {"actions": ["read", "delete"]}, "when": "user is owner"},
        {"forbid": {"actions": ["read"], "principal": "alice"}},
        {"permit": {"actions": ["read"]}},
    ]
    assert not said(rules, owner=ALICE, action=Action.DELETE)
    assert said(rules, owner=ALICE)
    assert not said(rules, owner=User("bob"))
    assert said(rules, user=User("carol"), owner=User("bob"))
    assert not said(rules, owner=ALICE, action=Action.UPDATE)
    assert not said([{"permit": {"actions": []}}], owner=ALICE)


def test_the_default_is_ogxs_and_the_strict_one_wants_all_kinds():
    assert policy(None) is policy([]) is policy("default") is DEFAULT
    assert policy("strict") is STRICT is PRESETS["strict"]
    assert policy(STRICT) is STRICT
    team = User("bob", {"roles": ["dev"], "teams": ["b"]})
    for action in Action:
        assert said(None, owner=team, action=action)
        assert not said("strict", owner=team, action=action)
        assert said("strict", owner=User("bob", {"roles": ["dev"]}), action=action)
        assert said("strict", owner=User("alice", {"teams": ["z"]}), action=action)
        assert said(None, action=action) and said("strict", action=action)
        assert not said("strict", owner=User("bob"), action=action)
        assert not said("strict", owner=User("bob", {"other": ["x"]}), action=action)
        assert not said(None, owner=User("bob", {"other": ["x"]}), action=action)


@pytest.mark.parametrize(
    ("resource", "table", "row_id", "expected"),
    [
        ("sql_record::t::1", "t", "1", True),
        ("sql_record::t::1", "t", "12", False),
        ("sql_record::t::1", "u", "1", False),
        ("sql_record::*", "t", "1", True),
        ("sql_record::t::*", "t", "1", True),
        ("sql_record::t::*", "tt", "1", False),
        ("sql_record::t::a::*", "t", "a::b", True),
        ("sql_record::t::a::*", "t", "ab", False),
        ("sql_record::t::%::*", "t", "x::b", False),
        ("model::*", "t", "1", False),
        ("*", "t", "1", False),
        ("sql_rec*", "t", "1", False),
        ("sql_record::t", "t", "1", False),
        ("regex:sql_record::t::1", "t", "12", False),
        ("regex:sql_record::t::1.*", "t", "12", True),
        ("regex:.*", "t", "1\n2", True),
        ("regex:sql_record::(t|u)::[0-9]+$", "u", "12", True),
        ("regex:sql_record::(t|u)::[0-9]+$", "v", "12", False),
        ("regex:model::.*", "t", "model::", False),
    ],
)
def test_resources(resource, table, row_id, expected):
    rules = [{"permit": {"actions": "read", "resource": resource}}]
    assert said(rules, table=table, row_id=row_id) is expected
    assert not said(rules, table=table, row_id=row_id, action=Action.UPDATE)


def test_a_pattern_of_another_table_costs_nothing():
    rules = [
        {"forbid": {"actions": "read", "resource": "sql_record::u::x"}},
        {"forbid": {"actions": "read", "resource": "regex:model::.*"}},
        {"permit": {"actions": "read", "resource": "sql_record::*"}},
        {"forbid": {"actions": "read", "resource": "sql_record::t::x"}},
    ]
    ruling = policy(rules).ruling(Action.READ, "t")
    assert not ruling.calls_matches
    assert decide(ruling, ALICE, None).always
    assert decide(policy(rules).ruling(Action.UPDATE, "t"), ALICE, None).never
    # A test that would not change anything is none.
    rules = [
        {"permit": {"actions": "read", "resource": "sql_record::t::x"}},
        {"permit": {"actions": "read"}},
    ]
    assert decide(policy(rules).ruling(Action.READ, "t"), ALICE, None).always


def test_rules_may_be_objects():
    scope = SimpleNamespace(actions=[Action.READ], principal=None, resource=None)
    rule = SimpleNamespace(
        permit=scope, forbid=None, when="user is owner", unless=None, description="x"
    )
    assert said([rule], owner=ALICE)
    assert not said([rule], owner=User("bob"))


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ({}, "rule 1: it has either permit or forbid"),
        ({"permit": {"actions": "read"}, "forbid": {"actions": "read"}}, "either permit or forbid"),
        ({"permit": {"actions": "read"}, "when": "user is owner", "unless": "user is owner"}, "when or unless"),
        ({"permit": {"actions": "write"}}, "rule 1: permit.actions is one or a list of create, read, update, delete, not 'write'"),
        ({"permit": {"actions": ["read", 7]}}, "permit.actions"),
        ({"permit": {"resource": "x"}}, "permit.actions"),
        ({"forbid": {"actions": "read", "rescource": "x"}}, "forbid has no 'rescource'; allowed are actions, principal, resource"),
        ({"permit": {"actions": "read"}, "wen": "user is owner"}, "a rule has no 'wen'; allowed are permit, forbid, when, unless"),
        ({"permit": {"actions": "read", "principal": ""}}, "permit.principal is a text that is not empty"),
        ({"permit": {"actions": "read", "resource": ""}}, "permit.resource"),
        ({"permit": {"actions": "read"}, "when": "user owns it"}, "rule 1: when: 'user owns it' is no condition; there are: user is owner"),
        ({"permit": {"actions": "read"}, "unless": ["user is owner", "User Is Owner"]}, "unless: 'User Is Owner' is no condition"),
        ({"permit": {"actions": "read"}, "when": 7}, "no condition"),
        ({"permit": {"actions": "read"}, "when": "user with a b in roles"}, "no condition"),
        ({"permit": {"actions": "read", "resource": r"regex:\d+"}}, r"rule 1: permit.resource 'regex:\\d+': the escape '\d'; write [0-9]"),
        ({"permit": {"actions": "read", "resource": "regex:(?=x)"}}, "a look-ahead"),
        ({"forbid": {"actions": "read", "resource": "regex:sql_record::t::x"}}, "says where it ends"),
        ({"forbid": {"actions": "read", "resource": "regex:a$|b"}}, "says where it ends"),
        ("permit", "a rule is a mapping"),
        (None, "a rule is a mapping"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_by_the_rules_index(rule, words):
    with pytest.raises(InvalidArgumentError) as error:
        policy([{"permit": {"actions": "read"}}, rule])
    assert words in str(error.value)
    assert "rule 0" not in str(error.value)


def test_all_that_is_wrong_is_said_at_once():
    with pytest.raises(InvalidArgumentError) as error:
        policy([{}, {"permit": {"actions": "x"}, "when": "y"}, {"permit": {"actions": "read"}}, 3])
    text = str(error.value)
    assert [n for n in range(4) if f"rule {n}:" in text] == [0, 1, 3]
    assert text.count("rule 1:") == 2


@pytest.mark.parametrize("rules", ["lenient", 7, {"permit": {"actions": "read"}}, b"strict"])
def test_what_is_no_policy(rules):
    with pytest.raises(InvalidArgumentError):
        policy(rules)


@pytest.mark.parametrize("end", ["$", ".*", ".+"])
def test_a_forbidding_expression_that_says_its_end(end):
    rules = [{"forbid": {"actions": "read", "resource": f"regex:a{end}|b{end}"}}]
    assert len(policy(rules).rules) == 1


@pytest.mark.parametrize(
    "attributes",
    [{"roles": "admin"}, {"roles": [1]}, {1: ["x"]}, ["roles"], {"roles": None}, {"roles": 7}],
)
def test_attributes_of_another_shape_are_refused(attributes):
    with pytest.raises(InvalidArgumentError):
        User("alice", attributes)


def test_users_are_values():
    one = User("alice", {"b": ["y", "x", "x"], "a": [], "c": {"z"}})
    other = User("alice", {"c": ("z",), "b": ("x", "y")})
    assert one == other and hash(one) == hash(other)
    assert dict(one.attributes) == {"b": ("x", "y"), "c": ("z",)}
    assert one != User("alice", {"b": ["x"]}) != User("alice", {"b": ["x"]}, "t")
    assert User("alice", None) == User("alice")
    with pytest.raises(TypeError):
        one.attributes["b"] = ("z",)


def test_acting_as_is_for_a_block():
    assert current_user() is None
    with acting_as(ALICE) as user:
        assert user is current_user() is ALICE
        with acting_as(None):
            assert current_user() is None
        assert current_user() is ALICE
    assert current_user() is None
    with pytest.raises(InvalidArgumentError), acting_as("alice"):
        pass


@pytest.mark.parametrize("name", ["", " ", "a b", "-a", "a" * 129, "é", "a/b", 7])
def test_what_is_no_tenant(name):
    with pytest.raises(InvalidArgumentError):
        User("alice", {}, name)
    with pytest.raises(InvalidArgumentError):
        Tenancy("multi", name)


def test_tenancy():
    assert (
        User("alice", {}, " Acme-1 ").tenant_id
        == "acme-1"
        == Tenancy("single", "ACME-1").default_tenant
    )
    with pytest.raises(InvalidArgumentError, match="needs a default_tenant"):
        Tenancy("single")
    with pytest.raises(InvalidArgumentError, match="disabled, single, multi"):
        Tenancy("many")
