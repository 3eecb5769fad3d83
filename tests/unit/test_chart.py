"""The chart's files that are copies or lists of others are those."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from hack import values

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "charts" / "stackstore"


def test_its_crds_are_those_of_the_models():
    copies = {path.name: path.read_text() for path in (CHART / "files" / "crds").iterdir()}
    assert copies == {path.name: path.read_text() for path in (ROOT / "crds").iterdir()}


def test_the_document_of_values_is_up_to_date():
    assert (ROOT / "docs" / "values.md").read_text() == values.document()


def test_every_value_has_a_type_a_default_and_a_meaning():
    schema = json.loads((CHART / "values.schema.json").read_text())
    text = (CHART / "values.yaml").read_text()
    typed = [path for path, _ in values.leaves(schema)]
    assert set(_paths(yaml.safe_load(text), set(typed))) == set(typed)
    meanings = values.comments(text)
    assert [path for path in typed if not meanings.get(path, "").endswith(".")] == []


def _paths(node: Any, whole: set[tuple[str, ...]], path: tuple[str, ...] = ()) -> Any:
    if path in whole or not isinstance(node, dict):
        yield path
        return
    for name, inner in node.items():
        yield from _paths(inner, whole, (*path, name))


def test_a_comment_belongs_to_the_key_below_it():
    text = "# One\n# two.\na:\n  # Three.\n  b: {}\n\n  c: 1\n# Nobody's.\n\nd: 2\n"
    assert values.comments(text) == {("a",): "One two.", ("a", "b"): "Three."}
