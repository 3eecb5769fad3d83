"""StorageBackend: one database, declared once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import ConfigDict, Field, WrapValidator, model_validator
from pydantic.alias_generators import to_camel

from stackstore_operator.api.conditions import Condition
from stackstore_operator.api.part import (
    BIG,
    MAX_GENERATION,
    MAX_INT32,
    DataKey,
    NamespaceName,
    ObjectMeta,
    ObjectName,
    Part,
    or_empty,
    rules,
)
from stackstore_operator.api.selector import LabelSelector

_CHECKING = "['VerifyCA', 'VerifyFull']"
# What can't be seen on a screen has no place in a path; $ would start a placeholder.
_PRINTABLE = r"[^\p{C}\p{Z}$]"


def _config(*pairs: tuple[str, str]) -> ConfigDict:
    return ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        frozen=True,
        extra="ignore",
        json_schema_extra=rules(*pairs),
    )


BackendType = Literal["kv_sqlite", "sql_sqlite", "kv_postgres", "sql_postgres"]
Seconds = Annotated[int, Field(ge=1, le=86_400)]


class CaRef(Part):
    """Where the certificate authority is."""

    kind: Annotated[
        Literal["ConfigMap", "Secret"], Field(description="ConfigMap or Secret, in this namespace.")
    ] = "ConfigMap"
    name: Annotated[ObjectName, Field(description="The object's name.")]
    key: Annotated[DataKey, Field(description="The key whose value is PEM text.")] = "ca.crt"


class Tls(Part):
    """How connections are protected, in libpq's meaning."""

    model_config = _config(
        (
            f"!has(self.caRef) || self.mode in {_CHECKING}",
            "`caRef` may only be given when `mode` is 'VerifyCA' or 'VerifyFull'; the other modes "
            "check nothing",
        ),
    )
    mode: Annotated[
        Literal["Disable", "Require", "VerifyCA", "VerifyFull"],
        Field(
            description="Disable: none. Require: encrypted, nothing checked. VerifyCA: the server's "
            "certificate chain is checked. VerifyFull: the host's name as well."
        ),
    ] = "Require"
    ca_ref: Annotated[
        CaRef | None,
        Field(
            description="The authority that VerifyCA and VerifyFull trust; without it the one in the "
            "login's Secret (`ca.crt`), else those of the system."
        ),
    ] = None


class Pool(Part):
    """The pool of each server process. Waiting and ages are in seconds."""

    size: Annotated[int, Field(ge=1, le=10_000, description="Connections that may stay open.")] = 10
    max_overflow: Annotated[
        int, Field(ge=0, le=10_000, description="Connections beyond `size` under load.")
    ] = 20
    recycle_seconds: Annotated[
        int,
        Field(ge=-1, le=BIG, description="Age at which a connection is renewed; -1: never."),
    ] = 3600
    acquire_timeout_seconds: Annotated[
        Seconds, Field(description="How long a request waits for a connection before it fails.")
    ] = 30


class Postgres(Part):
    """Where the database is. What is absent here comes from the Secret."""

    model_config = _config(
        (
            "!has(self.host) || !self.host.contains('://')",
            "`host` must be a host name or an address, without a scheme",
        ),
        (
            "!has(self.host) || self.host.startsWith('/') || !self.host.contains('/')",
            "`host` must be a host name or an address; write the database in `database`",
        ),
        (
            "!has(self.host) || !self.host.matches('^[^:]+:[0-9]+$')",
            "`host` must not hold the port; write it in `port`",
        ),
        (
            "!has(self.host) || self.host.startsWith('/') || self.host.contains('://') || "
            r"self.host.matches('^[A-Za-z0-9_]([-A-Za-z0-9_.]*[A-Za-z0-9_])?[.]?$') || "
            "self.host.matches('^[0-9A-Fa-f]*:[0-9A-Fa-f]*:[0-9A-Fa-f:.]*$') || "
            "self.host.matches('^[^:]+:[0-9]+$')",
            "`host` must be one host name, one IPv4 or IPv6 address, or the absolute path of a "
            "socket's directory",
        ),
    )
    host: Annotated[
        str | None,
        Field(
            min_length=1,
            max_length=255,
            pattern=r"^[^\s@?#\[\]\x00-\x1f\x7f]+$",
            description="Host name, IPv4 or IPv6 address (without brackets), or a socket's directory.",
        ),
    ] = None
    port: Annotated[int | None, Field(ge=1, le=65_535, description="5432 when nobody says.")] = None
    database: Annotated[
        str | None,
        Field(
            min_length=1,
            max_length=63,
            pattern=r"^[^\x00-\x1f\x7f]+$",
            description="The database's name.",
        ),
    ] = None
    tls: Annotated[Tls, Field(description="How connections are protected.")] = Tls()
    pooler: Annotated[
        Literal["None", "Session", "Transaction"],
        Field(description="What stands between: a pooler such as pgbouncer, and its mode."),
    ] = "None"
    pool: Annotated[Pool, Field(description="The pool of each server process.")] = Pool()
    statement_timeout_seconds: Annotated[
        Seconds | None, Field(description="How long a statement may run; without it, no bound.")
    ] = None


class Sqlite(Part):
    """A file on a volume of the pod."""

    model_config = _config(
        (
            "!self.path.contains('://') && !self.path.contains('?') && "
            "!self.path.contains('mode=memory')",
            "`path` must be the plain path of a file, not a URI: '://', '?' and 'mode=memory' must "
            "not be in it",
        ),
    )
    path: Annotated[
        str,
        Field(
            min_length=2,
            max_length=1024,
            pattern=rf"^/({_PRINTABLE}| )*[^\p{{C}}\p{{Z}}$/]$",
            description="Absolute path of the file in the server's container.",
        ),
    ]


class SecretRef(Part):
    """A Secret of the same namespace."""

    name: Annotated[ObjectName, Field(description="The Secret's name.")]


class CredentialKeys(Part):
    """Which key of the Secret holds what. Unnamed ones are found by well-known names."""

    username: Annotated[DataKey | None, Field(description="Key of the user's name.")] = None
    password: Annotated[DataKey | None, Field(description="Key of the password.")] = None
    host: Annotated[DataKey | None, Field(description="Key of the host.")] = None
    port: Annotated[DataKey | None, Field(description="Key of the port.")] = None
    database: Annotated[DataKey | None, Field(description="Key of the database's name.")] = None
    uri: Annotated[DataKey | None, Field(description="Key of a postgresql:// URI.")] = None
    ca: Annotated[DataKey | None, Field(description="Key of the authority's PEM text.")] = None


class Credentials(Part):
    """The login."""

    secret_ref: Annotated[
        SecretRef, Field(description="The one Secret to update when the password rotates.")
    ]
    keys: Annotated[
        CredentialKeys, Field(description="Names of its keys, where they are not the usual ones.")
    ] = CredentialKeys()


class Rotation(Part):
    """What happens to a login that was replaced."""

    grace_seconds: Annotated[
        int,
        Field(
            ge=0, le=604_800, description="How long pods may still fall back on the earlier one."
        ),
    ] = 300


class AllowedNamespaces(Part):
    """Whose bindings may use this backend."""

    model_config = _config(
        (
            "(self.from == 'Selector') == has(self.selector)",
            "`selector` must be given when `from` is 'Selector', and only then",
        ),
    )
    from_: Annotated[
        Literal["Same", "All", "Selector"],
        Field(
            alias="from",
            description="Same: this namespace. All: every one. Selector: those with the labels.",
        ),
    ] = "Same"
    selector: Annotated[
        LabelSelector | None,
        Field(description="Which namespaces, by label; the backend's own needs none."),
    ] = None


class Verification(Part):
    """Whether the operator tries the login itself."""

    mode: Annotated[
        Literal["Connect", "None"],
        Field(description="Connect: log in and out. None: for databases it can't reach."),
    ] = "Connect"
    period_seconds: Annotated[
        int, Field(ge=10, le=86_400, description="Time between two tries.")
    ] = 300


class StorageBackendSpec(Part):
    """One database."""

    model_config = _config(
        (
            "self.type.endsWith('_postgres') == has(self.postgres)",
            "`postgres` must be given when `type` is 'kv_postgres' or 'sql_postgres', and only then",
        ),
        (
            "self.type.endsWith('_sqlite') == has(self.sqlite)",
            "`sqlite` must be given when `type` is 'kv_sqlite' or 'sql_sqlite', and only then",
        ),
        (
            "self.type.endsWith('_postgres') == has(self.credentials)",
            "`credentials` must be given for a Postgres backend, and must not be for SQLite",
        ),
        *(
            (
                "!has(self.postgres) || !has(self.credentials) || "
                f"!has(self.postgres.{name}) || !has(self.credentials.keys.{name})",
                f"`postgres.{name}` and `credentials.keys.{name}` must not both be given; "
                "one of them would be ignored",
            )
            for name in ("host", "port", "database")
        ),
        (
            "!has(self.postgres) || !has(self.credentials) || !has(self.credentials.keys.ca) || "
            f"(self.postgres.tls.mode in {_CHECKING} && !has(self.postgres.tls.caRef))",
            "`credentials.keys.ca` may only be given when `postgres.tls.mode` is 'VerifyCA' or "
            "'VerifyFull', and without `postgres.tls.caRef`",
        ),
        (
            "!has(self.maxConnections) || has(self.postgres)",
            "`maxConnections` may only be given for a Postgres backend: a SQLite file has no server",
        ),
        ("self.type == oldSelf.type", "`type` must not change; make a new backend"),
    )
    type: Annotated[BackendType, Field(description="The server's own name of the type.")]
    postgres: Annotated[Postgres | None, Field(description="For kv_postgres and sql_postgres.")] = (
        None
    )
    sqlite: Annotated[Sqlite | None, Field(description="For kv_sqlite and sql_sqlite.")] = None
    credentials: Annotated[Credentials | None, Field(description="The login, for Postgres.")] = None
    rotation: Annotated[
        Rotation, Field(description="What happens to a login that was replaced.")
    ] = Rotation()
    max_connections: Annotated[
        int | None,
        Field(
            ge=1,
            le=1_000_000,
            description="What all consumers together may hold, of all backends of this namespace on the "
            "same server.",
        ),
    ] = None
    allowed_namespaces: Annotated[
        AllowedNamespaces, Field(description="Whose bindings may use this backend.")
    ] = AllowedNamespaces()
    verification: Annotated[
        Verification, Field(description="Whether the operator tries the login itself.")
    ] = Verification()

    @model_validator(mode="after")
    def _fits(self) -> Self:
        postgres = self.type in ("kv_postgres", "sql_postgres")
        given = (self.postgres is not None, self.credentials is not None, self.sqlite is None)
        if set(given) != {postgres}:
            raise ValueError(
                "`postgres` and `credentials` must be given for Postgres, and only `sqlite` for SQLite"
            )
        return self


class ServiceBinding(Part):
    """A Secret of the same namespace, as servicebinding.io's provisioned services refer to it."""

    name: Annotated[ObjectName, Field(description="The Secret's name.")]


class StorageBackendStatus(Part):
    """What is so, as far as the operator knows."""

    observed_generation: Annotated[
        int,
        Field(ge=0, le=MAX_GENERATION, description="The metadata.generation that was looked at."),
    ] = 0
    conditions: Annotated[
        list[Condition],
        Field(
            max_length=16,
            description="Ready, Accepted, CredentialsResolved, Verified, Adopted.",
            json_schema_extra={
                "x-kubernetes-list-type": "map",
                "x-kubernetes-list-map-keys": ["type"],
            },
        ),
    ] = []
    bindings: Annotated[
        int,
        Field(ge=0, le=MAX_INT32, description="How many bindings refer to this backend and may."),
    ] = 0
    refused_bindings: Annotated[
        int,
        Field(
            ge=0,
            le=MAX_INT32,
            description="How many bindings of other namespaces refer to this backend and may not.",
        ),
    ] = 0
    revision: Annotated[
        str,
        Field(max_length=8, description="Names the current login and address; 8 hex digits."),
    ] = ""
    server_version: Annotated[
        str, Field(max_length=64, description="As the database says; empty until verified.")
    ] = ""
    binding: Annotated[
        ServiceBinding | None,
        Field(
            description="The login's Secret, while it is complete as that of a servicebinding.io "
            "provisioned service."
        ),
    ] = None


class StorageBackend(Part):
    """One database of a namespace, declared once and referred to by name."""

    metadata: ObjectMeta
    spec: StorageBackendSpec
    status: Annotated[StorageBackendStatus, WrapValidator(or_empty)] = StorageBackendStatus()

    @classmethod
    def from_object(cls, data: dict[str, Any]) -> StorageBackend:
        """From the JSON of the API server.

        Raises:
            pydantic.ValidationError: it is not one (an older schema let it in).
        """
        return cls.model_validate(data)


def allows(
    backend: StorageBackend, namespace: NamespaceName, labels: Mapping[str, str] | None
) -> bool:
    """Whether the backend's owner lets bindings of `namespace` use it.

    Args:
        backend: whose consent is asked for.
        namespace: the bindings' own.
        labels: of that namespace; None: they are not known, and then no selector takes it.
    """
    return _consent(backend, namespace, labels) is True


def refuses(
    backend: StorageBackend, namespace: NamespaceName, labels: Mapping[str, str] | None
) -> bool:
    """Whether the owner is known not to let them: what is in force must go; arguments as above."""
    return _consent(backend, namespace, labels) is False


def _consent(
    backend: StorageBackend, namespace: str, labels: Mapping[str, str] | None
) -> bool | None:
    allowed = backend.spec.allowed_namespaces
    if namespace == backend.metadata.namespace or allowed.from_ == "All":
        return True
    if allowed.from_ == "Same" or allowed.selector is None:
        return False
    return None if labels is None else allowed.selector.matches(labels)
