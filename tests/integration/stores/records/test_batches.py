"""Batches: idempotency, pages, transitions that are never lost, and work that goes on after a crash."""

from __future__ import annotations

import asyncio
import contextlib
import logging

import pytest

from stackstore.access import AccessDeniedError, Tenancy, User, acting_as
from stackstore.errors import ConflictError, InvalidArgumentError, NotFoundError
from stackstore.stores import clock as moments
from stackstore.stores.batches import BatchesStore
from tests.integration.stores.records.conftest import ALICE, ANN, EVE, OWN, READERS

ASKED = {"input_file_id": "file-1", "endpoint": "/v1/chat/completions"}


MOMENTS = [f"{status}_at" for status in (
    "in_progress", "finalizing", "completed", "failed", "expired", "cancelling", "cancelled", "expires",
)]  # fmt: skip


@pytest.fixture
def batches(authorized):
    return BatchesStore(authorized(), "my_batches")


@pytest.fixture
def clock(monkeypatch):
    """A clock of the claims that a test turns on: `clock(seconds)`."""
    ahead = 0

    def turn(seconds):
        nonlocal ahead
        ahead += int(seconds * 1e6)

    real = moments.microseconds
    monkeypatch.setattr(moments, "microseconds", lambda: real() + ahead)
    return turn


async def test_a_batch_comes_back_as_it_went_in(batches, place):
    with acting_as(ALICE):
        made = await batches.create_batch(**ASKED, metadata={"a": "é\u0000"})
        assert await batches.retrieve_batch(made["id"]) == made
        assert made["status"] == "validating" and made["object"] == "batch"
        assert made["completion_window"] == "24h" and made["metadata"] == {"a": "é\u0000"}
        assert len(made["id"]) == len("batch_") + 16
        # N18: the table is the one that the run config names.
        assert await place.sql("SELECT id FROM @my_batches") == [(made["id"],)]
        await batches.delete_batch(made["id"])
        for method in (batches.retrieve_batch, batches.delete_batch, batches.cancel_batch):
            with pytest.raises(NotFoundError):
                await method(made["id"])


async def test_one_key_makes_one_batch(batches):
    with acting_as(ALICE):
        made = await asyncio.gather(
            *(batches.create_batch(**ASKED, idempotency_key="k") for _ in range(8))
        )
        assert len({batch["id"] for batch in made}) == 1
        assert len((await batches.list_batches()).data) == 1
        with pytest.raises(ConflictError) as refused:
            await batches.create_batch(**ASKED, idempotency_key="k", metadata={"canary": "x"})
        assert "canary" not in str(refused.value)
    for other in (ANN, EVE):
        # A key is one user's, whatever he may see.
        with acting_as(other):
            own = await batches.create_batch(**ASKED, idempotency_key="k", metadata={"of": "other"})
            assert own["metadata"] == {"of": "other"}
            assert await batches.retrieve_batch(own["id"]) == own


async def test_pages_are_made_by_the_database(batches, place):
    with acting_as(ALICE):
        made = [(await batches.create_batch(**ASKED))["id"] for _ in range(7)][::-1]
    with acting_as(EVE):
        await batches.create_batch(**ASKED)
    with acting_as(ANN):
        seen, after = [], None
        while True:
            page = await batches.list_batches(after=after, limit=3)
            seen += [batch["id"] for batch in page.data]
            assert (page.first_id, page.last_id) == (page.data[0]["id"], page.data[-1]["id"])
            if not page.has_more:
                break
            after = page.last_id
        assert seen == made
        # The one it goes on after may be deleted where the cursor is used.
        first = await batches.list_batches(limit=3)
        await batches.delete_batch(first.last_id)
        rest = await batches.list_batches(limit=4, cursor=first.next_cursor)
        assert [batch["id"] for batch in rest.data] == made[3:]
        assert not rest.has_more
        with pytest.raises(NotFoundError):
            await batches.list_batches(after=first.last_id)
        with pytest.raises(InvalidArgumentError):
            await batches.list_batches(limit=0)


async def test_strangers_see_nothing_and_readers_change_nothing(authorized):
    batches = BatchesStore(authorized(READERS), "b")
    with acting_as(ALICE):
        made = await batches.create_batch(**ASKED)
    with acting_as(EVE):
        assert (await batches.list_batches()).data == []
        missing = []
        for batch_id in (made["id"], "batch_0000000000000000"):
            for ask in (
                batches.retrieve_batch,
                lambda one: batches.update_batch(one, {"status": "failed"}),
                batches.claim_batch,
                lambda one: batches.list_batches(after=one),
            ):
                with pytest.raises(NotFoundError) as error:
                    await ask(batch_id)
                missing.append(str(error.value).replace(batch_id, "…"))
        assert missing[:4] == missing[4:]
    with acting_as(ANN):
        assert (await batches.retrieve_batch(made["id"]))["status"] == "validating"
        for act in (batches.cancel_batch, batches.delete_batch, batches.claim_batch):
            with pytest.raises(AccessDeniedError):
                await act(made["id"])
    with pytest.raises(AccessDeniedError):
        await batches.list_batches()
    with acting_as(ALICE):
        assert await batches.retrieve_batch(made["id"]) == made


async def test_a_team_mates_batch_of_the_same_id_is_another_one(batches):
    """Both may change both, but each change is one batch's."""
    with acting_as(ALICE):
        hers = await batches.create_batch(**ASKED, idempotency_key="k")
    with acting_as(ANN):
        await batches.create_batch(**ASKED, idempotency_key="k")
        await batches.update_batch(hers["id"], {"status": "failed"})
        assert (await batches.retrieve_batch(hers["id"]))["status"] == "failed"
    with acting_as(ALICE):
        assert (await batches.retrieve_batch(hers["id"]))["status"] == "validating"
        await batches.delete_batch(hers["id"])
        # What is left is others', which she may see: the newest of them.
        with acting_as(User("amy", {"teams": ["a"]})):
            newest = await batches.create_batch(**ASKED, idempotency_key="k")
        assert await batches.retrieve_batch(hers["id"]) == newest
        await batches.delete_batch(hers["id"])
        assert (await batches.retrieve_batch(hers["id"]))["status"] == "failed"


async def test_tenants_have_batches_of_their_own(authorized):
    """N22: another tenant's id is neither seen nor in the way."""
    batches = BatchesStore(authorized(tenancy=Tenancy("multi")), "b")
    with acting_as(User("alice", {"teams": ["a"]}, "t1")):
        made = await batches.create_batch(**ASKED, idempotency_key="k")
    with acting_as(User("alice", {"teams": ["a"]}, "t2")):
        with pytest.raises(NotFoundError):
            await batches.retrieve_batch(made["id"])
        other = await batches.create_batch(**ASKED, idempotency_key="k", metadata={"t": "2"})
        assert other["id"] == made["id"]
        await batches.delete_batch(other["id"])
    with acting_as(User("alice", {}, "t1")):
        assert await batches.retrieve_batch(made["id"]) == made


async def test_changes_of_many_at_once_are_all_kept(batches):
    """E10, D12: read-modify-write loses some of these."""
    with acting_as(ALICE):
        made = await batches.create_batch(**ASKED)
        await asyncio.gather(
            *(batches.update_batch(made["id"], {name: n}) for n, name in enumerate(MOMENTS))
        )
        after = await batches.retrieve_batch(made["id"])
        assert {name: n for n, name in enumerate(MOMENTS)}.items() <= after.items()
        assert made.items() <= after.items()


async def test_cancelled_or_completed_but_never_both(batches):
    with acting_as(ALICE):
        for _ in range(12):
            made = await batches.create_batch(**ASKED)
            await batches.update_batch(made["id"], {"status": "in_progress"})
            ended = await asyncio.gather(
                batches.cancel_batch(made["id"]),
                batches.update_batch(made["id"], {"status": "completed", "output_file_id": "o"}),
                return_exceptions=True,
            )
            refused = [error for error in ended if isinstance(error, Exception)]
            assert [type(error) for error in refused] == [ConflictError]
            after = await batches.retrieve_batch(made["id"])
            assert after["status"] == ("completed" if ended[0] is refused[0] else "cancelling")
            assert ("output_file_id" in after) == (after["status"] == "completed")


async def test_cancelling_says_what_became_of_it(batches):
    with acting_as(ALICE):
        made = await batches.create_batch(**ASKED)
        cancelling = await batches.cancel_batch(made["id"])
        assert cancelling["status"] == "cancelling" and cancelling["cancelling_at"] > 0
        assert await batches.cancel_batch(made["id"]) == cancelling
        with pytest.raises(ConflictError, match="cancelling"):
            await batches.update_batch(made["id"], {"status": "completed"})
        await batches.update_batch(made["id"], {"request_counts": {"total": 1}})
        done = await batches.update_batch(made["id"], {"status": "cancelled"})
        assert await batches.cancel_batch(made["id"]) == done
        other = await batches.create_batch(**ASKED)
        await batches.update_batch(other["id"], {"status": "failed"})
        with pytest.raises(ConflictError, match="failed"):
            await batches.cancel_batch(other["id"])


async def test_what_is_expected_is_compared(batches):
    with acting_as(ALICE):
        made = await batches.create_batch(**ASKED)
        await batches.update_batch(made["id"], {"model": "a"}, expected={"status": "validating"})
        with pytest.raises(ConflictError, match="'model'"):
            await batches.update_batch(made["id"], {"model": "c"}, expected={"model": "b"})
        assert (await batches.retrieve_batch(made["id"]))["model"] == "a"


async def test_unfinished_batches_are_gone_on_with_as_their_users(authorized, clock):
    """D13: OGX leaves them in progress for ever."""
    batches = BatchesStore(authorized(OWN), "b")
    users = [ALICE, EVE, ALICE, EVE]
    made = []
    for user in users:
        with acting_as(user):
            made.append((await batches.create_batch(**ASKED))["id"])
    with acting_as(EVE):
        await batches.update_batch(made[3], {"status": "completed"})
    # One is being worked on.
    with acting_as(ALICE):
        working = await batches.claim_batch(made[0], seconds=60)
        assert working.user == ALICE
        with pytest.raises(ConflictError):
            await batches.claim_batch(made[0])
    taken = await batches.claims.unfinished(seconds=60)
    assert {(claim.document["id"], claim.user) for claim in taken} == {
        (made[1], EVE),
        (made[2], ALICE),
    }
    assert await batches.claims.unfinished() == []
    assert working.token not in repr(working)
    # Each ends as its user's.
    for claim in taken:
        with acting_as(claim.user):
            await batches.update_batch(claim.document["id"], {"status": "failed"}, claim=claim)
            with pytest.raises(ConflictError, match="claim"):
                await batches.claims.renew(claim)
    # The worker was killed: later somebody else goes on, and the first one is told when he wakes up.
    clock(61)
    (after,) = await batches.claims.unfinished(seconds=60)
    assert after.document["id"] == made[0]
    for act in (
        lambda: batches.update_batch(made[0], {"status": "completed"}, claim=working),
        lambda: batches.claims.renew(working),
        lambda: batches.claims.release(working),
    ):
        with acting_as(ALICE), pytest.raises(ConflictError, match="claim"):
            await act()
    clock(30)
    renewed = await batches.claims.renew(after, seconds=60)
    assert renewed.until > after.until
    clock(45)
    assert await batches.claims.unfinished() == []
    await batches.claims.release(renewed)
    assert [claim.document["id"] for claim in await batches.claims.unfinished()] == [made[0]]


async def test_a_claim_that_is_lost_while_it_is_written_is_lost(batches, clock):
    """It is compared by the statement that writes, not before."""
    with acting_as(ALICE):
        made = await batches.create_batch(**ASKED)
        claim = await batches.claim_batch(made["id"])
        read = batches._row

        async def taken_over_after(batch_id):
            row = await read(batch_id)
            clock(61)
            assert len(await batches.claims.unfinished(seconds=3600)) <= 1
            return row

        batches._row = taken_over_after
        with pytest.raises(ConflictError, match="claim"):
            await batches.update_batch(made["id"], {"status": "completed"}, claim=claim)
        batches._row = read
        assert (await batches.retrieve_batch(made["id"]))["status"] == "validating"


async def test_a_batch_is_claimed_once_however_many_try(batches):
    with acting_as(ALICE):
        made = {(await batches.create_batch(**ASKED))["id"] for _ in range(9)}
    taken = await asyncio.gather(*(batches.claims.unfinished(limit=3) for _ in range(6)))
    assert all(len(claims) <= 3 for claims in taken)
    taken += await asyncio.gather(*(batches.claims.unfinished() for _ in range(3)))
    ids = [claim.document["id"] for claims in taken for claim in claims]
    assert len(ids) == 9 and set(ids) == made


async def test_what_nobody_may_go_on_with_is_left_alone(authorized):
    """Batches of another tenancy, and of nobody, don't stop the others."""
    nobodys = BatchesStore(authorized(auth=False), "b")
    for _ in range(3):
        await nobodys.create_batch(**ASKED)
    assert len(await nobodys.claims.unfinished(seconds=0.000001)) == 3
    multi = BatchesStore(authorized(tenancy=Tenancy("multi")), "b")
    with acting_as(user := User("alice", {"teams": ["a"]}, "t1")):
        made = await multi.create_batch(**ASKED)
    (claim,) = await multi.claims.unfinished(limit=1)
    assert claim.document == made and claim.user == user
    single = BatchesStore(authorized(tenancy=Tenancy("single", default_tenant="t2")), "b")
    await multi.claims.release(claim)
    assert await single.claims.unfinished() == []


async def test_impossible_arguments_are_refused_without_their_content(batches, caplog):
    caplog.set_level(logging.DEBUG)
    canary = "sk-canary"
    with acting_as(ALICE):
        made = await batches.create_batch(**ASKED)
        for bad in (
            {"input_file_id": ""},
            {"endpoint": 7},
            {"completion_window": None},
            {"metadata": {canary: 1}},
            {"metadata": [canary]},
            {"idempotency_key": ""},
        ):
            with pytest.raises(InvalidArgumentError) as error:
                await batches.create_batch(**{**ASKED, **bad})
            assert canary not in str(error.value)
        for bad in (
            {"id": canary},
            {"created_at": 1},
            {"status": "done"},
            {"errors": float("nan")},
            {"errors": {canary: {1, 2}, "more": object()}},
            {"errors": canary},
            {"output_file_id": [canary]},
            {"completed_at": canary},
            {"completed_at": True},
            {"metadata": {"a": [canary]}},
            {"more": canary},
        ):
            with pytest.raises(InvalidArgumentError) as error:
                await batches.update_batch(made["id"], bad)
            assert canary not in str(error.value)
        for seconds in (0, -1, True, "60", float("nan"), 10**9):
            with pytest.raises(InvalidArgumentError):
                await batches.claim_batch(made["id"], seconds=seconds)
        with pytest.raises(InvalidArgumentError):
            await batches.claims.unfinished(limit=0)
        for bad in ("", None, 5):
            with pytest.raises(InvalidArgumentError):
                await batches.retrieve_batch(bad)
    assert canary not in caplog.text


async def test_a_database_error_tells_nothing_of_the_content(batches, place, caplog):
    """A19: OGX logs the statement's parameters."""
    caplog.set_level(logging.DEBUG)
    with acting_as(ALICE):
        await batches.create_batch(**ASKED)
        await place.sql("ALTER TABLE @my_batches RENAME COLUMN status TO gone")
        with pytest.raises(Exception) as error:
            await batches.create_batch(**ASKED, metadata={"key": "sk-canary"})
    seen: BaseException | None = error.value
    while seen is not None:
        assert "sk-canary" not in str(seen)
        seen = seen.__cause__ or seen.__context__
    assert "sk-canary" not in caplog.text
    with contextlib.suppress(Exception):
        await place.sql("ALTER TABLE @my_batches RENAME COLUMN gone TO status")
