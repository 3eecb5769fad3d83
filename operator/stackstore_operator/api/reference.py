"""`python -m stackstore_operator.api.reference`: every field of both kinds, as docs/api-reference.md.

Made from the schemas that the API server enforces, so that nothing is told of the API that isn't so.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

from stackstore_operator.api import crd
from stackstore_operator.api.conditiontypes import CONDITION_TYPES

_HEAD = """\
# API reference

Generated from operator/stackstore_operator/api by `make generate`; do not edit. Group `{group}`, version
`{version}`; both kinds live in a namespace. `[]` stands for the items of a list, `{{}}` for the values of a
map. Lists with named items are maps to server-side apply: two managers may each own some. What the words
mean: [concepts.md](concepts.md); what reasons mean and what to do: [troubleshooting.md](troubleshooting.md).
"""
_STANDARD = ("apiVersion", "kind", "metadata")


def markdown() -> str:
    """The page's text."""
    head = _HEAD.format(group=crd.GROUP, version=crd.VERSION)
    return head + "".join(_kind(made) for made in (crd.storage_backend(), crd.store_binding()))


def fields(made: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any], bool]]:
    """Every field of a kind: its path, its schema, and whether it has to be there."""
    root = _schema(made)
    for name, node in root["properties"].items():
        if name not in _STANDARD:
            yield from _walk(name, node, name in root.get("required", ()))


def _walk(
    path: str, node: dict[str, Any], required: bool
) -> Iterator[tuple[str, dict[str, Any], bool]]:
    yield path, node, required
    if node.get("type") == "array":
        path, node = f"{path}[]", node["items"]
        if "properties" not in node:
            yield path, node, False
    for name, child in node.get("properties", {}).items():
        yield from _walk(f"{path}.{name}", child, name in node.get("required", ()))
    if isinstance(node.get("additionalProperties"), dict):
        yield f"{path}{{}}", node["additionalProperties"], False


def _schema(made: dict[str, Any]) -> dict[str, Any]:
    root: dict[str, Any] = made["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return root


def _kind(made: dict[str, Any]) -> str:
    names = made["spec"]["names"]
    root = _schema(made)
    everything = list(fields(made))
    parts = [
        f"\n## {names['kind']}\n\n{root['description']} Short name `{names['shortNames'][0]}`, category "
        f"`{names['categories'][0]}`.\n",
    ]
    for title, under in (("Spec", "spec"), ("Status", "status")):
        rows = [
            f"| `{path}` | {_type(node)} | {_default(node, required)} | {_bounds(node)} "
            f"| {_cell(node.get('description', ''))} |\n"
            for path, node, required in everything
            if path.startswith(f"{under}.")
        ]
        parts.append(
            f"\n### {title}\n\n| field | type | default | allowed | |\n|---|---|---|---|---|\n"
        )
        parts += rows
    parts.append("\n### Rules\n\nChecked by the API server when an object is written.\n\n")
    parts.append("| where | rule (CEL) | what it says |\n|---|---|---|\n")
    for path, node in [("(the object)", root), *((path, node) for path, node, _ in everything)]:
        # A rule of a list's items stands at the items.
        where = [(path, node)]
        if node.get("type") == "array":
            where.append((f"{path}[]", node["items"]))
        for place, ruled in where:
            parts += [
                f"| `{place}` | `{_cell(one['rule'])}` | {_cell(one['message'])} |\n"
                for one in ruled.get("x-kubernetes-validations", ())
            ]
    parts.append(
        "\n### Conditions\n\n| type | wanted | True | False | Unknown |\n|---|---|---|---|---|\n"
    )
    parts += [
        f"| `{name}` | {one.good} | {one.true} | {one.false} | {one.unknown} |\n"
        for name, one in CONDITION_TYPES.items()
        if names["kind"] in one.kinds
    ]
    columns = made["spec"]["versions"][0]["additionalPrinterColumns"]
    parts.append("\n### Columns of `kubectl get`\n\n| column | field | |\n|---|---|---|\n")
    for column in columns:
        wide = "with `-o wide`" if column.get("priority") else ""
        parts.append(f"| {column['name']} | `{column['jsonPath']}` | {wide} |\n")
    return "".join(parts)


def _type(node: dict[str, Any]) -> str:
    kind = str(node["type"])
    if kind == "array":
        keys = node.get("x-kubernetes-list-map-keys")
        of = f", named by {', '.join(f'`{key}`' for key in keys)}" if keys else ""
        return f"list{of}"
    if kind == "object":
        return "map" if "additionalProperties" in node else "object"
    return {"date-time": "time"}.get(str(node.get("format")), kind)


def _default(node: dict[str, Any], required: bool) -> str:
    if required:
        return "*required*"
    default = node.get("default")
    if default is None:
        return ""
    # That of an object is those of its fields.
    return "as its fields" if isinstance(default, dict) else f"`{default}`"


def _bounds(node: dict[str, Any]) -> str:
    said = []
    if "enum" in node:
        said.append(", ".join(f"`{value}`" for value in node["enum"]))
    if "minimum" in node:
        said.append(f"{node['minimum']} to {node['maximum']}")
    for low, high, what in (
        ("minLength", "maxLength", "characters"),
        ("minItems", "maxItems", "items"),
        ("minProperties", "maxProperties", "entries"),
    ):
        if high in node:
            said.append(
                f"{node[low]} to {node[high]} {what}"
                if low in node
                else f"at most {node[high]} {what}"
            )
    if "pattern" in node:
        said.append(f"`{_cell(node['pattern'])}`")
    return "; ".join(said)


def _cell(text: str) -> str:
    """As it may stand in a table."""
    return " ".join(text.replace("|", "\\|").split())


if __name__ == "__main__":
    sys.stdout.write(markdown())
