"""What the inference store promises, on both engines."""

import asyncio
import logging
import re
from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict

from stackstore.access import AccessDeniedError, Tenancy, User, acting_as
from stackstore.errors import (
    BackendUnavailableError,
    InvalidArgumentError,
    NotFoundError,
    StoreBusyError,
)
from tests.integration.stores.conftest import until
from tests.integration.stores.inference.conftest import (
    ALICE,
    BOB,
    CAROL,
    asked,
    completion,
    delete,
    get,
    ids,
    keep,
    letters,
    locked,
    rows,
)

CANARY = "c4n4ry"


class Message(BaseModel):
    role: str
    content: Any = None


class Completion(BaseModel):
    model_config = ConfigDict(extra="allow")

    id: str
    created: int
    model: str
    choices: list[dict[str, Any]]
    usage: dict[str, int] | None = None


# -- what goes in comes back


async def test_the_whole_completion_comes_back(place, make):
    store = make(place)
    whole = completion(
        "a", 2**40, said="é\0\ud800\u2028", usage={"total_tokens": 2**60}, service_tier="flex",
        system_fingerprint=None, metadata={"k": "v", "\0": ""}, extra=[1.5, None, {"x": []}],
    )  # fmt: skip
    question = [{"role": "user", "content": [{"type": "text", "text": "\0"}], "name": "n"}]
    with acting_as(ALICE):
        await store.store_chat_completion(whole, question)
        expected = {**whole, "input_messages": question}
        assert await store.get_chat_completion("a") == expected
        assert (await store.list_chat_completions()).data == [expected]
        model = Completion(**{**whole, "id": "b"})
        await store.store_chat_completion(model, [Message(role="user", content="x")])
        found = await store.get_chat_completion("b")
    assert found == {**whole, "id": "b", "input_messages": [{"role": "user", "content": "x"}]}
    assert await rows(place, "id, created, model") == [("a", 2**40, "m"), ("b", 2**40, "m")]
    assert store.stats().dead_letters == 0


async def test_a20_what_is_not_to_be_stored_is_not(place, make):
    store = make(place)
    with acting_as(ALICE):
        await store.store_chat_completion(completion("a"), asked(), store=False)
        await store.store_chat_completion(completion("b", store=False), asked())
        await store.store_chat_completion(completion("c", store=None), asked(), store=True)
        assert await ids(store, ALICE) == ["c"]
    # Nothing is asked of it then, not even who it is.
    await store.store_chat_completion({}, [], store=False)
    assert store.stats().acknowledged == 1


async def test_what_cannot_be_stored_is_refused_in_the_call(place, make):
    store = make(place)
    for change in (
        {"id": None}, {"id": "a\0"}, {"id": "x" * 1001}, {"created": 2**63}, {"created": None},
        {"created": "1"}, {"model": None}, {"model": "m\0"}, {"usage": object()},
    ):  # fmt: skip
        with acting_as(ALICE), pytest.raises(InvalidArgumentError):
            await store.store_chat_completion({**completion("a"), **change}, asked())
    await keep(store, ALICE, "b")
    assert await ids(store, ALICE) == ["b"]
    stats = store.stats()
    assert (stats.acknowledged, stats.written, stats.dead_letters) == (1, 1, 0)


async def test_the_longest_names_go_together(place, make):
    store = make(place)
    name, model = "é" * 500, "語" * 333
    await keep(store, ALICE, name, model=model)
    assert await ids(store, ALICE, model=model) == [name]
    assert store.stats().dead_letters == 0


async def test_one_larger_than_the_queue_is_refused(place, make):
    store = make(place, max_write_queue_bytes=20_000)
    with acting_as(ALICE), pytest.raises(InvalidArgumentError, match="the whole queue takes 20000"):
        await store.store_chat_completion(completion("a", said="x" * 20_000), asked())


# -- lists


async def test_pages_hold_every_completion_once_whatever_the_ties(place, make):
    """P1: hundreds of one second; and they come as they were stored, whatever their ids."""
    store = make(place)
    order = [f"{(number * 37) % 101:03}" for number in range(101)]
    for number, name in enumerate(order):
        await keep(store, ALICE, name, created=5 if number < 90 else 4)
    expected = order[90:] + order[:90]
    for how, wanted in (("asc", expected), ("desc", expected[::-1])):
        for way in ("after", "cursor"):
            seen, here = [], {}
            while True:
                with acting_as(ALICE):
                    page = await store.list_chat_completions(limit=7, order=how, **here)
                names = [one["id"] for one in page.data]
                assert (page.first_id, page.last_id) == (names[0], names[-1])
                seen += names
                if not page.has_more:
                    break
                here = {way: page.last_id if way == "after" else page.next_cursor}
            assert seen == wanted
            assert page.next_cursor is None
    with acting_as(ALICE):
        before = await store.list_chat_completions(before=expected[50], limit=7, order="asc")
        assert [one["id"] for one in before.data] == expected[43:50]
        assert before.has_more
        assert len((await store.list_chat_completions()).data) == 50
        assert len((await store.list_chat_completions(limit=None, order=None)).data) == 50
        with pytest.raises(InvalidArgumentError, match="exclude each other"):
            await store.list_chat_completions(before="1", after="2")


async def test_a_clock_that_is_set_back_does_not_turn_the_order(place, make, monkeypatch):
    store = make(place)
    await keep(store, ALICE, "c", "b")
    monkeypatch.setattr("time.time_ns", lambda: 5_000_000)
    await keep(store, ALICE, "a", "d")
    assert await ids(store, ALICE, order="asc") == ["c", "b", "a", "d"]


async def test_lists_have_indexes_of_all_rows_and_of_each_owners(place, make):
    await ids(make(place), ALICE)
    listed = (
        "SELECT indexdef FROM pg_indexes WHERE tablename = 'inference'"
        if place.dialect == "postgresql"
        else "SELECT sql FROM sqlite_master WHERE type = 'index' AND tbl_name = 'stackstore_inference'"
    )
    found = {
        tuple(re.findall(r"\w+", definition.split("(", 1)[1].lower()))
        for (definition,) in await place.sql(listed)
        if definition
    }
    for columns in (("created", "arrived"), ("model", "created", "arrived")):
        assert (*columns, "id", "owner_key", "owner_id") in found
        assert ("owner_id", *columns, "id", "owner_key") in found


async def test_p2_a_cursor_survives_the_row_it_stands_on(place, make):
    store = make(place)
    await keep(store, ALICE, *"abcde")
    with acting_as(ALICE):
        page = await store.list_chat_completions(limit=2)
        await store.delete_chat_completion(page.last_id)
        assert await ids(store, ALICE, cursor=page.next_cursor) == ["c", "b", "a"]
        with pytest.raises(NotFoundError):
            await store.list_chat_completions(after=page.last_id)
    with acting_as(BOB), pytest.raises(InvalidArgumentError):
        await store.list_chat_completions(cursor=page.next_cursor)


async def test_only_those_of_a_model(place, make):
    store = make(place)
    for number in range(12):
        await keep(store, ALICE, f"{number:02}", model=f"m{number % 3}")
    assert await ids(store, ALICE, model="m1", order="asc") == ["01", "04", "07", "10"]
    assert await ids(store, ALICE, model="m1", limit=2, after="07") == ["04", "01"]
    assert await ids(store, ALICE, model="m\u00e9") == []
    with acting_as(ALICE), pytest.raises(NotFoundError):
        await store.list_chat_completions(model="m1", after="00")


async def test_p3_no_list_is_unbounded(place, make):
    store = make(place)
    await keep(store, ALICE, "a")
    for how in (
        {"limit": 0}, {"limit": -1}, {"limit": True}, {"order": "up"}, {"order": ""}, {"cursor": "x"},
    ):  # fmt: skip
        with acting_as(ALICE), pytest.raises(InvalidArgumentError):
            await store.list_chat_completions(**how)


async def test_an_operator_is_no_id(place, make):
    store = make(place)
    await keep(store, ALICE, "a")
    anything: Any
    for anything in ({">": ""}, ["a"], 5):
        for call in (store.get_chat_completion, store.delete_chat_completion):
            with acting_as(ALICE), pytest.raises((InvalidArgumentError, NotFoundError)):
                await call(anything)
        with acting_as(ALICE), pytest.raises(InvalidArgumentError):
            await store.list_chat_completions(model=anything)
    assert await ids(store, ALICE) == ["a"]


async def test_the_messages_of_a_completion(place, make):
    store = make(place)
    question = [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}]
    with acting_as(ALICE):
        await store.store_chat_completion(completion("c", said="answer"), question)
        page = await store.list_chat_completion_messages("c")
        assert [(one["id"], one["role"], one["content"]) for one in page.data] == [
            ("c-0", "system", "s"), ("c-1", "user", "u"), ("c-2", "assistant", "answer"),
        ]  # fmt: skip
        assert not page.has_more
        page = await store.list_chat_completion_messages("c", after="c-2", limit=1, order="desc")
        assert ([one["id"] for one in page.data], page.has_more) == (["c-1"], True)
        assert len((await store.list_chat_completion_messages("c", limit=None, order=None)).data) == 3  # fmt: skip
        for how in ({"limit": 0}, {"order": "x"}):
            with pytest.raises(InvalidArgumentError):
                await store.list_chat_completion_messages("c", **how)
        with pytest.raises(NotFoundError):
            await store.list_chat_completion_messages("c", after="c-3")
    with acting_as(BOB), pytest.raises(NotFoundError):
        await store.list_chat_completion_messages("c")


# -- whose they are


async def test_a9_two_owners_with_one_id_both_keep_theirs(place, make):
    store = make(place)
    for user in (ALICE, BOB, CAROL):
        await keep(store, user, "x", said=user.principal)
    for user in (ALICE, BOB, CAROL):
        found = await get(store, user, "x")
        assert found["choices"][0]["message"]["content"] == user.principal
    assert store.stats().written == 3
    # Carol sees Alice's too, and turns pages past both.
    with acting_as(CAROL):
        first = await store.list_chat_completions(limit=1, order="asc")
        second = await store.list_chat_completions(limit=1, order="asc", cursor=first.next_cursor)
        said = [one["choices"][0]["message"]["content"] for one in (*first.data, *second.data)]
    assert (said, second.has_more) == (["alice", "carol"], False)


async def test_n6_two_tenants_with_one_id_both_keep_theirs(place, make):
    store = make(place, tenancy=Tenancy("multi"))
    users = [User("al", {"teams": ["a"]}, tenant) for tenant in ("acme", "other")]
    for user in users:
        await keep(store, user, "x", said=user.tenant_id)
    for user in users:
        found = await get(store, user, "x")
        assert found["choices"][0]["message"]["content"] == user.tenant_id
        assert await ids(store, user) == ["x"]
    await delete(store, users[0], "x")
    assert await ids(store, users[0]) == []
    assert await ids(store, users[1]) == ["x"]


async def test_of_several_with_one_id_the_own_goes_first_and_then_the_newest(place, make):
    store = make(place)
    team = [User(f"u{number}", {"teams": ["a"]}) for number in range(4)]
    for user, created in zip(team, (7, 9, 9, 8), strict=True):
        await keep(store, user, "x", created=created, said=user.principal)
        await store.flush()

    async def seen(user):
        return (await get(store, user, "x"))["choices"][0]["message"]["content"]

    assert [await seen(user) for user in team] == ["u0", "u1", "u2", "u3"]
    # Of the two of one second the one that came later.
    assert await seen(ALICE) == "u2"
    # Deleting follows the same order, and then there is the next one.
    await delete(store, team[0], "x")
    assert await seen(team[0]) == "u2"
    await delete(store, ALICE, "x")
    assert await seen(ALICE) == "u1"
    with pytest.raises(NotFoundError):
        await get(store, BOB, "x")


async def test_one_owners_duplicate_quietly_becomes_the_newest(place, make):
    store = make(place)
    async with asyncio.TaskGroup() as group:
        for number in range(30):
            group.create_task(keep(store, ALICE, "x", "y", said=str(number), created=number))
    await keep(store, ALICE, "x", said="last", created=3)
    found = await get(store, ALICE, "x")
    assert (found["choices"][0]["message"]["content"], found["created"]) == ("last", 3)
    assert await rows(place, "id, created") == [("x", 3), ("y", 29)]
    assert store.stats().written == 61
    await place.sql("UPDATE @inference SET created = 77 WHERE id = 'x'")
    # With other attributes it is still the same owner.
    await keep(store, User("alice", {"teams": ["z"]}), "x", said="moved", created=4)
    await store.flush()
    assert await ids(store, CAROL) == ["y"]
    assert await rows(place, "id, created") == [("x", 4), ("y", 29)]


async def test_a6_nobody_is_refused_at_once(place, make):
    store = make(place)
    calls = [
        lambda: store.store_chat_completion(completion("a"), asked()),
        store.list_chat_completions,
        lambda: store.get_chat_completion("a"),
        lambda: store.list_chat_completion_messages("a"),
        lambda: store.delete_chat_completion("a"),
    ]
    for call in calls:
        with pytest.raises(AccessDeniedError, match="no current user"):
            await call()
    assert store.stats().acknowledged == 0


async def test_without_authorization_all_is_everybodys(place, make):
    store = make(place, auth=False)
    await keep(store, None, "a")
    await keep(store, ALICE, "b")
    assert await ids(store, BOB) == await ids(store, None) == ["b", "a"]
    await delete(store, BOB, "a")
    assert await ids(store, None) == ["b"]


async def test_a8_what_may_not_be_created_or_deleted_is_not(place, make):
    policy = [
        {"forbid": {"actions": "create"}, "when": "user with b in teams"},
        {"permit": {"actions": ["create", "read", "update"]}},
    ]
    store = make(place, policy=policy)
    await keep(store, ALICE, "a")
    await store.flush()
    with pytest.raises(AccessDeniedError):
        await keep(store, BOB, "b")
    assert await ids(store, BOB) == ["a"]
    for user in (ALICE, BOB):
        with pytest.raises(NotFoundError) as there:
            await delete(store, user, "a")
        with pytest.raises(NotFoundError) as missing:
            await delete(store, user, "0")
        assert str(there.value).replace("'a'", "'0'") == str(missing.value)
    assert store.stats().acknowledged == 1
    assert await rows(place) == [("a",)]


async def test_a_stranger_learns_nothing(place, make):
    store = make(place)
    await keep(store, ALICE, "a")
    told = set()
    for call in (get, delete):
        for name in ("a", "0"):
            with pytest.raises(NotFoundError) as error:
                await call(store, BOB, name)
            told.add(str(error.value).replace(f"'{name}'", "ID"))
    assert told == {"there is no chat completion ID"}
    with acting_as(BOB):
        for way in ("after", "before"):
            texts = set()
            for name in ("a", "0"):
                with pytest.raises(NotFoundError) as error:
                    await store.list_chat_completions(**{way: name})
                texts.add(str(error.value))
            assert len(texts) == 1


async def test_the_user_is_who_it_was_when_it_came_in(place, make):
    store = make(place, num_writers=1)
    await keep(store, BOB, "first")
    await store.flush()
    async with locked(place):
        await keep(store, ALICE, "a")
        await keep(store, BOB, "b")
    with acting_as(None):
        assert await store.flush()
    assert await ids(store, ALICE) == ["a"]
    assert await ids(store, BOB) == ["b", "first"]


# -- reading one's own writes


async def test_d9_a_read_has_what_its_user_stored_before(place, make):
    store = make(place)

    async def one(user, name):
        with acting_as(user):
            await store.store_chat_completion(completion(name), asked())
            assert (await store.get_chat_completion(name))["id"] == name
            assert name in [x["id"] for x in (await store.list_chat_completions(limit=1000)).data]
            await store.delete_chat_completion(name)
            with pytest.raises(NotFoundError):
                await store.get_chat_completion(name)

    async with asyncio.TaskGroup() as group:
        for number in range(40):
            group.create_task(one((ALICE, BOB)[number % 2], f"{number}"))
    assert await rows(place) == []


async def test_a_read_waits_for_its_own_user_only_and_never_answers_stale(place, make):
    store = make(place, read_timeout_seconds=0.2)
    for user in (ALICE, BOB):
        await keep(store, user, "old", said="old")
    await store.flush()
    async with locked(place):
        await keep(store, ALICE, "old", said="new")
        calls = [
            lambda: get(store, ALICE, "old"),
            lambda: ids(store, ALICE),
            lambda: delete(store, ALICE, "old"),
        ]
        for call in calls:
            with pytest.raises(BackendUnavailableError, match=r"was not written within 0\.2 s"):
                await call()
        assert await ids(store, BOB) == ["old"]
        # Someone of Alice's team is somebody else.
        found = await get(store, CAROL, "old")
        assert found["choices"][0]["message"]["content"] == "old"
        assert not await store.flush(0.05)
    assert await store.flush()
    found = await get(store, ALICE, "old")
    assert found["choices"][0]["message"]["content"] == "new"


async def test_a_read_goes_on_as_soon_as_it_can(place, make):
    store = make(place)
    await keep(store, ALICE, "a")
    await store.flush()
    async with locked(place):
        await keep(store, ALICE, "b")
        reading = asyncio.create_task(ids(store, ALICE))
        await asyncio.sleep(0.05)
        assert not reading.done()
    assert await reading == ["b", "a"]


# -- the queue


async def test_a_full_queue_means_not_stored(place, make):
    store = make(place, max_write_queue_size=3, num_writers=1, enqueue_timeout_seconds=0.1)
    await keep(store, ALICE, "first")
    await store.flush()
    async with locked(place):
        await keep(store, ALICE, "a", "b", "c")
        with pytest.raises(StoreBusyError, match="not stored"):
            await keep(store, ALICE, "late")
        assert (store.stats().busy, store.stats().rows) == (1, 3)
    assert await ids(store, ALICE) == ["c", "b", "a", "first"]
    store = make(place, max_write_queue_bytes=10_000, num_writers=1, enqueue_timeout_seconds=0.1)
    await store.initialize()
    async with locked(place):
        await keep(store, ALICE, "d", said="x" * 6_000)
        with pytest.raises(StoreBusyError, match="of 10000 bytes"):
            await keep(store, ALICE, "late", said="x" * 6_000)


async def test_a_row_that_the_database_refuses_takes_no_neighbour_along(place, make, caplog):
    caplog.set_level(logging.DEBUG)
    store = make(place, num_writers=1)
    await keep(store, ALICE, "first")
    await store.flush()
    if place.dialect == "postgresql":
        await place.sql("ALTER TABLE @inference ADD CHECK (created <> 13)")
    else:
        await place.sql(
            "CREATE TRIGGER no BEFORE INSERT ON @inference WHEN NEW.created = 13 "
            "BEGIN SELECT RAISE(ABORT, 'no'); END"
        )
    async with locked(place):
        for number in range(40):
            await keep(store, (ALICE, BOB)[number % 2], f"{number:02}", created=number, said=CANARY)
    # Set aside is done with: whoever wrote it isn't kept waiting.
    names = {*await ids(store, ALICE), *await ids(store, BOB)}
    assert names == {"first", *(f"{number:02}" for number in range(40))} - {"13"}
    ((identity, reason, payload),) = await letters(place)
    assert '"13"' in identity
    assert "constraint" in reason
    assert CANARY in bytes(payload).decode()
    stats = store.stats()
    assert (stats.acknowledged, stats.written, stats.dead_letters) == (41, 40, 1)
    assert caplog.text.count("dead_letters") == 1
    assert CANARY not in caplog.text


async def test_a19_no_content_in_logs_and_errors(place, make, caplog):
    caplog.set_level(logging.DEBUG)
    store = make(place, num_writers=1, read_timeout_seconds=0.3)
    await keep(store, ALICE, "a", said=CANARY)
    await store.flush()
    await place.sql("DROP TABLE @inference")
    await place.sql("CREATE TABLE @inference (id BIGINT PRIMARY KEY)")
    await keep(store, ALICE, "b", said=CANARY, metadata={CANARY: CANARY})
    await until(lambda: store.stats().retries > 0)
    with pytest.raises(BackendUnavailableError) as raised:
        await ids(store, ALICE)
    error: BaseException | None = raised.value
    while error is not None:
        assert CANARY not in str(error)
        error = error.__cause__ or error.__context__
    assert CANARY not in store.stats().last_trouble
    assert CANARY not in caplog.text
    remains = await store.shutdown(0.2)
    assert CANARY not in repr(remains)
    assert CANARY not in caplog.text


async def test_options_that_are_not_possible(place, make):
    for options in (
        {"max_write_queue_size": 0}, {"max_write_queue_bytes": 0}, {"num_writers": 0},
        {"read_timeout_seconds": -1}, {"enqueue_timeout_seconds": float("nan")},
        {"read_timeout_seconds": float("inf")}, {"enqueue_timeout_seconds": True}, {"table": "no name"},
    ):  # fmt: skip
        with pytest.raises(InvalidArgumentError):
            make(place, **options)
