"""What of a completion can be a row, and that it is the same afterwards."""

import json
from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict

from stackstore.errors import InvalidArgumentError
from stackstore.stores.inference.completions import MAX_NAME_BYTES, document, is_unwanted, row

CANARY = "c4n4ry"
GOOD = {"id": "a", "created": 1_700_000_000, "model": "m", "choices": []}


class Completion(BaseModel):
    model_config = ConfigDict(extra="allow")

    id: str
    created: int
    model: str
    choices: list[dict[str, Any]]
    usage: dict[str, Any] | None = None


class Message(BaseModel):
    role: str
    content: str | None = None


def back(completion, messages=()):
    made = row(completion, list(messages), 5)
    read = {
        name: json.loads(value) if name in ("body", "input_messages") else value
        for name, value in made.items()
    }
    return made, document(read)


def test_a_mapping_and_a_model_come_back_whole():
    extra = {
        "usage": {"total_tokens": 3},
        "service_tier": "flex",
        "metadata": {"a": "b"},
        "x": [None],
    }
    made, found = back({**GOOD, **extra}, [{"role": "user", "content": "é\0\ud800"}])
    assert found == {**GOOD, **extra, "input_messages": [{"role": "user", "content": "é\0\ud800"}]}
    assert (made["id"], made["created"], made["model"], made["arrived"]) == (
        "a",
        1_700_000_000,
        "m",
        5,
    )
    model = Completion(**GOOD, service_tier="flex", store=True)
    _, found = back(model, [Message(role="user")])
    assert found == {
        **GOOD, "usage": None, "service_tier": "flex", "store": True,
        "input_messages": [{"role": "user", "content": None}],
    }  # fmt: skip


def test_the_messages_that_are_given_are_those_that_count():
    _, found = back({**GOOD, "input_messages": ["old"]}, [{"role": "user"}])
    assert found["input_messages"] == [{"role": "user"}]


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("id", None, "'id', a text that is not empty; it is a NoneType"),
        ("id", "", "'id', a text that is not empty; it is empty"),
        ("id", 5, "it is a int"),
        ("id", f"{CANARY}\0", "'id' holds a NUL"),
        ("id", f"{CANARY}\ud800", "'id' holds a lone surrogate"),
        ("id", CANARY * 200, "has 1200 bytes; allowed are 1000"),
        ("id", "é" * 501, "has 1002 bytes"),
        ("model", None, "'model', a text"),
        ("model", f"{CANARY}\0", "'model' holds a NUL"),
        ("created", None, "'created', a whole number of seconds.* it is a NoneType"),
        ("created", True, "it is a bool"),
        ("created", 1.5, "it is a float"),
        ("created", "1700000000", "it is a str"),
        ("created", -1, "out of that range"),
        ("created", 2**63, "out of that range"),
        ("choices", [{CANARY: object()}], "can't be written as JSON"),
        ("choices", [float("nan")], "can't be written as JSON"),
    ],
)  # fmt: skip
def test_what_cannot_be_stored_is_refused_by_name(field, value, says):
    with pytest.raises(InvalidArgumentError, match=says) as raised:
        row({**GOOD, field: value}, [], 0)
    assert CANARY not in str(raised.value)
    assert raised.value.__cause__ is None
    assert raised.value.__context__ is None


def test_the_largest_that_go():
    made = row({**GOOD, "id": "é" * (MAX_NAME_BYTES // 2), "created": 2**63 - 1, "model": "m" * MAX_NAME_BYTES}, [], 0)  # fmt: skip
    assert made["created"] == 2**63 - 1
    assert row({**GOOD, "created": 0}, [], 0)["created"] == 0


@pytest.mark.parametrize("completion", [None, "text", [], 5])
def test_a_completion_is_a_model_or_a_mapping(completion):
    with pytest.raises(InvalidArgumentError, match="a chat completion is a model or a mapping"):
        row(completion, [], 0)


@pytest.mark.parametrize(
    "messages", [None, CANARY, {"role": CANARY}, [CANARY], [{"role": 1}, None]]
)
def test_messages_are_a_list_of_models_or_mappings(messages):
    with pytest.raises(InvalidArgumentError, match="input_messages is a list") as raised:
        row(GOOD, messages, 0)
    assert CANARY not in str(raised.value)


def test_a_message_that_is_no_json():
    with pytest.raises(InvalidArgumentError, match="input_messages can't be written as JSON"):
        row(GOOD, [{"role": object()}], 0)


def test_either_word_against_storing_counts():
    assert is_unwanted(GOOD, False)
    assert is_unwanted({**GOOD, "store": False}, None)
    assert is_unwanted({**GOOD, "store": False}, True)
    assert is_unwanted(Completion(**GOOD, store=False), None)
    for store in (None, True):
        for own in (None, True):
            assert not is_unwanted({**GOOD, "store": own}, store)
    assert not is_unwanted(GOOD, None)
    assert not is_unwanted(Completion(**GOOD), None)
