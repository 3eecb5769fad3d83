"""`python -m hack.values`: docs/values.md, from the chart's values.yaml and values.schema.json.

A value's meaning is the comment right above it, its type is the schema's, its default is the file's.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

CHART = Path(__file__).resolve().parent.parent / "charts" / "stackstore"
_HEAD = """\
# Values of the chart

Generated from [values.yaml](../charts/stackstore/values.yaml) and
[values.schema.json](../charts/stackstore/values.schema.json) by `make generate`; do not edit. What is
not here is refused.

| value | type | default | meaning |
|---|---|---|---|
"""


def document() -> str:
    """The whole of docs/values.md."""
    schema = json.loads((CHART / "values.schema.json").read_text())
    text = (CHART / "values.yaml").read_text()
    values, meanings = yaml.safe_load(text), comments(text)
    rows = []
    for path, node in leaves(schema):
        default = values
        for name in path:
            default = default[name]
        shown = json.dumps(default, ensure_ascii=False)
        cells = (f"`{'.'.join(path)}`", type_of(schema, node), f"`{shown}`", meanings.get(path, ""))
        rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |\n")
    return _HEAD + "".join(rows)


def leaves(
    node: dict[str, Any], path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], dict[str, Any]]]:
    """Every value that stands for itself, with its schema; sections are walked into.

    `global` is left out: it is helm's own, for charts that hold this one.
    """
    for name, inner in node["properties"].items():
        if (*path, name) == ("global",):
            continue
        if "properties" in inner and not _is_whole((*path, name)):
            yield from leaves(inner, (*path, name))
        else:
            yield (*path, name), inner


def _is_whole(path: tuple[str, ...]) -> bool:
    # Parts of Kubernetes' own objects, which are told of as one.
    return path in {("resources",), ("strategy",)}


def type_of(schema: dict[str, Any], node: dict[str, Any]) -> str:
    """In words: `integer, 0 to 3600`."""
    if "$ref" in node:
        name = node["$ref"].rsplit("/", 1)[1]
        return {
            "texts": "texts by name",
            "share": "number or percentage",
            "port": "port",
            "ports": "ports",
            "peers": "NetworkPolicy peers",
        }[name]
    if "enum" in node:
        return " or ".join(f"`{one}`" if one else "empty" for one in node["enum"])
    if node["type"] == "array":
        inner = node["items"]
        return f"list of {'texts' if inner.get('type') == 'string' else 'objects'}"
    kinds = node["type"] if isinstance(node["type"], list) else [node["type"]]
    words = " or ".join({"string": "text", "boolean": "true or false"}.get(k, k) for k in kinds)
    if "maximum" in node:
        words += f", {node['minimum']} to {node['maximum']}"
    return words


def comments(text: str) -> dict[tuple[str, ...], str]:
    """The comment right above each key of a YAML text that is indented by two."""
    found: dict[tuple[str, ...], str] = {}
    path: list[str] = []
    above: list[str] = []
    for line in text.splitlines():
        if match := re.match(r"( *)# (.*)", line):
            above.append(match[2])
        elif match := re.match(r"( *)([A-Za-z]+):", line):
            path = [*path[: len(match[1]) // 2], match[2]]
            if above:
                found[tuple(path)] = " ".join(above)
            above = []
        else:
            above = []
    return found


if __name__ == "__main__":
    sys.stdout.write(document())
