"""Selectors of namespaces by label: metav1.LabelSelector, with the API server's own meaning. Pure.

https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#resources-that-support-set-based-requirements
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import ConfigDict, Field, model_validator
from pydantic.alias_generators import to_camel

from stackstore_operator.api.part import Part, rules

_NAME = r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?"
_PREFIX = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*"
_LONG_PREFIX = "^[^/]{254}"
LABEL_KEY = rf"^({_PREFIX}/)?{_NAME}$"
_ASKS_FOR_VALUES = ("In", "NotIn")
_VALUES_FIT = "`values` must be given when `operator` is 'In' or 'NotIn', and only then"

LabelValue = Annotated[str, Field(max_length=63, pattern=rf"^({_NAME})?$")]


class LabelRequirement(Part):
    """What one label must be like."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        frozen=True,
        extra="ignore",
        json_schema_extra=rules(
            (
                "(self.operator in ['In', 'NotIn']) == (has(self.values) && self.values.size() > 0)",
                _VALUES_FIT,
            ),
            (
                f"!self.key.matches('{_LONG_PREFIX}')",
                "`key` must be the name of a label; its prefix has at most 253 characters",
            ),
        ),
    )
    key: Annotated[
        str, Field(min_length=1, max_length=317, pattern=LABEL_KEY, description="The label.")
    ]
    operator: Annotated[
        Literal["In", "NotIn", "Exists", "DoesNotExist"],
        Field(
            description="In: it has one of the values. NotIn: it has none of them, or the label is not "
            "there. Exists, DoesNotExist: whatever its value."
        ),
    ]
    values: Annotated[
        list[LabelValue] | None,
        Field(
            max_length=64,
            description="For In and NotIn.",
            json_schema_extra={"x-kubernetes-list-type": "atomic"},
        ),
    ] = None

    @model_validator(mode="after")
    def _values_fit(self) -> Self:
        if (self.operator in _ASKS_FOR_VALUES) != bool(self.values):
            raise ValueError(_VALUES_FIT)
        return self

    def holds(self, labels: Mapping[str, str]) -> bool:
        """Whether labels are as required."""
        value, values = labels.get(self.key), self.values or ()
        match self.operator:
            case "In":
                return value in values
            case "NotIn":
                return value is None or value not in values
            case "Exists":
                return value is not None
            case "DoesNotExist":
                return value is None


class LabelSelector(Part):
    """Labels that a namespace must have: all that is said here. `{}` takes every namespace."""

    match_labels: Annotated[
        dict[str, LabelValue] | None,
        Field(
            max_length=32,
            description="All of these labels, with these values.",
            json_schema_extra=rules(
                (
                    f"self.all(key, key.matches('{LABEL_KEY}') && !key.matches('{_LONG_PREFIX}'))",
                    "the keys of `matchLabels` must be names of labels: `name` or `prefix/name`",
                )
            ),
        ),
    ] = None
    match_expressions: Annotated[
        list[LabelRequirement] | None,
        Field(
            max_length=32,
            description="All of these requirements.",
            json_schema_extra={"x-kubernetes-list-type": "atomic"},
        ),
    ] = None

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether labels are all that is asked for."""
        wanted = (self.match_labels or {}).items()
        return all(labels.get(key) == value for key, value in wanted) and all(
            requirement.holds(labels) for requirement in self.match_expressions or ()
        )
