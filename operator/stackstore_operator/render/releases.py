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
        honoured: whether the server uses the table's name; if not, its tables have fixed names.
    """

    family: Family
    place: str
    required: bool = False
    queued: bool = False
    honoured: bool = True


@dataclass(frozen=True, slots=True)
class Release:
    """A server release's storage schema."""

    name: str
    stores: Mapping[str, StoreRule]
    providers: Mapping[tuple[str, str], Family]


OGX_1_5 = Release(
    name="ogx-1.5",
    stores={
        "metadata": StoreRule("kv", "registry", required=True),
        "inference": StoreRule("sql", "inference_store", required=True, queued=True),
        "conversations": StoreRule("sql", "openai_conversations", required=True, honoured=False),
        "prompts": StoreRule("sql", "prompts", required=True, honoured=False),
        "connectors": StoreRule("sql", "connectors", required=True, honoured=False),
        "responses": StoreRule("sql", "openai_responses", queued=True),
        "vector_stores": StoreRule("sql", "vector_stores", honoured=False),
    },
    providers={
        ("responses", "persistence.responses"): "sql",
        ("batches", "sqlstore"): "sql",
        ("messages", "kvstore"): "kv",
        ("interactions", "store"): "sql",
        ("skills", "persistence"): "kv",
        ("files", "metadata_store"): "sql",
        ("vector_io", "persistence"): "kv",
        ("vector_io", "metadata_store"): "sql",
        ("inference", "thought_signature_store"): "kv",
    },
)

RELEASES: Mapping[str, Release] = {OGX_1_5.name: OGX_1_5}
NEWEST = OGX_1_5
