"""Prompts: versions, their default, and what a template may say."""

from __future__ import annotations

import re
import time

import pytest

from stackstore.access import AuthorizedSqlStore, acting_as
from stackstore.errors import InvalidArgumentError, NotFoundError
from stackstore.stores.prompts import PromptsStore
from tests.integration.stores.prompts.conftest import ALICE, defaults


async def test_a_prompt_is_made_read_and_deleted(store):
    made = await store.create_prompt(
        "Say {{ what }} to {{who}}.", variables=["who", "what", "unused"]
    )
    assert re.fullmatch(r"pmpt_[0-9a-f]{48}", made["prompt_id"])
    assert made == {
        "prompt_id": made["prompt_id"], "prompt": "Say {{ what }} to {{who}}.", "version": 1,
        "variables": ["who", "what", "unused"], "is_default": True,
    }  # fmt: skip
    assert await store.get_prompt(made["prompt_id"]) == made
    assert await store.get_prompt(made["prompt_id"], version=1) == made
    assert (await store.list_prompts()).data == [made]
    assert (await store.list_prompt_versions(made["prompt_id"])).data == [made]
    assert await store.delete_prompt(made["prompt_id"]) is None
    for use in (
        store.get_prompt(made["prompt_id"]),
        store.get_prompt(made["prompt_id"], version=1),
        store.list_prompt_versions(made["prompt_id"]),
        store.update_prompt(made["prompt_id"], "x", 1),
        store.set_default_version(made["prompt_id"], 1),
        store.delete_prompt(made["prompt_id"]),
        store.list_prompts(after=made["prompt_id"], limit=1),
    ):
        with pytest.raises(NotFoundError):
            await use
    listed = await store.list_prompts()
    assert (listed.data, listed.has_more, listed.first_id, listed.last_id) == ([], False, "", "")


async def test_versions_are_added_and_the_default_moves_with_them_or_not(store):
    first = await store.create_prompt("one {{x}}", variables=["x"])
    prompt = first["prompt_id"]
    second = await store.update_prompt(prompt, "two {{y}}", 1, variables=["y"])
    assert second == {
        "prompt_id": prompt, "prompt": "two {{y}}", "version": 2, "variables": ["y"], "is_default": True,
    }  # fmt: skip
    assert await store.get_prompt(prompt) == second
    third = await store.update_prompt(prompt, "three", 2, set_as_default=False)
    assert (third["version"], third["variables"], third["is_default"]) == (3, [], False)
    assert await store.get_prompt(prompt) == second
    assert (await store.list_prompts()).data == [second]
    assert await store.get_prompt(prompt, version=1) == {**first, "is_default": False}
    assert await store.get_prompt(prompt, version=3) == third
    versions = await store.list_prompt_versions(prompt)
    assert versions.data == [{**first, "is_default": False}, second, third]
    chosen = await store.set_default_version(prompt, 1)
    assert chosen == first
    assert await store.get_prompt(prompt) == first
    assert (await store.list_prompts()).data == [first]
    assert await defaults(store, prompt) == [1]
    # The next one follows the latest, not the default.
    fourth = await store.update_prompt(prompt, "four", 3, set_as_default=False)
    assert fourth["version"] == 4
    assert await store.set_default_version(prompt, 4) == {**fourth, "is_default": True}
    assert await store.set_default_version(prompt, 4) == {**fourth, "is_default": True}


async def test_the_version_must_be_the_latest(store):
    prompt = (await store.create_prompt("one"))["prompt_id"]
    await store.update_prompt(prompt, "two", 1)
    await store.update_prompt(prompt, "three", 2, set_as_default=False)
    for wrong in (1, 2, 4):
        with pytest.raises(InvalidArgumentError, match=f"latest one, 3, not {wrong}"):
            await store.update_prompt(prompt, "four", wrong)
    for wrong in (0, -1, None, True, "1", 2**63):
        for use in (
            store.update_prompt(prompt, "four", wrong),
            store.set_default_version(prompt, wrong),
            *([] if wrong is None else [store.get_prompt(prompt, version=wrong)]),
        ):
            with pytest.raises(InvalidArgumentError, match="whole number, at least 1"):
                await use
    assert len((await store.list_prompt_versions(prompt)).data) == 3
    assert await defaults(store, prompt) == [2]


async def test_a_version_that_is_not_there(store):
    prompt = (await store.create_prompt("one"))["prompt_id"]
    for use in (store.get_prompt(prompt, version=2), store.set_default_version(prompt, 2)):
        with pytest.raises(NotFoundError, match=f"^there is no version 2 of prompt '{prompt}'$"):
            await use
    assert await defaults(store, prompt) == [1]


WRONG = [
    ("{{a}}", None, r"uses 1 variable\(s\) .* at character 0;"),
    ("x {{ a }} {{b}} {{\tb\n}}", ["a"], r"uses 1 variable\(s\) .* at character 10;"),
    ("{{c}}{{ü}}", [], r"uses 2 variable\(s\)"),
    (None, [], "a prompt is a text"),
    (7, None, "a prompt is a text"),
    ("x", "abc", "list of texts"),
    ("x", [1], "list of texts"),
    ("x", {"a": 1}, "list of texts"),
]


async def test_what_is_no_prompt_is_said(store, place):
    there = (await store.create_prompt("x"))["prompt_id"]
    for prompt, variables, says in WRONG:
        for use in (
            store.create_prompt(prompt, variables=variables),
            store.update_prompt(there, prompt, 1, variables=variables),
        ):
            with pytest.raises(InvalidArgumentError, match=says):
                await use
    assert await place.sql("SELECT count(*) FROM @my_prompts") == [(1,)]
    assert await place.sql("SELECT count(*) FROM @my_prompts__versions") == [(1,)]


async def test_any_text_comes_back_as_it_went_in(store):
    odd = "{{}} {{ }} { {a} } {{a b}} {{a-b}} {{a"
    for prompt in ("", odd, "nul \0, é, \ud800, {{v}}", "x" * 200_000):
        made = await store.create_prompt(prompt, variables=["v", "v"])
        assert made["prompt"] == prompt and made["variables"] == ["v", "v"]
        assert await store.get_prompt(made["prompt_id"]) == made
        assert await store.get_prompt(made["prompt_id"], version=1) == made


async def test_prompts_are_listed_the_newest_first_page_by_page(store):
    ids = [(await store.create_prompt(str(n)))["prompt_id"] for n in range(7)]
    # A new version doesn't move its prompt.
    await store.update_prompt(ids[2], "2", 1, set_as_default=True)
    listed = await store.list_prompts()
    assert [one["prompt"] for one in listed.data] == list("6543210")
    assert (listed.first_id, listed.last_id, listed.has_more) == (ids[6], ids[0], False)
    assert [one["prompt_id"] for one in (await store.list_prompts(order="asc")).data] == ids
    seen, cursor = [], None
    while True:
        page = await store.list_prompts(limit=3, cursor=cursor)
        seen += [one["prompt_id"] for one in page.data]
        cursor = page.next_cursor
        if not page.has_more:
            break
    assert seen == ids[::-1]
    page = await store.list_prompts(limit=3, after=ids[4])
    assert [one["prompt_id"] for one in page.data] == [ids[3], ids[2], ids[1]]
    assert [one["prompt_id"] for one in (await store.list_prompts(after=ids[1])).data] == [ids[0]]
    for limit in (0, -1, True):
        with pytest.raises(InvalidArgumentError, match="limit is a whole number from 1"):
            await store.list_prompts(limit=limit)
    with pytest.raises(InvalidArgumentError, match='"asc" or "desc"'):
        await store.list_prompts(order="up")


async def test_versions_are_listed_page_by_page(store):
    prompt = (await store.create_prompt("1"))["prompt_id"]
    for n in range(1, 6):
        await store.update_prompt(prompt, str(n + 1), n)

    async def numbers(**how):
        page = await store.list_prompt_versions(prompt, **how)
        return [one["version"] for one in page.data], page.has_more, page.next_cursor

    seen, more, cursor = await numbers(limit=4)
    assert (seen, more) == ([1, 2, 3, 4], True)
    assert await numbers(limit=4, cursor=cursor) == ([5, 6], False, None)
    assert (await numbers(limit=2, after=4))[0] == [5, 6]
    assert (await numbers(order="desc", limit=2))[0] == [6, 5]
    assert (await numbers(after=6))[0] == []
    with pytest.raises(NotFoundError, match="no version 7"):
        await numbers(after=7)
    for wrong in ({"limit": 0}, {"after": "1"}, {"order": "up"}):
        with pytest.raises(InvalidArgumentError):
            await numbers(**wrong)


async def test_no_list_of_prompts_is_unbounded(store, monkeypatch):
    """Without a limit a page is as large as one can be, and says that there is more."""
    monkeypatch.setattr("stackstore.stores.prompts.store.MAX_PAGE", 2)
    for _ in range(3):
        prompt = (await store.create_prompt("1"))["prompt_id"]
    for n in range(1, 3):
        await store.update_prompt(prompt, "x", n)
    for page in (await store.list_prompts(), await store.list_prompt_versions(prompt)):
        assert (len(page.data), page.has_more) == (2, True)


async def test_prompts_of_one_moment_are_all_listed(store, monkeypatch):
    monkeypatch.setattr(time, "time_ns", lambda: 1_700_000_000_000_000_000)
    ids = [(await store.create_prompt(str(n)))["prompt_id"] for n in range(5)]
    seen, cursor = [], None
    while True:
        page = await store.list_prompts(limit=2, cursor=cursor)
        seen += [one["prompt_id"] for one in page.data]
        cursor = page.next_cursor
        if not page.has_more:
            break
    assert sorted(seen) == sorted(ids)


async def test_deleting_a_prompt_deletes_its_versions_only(store, place):
    one = (await store.create_prompt("a"))["prompt_id"]
    other = (await store.create_prompt("b"))["prompt_id"]
    await store.update_prompt(one, "c", 1)
    await store.delete_prompt(one)
    assert await place.sql("SELECT count(*) FROM @my_prompts__versions") == [(1,)]
    assert (await store.get_prompt(other))["prompt"] == "b"


async def test_an_id_is_a_text(store):
    for wrong in (None, 7):
        for use in (
            store.get_prompt(wrong),
            store.delete_prompt(wrong),
            store.update_prompt(wrong, "x", 1),
        ):
            with pytest.raises(InvalidArgumentError, match="a prompt's id is a text"):
                await use


async def test_n18_tables_of_other_names_are_other_prompts(store, place):
    """OGX: the table is always `prompts`, so two stacks on one database share it."""
    made = await store.create_prompt("x")
    other = PromptsStore(AuthorizedSqlStore(place.store()), "other_prompts")
    assert (await other.list_prompts()).data == []
    with pytest.raises(NotFoundError):
        await other.get_prompt(made["prompt_id"])
    same = PromptsStore(AuthorizedSqlStore(place.store()), "my_prompts")
    with acting_as(ALICE):
        assert (await same.list_prompts()).data == [made]


async def test_no_error_has_a_prompts_content(store, place):
    canary = "canary_5f2d"
    prompt = (await store.create_prompt("x"))["prompt_id"]
    errors = [
        await caught(store.create_prompt("{{" + canary + "}}")),
        await caught(store.update_prompt(prompt, canary, 2)),
        await caught(store.create_prompt(canary, variables=canary)),
    ]
    cascade = "CASCADE" if place.dialect == "postgresql" else ""
    await place.sql(f"DROP TABLE @my_prompts__versions {cascade}")
    errors.append(await caught(store.create_prompt(canary)))
    for error in errors:
        while error is not None:
            assert canary not in f"{error!r} {error}"
            error = error.__cause__ or error.__context__  # noqa: PLW2901 - the chain


async def caught(use):
    with pytest.raises(Exception) as caught:
        await use
    return caught.value
