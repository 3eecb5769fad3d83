"""What differs between server releases: one table, each row tried against that release's loader."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Family = Literal["kv", "sql"]


@dataclass(frozen=True, slots=True)
class StoreRule:
    """A store of a release.

    Attributes:
        required: the server does not boot without it.
        place: its kv namespace or table when it is filled in from `defaults`.
        queued: it takes `max_write_queue_size` and `num_writers`.
        fixed: tables the server uses for it whatever the table's name in the config says.
        common: whoever has the same word here shares the `fixed` tables on purpose.
    """

    family: Family
    place: str
    required: bool = False
    queued: bool = False
    fixed: tuple[str, ...] = ()
    common: str = ""


@dataclass(frozen=True, slots=True)
class ProviderRule:
    """A field of providers' configs that refers to a backend.

    Attributes:
        required: the provider types that do not start without it.
        optional: those that do.
        place: the place where the config leaves it out.
        assumed: the backend that the server takes where the whole field is left out.
        fixed: as with a store.
        common: as with a store.
    """

    family: Family
    required: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    place: str = ""
    assumed: str = ""
    fixed: tuple[str, ...] = ()
    common: str = ""

    @property
    def types(self) -> tuple[str, ...]:
        """All provider types that have the field."""
        return tuple(sorted({*self.required, *self.optional}))


@dataclass(frozen=True, slots=True)
class Release:
    """A server release's storage schema.

    Attributes:
        providers: by API and dotted field.
        reserved: tables that the server itself keeps in a sql backend.
        kv_tables: the one table of all kv namespaces, by the backend's type.
    """

    name: str
    stores: Mapping[str, StoreRule]
    providers: Mapping[tuple[str, str], ProviderRule]
    reserved: tuple[str, ...]
    kv_tables: Mapping[str, str]


_VECTOR_TABLES = (
    "vector_stores",
    "vector_store_files",
    "vector_store_file_contents",
    "vector_store_file_batches",
)
_VECTOR_METADATA = (
    "inline::faiss",
    "inline::milvus",
    "inline::qdrant",
    "inline::sqlite-vec",
    "remote::chromadb",
    "remote::elasticsearch",
    "remote::infinispan",
    "remote::milvus",
    "remote::neo4j",
    "remote::pgvector",
    "remote::qdrant",
    "remote::weaviate",
)
_VECTOR_PERSISTENCE_OPTIONAL = ("remote::elasticsearch", "remote::pgvector", "remote::weaviate")
_VECTOR_PERSISTENCE = (
    "inline::chromadb",
    "remote::oci",
    *(kind for kind in _VECTOR_METADATA if kind not in _VECTOR_PERSISTENCE_OPTIONAL),
)

OGX_1_5 = Release(
    name="ogx-1.5",
    stores={
        "metadata": StoreRule("kv", "registry", required=True),
        "inference": StoreRule("sql", "inference_store", required=True, queued=True),
        "conversations": StoreRule(
            "sql",
            "openai_conversations",
            required=True,
            fixed=("openai_conversations", "conversation_items"),
        ),
        "prompts": StoreRule("sql", "prompts", required=True, fixed=("prompts",)),
        "connectors": StoreRule("sql", "connectors", required=True, fixed=("connectors",)),
        "responses": StoreRule("sql", "openai_responses", queued=True),
        "vector_stores": StoreRule(
            "sql", "vector_stores", fixed=_VECTOR_TABLES, common="vector stores"
        ),
    },
    providers={
        ("responses", "persistence.responses"): ProviderRule(
            "sql",
            required=("inline::builtin",),
            place="openai_responses",
            fixed=("conversation_messages", "memory_records", "default_memory_vector_stores"),
        ),
        ("batches", "sqlstore"): ProviderRule(
            "sql", required=("inline::reference",), fixed=("batches",)
        ),
        ("messages", "kvstore"): ProviderRule("kv", required=("inline::builtin",)),
        ("interactions", "store"): ProviderRule(
            "sql", optional=("inline::builtin",), place="interactions", assumed="sql_default"
        ),
        ("skills", "persistence"): ProviderRule("kv", required=("inline::builtin",)),
        ("files", "metadata_store"): ProviderRule(
            "sql",
            required=("inline::localfs", "remote::openai", "remote::s3"),
            fixed=("openai_files",),
        ),
        ("vector_io", "persistence"): ProviderRule(
            "kv", required=_VECTOR_PERSISTENCE, optional=_VECTOR_PERSISTENCE_OPTIONAL
        ),
        ("vector_io", "metadata_store"): ProviderRule(
            "sql", optional=_VECTOR_METADATA, fixed=_VECTOR_TABLES, common="vector stores"
        ),
        ("inference", "thought_signature_store"): ProviderRule(
            "kv", optional=("remote::vertexai",)
        ),
    },
    reserved=("jobs",),
    kv_tables={"kv_postgres": "ogx_kvstore", "kv_sqlite": "kvstore"},
)

RELEASES: Mapping[str, Release] = {OGX_1_5.name: OGX_1_5}
NEWEST = OGX_1_5
