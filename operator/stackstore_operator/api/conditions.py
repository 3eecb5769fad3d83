"""Conditions and their reasons. Reasons are API: each has one meaning, kept here in words."""

from __future__ import annotations

import enum
from typing import Annotated, Literal, Self

from pydantic import Field

from stackstore_operator.api.part import MAX_GENERATION, Part

Status = Literal["True", "False", "Unknown"]


class Condition(Part):
    """metav1.Condition (k8s.io/apimachinery/pkg/apis/meta/v1)."""

    type: Annotated[str, Field(max_length=64, description="What is said something about.")]
    status: Annotated[Status, Field(description="True, False or Unknown.")]
    observed_generation: Annotated[
        int,
        Field(ge=0, le=MAX_GENERATION, description="The metadata.generation this was said about."),
    ] = 0
    last_transition_time: Annotated[
        str,
        Field(
            max_length=32,
            description="When the status last changed.",
            json_schema_extra={"format": "date-time"},
        ),
    ]
    reason: Annotated[
        str,
        Field(
            max_length=64,
            pattern=r"^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$",
            description="Why, in one word; stable.",
        ),
    ]
    message: Annotated[str, Field(max_length=4096, description="Why, for people.")] = ""


class Reason(enum.StrEnum):
    """Every reason of every condition and event, with its meaning."""

    meaning: str

    def __new__(cls, value: str, meaning: str) -> Self:
        """A reason with its meaning in words."""
        made = str.__new__(cls, value)
        made._value_ = value
        made.meaning = meaning
        return made

    READY = "Ready", "Everything this object asks for is in place."
    ACCEPTED = "Accepted", "The object is understood and can be served."
    INVALID = "Invalid", "The object says something that cannot be served; the message says what."
    NOT_YET_SUPPORTED = (
        "NotYetSupported",
        "A field asks for something this release does not do yet; remove it, or wait.",
    )
    CONFLICT = (
        "Conflict",
        "An older binding of the same stack already binds this, or sets it to something else.",
    )
    RESOLVED = "Resolved", "Everything that is referred to was found and can be used."
    SECRET_NOT_FOUND = "SecretNotFound", "The Secret that is referred to does not exist (yet)."
    SECRET_KEY_MISSING = (
        "SecretKeyMissing",
        "The Secret lacks a key that is needed, or holds nothing under it.",
    )
    SECRET_INVALID = (
        "SecretInvalid",
        "A value of the Secret cannot be used: not text, not a port, not a host, not a URI.",
    )
    CA_NOT_FOUND = "CaNotFound", "The ConfigMap or Secret with the CA, or its key, does not exist."
    CA_INVALID = "CaInvalid", "What stands under the CA's key is not a PEM certificate."
    NO_CREDENTIALS = "NoCredentialsNeeded", "A backend of this type has no credentials."
    NOT_FOUND_OR_NOT_ALLOWED = (
        "NotFoundOrNotAllowed",
        "The backend does not exist, or does not allow this namespace.",
    )
    BACKEND_NOT_READY = (
        "BackendNotReady",
        "The backend exists but cannot be used; see its own conditions.",
    )
    CONSUMER_NOT_FOUND = (
        "ConsumerNotFound",
        "A workload that `spec.consumers` names does not exist (yet). Nothing waits for it but what "
        "has to know its size.",
    )
    CONSUMERS_NOT_READABLE = (
        "ConsumersNotReadable",
        "The operator may not read a workload that `spec.consumers` names.",
    )
    FAMILY_MISMATCH = (
        "FamilyMismatch",
        "A kv store refers to a sql backend, or the other way round.",
    )
    NAME_COLLISION = (
        "NameCollision",
        "Two backends would have one name in the run config; give one an alias.",
    )
    STORE_MISSING = (
        "StoreMissing",
        "The server's release needs a store that nobody binds and `defaults` does not cover.",
    )
    BASE_CONFIG_NOT_FOUND = (
        "BaseConfigNotFound",
        "The ConfigMap of `baseConfigRef`, or its key, does not exist.",
    )
    BASE_CONFIG_INVALID = (
        "BaseConfigInvalid",
        "The base config is no run config: not plain YAML, too large, with a key or a provider twice, of "
        "the shape of an earlier release, or with references that don't fit.",
    )
    PROVIDER_NOT_FOUND = (
        "ProviderNotFound",
        "The base config has no provider of that API and id.",
    )
    FIELD_UNKNOWN = (
        "FieldUnknown",
        "The server's release has no such store or provider field.",
    )
    TABLE_COLLISION = (
        "TableCollision",
        "Two users of one database would share a table or a kv namespace.",
    )
    RENDERED = "Rendered", "The run config and the Secret are as the bindings say."
    OUTPUT_NAME_TAKEN = (
        "OutputNameTaken",
        "An object of the output's name exists and is not Stackstore's; it is left alone.",
    )
    APPLY_FAILED = "ApplyFailed", "The API server refused or failed a write; it is tried again."
    FIELD_CONTESTED = (
        "FieldContested",
        "Somebody else keeps changing what Stackstore renders. It was put back 3 times within 5 minutes "
        "and is now tried once in 10; the message names who, and what of it.",
    )
    WAITING = "Waiting", "Something before it has to be settled first."
