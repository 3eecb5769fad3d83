"""Connectors: the configuration's, which all see and none changes, and the users'."""

from __future__ import annotations

import asyncio
import logging

import pytest
from pydantic import BaseModel

from stackstore.access import AccessDeniedError, AuthorizedSqlStore, Tenancy, User, acting_as
from stackstore.errors import ConflictError, InvalidArgumentError, NotFoundError
from stackstore.sql import SqlStore
from stackstore.stores.connectors import ConnectorsStore
from tests.integration.stores.records.conftest import ALICE, ANN, EVE, READERS

CONFIGURED = [
    {"connector_id": "maps", "connector_type": "mcp", "url": "http://maps/mcp"},
    {"connector_id": "mail", "url": "http://mail/mcp", "server_label": "Mail"},
]


@pytest.fixture
def connectors(authorized):
    return ConnectorsStore(authorized(), "my_connectors")


def ids(listing):
    return [one["connector_id"] for one in listing.data]


async def test_a_connector_comes_back_as_it_went_in(connectors, place):
    with acting_as(ALICE):
        made = await connectors.register_connector("x", "mcp", "http://x", server_label="X")
        assert made == {
            "connector_id": "x",
            "connector_type": "mcp",
            "url": "http://x",
            "server_label": "X",
            "server_name": None,
            "server_description": None,
            "server_version": None,
        }
        assert await connectors.get_connector("x") == made
        # The same once more, or otherwise: it is one's own, so it changes.
        await connectors.register_connector("x", "mcp", "http://x", server_label="X")
        after = await connectors.register_connector("x", "mcp", "http://y")
        assert await connectors.get_connector("x") == after
        # N18: the table is the one that the run config names.
        assert await place.sql("SELECT id FROM @my_connectors") == [("x",)]
        await connectors.unregister_connector("x")
        for method in (connectors.get_connector, connectors.unregister_connector):
            with pytest.raises(NotFoundError):
                await method("x")


async def test_n2_the_configurations_are_there_at_each_start_in_every_tenant(place):
    """OGX writes them without a tenant: nobody sees them, and the second start fails."""
    for start in range(3):
        sql = SqlStore(place.pool())
        store = ConnectorsStore(AuthorizedSqlStore(sql, tenancy=Tenancy("multi")), "connectors")
        store.register_configured(CONFIGURED)
        for user in (User("alice", {}, "t1"), User("bob", {}, "t2")):
            with acting_as(user):
                there = ["mail", "maps", *(["own"] if start == 2 else [])]
                assert ids(await store.list_connectors()) == there
                found = await store.get_connector("mail")
                assert found["server_label"] == "Mail" and found["connector_type"] == "mcp"
                if start == 1:
                    await store.register_connector("own", "mcp", f"http://{user.principal}")
                elif start == 2:
                    own = await store.get_connector("own")
                    assert own["url"] == f"http://{user.principal}"


async def test_the_configurations_are_nobodys_to_change(connectors):
    connectors.register_configured(CONFIGURED)
    with acting_as(ALICE):
        with pytest.raises(AccessDeniedError, match="configuration"):
            await connectors.unregister_connector("maps")
        with pytest.raises(ConflictError, match="configuration"):
            await connectors.register_connector("maps", "mcp", "http://evil")
        same = await connectors.register_connector("maps", "mcp", "http://maps/mcp")
        assert await connectors.get_connector("maps") == same
        # A caller's copy is the caller's.
        same["url"] = "http://evil"
        (await connectors.list_connectors()).data[0]["url"] = "http://evil"
        assert (await connectors.get_connector("maps"))["url"] == "http://maps/mcp"
        assert (await connectors.get_connector("mail"))["url"] == "http://mail/mcp"
    with pytest.raises(AccessDeniedError):
        await connectors.get_connector("maps")
    with pytest.raises(AccessDeniedError):
        await connectors.list_connectors()
    connectors.register_configured([])
    with acting_as(ALICE):
        assert ids(await connectors.list_connectors()) == []


POLICIES = [
    (None, ["mail", "maps"]),
    ("strict", ["mail", "maps"]),
    ([{"permit": {"actions": "read"}, "when": "user is owner"}], []),
    (
        [
            {"forbid": {"actions": "read", "resource": "sql_record::c::mail"}},
            {"permit": {"actions": "read"}, "when": "resource is unowned"},
        ],
        ["maps"],
    ),
]


async def test_a_policy_decides_about_the_configurations_as_about_what_is_unowned(authorized):
    for policy, seen in POLICIES:
        connectors = ConnectorsStore(authorized(policy), "c")
        connectors.register_configured(CONFIGURED)
        with acting_as(ALICE):
            assert ids(await connectors.list_connectors()) == seen, policy
            for name in {"mail", "maps"} - set(seen):
                with pytest.raises(NotFoundError):
                    await connectors.get_connector(name)


async def test_without_authorization_all_is_everybodys(authorized):
    connectors = ConnectorsStore(authorized(auth=False), "c")
    connectors.register_configured(CONFIGURED)
    await connectors.register_connector("own", "mcp", "http://own")
    assert ids(await connectors.list_connectors()) == ["mail", "maps", "own"]


async def test_strangers_see_nothing_and_readers_change_nothing(authorized):
    connectors = ConnectorsStore(authorized(READERS), "c")
    with acting_as(ALICE):
        made = await connectors.register_connector("x", "mcp", "http://x")
    with acting_as(EVE):
        assert ids(await connectors.list_connectors()) == []
        texts = []
        for name in ("x", "y"):
            for act in (connectors.get_connector, connectors.unregister_connector):
                with pytest.raises(NotFoundError) as error:
                    await act(name)
                texts.append(str(error.value).replace(f"'{name}'", "…"))
        assert texts[:2] == texts[2:]
        await connectors.register_connector("x", "mcp", "http://evil")
    with acting_as(ANN):
        assert await connectors.get_connector("x") == made
        with pytest.raises(AccessDeniedError):
            await connectors.unregister_connector("x")
        # A4: one's own of the same id is another one, and goes first.
        own = await connectors.register_connector("x", "mcp", "http://ann")
        assert await connectors.get_connector("x") == own
        assert (await connectors.list_connectors()).data == [own]
        await connectors.unregister_connector("x")
        assert await connectors.get_connector("x") == made
    with acting_as(ALICE):
        assert await connectors.get_connector("x") == made


async def test_a_team_mates_of_the_same_id_stays_when_ones_own_goes(connectors):
    for user in (ALICE, ANN):
        with acting_as(user):
            await connectors.register_connector("x", "mcp", f"http://{user.principal}")
    with acting_as(User("amy", {"teams": ["a"]})):
        # She has none: of theirs it is the newest.
        assert (await connectors.get_connector("x"))["url"] == "http://ann"
    with acting_as(ALICE):
        await connectors.unregister_connector("x")
        assert (await connectors.get_connector("x"))["url"] == "http://ann"
        # That one she may delete too.
        await connectors.unregister_connector("x")
        with pytest.raises(NotFoundError):
            await connectors.get_connector("x")


async def test_pages_go_through_both_kinds_by_id(connectors):
    connectors.register_configured(
        {"connector_id": f"c{n}", "url": "http://c"} for n in range(0, 20, 3)
    )
    mine = [f"c{n}" for n in range(20) if n % 3 and n % 2]
    both = [f"c{n}" for n in range(20) if n % 5 == 0 and n % 3]
    for user, names in ((ALICE, mine), (ANN, both)):
        with acting_as(user):
            for name in names:
                await connectors.register_connector(name, "mcp", f"http://{user.principal}")
    wanted = sorted({*mine, *both, *(f"c{n}" for n in range(0, 20, 3))})
    for user, limit in ((ALICE, 1), (ANN, 2), (ALICE, 5), (ANN, 14), (ALICE, 1000)):
        with acting_as(user):
            seen, after = [], None
            while True:
                page = await connectors.list_connectors(after=after, limit=limit)
                assert len(page.data) == limit or not page.has_more
                for one in page.data:
                    assert one == await connectors.get_connector(one["connector_id"])
                seen += ids(page)
                if not page.has_more:
                    break
                after = page.last_id
                assert page.first_id == page.data[0]["connector_id"]
            assert seen == wanted
    with acting_as(ALICE):
        for limit in (0, -1, True, "5"):
            with pytest.raises(InvalidArgumentError):
                await connectors.list_connectors(limit=limit)


async def test_one_user_registering_in_many_places_has_one(connectors, place):
    with acting_as(ALICE):
        await asyncio.gather(
            *(connectors.register_connector("x", "mcp", f"http://{n}") for n in range(8))
        )
        assert len((await connectors.list_connectors()).data) == 1
    assert await place.sql("SELECT count(*) FROM @my_connectors") == [(1,)]


async def test_models_are_taken_and_impossible_ones_refused_without_their_content(
    connectors, caplog
):
    caplog.set_level(logging.DEBUG)

    class Input(BaseModel):
        connector_id: str
        url: str
        connector_type: str = "mcp"
        server_label: str | None = None

    connectors.register_configured([Input(connector_id="m", url="http://m")])
    canary = "http://user:sk-canary@host"
    for bad in (
        [{"connector_id": "a"}],
        [{"url": canary}],
        [{"connector_id": "", "url": canary}],
        [{"connector_id": "a", "url": 1}],
        [{"connector_id": "a", "url": canary, "server_label": 1}],
        [{"connector_id": "a", "url": canary, "server_labl": "x"}],
        [{"connector_id": "a", "url": canary}] * 2,
        [canary],
    ):
        with pytest.raises(InvalidArgumentError) as error:
            connectors.register_configured(bad)
        assert "sk-canary" not in str(error.value)
    with acting_as(ALICE):
        # What was there stays where the new ones can't be used.
        assert ids(await connectors.list_connectors()) == ["m"]
        for bad in (("", "mcp", "u"), ("x", "", "u"), ("x", "mcp", ""), (None, "mcp", canary)):
            with pytest.raises(InvalidArgumentError) as error:
                await connectors.register_connector(*bad)
            assert "sk-canary" not in str(error.value)
    assert "sk-canary" not in caplog.text
