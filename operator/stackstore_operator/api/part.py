"""What all parts of the API have in common: camelCase outside, bounds on everything."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidatorFunctionWrapHandler
from pydantic.alias_generators import to_camel

MAX_INT32 = 2**31 - 1
# The schema's bounds are JSON numbers; beyond 2^53 they would not be exact.
MAX_GENERATION = 2**53 - 1
BIG = 1_000_000_000
"""The bound of sizes and ages that have no natural one: the same as the run config's."""


class Part(BaseModel):
    """A part of an object.

    `rules` are the CEL rules (`x-kubernetes-validations`) of the part's own schema. They are kept
    beside the fields they speak of, and tried against a real API server.
    """

    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, frozen=True, extra="ignore"
    )


def rules(*pairs: tuple[str, str]) -> dict[str, Any]:
    """`json_schema_extra` for CEL rules: pairs of a rule and the message of its refusal."""
    return {"x-kubernetes-validations": [{"rule": rule, "message": text} for rule, text in pairs]}


def or_empty(value: Any, handler: ValidatorFunctionWrapHandler) -> Any:
    """For a status: one that can't be read counts as none, since it is always made anew."""
    try:
        return handler(value)
    except ValidationError:
        return handler({})


# RFC 1123 names as the API server checks them: metadata.name of most kinds, and of namespaces.
ObjectName = Annotated[
    str,
    Field(
        min_length=1,
        max_length=253,
        pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$",
    ),
]
NamespaceName = Annotated[
    str, Field(min_length=1, max_length=63, pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")
]
# A key of a Secret or ConfigMap, as the API server checks it.
DataKey = Annotated[str, Field(min_length=1, max_length=253, pattern=r"^[-._a-zA-Z0-9]+$")]
Identifier = Annotated[
    str, Field(min_length=1, max_length=63, pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,62}$")
]


class ObjectMeta(Part):
    """The part of metav1.ObjectMeta that matters here."""

    name: str
    namespace: str = ""
    uid: str = ""
    generation: int = 0
    resource_version: str = ""
    creation_timestamp: str = ""
    deletion_timestamp: str | None = None
    labels: dict[str, str] = {}
    finalizers: list[str] = []
