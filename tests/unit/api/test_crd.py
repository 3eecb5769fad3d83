"""The generated schemas: complete, bounded, and the same as in `crds/`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from stackstore_operator.api import crd
from stackstore_operator.api.backend import StorageBackendSpec
from stackstore_operator.api.binding import StoreBindingSpec
from stackstore_operator.render.releases import RELEASES

CRDS = Path(__file__).parents[3] / "crds"
KINDS = [crd.storage_backend(), crd.store_binding()]


def nodes(made: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every node of the schema below the root, with its path."""
    root = made["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    pending = [(name, child) for name, child in root["properties"].items() if name != "metadata"]
    while pending:
        path, node = pending.pop()
        yield path, node
        pending += [(f"{path}.{name}", child) for name, child in node.get("properties", {}).items()]
        if "items" in node:
            pending.append((f"{path}[]", node["items"]))
        if "additionalProperties" in node:
            pending.append((f"{path}{{}}", node["additionalProperties"]))


ALL = [(kind["spec"]["names"]["kind"], path, node) for kind in KINDS for path, node in nodes(kind)]


def test_files_are_as_generated() -> None:
    """Drift: `make generate` writes them anew."""
    assert {path.name: path.read_text() for path in CRDS.iterdir()} == crd.files()


def test_write_writes_the_files(tmp_path: Path) -> None:
    written = crd.write(tmp_path / "crds")
    assert {path.name: path.read_text() for path in written} == crd.files()


@pytest.mark.parametrize(("kind", "path", "node"), ALL, ids=[f"{k}.{p}" for k, p, _ in ALL])
def test_everything_is_described_and_bounded(kind: str, path: str, node: dict[str, Any]) -> None:
    assert not {"$ref", "anyOf", "oneOf", "allOf", "title", "const"} & node.keys()
    assert not any(key.startswith("x-kubernetes-preserve") for key in node)
    if not path.endswith(("[]", "{}")):
        assert node["description"].endswith(".")
    match node["type"]:
        case "string":
            assert "enum" in node or "maxLength" in node or path in ("apiVersion", "kind")
        case "integer":
            assert {"minimum", "maximum"} <= node.keys()
        case "array":
            assert "maxItems" in node
            if ".selector." in path:
                # As metav1.LabelSelector has it.
                assert node["x-kubernetes-list-type"] == "atomic"
                return
            assert node["x-kubernetes-list-type"] == "map"
            keys = node["x-kubernetes-list-map-keys"]
            required = set(node["items"]["required"])
            assert all(
                key in required or "default" in node["items"]["properties"][key] for key in keys
            )
        case "object":
            assert "properties" in node or "maxProperties" in node
        case other:
            pytest.fail(f"{other} has no place in this API")
    if path.startswith("status"):
        assert "default" not in node


def test_a_rule_says_what_is_allowed() -> None:
    rules = [rule for _, _, node in ALL for rule in node.get("x-kubernetes-validations", ())]
    assert len(rules) > 15
    assert all(
        ("`" in rule["message"] and "must" in rule["message"]) or "may only" in rule["message"]
        for rule in rules
    )


def test_columns_say_whether_it_is_fine_and_if_not_why() -> None:
    for kind in KINDS:
        columns = kind["spec"]["versions"][0]["additionalPrinterColumns"]
        shown = [column["name"] for column in columns if not column.get("priority")]
        assert {"Ready", "Reason", "Age"} <= set(shown)
        assert "Message" in {column["name"] for column in columns}


def test_the_releases_are_those_that_can_be_rendered() -> None:
    schema = crd.schema_of(StoreBindingSpec)
    assert schema["properties"]["serverRelease"]["enum"] == list(RELEASES)
    stores = schema["properties"]["stores"]["items"]["properties"]["name"]["enum"]
    assert set(stores) == {name for release in RELEASES.values() for name in release.stores}


def test_references_defaults_and_numbers_are_structural() -> None:
    schema = crd.schema_of(StorageBackendSpec)
    assert schema["required"] == ["type"]
    postgres = schema["properties"]["postgres"]
    assert "default" not in postgres
    assert postgres["properties"]["pool"]["default"] == {}
    assert postgres["properties"]["tls"]["properties"]["mode"]["default"] == "Require"
    assert postgres["properties"]["port"]["format"] == "int64"
    # Tried against the part's rules before its own defaults are filled in.
    assert postgres["properties"]["tls"]["default"] == {"mode": "Require"}
    assert schema["properties"]["allowedNamespaces"]["default"] == {"from": "Same"}


def test_the_header_says_how_it_is_made() -> None:
    for text in crd.files().values():
        assert text.startswith("# Generated from ")
        assert yaml.safe_load(text)["apiVersion"] == "apiextensions.k8s.io/v1"
