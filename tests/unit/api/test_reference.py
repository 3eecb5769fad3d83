"""docs/api-reference.md is made from the schemas, and leaves nothing out."""

from __future__ import annotations

import functools
import re
from pathlib import Path
from typing import Any

import pytest

from stackstore_operator.api import crd, reference
from stackstore_operator.api.conditiontypes import CONDITION_TYPES

ROOT = Path(__file__).resolve().parents[3]
KINDS = {
    made["spec"]["names"]["kind"]: made for made in (crd.storage_backend(), crd.store_binding())
}


def test_the_page_is_what_the_code_says() -> None:
    page = (ROOT / "docs" / "api-reference.md").read_text()
    assert page == reference.markdown(), "run `make generate`"


@functools.cache
def section(kind: str) -> str:
    (found,) = re.findall(
        rf"^## {kind}\n(.*?)(?=^## |\Z)", reference.markdown(), re.DOTALL | re.MULTILINE
    )
    return str(found)


def nodes(node: dict[str, Any], path: str) -> list[tuple[str, dict[str, Any]]]:
    """Every node of a schema, by another walk than that of the page."""
    found = [(path, node)]
    for name, child in node.get("properties", {}).items():
        found += nodes(child, f"{path}.{name}")
    for word, sign in (("items", "[]"), ("additionalProperties", "{}")):
        if isinstance(node.get(word), dict):
            found += nodes(node[word], f"{path}{sign}")
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_every_field_is_there_with_what_is_allowed(kind: str) -> None:
    text = section(kind)
    root = KINDS[kind]["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    for under in ("spec", "status"):
        for path, node in nodes(root["properties"][under], under):
            if path == under or path.endswith("[]"):
                continue
            (row,) = re.findall(
                rf"^\| `{re.escape(path)}` \| (?:string|integer|boolean|object|map|list|time)\b.*$",
                text,
                re.MULTILINE,
            )
            for word in ("minimum", "maximum", "maxLength", "maxItems", "maxProperties"):
                assert str(node.get(word, "")) in row
            for value in node.get("enum", ()):
                assert f"`{value}`" in row
            assert node.get("pattern", "").replace("|", "\\|") in row
            assert node.get("description", "") in row
            if "default" in node and not isinstance(node["default"], dict):
                assert f"| `{node['default']}` |" in row


@pytest.mark.parametrize("kind", KINDS)
def test_every_rule_is_there(kind: str) -> None:
    text = section(kind)
    root = KINDS[kind]["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    rules = [one for _, node in nodes(root, "") for one in node.get("x-kubernetes-validations", ())]
    assert rules
    for one in rules:
        assert f"`{one['rule']}`".replace("|", "\\|") in text
        assert " ".join(one["message"].split()) in text


def test_what_has_to_be_there_is_marked() -> None:
    assert "| `spec.type` | string | *required* |" in section("StorageBackend")
    assert "| `spec.stores` | list, named by `name` |  |" in section("StoreBinding")


def test_every_type_of_a_condition_is_explained() -> None:
    source = "".join(
        path.read_text()
        for path in (ROOT / "operator" / "stackstore_operator").rglob("*.py")
        if path.parent.name != "api"
    )
    types = set(
        re.findall(
            r"\b(?:Said|not_yet)\(\s*\"(\w+)\"|^_?CONDITION = \"(\w+)\"", source, re.MULTILINE
        )
    )
    said = {word for pair in types for word in pair if word}
    assert len(said) > 5
    assert said - CONDITION_TYPES.keys() == set(), (
        "add it to api/conditiontypes.py, then `make generate`"
    )
    for name, one in CONDITION_TYPES.items():
        assert one.good in ("True", "False")
        for kind in one.kinds:
            assert f"| `{name}` | {one.good} |" in section(kind)
