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
    NAMESPACES_NOT_READABLE = (
        "NamespacesNotReadable",
        "The operator may not read the labels of namespaces, so that it can't let any in by label.",
    )
    BACKEND_TERMINATING = (
        "BackendTerminating",
        "The backend is being deleted, or its namespace is: it takes nobody new, and goes with its last "
        "user, or with its namespace.",
    )
    BACKEND_GONE = (
        "BackendGone",
        "The backend was deleted while its login was in use: by force, or with its namespace.",
    )
    BACKEND_NOT_READY = (
        "BackendNotReady",
        "The backend exists but cannot be used; see its own conditions.",
    )
    FILE_EXCLUSIVE = "FileExclusive", "Only one pod at a time opens the SQLite file."
    FILE_SHARED = (
        "FileShared",
        "More than one pod may open a SQLite file at once, or each has one of its own.",
    )
    GRANTED = "Granted", "What its consumers may hold at most fits into `maxConnections`."
    BUDGET_EXCEEDED = (
        "BudgetExceeded",
        "What is asked for doesn't fit into `maxConnections`, and nothing is granted; the message shows "
        "the arithmetic.",
    )
    GRANT_KEPT = (
        "GrantKept",
        "What is asked for grew beyond `maxConnections`. The last grant is kept, and the pools are made "
        "to fit.",
    )
    OVERCOMMITTED = (
        "Overcommitted",
        "More is granted than `maxConnections` says by now. Nobody is cut off.",
    )
    SERVER_LIMIT_EXCEEDED = (
        "ServerLimitExceeded",
        "`maxConnections` is more than the database server itself allows.",
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
    EXCLUSIVE = (
        "Exclusive",
        "No other stack uses a table or kv namespace of this one on the same database.",
    )
    TABLE_SHARED = (
        "TableShared",
        "Another stack uses a table or kv namespace of this one on the same database, which may be meant.",
    )
    RENDERED = "Rendered", "The run config and the Secret are as the bindings say."
    OUTPUT_NAME_TAKEN = (
        "OutputNameTaken",
        "An object of the output's name exists and is not Stackstore's; it is left alone.",
    )
    APPLY_FAILED = "ApplyFailed", "The API server refused or failed a write; it is tried again."
    ROLLED_OUT = (
        "RolledOut",
        "The pods of all consumers have started with the run config and the logins in force.",
    )
    ROLLING_OUT = (
        "RollingOut",
        "Pods are being replaced, one consumer after the other; the message says how far it is.",
    )
    ROLLOUT_WAITING = (
        "RolloutWaiting",
        "A restart waits until nothing has changed for 5 seconds, for 30 at most.",
    )
    ROLLOUT_HELD = (
        "RolloutHeld",
        "A restart waits until the new login is verified: pods that start with one that is refused "
        "would not come up, and those that run still have the last.",
    )
    ROLLOUT_STALLED = (
        "RolloutStalled",
        "A restarted consumer doesn't become available; the next ones wait. It goes on by itself when "
        "that one is well again.",
    )
    ROLLOUT_PARTIAL = (
        "RolloutPartial",
        "A consumer's own settings keep pods back: it is paused, its update strategy is OnDelete, or "
        "has a partition.",
    )
    RESTART_NEEDED = (
        "RestartNeeded",
        "With `rollout.strategy: None`: pods have started before the run config or the logins changed.",
    )
    NO_CONSUMERS = (
        "NoConsumers",
        "`rollout.strategy` is Restart, and no binding of the stack names what to restart.",
    )
    FIELD_CONTESTED = (
        "FieldContested",
        "Somebody else keeps changing what Stackstore renders. It was put back 3 times within 5 minutes "
        "and is now tried once in 10; the message names who, and what of it.",
    )
    WAITING = "Waiting", "Something before it has to be settled first."
    # Verified: whether the database takes the login
    CONNECTED = "Connected", "The operator logged in with the present login."
    VERIFYING = "Verifying", "The present login was not tried yet; that is a matter of seconds."
    VERIFICATION_DISABLED = (
        "VerificationDisabled",
        "`spec.verification.mode` is None: the operator does not look into this database.",
    )
    NOT_APPLICABLE = (
        "NotApplicable",
        "A file or a socket in the pods, which the operator can't look at.",
    )
    LOGIN_REFUSED = "LoginRefused", "The database refused the user or the password."
    ACCESS_DENIED = (
        "AccessDenied",
        "The user may not log in, not into this database, or not from where the operator is.",
    )
    TLS_REQUIRED = (
        "TlsRequired",
        "The server lets in no connection without TLS, and the backend asks for none.",
    )
    TLS_NOT_OFFERED = "TlsNotOffered", "The backend asks for TLS, and the server offers none."
    CERTIFICATE_NOT_TRUSTED = (
        "CertificateNotTrusted",
        "The server's certificate is of another authority or for another host, or has expired.",
    )
    DATABASE_NOT_FOUND = "DatabaseNotFound", "The server has no database of that name."
    POOLER_UNDECLARED = (
        "PoolerUndeclared",
        "A pooler stands before the database, and `spec.postgres.pooler` doesn't say so.",
    )
    SERVER_TOO_OLD = "ServerTooOld", "The server's PostgreSQL is older than what is served."
    TOO_MANY_CONNECTIONS = (
        "TooManyConnections",
        "The server has no connection left to look with; nothing is known of the login.",
    )
    SERVER_STARTING = "ServerStarting", "The server starts, recovers or shuts down."
    HOST_NOT_FOUND = "HostNotFound", "The host's name leads to no address."
    DATABASE_SILENT = "DatabaseSilent", "Nothing was answered in time."
    CONNECTION_REFUSED = "ConnectionRefused", "Nothing listens at that address."
    TLS_FAILED = "TlsFailed", "The TLS handshake broke off, which says nothing of the login."
    UNREACHABLE = "Unreachable", "The database can't be reached; the message has the details."
    # Adopted: whether processes use the present login
    ADOPTED = (
        "Adopted",
        "Every process that is expected uses the present login, and no other is in use.",
    )
    ADOPTED_BY_SESSIONS = (
        "AdoptedBySessions",
        "No session is of an earlier login; stock servers are known by their sessions alone.",
    )
    PROCESSES_WAITING = (
        "ProcessesWaiting",
        "Processes or sessions still use an earlier login; keep it until this is over.",
    )
    CONSUMERS_MISSING = (
        "ConsumersMissing",
        "Of the processes that `spec.consumers` leads to expect, some were not seen in the database.",
    )
    NO_PROCESS_SEEN = (
        "NoProcessSeen",
        "No process of a stack was seen in the database: none runs, or none has used it yet.",
    )
    INSTANCES_UNREADABLE = (
        "InstancesUnreadable",
        "The login may not read the table in which the processes note what they use.",
    )
    ADDRESS_CHANGED = (
        "AddressChanged",
        "The login leads to another address than before; who still uses the earlier one can't be seen.",
    )
    NOT_VERIFIED = "NotVerified", "The database could not be looked into; see Verified."
