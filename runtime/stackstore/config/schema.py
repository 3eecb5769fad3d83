"""The storage section as OGX 1.5.0 has it: fields, defaults and bounds, as strict models.

Bounds that the server lacks, and regrets at run time, are added: ports, queues, writers,
identifiers, unknown keys. Names of classes and rules follow the server's config, not our results.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, SecretStr
from pydantic_core import PydanticCustomError

from stackstore.config.env import Substituted, coerce, expand_user

MEMORY = ":memory:"
BIG = 1_000_000_000

COMPONENTS = ("host", "port", "db", "user", "password")
"""What a `connection_string` replaces."""

RESERVED_TABLES = frozenset(
    {
        "kv",
        "schema_versions",
        "cursor_keys",
        "queue_marks",
        "dead_letters",
        "owners",
        "instances",
        "leases",
        # Indexes of ours: both engines keep them in one space with the tables.
        "kv_expires_at",
        "owners__person",
    }
)
"""What no store's table may be called, casefolded: Stackstore's own are in the same place."""


def _number(value: Any) -> Any:
    if isinstance(value, Substituted):
        value = coerce(value.expanded)
    if isinstance(value, bool):
        raise PydanticCustomError("number", "must be a number, not true or false")
    return value


def _truth(value: Any) -> Any:
    return coerce(value.expanded) if isinstance(value, Substituted) else value


def _path(value: Any) -> Any:
    return (
        expand_user(value.expanded if isinstance(value, Substituted) else value)
        if isinstance(value, str)
        else value
    )


def _printable(value: str) -> str:
    if any(not character.isprintable() for character in value):
        raise PydanticCustomError("text", "holds a line break or a control character")
    return str(value)


def _identifier(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,62}", value):
        raise PydanticCustomError(
            "identifier",
            "is not a safe table name",
            {"allowed": "a letter or _, then letters, digits and _, at most 63 in all"},
        )
    return str(value)


def _store_table(value: str) -> str:
    if value.casefold() in RESERVED_TABLES:
        raise PydanticCustomError(
            "reserved",
            "is the name of a table of Stackstore's own",
            {"allowed": f"any name but {', '.join(sorted(RESERVED_TABLES))}"},
        )
    return value


def _file(value: str) -> str:
    if value == MEMORY:
        return value
    if "://" in value or value.startswith(("file:", "sqlite:")):
        raise PydanticCustomError(
            "file", "is a URI", {"allowed": f"the plain path of a file, or {MEMORY}"}
        )
    if value.endswith("/"):
        raise PydanticCustomError("file", "ends like a directory", {"allowed": "a file's path"})
    return value


def _secret(value: SecretStr) -> SecretStr:
    text = value.get_secret_value()
    if "\0" in text:
        raise PydanticCustomError("secret", "holds a NUL, which Postgres does not allow")
    return SecretStr(str(text))


Secret = Annotated[SecretStr, AfterValidator(_secret)]
Text = Annotated[str, Field(min_length=1, max_length=4096), AfterValidator(_printable)]
Namespace = Annotated[str, Field(min_length=1, max_length=256), AfterValidator(_printable)]
Identifier = Annotated[str, AfterValidator(_identifier)]
StoreTable = Annotated[Identifier, AfterValidator(_store_table)]
FilePath = Annotated[str, Field(min_length=1), AfterValidator(_printable), BeforeValidator(_path)]
Truth = Annotated[bool, BeforeValidator(_truth)]
Whole = Annotated[int, BeforeValidator(_number)]
Number = Annotated[float, BeforeValidator(_number), Field(allow_inf_nan=False)]
QueueSize = Annotated[Whole, Field(ge=1, le=BIG)]
Writers = Annotated[Whole, Field(ge=1, le=1000)]
PoolSize = Annotated[Whole, Field(ge=1, le=10_000)]
Overflow = Annotated[Whole, Field(ge=0, le=10_000)]
SslModeName = Literal["disable", "allow", "prefer", "require", "verify-ca", "verify-full"]


class Section(BaseModel):
    """A flat mapping of the config; a key it doesn't know is refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class KvSqlite(Section):
    """`kv_sqlite`."""

    type: Literal["kv_sqlite"]
    namespace: None = None
    db_path: Annotated[FilePath, AfterValidator(_file)]


class SqlSqlite(Section):
    """`sql_sqlite`."""

    type: Literal["sql_sqlite"]
    db_path: Annotated[FilePath, AfterValidator(_file)]
    pool_pre_ping: Truth = True


class Postgres(Section):
    """What both Postgres types share; the rules between the fields are in `backends`."""

    connection_string: Secret | None = None
    host: Text = "localhost"
    port: Annotated[Whole, Field(ge=1, le=65535)] = 5432
    db: Text = "ogx"
    user: Text | None = None
    password: Secret | None = None
    ssl_mode: SslModeName | None = None
    ca_cert_path: FilePath | None = None


class KvPostgres(Postgres):
    """`kv_postgres`."""

    type: Literal["kv_postgres"]
    namespace: None = None
    table_name: Identifier = "ogx_kvstore"
    pool_size: PoolSize = 5
    max_overflow: Overflow = 10
    command_timeout: Annotated[Number, Field(gt=0, le=BIG)] = 30.0


class SqlPostgres(Postgres):
    """`sql_postgres`."""

    type: Literal["sql_postgres"]
    pool_size: PoolSize = 10
    max_overflow: Overflow = 20
    pool_recycle: Annotated[Whole, Field(ge=-1, le=BIG)] = 3600
    pool_pre_ping: Truth = True


BACKENDS: dict[str, type[KvSqlite | SqlSqlite | KvPostgres | SqlPostgres]] = {
    "kv_sqlite": KvSqlite,
    "sql_sqlite": SqlSqlite,
    "kv_postgres": KvPostgres,
    "sql_postgres": SqlPostgres,
}


class KvReference(Section):
    """A use of a kv backend."""

    backend: Text
    namespace: Namespace


class SqlReference(Section):
    """A use of a sql backend."""

    backend: Text
    table_name: StoreTable


class ResponsesReference(Section):
    """A use of a sql backend by the responses store."""

    backend: Text
    table_name: StoreTable = "openai_responses"
    max_write_queue_size: QueueSize = 10_000
    num_writers: Writers = 4


class InferenceReference(SqlReference):
    """A use of a sql backend by the inference store, which can be switched off."""

    max_write_queue_size: QueueSize = 10_000
    num_writers: Writers = 4
    enabled: Truth = True


Reference = KvReference | SqlReference | ResponsesReference | InferenceReference

STORES: dict[str, type[Reference]] = {
    "metadata": KvReference,
    "inference": InferenceReference,
    "responses": ResponsesReference,
    "conversations": SqlReference,
    "prompts": SqlReference,
    "connectors": SqlReference,
    "vector_stores": SqlReference,
}

PROVIDER_FIELDS: dict[tuple[str, str], type[Reference]] = {
    ("responses", "persistence.responses"): ResponsesReference,
    ("batches", "sqlstore"): SqlReference,
    ("messages", "kvstore"): KvReference,
    ("interactions", "store"): SqlReference,
    ("skills", "persistence"): KvReference,
    ("files", "metadata_store"): SqlReference,
    ("vector_io", "persistence"): KvReference,
    ("vector_io", "metadata_store"): SqlReference,
    ("inference", "thought_signature_store"): KvReference,
}
