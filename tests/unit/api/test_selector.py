"""Consent by label, and what is known without it. The API server's own meaning is asked in
tests/operator/test_consent.py."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from stackstore_operator.api.backend import StorageBackend, allows, refuses
from stackstore_operator.api.selector import LabelSelector


def backend(**allowed: Any) -> StorageBackend:
    spec = {"type": "kv_sqlite", "sqlite": {"path": "/a"}}
    if allowed:
        spec["allowedNamespaces"] = allowed
    return StorageBackend.from_object(
        {"metadata": {"name": "kv", "namespace": "platform"}, "spec": spec}
    )


BY_LABEL = {"from": "Selector", "selector": {"matchLabels": {"stacks": "yes"}}}


@pytest.mark.parametrize(
    ("allowed", "namespace", "labels", "answer"),
    [
        ({}, "platform", None, True),
        ({}, "chat", {}, False),
        ({}, "chat", None, False),
        ({"from": "All"}, "chat", None, True),
        (BY_LABEL, "platform", None, True),
        (BY_LABEL, "platform", {}, True),
        (BY_LABEL, "chat", {"stacks": "yes", "more": ""}, True),
        (BY_LABEL, "chat", {"stacks": "no"}, False),
        (BY_LABEL, "chat", {}, False),
        (BY_LABEL, "chat", None, None),
        ({"from": "Selector", "selector": {}}, "chat", {}, True),
        ({"from": "Selector", "selector": {}}, "chat", None, None),
        # Only an older schema lets this in; nothing is selected by no selector.
        ({"from": "Selector"}, "chat", {"a": "b"}, False),
    ],
)
def test_consent(allowed: Any, namespace: str, labels: Any, answer: bool | None) -> None:
    """What nobody knows (None) lets nobody in, and takes nothing away either."""
    made = backend(**allowed)
    assert allows(made, namespace, labels) is (answer is True)
    assert refuses(made, namespace, labels) is (answer is False)


LABELS = {"env": "prod", "empty": "", "team.example/name": "a"}


@pytest.mark.parametrize(
    ("key", "operator", "values", "answer"),
    [
        ("env", "In", ["dev", "prod"], True),
        ("env", "In", ["dev"], False),
        ("gone", "In", ["prod"], False),
        ("gone", "In", [""], False),
        ("empty", "In", [""], True),
        ("env", "NotIn", ["dev"], True),
        ("env", "NotIn", ["dev", "prod"], False),
        ("gone", "NotIn", ["prod"], True),
        ("gone", "NotIn", [""], True),
        ("team.example/name", "Exists", [], True),
        ("empty", "Exists", [], True),
        ("gone", "Exists", [], False),
        ("gone", "DoesNotExist", [], True),
        ("empty", "DoesNotExist", [], False),
    ],
)
def test_requirements(key: str, operator: str, values: list[str], answer: bool) -> None:
    requirement = {"key": key, "operator": operator, "values": values}
    selector = LabelSelector.model_validate({"matchExpressions": [requirement]})
    assert selector.matches(LABELS) is answer
    both = LabelSelector.model_validate(
        {"matchLabels": {"env": "prod"}, "matchExpressions": [requirement]}
    )
    assert both.matches(LABELS) is answer
    neither = LabelSelector.model_validate(
        {"matchLabels": {"env": "dev"}, "matchExpressions": [requirement]}
    )
    assert neither.matches(LABELS) is False


@pytest.mark.parametrize(
    ("operator", "values"), [("In", []), ("NotIn", []), ("Exists", ["a"]), ("DoesNotExist", ["a"])]
)
def test_values_where_they_belong(operator: str, values: list[str]) -> None:
    with pytest.raises(ValidationError, match="`values` must be given when"):
        LabelSelector.model_validate(
            {"matchExpressions": [{"key": "a", "operator": operator, "values": values}]}
        )
