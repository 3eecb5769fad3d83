"""The registry: merging, owners, keys that can't collide, and processes that agree."""

from __future__ import annotations

import asyncio
import logging

import pytest
from pydantic import BaseModel

from stackstore.access import AccessDeniedError, Tenancy, User, acting_as
from stackstore.errors import ConflictError, InvalidArgumentError, NotFoundError
from tests.integration.processes import together

PROCESS = "tests.integration.stores.registry.process"
ALICE = User("alice", {"teams": ["a"]})
ANN = User("ann", {"teams": ["a"]})
EVE = User("eve", {"teams": ["e"]})
READERS = [
    {"permit": {"actions": ["create", "read", "update", "delete"]}, "when": "user is owner"},
    {"permit": {"actions": "read"}, "when": "user in owners teams"},
]


class Model(BaseModel):
    """As the server's own: most fields have defaults, and the owner is one of them."""

    type: str = "model"
    identifier: str
    provider_id: str
    owner: dict | None = None
    metadata: dict = {}


def model(identifier="m", **more):
    return {"type": "model", "identifier": identifier, "provider_id": "p", **more}


async def ids(store, kind=None):
    return [one["identifier"] for one in await store.get_all(kind)]


async def test_an_object_comes_back_with_its_owner(registry):
    store = registry()
    with acting_as(ALICE):
        # Whose it is is not the caller's to say.
        made = await store.register(model(metadata={"a": "é\u0000"}, owner={"principal": "eve"}))
        assert made == model(
            metadata={"a": "é\u0000"},
            owner={"principal": "alice", "attributes": {"teams": ["a"]}, "tenant_id": None},
        )
        assert await store.get("model", "m") == made
        assert await store.register(model(owner={"principal": "eve"})) == made
        assert await store.get("vector_store", "m") is None
        assert await store.get("model", "other") is None
        await store.delete("model", "m")
        assert await store.get("model", "m") is None
        for act in (store.delete("model", "m"), store.update(model())):
            with pytest.raises(NotFoundError):
                await act
        await store.register(model(provider_id="q"))
        assert (await store.get("model", "m"))["provider_id"] == "q"


async def test_registering_again_is_no_change_where_it_says_the_same(registry):
    """As OGX: what is said now must be so; what is not said stays. No value is told."""
    store = registry()
    with acting_as(ALICE):
        made = await store.register(Model(identifier="m", provider_id="p", metadata={"k": "v"}))
        assert await store.register(Model(identifier="m", provider_id="p")) == made
        assert await store.register({"type": "model", "identifier": "m"}) == made
        with pytest.raises(ConflictError, match="'metadata', 'provider_id'") as refused:
            await store.register(model(provider_id="sk-canary", metadata={"sk": "canary"}))
        assert "canary" not in str(refused.value)
        with pytest.raises(ConflictError, match="'new'"):
            await store.register(model(metadata={"k": "v"}, new=1))
        assert await store.get("model", "m") == made


async def test_d16_what_another_process_deleted_is_gone_at_once(registry):
    """OGX returns it for ever."""
    one, other = registry(), registry()
    with acting_as(ALICE):
        await one.register(model())
        assert await other.get("model", "m") and await ids(other) == ["m"]
        await one.delete("model", "m")
        assert await other.get("model", "m") is None and await ids(other) == []
        await other.register(model(provider_id="q"))
        assert (await one.get("model", "m"))["provider_id"] == "q"


async def test_the_systems_are_seen_in_every_tenant_and_nobodys_to_change(registry):
    """N2's like: registered at each start without a user, and with tenants."""
    for _ in range(3):
        store = registry(tenancy=Tenancy("multi"))
        assert (await store.system.register(model("configured")))["owner"] is None
        for user in (User("alice", {}, "t1"), User("bob", {}, "t2")):
            with acting_as(user):
                assert await ids(store) == ["configured"]
                with pytest.raises(AccessDeniedError):
                    await store.delete("model", "configured")
                with pytest.raises(AccessDeniedError):
                    await store.update(model("configured", provider_id="evil"))
                with pytest.raises(ConflictError):
                    await store.register(model("configured", provider_id="evil"))
                assert (await store.register(model("configured")))["owner"] is None
    with pytest.raises(AccessDeniedError):
        await store.get("model", "configured")
    await store.system.update(model("configured", provider_id="q"))
    assert (await store.system.get("model", "configured"))["provider_id"] == "q"
    await store.system.delete("model", "configured")
    assert await store.system.get_all() == []


POLICIES = [
    (None, ["m1", "m2", "v"]),
    ("strict", ["m1", "m2", "v"]),
    ([{"permit": {"actions": ["create", "read"]}, "when": "user is owner"}], []),
    (
        [
            {"forbid": {"actions": "read", "resource": "model::m1"}},
            {"permit": {"actions": "read", "resource": "model::*"}},
        ],
        ["m2"],
    ),
    ([{"permit": {"actions": "read", "resource": "regex:model::m[1]"}}], ["m1"]),
    ([{"permit": {"actions": "read", "resource": "vector_store::*"}}], ["v"]),
    ([{"permit": {"actions": "read", "resource": "sql_record::*"}}], []),
]


async def test_a_policy_speaks_of_types_and_identifiers(registry):
    for name in ("m1", "m2"):
        await registry().system.register(model(name))
    await registry().system.register({"type": "vector_store", "identifier": "v"})
    for policy, seen in POLICIES:
        store = registry(policy)
        with acting_as(ALICE):
            assert await ids(store) == seen, policy
            for name in ("m1", "m2"):
                assert bool(await store.get("model", name)) == (name in seen), policy
    with acting_as(ALICE):
        # Whom a policy hides it from learns nothing of it, and may have one of that name.
        store = registry(POLICIES[2][0])
        assert (await store.register(model("m1", provider_id="q")))["provider_id"] == "q"
        assert await ids(store) == ["m1"]


async def test_strangers_see_nothing_and_readers_change_nothing(registry):
    """A4, N16: OGX's registry itself knows no owner."""
    store = registry(READERS)
    with acting_as(ALICE):
        made = await store.register(model())
    with acting_as(EVE):
        assert await store.get("model", "m") is None and await ids(store) == []
        texts = []
        for name in ("m", "n"):
            for act in (store.delete("model", name), store.update(model(name))):
                with pytest.raises(NotFoundError) as error:
                    await act
                texts.append(str(error.value).replace(f"'{name}'", "…"))
        assert texts[:2] == texts[2:]
        # A name that a stranger has is free.
        assert (await store.register(model(provider_id="eve")))["provider_id"] == "eve"
    with acting_as(ANN):
        assert await store.get("model", "m") == made
        for act in (store.delete("model", "m"), store.update(model(provider_id="ann"))):
            with pytest.raises(AccessDeniedError):
                await act
        own = await store.register(model(provider_id="ann"))
        assert await store.get("model", "m") == own and await ids(store) == ["m"]
        await store.delete("model", "m")
        assert await store.get("model", "m") == made
    with acting_as(ALICE):
        assert await store.get("model", "m") == made
    assert {one["provider_id"] for one in [await store.system.get("model", "m")]} == {"eve"}
    never = registry([{"forbid": {"actions": "create"}}, {"permit": {"actions": "read"}}])
    with acting_as(ALICE), pytest.raises(AccessDeniedError):
        await never.register(model("new"))
    assert await store.system.get("model", "new") is None


async def test_ones_own_goes_first_then_the_systems_then_the_newest(registry):
    store = registry()
    with acting_as(ANN):
        await store.register(model(provider_id="ann"))
    for name in ("bea", "cora", "dora", "amy"):
        with acting_as(User(name, {"teams": ["a"]})):
            await store.register(model(provider_id=name))
        with acting_as(ALICE):
            assert (await store.get("model", "m"))["provider_id"] == name
    with acting_as(ALICE):
        await store.system.register(model(provider_id="system"))
        assert (await store.get("model", "m"))["provider_id"] == "system"
        assert [one["provider_id"] for one in await store.get_all()] == ["system"]
    with acting_as(ANN):
        assert (await store.get("model", "m"))["provider_id"] == "ann"
        await store.update(model(provider_id="ann2"))
        await store.delete("model", "m")
        assert (await store.get("model", "m"))["provider_id"] == "system"
    with acting_as(User("amy", {"teams": ["a"]})):
        assert (await store.get("model", "m"))["provider_id"] == "amy"


async def test_tenants_are_apart_and_tenancy_is_turned_on_without_loss(registry):
    """N4, N22."""
    with acting_as(ALICE):
        made = await registry().register(model())
    store = registry(tenancy=Tenancy("multi", default_tenant="t1"))
    with acting_as(User("alice", {"teams": ["a"]}, "t1")):
        assert await store.get("model", "m") == made
        # It is her own, so it is the one that is meant.
        assert await store.register(model()) == made
        await store.register(model("late"))
    with acting_as(User("alice", {"teams": ["a"]}, "t2")):
        assert await ids(store) == []
        await store.register(model(provider_id="t2"))
        assert (await store.get("model", "m"))["provider_id"] == "t2"
    back = registry(tenancy=Tenancy("disabled", default_tenant="t1"))
    with acting_as(ALICE):
        assert await ids(back) == ["late", "m"]
        assert await ids(registry()) == ["m"]


async def test_what_was_registered_without_authorization_is_nobodys(registry):
    public = registry(auth=False)
    made = await public.register(model())
    await public.system.register(model("configured"))
    assert await ids(public) == ["configured", "m"]
    await public.update(model(provider_id="q"))
    await public.delete("model", "configured")
    store = registry()
    with acting_as(ALICE):
        assert await store.get("model", "m") is None
        assert await registry(unowned="policy").get("model", "m") == {**made, "provider_id": "q"}


async def test_identifiers_of_any_kind_never_meet(registry, place):
    names = ["a", "a:b", "a::b", "b", "a\0", "a\0b", "a\0\0", "\0", ":", "ÿ", "a\0ÿ", "a\0" + "0" * 32,
             "a\0ÿ\0" + "f" * 32, "жук", "z", "Z", "%", "_", "../a", "a b", "\U0001f600", "a\uffff"]  # fmt: skip
    store = registry()
    pairs = [(kind, name) for kind in ("model", "model2", "mode") for name in names]
    for n, (kind, name) in enumerate(pairs):
        await store.system.register({"type": kind, "identifier": name, "n": n})
        for user in (ALICE, EVE):
            with acting_as(user), pytest.raises(ConflictError):
                await store.register({"type": kind, "identifier": name, "n": user.principal})
    hidden = registry([{"permit": {"actions": ["create", "read"]}, "when": "user is owner"}])
    for kind, name in pairs:
        for user in (ALICE, EVE):
            with acting_as(user):
                await hidden.register({"type": kind, "identifier": name, "n": user.principal})
    for n, (kind, name) in enumerate(pairs):
        assert (await store.system.get(kind, name))["n"] == n
        for user in (ALICE, EVE):
            with acting_as(user):
                assert (await hidden.get(kind, name))["n"] == user.principal
    for kind in ("model", "model2", "mode"):
        found = await ids(store.system, kind)
        assert found == sorted(names, key=lambda name: name.replace("\0", "\0ÿ").encode())
    everything = await store.system.get_all()
    assert len(everything) == len(pairs)
    # The system's are where OGX has them.
    raw = place.store("registry")
    assert await raw.get("distributions:registry:v10::model:a:b") is not None


async def test_a_long_registry_is_read_in_bites(registry, monkeypatch):
    from stackstore.stores.metadata import store as module

    monkeypatch.setattr(module, "_AT_ONCE", 3)
    store = registry()
    with acting_as(ALICE):
        for n in range(9):
            await store.register(model("m" * (n + 1)))
    with acting_as(ANN):
        for n in range(4):
            await store.register(model("m" * (n + 1), provider_id="ann"))
        found = await store.get_all("model")
    assert [one["identifier"] for one in found] == ["m" * (n + 1) for n in range(9)]
    assert [one["provider_id"] for one in found] == ["ann"] * 4 + ["p"] * 5
    for n in range(9):
        await store.system.register(model("s" * (n + 1)))
    assert len(await store.system.get_all()) == 18


async def test_a_value_that_nobody_can_read_is_in_nobodys_way(registry, place, caplog):
    caplog.set_level(logging.DEBUG)
    raw = place.store("registry")
    key = "distributions:registry:v10::model:m"
    for broken in (
        "sk-canary",
        '{"object": {"sk-canary": 1}}',
        "[]",
        '{"registered": 1, "object": 5}',
    ):
        await raw.set(key, broken)
        store = registry()
        assert await store.system.get_all() == [] and await store.system.get("model", "m") is None
        await store.system.register(model())
        assert await ids(store.system) == ["m"]
    assert "left out" in caplog.text and "sk-canary" not in caplog.text


async def test_changes_of_many_at_once_are_all_told_what_became_of_them(registry):
    store = registry()
    with acting_as(ALICE):
        made = await asyncio.gather(
            *(store.register(model(n=n)) for n in range(8)), return_exceptions=True
        )
        won = [one for one in made if isinstance(one, dict)]
        assert len(won) == 1 and await store.get("model", "m") == won[0]
        assert all(isinstance(one, dict | ConflictError) for one in made)
        same = await asyncio.gather(*(store.register(model("same")) for _ in range(8)))
        assert all(one == same[0] for one in same)
        n = won[0]["n"]
        changed = await asyncio.gather(
            *(store.update(model(n=n + k), expected={"n": n}) for k in range(1, 9)),
            return_exceptions=True,
        )
        assert [isinstance(one, dict) for one in changed].count(True) == 1
        assert all(isinstance(one, dict | ConflictError) for one in changed)
        gone = await asyncio.gather(
            *(store.delete("model", "m") for _ in range(8)), return_exceptions=True
        )
        assert gone.count(None) == 1
        assert all(one is None or isinstance(one, NotFoundError) for one in gone)


async def test_what_changes_meanwhile_is_looked_at_again(registry):
    """Each writes only as long as what it decided about is there."""
    store = registry(READERS)
    kv = store._kv
    real, pending = kv.compare_and_set, []

    async def meanwhile(*arguments):
        while pending:
            await pending.pop()
        return await real(*arguments)

    kv.compare_and_set = meanwhile
    other = registry(READERS)
    with acting_as(ALICE):
        pending.append(other.register(model(provider_id="first")))
        with pytest.raises(ConflictError):
            await store.register(model(provider_id="second"))
        assert (await store.get("model", "m"))["provider_id"] == "first"
        pending.append(other.update(model(provider_id="q", n=2)))
        with pytest.raises(ConflictError, match="'provider_id'"):
            await store.update(model(n=1), expected={"provider_id": "first"})
        assert (await store.get("model", "m"))["n"] == 2
        pending.append(other.update(model(provider_id="r")))
        await store.delete("model", "m")
        assert await store.get("model", "m") is None
        await store.register(model())
        pending.append(other.delete("model", "m"))
        with pytest.raises(NotFoundError):
            await store.update(model(n=3))
        assert await store.get("model", "m") is None
    assert not pending


async def test_processes_that_register_the_same_agree(place, registry):
    await place.store("registry").get("x")
    address = place.description()
    del address["dialect"]
    counted = await together(PROCESS, address, [{}] * 2)
    assert [won + lost for won, lost in counted] == [30, 30]
    assert sum(won for won, _ in counted) == 30
    store = registry()
    with acting_as(User("alice")):
        for n in range(30):
            found = await store.get("model", f"m{n}")
            assert found["metadata"] == {"p0": n, "p1": n}
    assert len(await store.system.get_all()) == 60


async def test_impossible_objects_are_refused_without_their_content(registry, caplog):
    caplog.set_level(logging.DEBUG)
    store = registry()
    with acting_as(ALICE):
        for bad in (
            "sk-canary",
            {"identifier": "sk-canary"},
            {"type": "model"},
            {"type": "", "identifier": "sk-canary"},
            {"type": "a:b", "identifier": "sk-canary"},
            {"type": 5, "identifier": "sk-canary"},
            {"type": "model", "identifier": ""},
            {"type": "model", "identifier": 5},
            {"type": "model", "identifier": "sk-canary" * 300},
            {"type": "model", "identifier": "m", "x": float("nan")},
            {"type": "model", "identifier": "m", "sk-canary": object()},
        ):
            with pytest.raises(InvalidArgumentError) as error:
                await store.register(bad)
            assert "sk-canary" not in str(error.value)
        for kind, name in (("", "m"), ("a:b", "m"), ("model", ""), (None, "m"), ("model", None)):
            with pytest.raises(InvalidArgumentError):
                await store.get(kind, name)
        with pytest.raises(InvalidArgumentError):
            await store.get_all("a:b")
        with pytest.raises(ConflictError, match="'provider_id'") as error:
            await store.register(model())
            await store.update(model(), expected={"provider_id": "sk-canary"})
        assert "sk-canary" not in str(error.value)
    assert "sk-canary" not in caplog.text
