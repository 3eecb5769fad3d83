"""Documents as JSON text."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
from pydantic import BaseModel, ConfigDict, Field

from stackstore.errors import InvalidArgumentError
from stackstore.stores import documents


class Choice(BaseModel):
    model_config = ConfigDict(extra="allow", populate_by_name=True)

    finish_reason: str | None = None
    of: int = Field(0, alias="index")


def test_what_went_in_comes_out():
    given = {
        "text": "é \0 \u2028 'NaN' Infinity",
        "number": 2**70,
        "list": [None, True, 1.5],
        "": {},
    }
    assert documents.plain("a document", given) == given


def test_models_keep_extra_fields_and_aliases_also_within_mappings():
    choice = Choice(index=1, extra={"a": 1})
    written = {"finish_reason": None, "index": 1, "extra": {"a": 1}}
    assert documents.plain("a choice", choice) == written
    assert json.loads(documents.text("choices", [choice])) == [written]
    assert documents.plain("a document", {"choices": [choice]}) == {"choices": [written]}


def test_half_a_surrogate_pair_survives():
    given = {"text": "cut \ud83d", "choice": Choice(extra="\ud83d")}
    found = documents.plain("a document", given)
    assert found["text"] == "cut \ud83d"
    assert found["choice"]["extra"] == "\ud83d"


def test_moments_are_written_in_isos_form():
    assert documents.plain("a document", {"at": datetime(2026, 1, 2, tzinfo=UTC)}) == {
        "at": "2026-01-02T00:00:00Z"
    }


def _loop() -> dict[str, object]:
    made: dict[str, object] = {}
    made["self"] = made
    return made


@pytest.mark.parametrize(
    "wrong",
    [{"n": float("nan")}, {"n": float("-inf")}, {"o": object()}, _loop()],
    ids=["NaN", "infinity", "an object", "a loop"],
)
def test_what_is_no_json_is_refused_without_being_quoted(wrong):
    with pytest.raises(InvalidArgumentError, match="a completion can't be written as JSON") as told:
        documents.text("a completion", wrong)
    assert told.value.__context__ is None


def _nested(depth: int, kind: type = list) -> object:
    made: object = "x"
    for _ in range(depth):
        made = [made] if kind is list else {"a": made}
    return made


@pytest.mark.parametrize("kind", [list, dict])
def test_what_is_nested_deeper_than_readers_can_follow_is_refused(kind):
    given = {"a": _nested(documents.MAX_DEPTH - 1, kind), "b": "]}[{" * 300, "c": '"\\"' * 300}
    assert documents.plain("a document", given) == given
    for more in ("", "\ud83d"):
        with pytest.raises(InvalidArgumentError, match="RecursionError"):
            documents.text("a document", {"a": _nested(documents.MAX_DEPTH, kind), "b": more})


@pytest.mark.parametrize(
    "wrong", [_nested(documents.MAX_DEPTH), float("nan"), 10**4_400], ids=["deep", "NaN", "long"]
)
def test_a_list_of_documents_is_looked_at_as_each_of_them(wrong):
    fine = {"a": "NaN", "b": "7" * 5_000, "c": [[]] * 300}
    assert [json.loads(one) for one in documents.texts("an item", [fine, fine])] == [fine, fine]
    with pytest.raises(InvalidArgumentError, match="an item can't be written as JSON"):
        documents.texts("an item", [fine, {"a": wrong}, fine])


def test_brackets_within_texts_and_many_siblings_are_no_depth():
    given = {"a": ["[[[{{{"] * 1_000, "b": [{"c": []} for _ in range(1_000)]}
    assert documents.plain("a document", given) == given


def test_numbers_that_nobody_can_read_back_are_refused():
    digits = {"text": "7" * 5_000}
    assert documents.plain("a document", digits) == digits
    with pytest.raises(InvalidArgumentError, match="ValueError"):
        documents.text("a document", {"n": 10**4_400})


def test_a_list_is_no_document():
    with pytest.raises(InvalidArgumentError, match="is a model or a mapping, not a list"):
        documents.plain("a document", [])


def test_many_are_written_as_each_one_is():
    given = [{"a": "é"}, Choice(index=3), {"half": "\ud800"}, {"word": "NaN Infinity"}]
    assert documents.texts("an item", given) == [documents.text("an item", one) for one in given]
    assert documents.texts("an item", []) == []


@pytest.mark.parametrize("wrong", [{"a": float("nan")}, {"a": object()}, "text", [1], 5, None])
def test_one_that_is_no_document_refuses_all(wrong):
    with pytest.raises(InvalidArgumentError, match="an item"):
        documents.texts("an item", [{"a": 1}, wrong])


@pytest.mark.parametrize("before", [0, 1, 4_299, 4_300, 4_301, 9_999])
def test_a_number_that_not_everybody_reads_is_seen_wherever_it_is(before):
    for count, seen in ((4_299, False), (4_300, True), (9_000, True)):
        for after in (0, 5_000):
            written = b"a" * before + b"7" * count + b"a" * after
            assert documents._has_long_digits(written) is seen


def test_many_of_which_none_is_deep_are_not_looked_through(monkeypatch):
    """Each has its few brackets; all together have hundreds."""
    monkeypatch.setattr(documents, "_BRACKETS", None)
    given = [{"content": [{"text": "x"}]} for _ in range(500)]
    assert len(documents.texts("an item", given)) == 500
