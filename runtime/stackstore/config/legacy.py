"""Shapes of earlier releases, named with the way out of each.

The server drops what it doesn't know, and then starts on a local SQLite file; here nothing of this
kind passes in silence. Which release had what: the history of llama-stack and OGX, 2024 to 2026.
"""

from __future__ import annotations

from typing import Any

from stackstore.config.problems import Path
from stackstore.config.report import Reading

_BEFORE_03 = "is the shape of llama-stack before 0.3"
_OF_2024 = "is the shape of llama-stack of 2024"

_TOP_LEVEL = {
    "metadata_store": (
        _BEFORE_03,
        "move it to storage.backends (type kv_…) and point storage.stores.metadata at it",
    ),
    "inference_store": (
        _BEFORE_03,
        "move it, with its queue fields, to storage.backends (type sql_…) and storage.stores.inference",
    ),
    "conversations_store": (
        _BEFORE_03,
        "move it to storage.backends (type sql_…) and point storage.stores.conversations at it",
    ),
    "routing_table": (_OF_2024, "list the models and other resources in registered_resources"),
    "api_providers": (_OF_2024, "list the providers in providers"),
    "provider_map": (_OF_2024, "list the providers in providers"),
    "apis_to_serve": (_OF_2024, "rename it to apis"),
}

_PROVIDER_STORES: dict[str, dict[str, str]] = {
    "agents": {
        "persistence_store": "move to the responses API; agent state is no longer stored",
        "responses_store": "move to the responses API: persistence: {responses: {backend, "
        "table_name}}",
        "persistence": "move to the responses API: persistence: {responses: {backend, table_name}}",
    },
    "batches": {"kvstore": "write sqlstore: {backend: <a sql backend>, table_name: batches}"},
    "vector_io": {"kvstore": "write persistence: {backend: <a kv backend>, namespace: …}"},
}
"""Fields that are legacy whatever they hold."""

_INLINE_TYPES = ("sqlite", "postgres", "redis", "mongodb")
_INLINE_FIELDS = (
    "kvstore",
    "sqlstore",
    "metadata_store",
    "persistence",
    "persistence_store",
    "responses_store",
    "store",
)


def report(reading: Reading) -> None:
    """Name every legacy shape of the document."""
    data = reading.document.data
    for key, (shape, hint) in _TOP_LEVEL.items():
        if key in data:
            reading.report((key,), shape, hint=hint)
    server = data.get("server")
    quota = server.get("quota") if isinstance(server, dict) else None
    if isinstance(quota, dict) and "kvstore" in quota:
        reading.report(
            ("server", "quota", "kvstore"),
            "is gone since OGX 1.5, and quotas with it",
            hint="remove server.quota",
        )
    _storage(reading, data.get("storage"))
    providers = data.get("providers")
    for api, entries in providers.items() if isinstance(providers, dict) else ():
        for index, entry in enumerate(entries) if isinstance(entries, list) else ():
            config = entry.get("config") if isinstance(entry, dict) else None
            if isinstance(config, dict):
                _provider(reading, api, config, ("providers", api, index, "config"))


def _storage(reading: Reading, storage: Any) -> None:
    if not isinstance(storage, dict):
        return
    if "references" in storage:
        reading.report(
            ("storage", "references"),
            "was never read by any release",
            hint="did you mean 'stores'?",
        )
    for key in ("type", "db_path"):
        if key in storage:
            reading.report(
                ("storage", key),
                "is a shape that only old documentation has",
                hint="declare the database in storage.backends",
            )
    stores = storage.get("stores")
    if not isinstance(stores, dict):
        return
    if "kvstore" in stores:
        reading.report(
            ("storage", "stores", "kvstore"),
            "is a shape that only old documentation has",
            hint="point storage.stores.metadata at a kv backend",
        )
    for name in ("prompts", "connectors"):
        store = stores.get(name)
        if isinstance(store, dict) and "namespace" in store:
            reading.report(
                ("storage", "stores", name),
                "is a kv reference, as before OGX 1.5",
                hint="since 1.5 it is sql: {backend: <a sql backend>, table_name: "
                f"{name}}}; the data has to be moved as well",
            )


def _provider(reading: Reading, api: str, config: dict[str, Any], path: Path) -> None:
    for key, hint in _PROVIDER_STORES.get(api, {}).items():
        if key in config:
            reading.report((*path, key), "is a shape of earlier releases", hint=hint)
    for key in _INLINE_FIELDS:
        value = config.get(key)
        if key in _PROVIDER_STORES.get(api, {}) or not isinstance(value, dict):
            continue
        if value.get("type") in _INLINE_TYPES:
            reading.report(
                (*path, key),
                f"declares its own database, which {_BEFORE_03}",
                hint="move it to storage.backends and refer to it: {backend, namespace} for kv, "
                "{backend, table_name} for sql",
            )
    persistence = config.get("persistence")
    if api == "responses" and isinstance(persistence, dict) and "agent_state" in persistence:
        reading.report(
            (*path, "persistence", "agent_state"),
            "is gone since OGX 1.5, and nothing reads it",
            hint="remove it; persistence.responses stays",
        )
