"""StoreBinding: which stores of which stack use which backends."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import ConfigDict, Field, WrapValidator, model_validator
from pydantic.alias_generators import to_camel

from stackstore_operator.api.conditions import Condition
from stackstore_operator.api.part import (
    BIG,
    MAX_GENERATION,
    DataKey,
    Identifier,
    NamespaceName,
    ObjectMeta,
    ObjectName,
    Part,
    or_empty,
    rules,
)

KV_ONLY = ("metadata",)
SQL_ONLY = ("inference", "responses", "conversations", "vector_stores")
QUEUED = ("inference", "responses")
RETAINED = ("inference", "responses", "conversations")
"""Whose rows may be deleted by their age; the others hold what somebody set up."""
JOURNALED = ("inference",)
"""The one that answers before the database has the row."""
RETAINED_FIELDS = (("responses", "persistence.responses"),)
"""Fields of providers, (api, field), that are such a store."""
CONSUMER_KINDS = {
    "Deployment": "apps/v1",
    "StatefulSet": "apps/v1",
    "DaemonSet": "apps/v1",
    "OGXServer": "ogx.io/v1beta1",
    "LlamaStackDistribution": "llamastack.io/v1alpha1",
}
"""The kinds of workloads that the operator knows, and the version of each that it reads."""


def _config(*pairs: tuple[str, str]) -> ConfigDict:
    return ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        frozen=True,
        extra="ignore",
        json_schema_extra=rules(*pairs),
    )


def _cel(names: tuple[str, ...]) -> str:
    return "[" + ", ".join(f"'{name}'" for name in names) + "]"


def _words(names: tuple[str, ...]) -> str:
    return ", ".join(f"'{name}'" for name in names)


def _fields(names: tuple[tuple[str, str], ...]) -> str:
    return " || ".join(f"self.api == '{api}' && self.field == '{name}'" for api, name in names)


StoreName = Literal[
    "metadata",
    "inference",
    "responses",
    "conversations",
    "prompts",
    "connectors",
    "vector_stores",
]
# What the server accepts as a prefix of keys. `::` is common; control characters and `${` never.
_ONE_PLACE = (
    "has(self.tableName) != has(self.__namespace__)",
    "exactly one of `namespace` (kv) and `tableName` (sql) must be given",
)
KvNamespace = Annotated[
    str, Field(min_length=1, max_length=128, pattern=r"^[A-Za-z0-9_][-A-Za-z0-9_.:/]*$")
]
RunConfigName = Annotated[str, Field(min_length=1, max_length=63, pattern=r"^[a-z][a-z0-9_]*$")]


class BackendRef(Part):
    """A StorageBackend."""

    name: Annotated[ObjectName, Field(description="Its name.")]
    namespace: Annotated[
        NamespaceName | None,
        Field(description="Its namespace, when it is another; the backend must allow this one."),
    ] = None
    alias: Annotated[
        RunConfigName | None,
        Field(
            description="Its name in the run config; by default its own with `_` for `-` and `.`."
        ),
    ] = None


class Durability(Part):
    """Where acknowledged rows wait until they are written."""

    model_config = _config(
        (
            "(self.mode == 'Journal') == has(self.path)",
            "`path` must be given when `mode` is 'Journal', and only then",
        ),
    )
    mode: Annotated[
        Literal["Memory", "Journal"], Field(description="Memory, or a journal on a volume.")
    ] = "Memory"
    path: Annotated[
        str | None,
        Field(
            min_length=2,
            max_length=1024,
            pattern=r"^/[^\x00-\x1f\x7f]*$",
            description="Absolute path of the journal's directory in the container.",
        ),
    ] = None


class Placed(Part):
    """What has a place in a backend: a kv namespace or a table, never both."""

    namespace: Annotated[
        KvNamespace | None, Field(description="For a kv backend: the prefix of its keys.")
    ] = None
    table_name: Annotated[Identifier | None, Field(description="For a sql backend: its table.")] = (
        None
    )

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if (self.namespace is None) == (self.table_name is None):
            raise ValueError(_ONE_PLACE[1])
        return self

    @property
    def family(self) -> Literal["kv", "sql"]:
        """Which family of backends it needs."""
        return "sql" if self.namespace is None else "kv"

    @property
    def place(self) -> str:
        """Its kv namespace or table."""
        return self.namespace or self.table_name or ""


class Store(Placed):
    """One store of the server and its place in a backend."""

    model_config = _config(
        _ONE_PLACE,
        (
            f"!(self.name in {_cel(KV_ONLY)}) || has(self.__namespace__)",
            f"{_words(KV_ONLY)} is a kv store: `namespace` must be given",
        ),
        (
            f"!(self.name in {_cel(SQL_ONLY)}) || has(self.tableName)",
            f"{_words(SQL_ONLY)} are sql stores: `tableName` must be given",
        ),
        (
            f"self.name in {_cel(QUEUED)} || !(has(self.maxWriteQueueSize) || has(self.numWriters) || "
            "has(self.durability))",
            "`maxWriteQueueSize`, `numWriters` and `durability` may only be given for "
            f"{_words(QUEUED)}",
        ),
        (
            f"self.name in {_cel(JOURNALED)} || !has(self.durability) || "
            "self.durability.mode != 'Journal'",
            f"a journal may only be given for {_words(JOURNALED)}: every other store has written "
            "before it answers",
        ),
        (
            f"self.name in {_cel(RETAINED)} || !has(self.retentionSeconds)",
            f"`retentionSeconds` may only be given for {_words(RETAINED)}: what the others hold "
            "does not go out of date",
        ),
    )
    name: Annotated[StoreName, Field(description="The server's name of the store.")]
    backend_ref: Annotated[BackendRef, Field(description="The backend that holds it.")]
    max_write_queue_size: Annotated[
        int | None,
        Field(
            ge=1,
            le=BIG,
            description="Rows that may wait to be written. For 'responses' the Stackstore runtime "
            "needs none: it has written before it answers.",
        ),
    ] = None
    num_writers: Annotated[
        int | None,
        Field(
            ge=1,
            le=1_000,
            description="Tasks that write; the Stackstore runtime makes use of at most 64.",
        ),
    ] = None
    retention_seconds: Annotated[
        int | None,
        Field(
            ge=1,
            le=BIG,
            description="Age at which the Stackstore runtime deletes rows; a stock server keeps "
            "them.",
        ),
    ] = None
    durability: Annotated[
        Durability | None,
        Field(
            description="Where acknowledged rows wait in the Stackstore runtime; in a stock server "
            "it is always memory."
        ),
    ] = None

    @property
    def journal(self) -> str | None:
        """The directory of its journal; None: it has none."""
        wanted = self.durability
        return wanted.path if wanted is not None and wanted.mode == "Journal" else None


class Provider(Placed):
    """A store that a provider of the server keeps for itself."""

    model_config = _config(
        _ONE_PLACE,
        (
            f"!has(self.retentionSeconds) || {_fields(RETAINED_FIELDS)}",
            "`retentionSeconds` may only be given for "
            + ", ".join(f"'{name}' of '{api}'" for api, name in RETAINED_FIELDS),
        ),
    )
    api: Annotated[
        str,
        Field(min_length=1, max_length=63, pattern=r"^[a-z][a-z0-9_]*$", description="The API."),
    ]
    provider_id: Annotated[
        str,
        Field(
            min_length=1,
            max_length=128,
            pattern=r"^[A-Za-z0-9][-A-Za-z0-9_.]*$",
            description="The provider's id in the base config.",
        ),
    ]
    field: Annotated[
        str,
        Field(
            min_length=1,
            max_length=63,
            pattern=r"^[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)*$",
            description="The field of its config that refers to a backend; dots are levels.",
        ),
    ]
    backend_ref: Annotated[BackendRef, Field(description="The backend that holds it.")]
    retention_seconds: Annotated[
        int | None, Field(ge=1, le=BIG, description="As with a store.")
    ] = None


class BaseConfigRef(Part):
    """The rest of the run config."""

    name: Annotated[ObjectName, Field(description="A ConfigMap of this namespace.")]
    key: Annotated[DataKey, Field(description="The key of the file.")] = "config.yaml"


class Defaults(Part):
    """Backends for stores that the release requires and nobody bound."""

    model_config = _config(
        ("has(self.kv) || has(self.sql)", "at least one of `kv` and `sql` must be given"),
    )
    kv: Annotated[BackendRef | None, Field(description="For kv stores.")] = None
    sql: Annotated[BackendRef | None, Field(description="For sql stores.")] = None


class Consumer(Part):
    """A workload that runs the stack's server."""

    api_version: Annotated[
        str,
        Field(
            min_length=1,
            max_length=128,
            pattern=r"^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?v[a-z0-9]+$",
            description="As in its manifest.",
        ),
    ] = "apps/v1"
    kind: Annotated[
        str,
        Field(
            min_length=1,
            max_length=63,
            pattern=r"^[A-Z][A-Za-z0-9]*$",
            description="Deployment, StatefulSet, DaemonSet, OGXServer or LlamaStackDistribution.",
        ),
    ] = "Deployment"
    name: Annotated[ObjectName, Field(description="Its name, in the binding's own namespace.")]
    workers: Annotated[int, Field(ge=1, le=1_000, description="Server processes in each pod.")] = 1


class Rollout(Part):
    """What happens to pods when the login changes."""

    strategy: Annotated[
        Literal["HotReload", "Restart", "None"],
        Field(
            description="HotReload: pods follow the Secret by themselves, nothing is restarted. Restart: "
            "the pods of `consumers` are replaced, one consumer after the other. None: it is only said "
            "whose pods are behind."
        ),
    ] = "HotReload"


class StoreBindingSpec(Part):
    """A part of one stack's storage; all bindings of a stack together make its run config."""

    model_config = _config(
        ("self.stack == oldSelf.stack", "`stack` must not change; make a new binding"),
    )
    stack: Annotated[
        str,
        Field(
            min_length=1,
            max_length=52,
            pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$",
            description="The stack; outputs are named after it.",
        ),
    ]
    stores: Annotated[
        list[Store],
        Field(
            max_length=16,
            description="Stores of the server.",
            json_schema_extra={
                "x-kubernetes-list-type": "map",
                "x-kubernetes-list-map-keys": ["name"],
            },
        ),
    ] = []
    providers: Annotated[
        list[Provider],
        Field(
            max_length=64,
            description="Stores that providers keep for themselves.",
            json_schema_extra={
                "x-kubernetes-list-type": "map",
                "x-kubernetes-list-map-keys": ["api", "providerId", "field"],
            },
        ),
    ] = []
    base_config_ref: Annotated[
        BaseConfigRef | None,
        Field(description="The rest of the run config; its storage section is replaced."),
    ] = None
    defaults: Annotated[
        Defaults | None,
        Field(description="Backends for stores that the release requires and nobody bound."),
    ] = None
    server_release: Annotated[
        Literal["ogx-1.5"] | None,
        Field(description="Whose config schema to render; by default the newest that is known."),
    ] = None
    consumers: Annotated[
        list[Consumer],
        Field(
            max_length=16,
            description="Workloads that run the stack's server.",
            json_schema_extra={
                "x-kubernetes-list-type": "map",
                "x-kubernetes-list-map-keys": ["kind", "name"],
            },
        ),
    ] = []
    rollout: Annotated[
        Rollout | None, Field(description="What happens to pods when the login changes.")
    ] = None


class StoreBindingStatus(Part):
    """What is so, as far as the operator knows."""

    observed_generation: Annotated[
        int,
        Field(ge=0, le=MAX_GENERATION, description="The metadata.generation that was looked at."),
    ] = 0
    conditions: Annotated[
        list[Condition],
        Field(
            max_length=16,
            description="Ready, Accepted, BackendsResolved, Rendered, Adopted.",
            json_schema_extra={
                "x-kubernetes-list-type": "map",
                "x-kubernetes-list-map-keys": ["type"],
            },
        ),
    ] = []
    config_map_name: Annotated[
        str, Field(max_length=253, description="The run config's ConfigMap.")
    ] = ""
    secret_name: Annotated[str, Field(max_length=253, description="The storage Secret.")] = ""
    stack_id: Annotated[
        str, Field(max_length=12, description="12 hex digits that name the stack in databases.")
    ] = ""
    revision: Annotated[
        str, Field(max_length=8, description="Names the logins of all its backends together.")
    ] = ""


class StoreBinding(Part):
    """Which stores of one stack use which backends."""

    metadata: ObjectMeta
    spec: StoreBindingSpec
    status: Annotated[StoreBindingStatus, WrapValidator(or_empty)] = StoreBindingStatus()

    @classmethod
    def from_object(cls, data: dict[str, Any]) -> StoreBinding:
        """From the JSON of the API server.

        Raises:
            pydantic.ValidationError: it is not one (an older schema let it in).
        """
        return cls.model_validate(data)
