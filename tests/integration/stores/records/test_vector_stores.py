"""Vector stores: files with their contents in order, counts that follow, and whose all of it is."""

from __future__ import annotations

import asyncio
import logging

import pytest

from stackstore.access import AccessDeniedError, Tenancy, User, acting_as
from stackstore.errors import ConflictError, InvalidArgumentError, NotFoundError
from stackstore.stores import clock
from stackstore.stores.vector_stores import VectorStoresStore
from tests.integration.stores.records.conftest import ALICE, ANN, EVE, READERS

UPDATERS = [
    {"permit": {"actions": ["create", "read", "update", "delete"]}, "when": "user is owner"},
    {"permit": {"actions": ["read", "update"]}, "when": "user with e in teams"},
]
"""Team e may work in everybody's vector stores, and nobody sees what is team e's."""


@pytest.fixture
def stores(authorized):
    return VectorStoresStore(authorized(), "my_vs")


def chunks(count, word="chunk"):
    return [{"content": f"{word} {n}", "n": n} for n in range(count)]


async def rows(place, part):
    ((count,),) = await place.sql(f"SELECT count(*) FROM @my_vs{part}")
    return count


def counts(store):
    return {name: count for name, count in store["file_counts"].items() if count}


async def test_a_vector_store_comes_back_as_it_went_in(stores, place):
    with acting_as(ALICE):
        made = await stores.create_vector_store({"name": "n", "metadata": {"a": "é\u0000"}, "x": 1})
        assert made["id"].startswith("vs_") and made["object"] == "vector_store"
        assert made["status"] == "completed" and made["usage_bytes"] == 0 and made["x"] == 1
        assert made["file_counts"] == dict.fromkeys(
            ("in_progress", "completed", "cancelled", "failed", "total"), 0
        )
        assert await stores.retrieve_vector_store(made["id"]) == made
        # N18: the tables are those that the run config names.
        assert await place.sql("SELECT id FROM @my_vs") == [(made["id"],)]
        after = await stores.update_vector_store(made["id"], {"name": "m", "last_active_at": 5})
        assert after == {**made, "name": "m", "last_active_at": 5}
        deleted = await stores.delete_vector_store(made["id"])
        assert deleted == {"id": made["id"], "object": "vector_store.deleted", "deleted": True}
        for act in (stores.retrieve_vector_store, stores.delete_vector_store, stores.list_files):
            with pytest.raises(NotFoundError):
                await act(made["id"])


async def test_saving_makes_or_replaces_but_counts_stay(stores):
    with acting_as(ALICE):
        made = await stores.save_vector_store({"id": "vs", "name": "a", "created_at": 5})
        await stores.attach_file("vs", "f", {"status": "completed", "usage_bytes": 7})
        after = await stores.save_vector_store(
            {"id": "vs", "name": "b", "file_counts": {"total": 9}}
        )
        assert (after["name"], after["created_at"], after["usage_bytes"]) == ("b", 5, 7)
        assert counts(after) == {"completed": 1, "total": 1}
        assert await stores.retrieve_vector_store("vs") == after
        assert made["usage_bytes"] == 0
        with pytest.raises(ConflictError):
            await stores.create_vector_store({"id": "vs"})
        await asyncio.gather(*(stores.save_vector_store({"id": "new", "n": n}) for n in range(6)))
        assert len((await stores.list_vector_stores()).data) == 2


async def test_contents_keep_their_order_and_leave_no_tail(stores, place):
    """K12, N7: OGX reads 0, 1, 10, 11, 2 …, and keeps the old tail."""
    with acting_as(ALICE):
        await stores.create_vector_store({"id": "vs"})
        file = await stores.attach_file("vs", "f", {"status": "completed"}, chunks(123))
        assert file["id"] == "f" and file["vector_store_id"] == "vs"
        assert await stores.file_contents("vs", "f") == chunks(123)
        # A longer id that begins the same is another file.
        await stores.attach_file("vs", "f1", {}, chunks(11, "other"))
        again = await stores.attach_file("vs", "f", {"status": "failed"}, chunks(12, "new"))
        assert again["created_at"] == file["created_at"]
        assert await stores.file_contents("vs", "f") == chunks(12, "new")
        assert await stores.file_contents("vs", "f1") == chunks(11, "other")
        assert await rows(place, "__file_contents") == 23
        await stores.attach_file("vs", "f", {})
        assert await stores.file_contents("vs", "f") == []
        assert await rows(place, "__files") == 2


async def test_counts_follow_the_files(stores):
    with acting_as(ALICE):
        await stores.create_vector_store({"id": "vs"})
        await stores.attach_file("vs", "f1", {"usage_bytes": 10, "status": "completed"})
        await stores.attach_file("vs", "f2", {})
        store = await stores.retrieve_vector_store("vs")
        assert counts(store) == {"completed": 1, "in_progress": 1, "total": 2}
        # Attached twice is there once.
        await stores.attach_file("vs", "f1", {"usage_bytes": 4, "status": "failed"})
        await stores.update_file("vs", "f2", {"status": "completed", "usage_bytes": 3})
        store = await stores.retrieve_vector_store("vs")
        assert counts(store) == {"completed": 1, "failed": 1, "total": 2}
        assert store["usage_bytes"] == 7
        deleted = await stores.delete_file("vs", "f1")
        assert deleted == {"id": "f1", "object": "vector_store.file.deleted", "deleted": True}
        store = await stores.retrieve_vector_store("vs")
        assert counts(store) == {"completed": 1, "total": 1} and store["usage_bytes"] == 3
        for act in (stores.retrieve_file, stores.delete_file, stores.file_contents):
            with pytest.raises(NotFoundError):
                await act("vs", "f1")
        with pytest.raises(NotFoundError):
            await stores.update_file("vs", "f1", {"status": "failed"})


async def test_many_at_once_are_all_counted(stores):
    with acting_as(ALICE):
        await stores.create_vector_store({"id": "vs", "name": "n"})
        await asyncio.gather(
            *(
                stores.attach_file("vs", f"f{n % 12}", {"status": "completed", "usage_bytes": 5}, chunks(3, str(n)))
                for n in range(16)
            ),
            *(stores.update_vector_store("vs", {f"field{n}": n}) for n in range(6)),
        )  # fmt: skip
        store = await stores.retrieve_vector_store("vs")
        assert counts(store) == {"completed": 12, "total": 12}
        assert store["usage_bytes"] == 60
        assert {f"field{n}": n for n in range(6)}.items() <= store.items()
        for n in range(12):
            found = await stores.file_contents("vs", f"f{n}")
            # Of two at once it is one's whole.
            assert found in [chunks(3, str(m)) for m in range(n, 16, 12)]
        await asyncio.gather(
            *(stores.update_file("vs", "f0", {"attributes": {"n": n}, f"field{n}": n}) for n in range(6)),
            *(stores.delete_file("vs", f"f{n}") for n in range(1, 6)),
        )  # fmt: skip
        file = await stores.retrieve_file("vs", "f0")
        assert {f"field{n}": n for n in range(6)}.items() <= file.items()
        store = await stores.retrieve_vector_store("vs")
        assert counts(store) == {"completed": 7, "total": 7} and store["usage_bytes"] == 35


async def test_deleting_one_deletes_all_that_is_in_it(stores, place):
    """N7, last part: OGX leaves files, contents and batches behind."""
    with acting_as(ALICE):
        for store_id in ("vs", "other"):
            await stores.create_vector_store({"id": store_id})
            for n in range(3):
                await stores.attach_file(store_id, f"f{n}", {}, chunks(4))
            await stores.create_file_batch(store_id, ["f0"])
        await stores.delete_vector_store("vs")
        assert [await rows(place, part) for part in ("", "__files", "__file_contents", "__file_batches")] == [1, 3, 12, 1]  # fmt: skip
        # One made anew under the same id has nothing of the old one.
        await stores.create_vector_store({"id": "vs"})
        assert (await stores.list_files("vs")).data == []


async def test_deleted_while_files_are_attached_nothing_is_left(stores, place):
    with acting_as(ALICE):
        for round_ in range(5):
            await stores.create_vector_store({"id": f"vs{round_}"})
            ended = await asyncio.gather(
                *(stores.attach_file(f"vs{round_}", f"f{n}", {}, chunks(2)) for n in range(4)),
                stores.create_file_batch(f"vs{round_}", ["f"]),
                stores.delete_vector_store(f"vs{round_}"),
                return_exceptions=True,
            )
            assert all(isinstance(one, dict | NotFoundError) for one in ended), ended
            assert isinstance(ended[-1], dict)
    assert [await rows(place, part) for part in ("", "__files", "__file_contents", "__file_batches")] == [0, 0, 0, 0]  # fmt: skip


@pytest.mark.parametrize("order", ["asc", "desc"])
async def test_pages_show_each_once_whatever_the_ties(stores, order):
    with acting_as(ALICE):
        await stores.create_vector_store({"id": "v0", "created_at": 5})
        for n in range(1, 7):
            await stores.create_vector_store({"id": f"v{n}", "created_at": 5 + n // 3})
            status = "failed" if n % 2 else "completed"
            await stores.attach_file("v0", f"f{n}", {"status": status, "created_at": 5 + n // 3})

        async def walk(page, **more):
            seen, after = [], None
            while True:
                found = await page(limit=2, order=order, after=after, **more)
                seen += [one["id"] for one in found.data]
                if not found.has_more:
                    return seen if order == "asc" else seen[::-1]
                after = found.last_id

        async def files(**more):
            return await stores.list_files("v0", **more)

        assert await walk(stores.list_vector_stores) == [f"v{n}" for n in range(7)]
        assert await walk(files) == [f"f{n}" for n in range(1, 7)]
        assert await walk(files, filter="failed") == ["f1", "f3", "f5"]
        batch = await stores.create_file_batch("v0", ["f5", "f1", "f2", "missing"])

        async def batched(**more):
            return await stores.list_files_in_file_batch(batch["id"], "v0", **more)

        assert await walk(batched) == ["f1", "f2", "f5"]
        assert await walk(batched, filter="completed") == ["f2"]
        page = await files(limit=2, order=order, before="f4")
        assert [one["id"] for one in page.data] == (
            ["f2", "f3"] if order == "asc" else ["f6", "f5"]
        )
        page = await stores.list_vector_stores(limit=2, order=order, before="v3")
        assert [one["id"] for one in page.data] == (
            ["v1", "v2"] if order == "asc" else ["v5", "v4"]
        )
        first = await files(limit=3, order=order)
        await stores.delete_file("v0", first.last_id)
        rest = await files(limit=3, order=order, cursor=first.next_cursor)
        assert len({one["id"] for one in first.data + rest.data}) == 6


async def test_parts_are_whose_the_whole_is(authorized, place):
    """Somebody else may attach a file; it is her vector store's, so she sees and deletes it."""
    stores = VectorStoresStore(authorized(UPDATERS), "my_vs")
    with acting_as(ALICE):
        await stores.create_vector_store({"id": "vs"})
    with acting_as(EVE):
        await stores.attach_file("vs", "f", {"status": "completed"}, chunks(2))
        await stores.create_file_batch("vs", ["f"])
        with pytest.raises(AccessDeniedError):
            await stores.delete_vector_store("vs")
    with acting_as(ALICE):
        assert await stores.file_contents("vs", "f") == chunks(2)
        assert counts(await stores.retrieve_vector_store("vs")) == {"completed": 1, "total": 1}
        await stores.delete_vector_store("vs")
    assert [await rows(place, part) for part in ("__files", "__file_contents", "__file_batches")] == [0, 0, 0]  # fmt: skip


async def test_strangers_see_nothing_and_readers_change_nothing(authorized):
    stores = VectorStoresStore(authorized(READERS), "my_vs")
    with acting_as(ALICE):
        made = await stores.create_vector_store({"id": "vs"})
        await stores.attach_file("vs", "f", {"status": "completed"}, chunks(2))
        batch = (await stores.create_file_batch("vs", ["f"]))["id"]
        store = await stores.retrieve_vector_store("vs")
    reads = [
        stores.retrieve_vector_store,
        stores.list_files,
        lambda one: stores.retrieve_file(one, "f"),
        lambda one: stores.file_contents(one, "f"),
        lambda one: stores.retrieve_file_batch(batch, one),
        lambda one: stores.list_files_in_file_batch(batch, one),
    ]
    writes = [
        stores.delete_vector_store,
        lambda one: stores.save_vector_store({"id": one}),
        lambda one: stores.update_vector_store(one, {"name": "evil"}),
        lambda one: stores.attach_file(one, "f", {}, chunks(1, "evil")),
        lambda one: stores.update_file(one, "f", {"attributes": {}}),
        lambda one: stores.delete_file(one, "f"),
        lambda one: stores.create_file_batch(one, ["f"]),
        lambda one: stores.update_file_batch(batch, one, {"status": "failed"}),
        lambda one: stores.cancel_file_batch(batch, one),
        lambda one: stores.claim_file_batch(batch, one),
    ]
    with acting_as(ANN):
        for ask in reads:
            await ask("vs")
        for act in writes:
            with pytest.raises(AccessDeniedError):
                await act("vs")
    with acting_as(EVE):
        assert (await stores.list_vector_stores()).data == []
        texts = {}
        for store_id in ("vs", "no"):
            for number, act in enumerate([*reads, *writes]):
                if number == len(reads) + 1:
                    continue
                with pytest.raises(NotFoundError) as error:
                    await act(store_id)
                texts.setdefault(store_id, []).append(
                    str(error.value).replace(f"'{store_id}'", "…")
                )
        assert texts["vs"] == texts["no"]
    for act in [*reads, *writes]:
        with pytest.raises(AccessDeniedError):
            await act("vs")
    with acting_as(ALICE):
        assert await stores.retrieve_vector_store("vs") == store
        assert await stores.file_contents("vs", "f") == chunks(2)
        assert (await stores.retrieve_file_batch(batch, "vs"))["status"] == "in_progress"
        assert made["id"] == "vs"


async def test_two_users_stores_of_one_id_share_nothing(authorized):
    stores = VectorStoresStore(authorized(), "my_vs")
    for user in (ALICE, ANN, EVE):
        with acting_as(user):
            await stores.create_vector_store({"id": "vs", "name": user.principal})
            await stores.attach_file("vs", "f", {}, chunks(2, user.principal))
    with acting_as(ANN):
        # She sees alice's too, but her own goes first.
        await stores.update_vector_store("vs", {"name": "new"})
        await stores.delete_file("vs", "f")
    with acting_as(ALICE):
        assert (await stores.retrieve_vector_store("vs"))["name"] == "alice"
        assert await stores.file_contents("vs", "f") == chunks(2, "alice")
        await stores.delete_vector_store("vs")
        assert (await stores.retrieve_vector_store("vs"))["name"] == "new"
    with acting_as(EVE):
        assert await stores.file_contents("vs", "f") == chunks(2, "eve")


async def test_tenancy_is_turned_on_without_anything_being_lost_or_shown(authorized):
    """N4, N22."""
    with acting_as(ALICE):
        await VectorStoresStore(authorized(), "my_vs").attach_file(
            (await VectorStoresStore(authorized(), "my_vs").create_vector_store({"id": "vs"}))[
                "id"
            ],
            "f",
            {},
            chunks(2),
        )
    stores = VectorStoresStore(authorized(tenancy=Tenancy("multi", default_tenant="t1")), "my_vs")
    with acting_as(User("alice", {"teams": ["a"]}, "t1")):
        assert await stores.file_contents("vs", "f") == chunks(2)
        await stores.attach_file("vs", "g", {})
    with acting_as(User("alice", {"teams": ["a"]}, "t2")):
        with pytest.raises(NotFoundError):
            await stores.retrieve_file("vs", "f")
        await stores.create_vector_store({"id": "vs"})
        assert (await stores.list_files("vs")).data == []
    back = VectorStoresStore(authorized(tenancy=Tenancy("disabled", default_tenant="t1")), "my_vs")
    with acting_as(ALICE):
        assert [one["id"] for one in (await back.list_files("vs")).data] == ["g", "f"]


async def test_a_batch_ends_once(stores):
    with acting_as(ALICE):
        await stores.create_vector_store({"id": "vs"})
        await stores.create_vector_store({"id": "other"})
        made = await stores.create_file_batch(
            "vs", ["a", "b"], attributes={"k": "v"}, chunking_strategy={"type": "auto"}
        )
        assert made["file_counts"]["in_progress"] == made["file_counts"]["total"] == 2
        assert made["chunking_strategy"] == {"type": "auto"} and made["attributes"] == {"k": "v"}
        assert made["expires_at"] == made["created_at"] + 7 * 24 * 3600
        assert await stores.retrieve_file_batch(made["id"], "vs") == made
        with pytest.raises(NotFoundError):
            await stores.retrieve_file_batch(made["id"], "other")
        for _ in range(8):
            batch = (await stores.create_file_batch("vs", ["a"]))["id"]
            ended = await asyncio.gather(
                stores.cancel_file_batch(batch, "vs"),
                stores.update_file_batch(batch, "vs", {"status": "completed", "x": 1}),
                return_exceptions=True,
            )
            (error,) = [one for one in ended if isinstance(one, Exception)]
            assert isinstance(error, ConflictError)
            after = await stores.retrieve_file_batch(batch, "vs")
            assert after["status"] == ("completed" if ended[0] is error else "cancelled")
            assert ("x" in after) == (after["status"] == "completed")
        cancelled = await stores.cancel_file_batch(made["id"], "vs")
        assert await stores.cancel_file_batch(made["id"], "vs") == cancelled
        with pytest.raises(ConflictError):
            await stores.update_file_batch(made["id"], "vs", {"status": "in_progress"})
        with pytest.raises(ConflictError, match="'x'"):
            await stores.update_file_batch(batch, "vs", {"y": 1}, expected={"x": 7})
        with pytest.raises(ConflictError, match="'name'"):
            await stores.update_vector_store("vs", {"name": "b"}, expected={"name": "a"})
        await stores.attach_file("vs", "f", {})
        with pytest.raises(ConflictError, match="'status'"):
            await stores.update_file("vs", "f", {}, expected={"status": "completed"})


async def test_a_file_batch_is_gone_on_with_as_who_began_it_not_as_the_vector_stores_owner(
    authorized,
):
    mate = User("mate", ALICE.attributes)
    stores = VectorStoresStore(authorized(), "my_vs")
    with acting_as(ALICE):
        await stores.create_vector_store({"id": "vs"})
    with acting_as(mate):
        began = (await stores.create_file_batch("vs", ["alices-own-file"]))["id"]
        assert (await stores.claim_file_batch(began, "vs", seconds=0.001)).user == mate
    await asyncio.sleep(0.01)
    (claim,) = await stores.claims.unfinished()
    assert claim.user == mate


async def test_unfinished_batches_are_gone_on_with_as_the_vector_stores_users(
    authorized, monkeypatch
):
    stores = VectorStoresStore(authorized(), "my_vs")
    made = {}
    for user in (ALICE, EVE):
        with acting_as(user):
            await stores.create_vector_store({"id": "vs"})
            made[user] = (await stores.create_file_batch("vs", ["f"]))["id"]
            done = (await stores.create_file_batch("vs", ["f"]))["id"]
            await stores.update_file_batch(done, "vs", {"status": "failed"})
    with acting_as(ALICE):
        mine = await stores.claim_file_batch(made[ALICE], "vs", seconds=60)
        with pytest.raises(ConflictError):
            await stores.claim_file_batch(made[ALICE], "vs")
    (other,) = await stores.claims.unfinished(seconds=60)
    assert (other.document["id"], other.user) == (made[EVE], EVE)
    real = clock.microseconds
    monkeypatch.setattr(clock, "microseconds", lambda: real() + 61_000_000)
    again = await stores.claims.unfinished(seconds=60)
    assert {claim.user for claim in again} == {ALICE, EVE}
    with acting_as(ALICE):
        with pytest.raises(ConflictError, match="claim"):
            await stores.update_file_batch(made[ALICE], "vs", {"n": 1}, claim=mine)
        (own,) = [claim for claim in again if claim.user == ALICE]
        await stores.update_file_batch(made[ALICE], "vs", {"status": "completed"}, claim=own)
    # Weeks later they are gone for all users, swept or not.
    monkeypatch.setattr(clock, "microseconds", lambda: real() + 8 * 24 * 3600 * 1_000_000)
    with acting_as(EVE), pytest.raises(NotFoundError):
        await stores.retrieve_file_batch(made[EVE], "vs")


async def test_impossible_arguments_are_refused_without_their_content(stores, caplog):
    caplog.set_level(logging.DEBUG)
    canary = "sk-canary"
    with acting_as(ALICE):
        await stores.create_vector_store({"id": "vs"})
        await stores.attach_file("vs", "f", {})
        batch = (await stores.create_file_batch("vs", ["f"]))["id"]
        for act in (
            lambda: stores.create_vector_store([canary]),
            lambda: stores.create_vector_store({"id": 5}),
            lambda: stores.create_vector_store({"created_at": canary}),
            lambda: stores.save_vector_store({"name": canary}),
            lambda: stores.update_vector_store("vs", {"file_counts": {}}),
            lambda: stores.update_vector_store("vs", {"metadata": {canary: object()}}),
            lambda: stores.attach_file("vs", "", {}),
            lambda: stores.attach_file("vs", "g", {"status": "done"}),
            lambda: stores.attach_file("vs", "g", {"usage_bytes": canary}),
            lambda: stores.attach_file("vs", "g", {"usage_bytes": -1}),
            lambda: stores.attach_file("vs", "g", {}, canary),
            lambda: stores.attach_file("vs", "g", {}, [{canary: float("nan")}]),
            lambda: stores.update_file("vs", "f", {"id": canary}),
            lambda: stores.update_file("vs", "f", {"usage_bytes": True}),
            lambda: stores.create_file_batch("vs", []),
            lambda: stores.create_file_batch("vs", canary),
            lambda: stores.create_file_batch("vs", [canary, 5]),
            lambda: stores.update_file_batch(batch, "vs", {"status": "validating"}),
            lambda: stores.update_file_batch(batch, "vs", {"file_ids": [canary]}),
            lambda: stores.claim_file_batch(batch, "vs", seconds=0),
            lambda: stores.list_files("vs", limit=0),
            lambda: stores.list_files("vs", order="up"),
            lambda: stores.list_files("vs", filter="done"),
            lambda: stores.list_files("vs", after="f", before="f"),
            lambda: stores.list_vector_stores(limit=0),
        ):
            with pytest.raises(InvalidArgumentError) as error:
                await act()
            assert canary not in str(error.value)
        # Nothing was half done.
        assert counts(await stores.retrieve_vector_store("vs")) == {"in_progress": 1, "total": 1}
    assert canary not in caplog.text
