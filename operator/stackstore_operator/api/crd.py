"""The CRDs, generated from the models.

What the API server demands of a structural schema
(https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/):
no `$ref`, no `anyOf` with null, a type everywhere.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel

from stackstore_operator.api.backend import StorageBackendSpec, StorageBackendStatus
from stackstore_operator.api.binding import StoreBindingSpec, StoreBindingStatus
from stackstore_operator.api.part import rules as cel_rules

GROUP = "stackstore.dev"
VERSION = "v1alpha1"

_HEADER = "# Generated from operator/stackstore_operator/api by `make generate`; do not edit.\n"


def _condition(type_: str, field: str) -> str:
    return f'.status.conditions[?(@.type=="{type_}")].{field}'


def storage_backend() -> dict[str, Any]:
    """The CRD of StorageBackend."""
    return _crd(
        kind="StorageBackend",
        plural="storagebackends",
        short="sbe",
        description="One database, declared once; bindings refer to it by name.",
        spec=StorageBackendSpec,
        status=StorageBackendStatus,
        # By which servicebinding.io's tools find kinds that have `status.binding`.
        labels={"servicebinding.io/provisioned-service": "true"},
        rules=cel_rules(
            (
                "self.metadata.name.size() <= 63 && self.metadata.name.matches('^[a-z]')",
                "`metadata.name` must begin with a letter and have at most 63 characters: "
                "environment variables are named after it",
            )
        ),
        columns=[
            ("Type", "string", ".spec.type", 0),
            ("Ready", "string", _condition("Ready", "status"), 0),
            ("Verified", "string", _condition("Verified", "status"), 0),
            ("Adopted", "string", _condition("Adopted", "status"), 0),
            ("Revision", "string", ".status.revision", 0),
            ("Bindings", "integer", ".status.bindings", 0),
            ("Reason", "string", _condition("Ready", "reason"), 0),
            ("Server", "string", ".status.serverVersion", 1),
            ("Message", "string", _condition("Ready", "message"), 1),
        ],
    )


def store_binding() -> dict[str, Any]:
    """The CRD of StoreBinding."""
    return _crd(
        kind="StoreBinding",
        plural="storebindings",
        short="sbn",
        description="Which stores of which stack use which backends.",
        spec=StoreBindingSpec,
        status=StoreBindingStatus,
        rules={},
        columns=[
            ("Stack", "string", ".spec.stack", 0),
            ("Ready", "string", _condition("Ready", "status"), 0),
            ("Adopted", "string", _condition("Adopted", "status"), 0),
            ("Reason", "string", _condition("Ready", "reason"), 0),
            ("ConfigMap", "string", ".status.configMapName", 0),
            ("Secret", "string", ".status.secretName", 0),
            ("Revision", "string", ".status.revision", 1),
            ("Message", "string", _condition("Ready", "message"), 1),
        ],
    )


def files() -> dict[str, str]:
    """File name to content, for `crds/`."""
    return {
        f"{GROUP}_{crd['spec']['names']['plural']}.yaml": _HEADER
        + yaml.safe_dump(crd, sort_keys=False, width=100, allow_unicode=True)
        for crd in (storage_backend(), store_binding())
    }


def write(directory: Path) -> list[Path]:
    """Write the files of `crds/`."""
    directory.mkdir(parents=True, exist_ok=True)
    written = []
    for name, content in files().items():
        path = directory / name
        path.write_text(content, encoding="utf-8")
        written.append(path)
    return written


def schema_of(model: type[BaseModel]) -> dict[str, Any]:
    """The structural schema of a model."""
    raw = model.model_json_schema(by_alias=True)
    definitions = raw.pop("$defs", {})
    return _structural(raw, definitions)


def _structural(node: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    node = dict(node)
    if "$ref" in node:
        target = definitions[node.pop("$ref").rsplit("/", 1)[1]]
        node = {**target, **node}
    if "anyOf" in node:
        (only,) = [option for option in node.pop("anyOf") if option != {"type": "null"}]
        return _structural({**only, **node}, definitions)
    node.pop("title", None)
    if "const" in node:
        node["enum"] = [node.pop("const")]
    if node.get("type") == "integer":
        node["format"] = "int64"
    if "default" in node and (node["default"] is None or node["default"] == []):
        del node["default"]
    if isinstance(node.get("default"), dict):
        # The defaults of its fields fill it in; written out they would stand in two places. But
        # the API server tries a default against the part's own rules before it fills it in.
        ruled = "x-kubernetes-validations" in node
        node["default"] = _without_nulls(node["default"]) if ruled else {}
    if "properties" in node:
        node["properties"] = {
            name: _structural(child, definitions) for name, child in node["properties"].items()
        }
    if isinstance(node.get("items"), dict):
        node["items"] = _structural(node["items"], definitions)
    if isinstance(node.get("additionalProperties"), dict):
        node["additionalProperties"] = _structural(node["additionalProperties"], definitions)
    return node


def _without_nulls(default: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in default.items() if value is not None}


def _without_defaults(node: dict[str, Any]) -> dict[str, Any]:
    node = {key: value for key, value in node.items() if key != "default"}
    if "properties" in node:
        node["properties"] = {
            name: _without_defaults(child) for name, child in node["properties"].items()
        }
    if "items" in node:
        node["items"] = _without_defaults(node["items"])
    return node


def _crd(
    *,
    kind: str,
    plural: str,
    short: str,
    description: str,
    spec: type[BaseModel],
    status: type[BaseModel],
    rules: dict[str, Any],
    columns: list[tuple[str, str, str, int]],
    labels: dict[str, str] | None = None,
) -> dict[str, Any]:
    printed = [
        {
            "name": name,
            "type": type_,
            "jsonPath": path,
            **({"priority": priority} if priority else {}),
        }
        for name, type_, path, priority in columns
    ]
    printed.append({"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"})
    text = "See the API conventions of Kubernetes."
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": f"{plural}.{GROUP}",
            **({"labels": labels} if labels else {}),
        },
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": kind,
                "listKind": f"{kind}List",
                "plural": plural,
                "singular": kind.lower(),
                "shortNames": [short],
                "categories": ["stackstore"],
            },
            "versions": [
                {
                    "name": VERSION,
                    "served": True,
                    "storage": True,
                    "additionalPrinterColumns": printed,
                    "subresources": {"status": {}},
                    "schema": {
                        "openAPIV3Schema": {
                            "type": "object",
                            "description": description,
                            **rules,
                            "required": ["spec"],
                            "properties": {
                                "apiVersion": {"type": "string", "description": text},
                                "kind": {"type": "string", "description": text},
                                "metadata": {"type": "object"},
                                "spec": schema_of(spec),
                                # A status holds what was seen, and nothing where nothing was.
                                "status": _without_defaults(schema_of(status)),
                            },
                        }
                    },
                }
            ],
        },
    }
