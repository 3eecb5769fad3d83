"""Many processes at once: owners and contents never mix, and who is new counts at once."""

from __future__ import annotations

import json

import pytest

from stackstore.access import User, acting_as
from tests.integration.processes import answers, running, together

PROCESS = "tests.integration.access.process"


@pytest.mark.parametrize("rows", [1, 3])
async def test_a15_upserts_of_rivals_never_mix_owner_and_content(place, rows):
    """OGX: of 200 pairs on a new id by two users 200 ended as one's with the other's content."""
    place.pool()
    await place.sql("SELECT 1")
    refused = await together(PROCESS, place.address, [{"what": "rivals", "rows": rows}] * 3)
    found = await place.sql(
        "SELECT t.id, t.body, o.identity FROM @t t JOIN @owners o ON o.owner_id = t.owner_id"
    )
    assert len(found) == 60
    for row_id, body, identity in found:
        assert json.loads(identity)[1] == body.strip('"'), row_id
    # Each group of ids is one user's, and all others were refused.
    assert sum(refused) == 2 * 60 // rows


async def test_ten_processes_make_one_row_of_one_owner(place):
    place.pool()
    await place.sql("SELECT 1")
    async with running(PROCESS, place.address, [{"what": "same"}] * 10) as started:
        await answers(started)
    owners = await place.sql("SELECT owner_id, owner_key, mark, identity FROM @owners ORDER BY 1")
    assert [owner[0] for owner in owners] == [1, 2, 3, 4, 5]
    assert sorted(json.loads(owner[3])[1] for owner in owners) == [f"new{n}" for n in range(5)]
    assert len({owner[1] for owner in owners}) == len({owner[2] for owner in owners}) == 5
    wrong = await place.sql(
        "SELECT t.id FROM @t t JOIN @owners o ON o.owner_id = t.owner_id "
        "WHERE o.identity NOT LIKE '%\"new' || t.created || '\"%'"
    )
    assert wrong == []
    assert await place.sql("SELECT count(*) FROM @t") == [(50,)]


async def test_who_is_new_in_another_process_counts_at_once(authorized, place):
    store = await authorized()
    async with running(PROCESS, place.address, [{"what": "announce"}]) as (other,):
        with acting_as(User("reader", {"teams": ["a"]})):
            for n in range(40):
                other.stdin.write(b"\n")
                name = (await other.stdout.readline()).decode().strip()
                assert name == f"{n:02}"
                how = n % 4
                if how == 0:
                    page = await store.fetch_all("t", None, [("created", "desc")], 3)
                    assert page.data[0]["id"] == name
                elif how == 1:
                    assert await store.count("t") == n + 1
                elif how == 2:
                    assert await store.update("t", {"body": "seen"}, {"id": name}) == 1
                else:
                    await store.upsert("t", {"id": name, "body": "seen"}, ["id"])
        other.stdin.write(b"\n")
        await other.communicate()
        assert other.returncode == 0
