"""Shapes of earlier releases: each is named, with the way out, and never silently dropped."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.config.samples import CANARY, SMALL, load_text, refused

OLD = "before 0.3"
INLINE = f"{{type: postgres, host: h, password: {CANARY}}}"

TOP = [
    (f"metadata_store: {INLINE}", "metadata_store", OLD, "storage.stores.metadata"),
    (f"inference_store: {INLINE}", "inference_store", OLD, "storage.stores.inference"),
    (f"inference_store: {{sql_store_config: {INLINE}, num_writers: 4}}", "inference_store", OLD, "queue"),
    (f"conversations_store: {INLINE}", "conversations_store", OLD, "storage.stores.conversations"),
    ("routing_table: {}", "routing_table", "2024", "registered_resources"),
    ("api_providers: {}", "api_providers", "2024", "providers"),
    ("provider_map: {}", "provider_map", "2024", "providers"),
    ("apis_to_serve: []", "apis_to_serve", "2024", "apis"),
    (f"server: {{quota: {{kvstore: {INLINE}}}}}", "server.quota.kvstore", "gone", "server.quota"),
]  # fmt: skip

STORAGE = [
    ("references: {metadata: {backend: kv_default}}", "storage.references", "never read", "did you mean 'stores'?"),
    ("type: sqlite", "storage.type", "old documentation", "storage.backends"),
    ("db_path: /x", "storage.db_path", "old documentation", "storage.backends"),
]  # fmt: skip

STORES = [
    ("kvstore: {backend: kv_default}", "storage.stores.kvstore", "old documentation", "metadata"),
    ("prompts: {backend: kv_default, namespace: prompts}", "storage.stores.prompts", "kv reference", "table_name: prompts"),
    ("connectors: {backend: kv_default, namespace: c}", "storage.stores.connectors", "kv reference", "table_name: connectors"),
    ("prompts: {backend: kv_default, namespace: p, table_name: t}", "storage.stores.prompts", "kv reference", "moved"),
]  # fmt: skip

REFERENCE = "{backend: kv_default, namespace: n}"
PROVIDERS = [
    ("agents", f"persistence_store: {INLINE}", "persistence_store", "responses API"),
    ("agents", f"responses_store: {INLINE}", "responses_store", "responses API"),
    ("agents", f"persistence: {{agent_state: {REFERENCE}}}", "persistence", "responses API"),
    ("files", f"metadata_store: {INLINE}", "metadata_store", "{backend, table_name}"),
    ("batches", f"kvstore: {INLINE}", "kvstore", "sqlstore"),
    ("batches", f"kvstore: {REFERENCE}", "kvstore", "sqlstore"),
    ("eval", "kvstore: {type: sqlite, db_path: /x}", "kvstore", "storage.backends"),
    ("datasetio", f"kvstore: {INLINE}", "kvstore", "storage.backends"),
    ("messages", "kvstore: {type: redis, host: h}", "kvstore", "storage.backends"),
    ("vector_io", f"kvstore: {INLINE}", "kvstore", "persistence"),
    ("vector_io", f"kvstore: {REFERENCE}", "kvstore", "persistence"),
    ("vector_io", "persistence: {type: mongodb}", "persistence", "storage.backends"),
    ("responses", f"persistence: {{agent_state: {REFERENCE}}}", "persistence.agent_state", "nothing reads it"),
]  # fmt: skip


def check(directory: Path, text: str, path: str, *fragments: str) -> None:
    error = refused(directory, text)
    assert CANARY not in str(error)
    assert [problem.path for problem in error.problems] == [path], str(error)
    (told,) = str(error).splitlines()
    line = error.problems[0].line
    assert text.splitlines()[line - 1].count(path.rsplit(".", maxsplit=1)[-1])
    for fragment in fragments:
        assert fragment in told


@pytest.mark.parametrize(("line", "path", "what", "way_out"), TOP)
def test_top_level(line: str, path: str, what: str, way_out: str, tmp_path: Path) -> None:
    for rest in ("distro_name: x\n", SMALL):
        check(tmp_path, f"{rest}{line}\n", path, what, way_out)


@pytest.mark.parametrize(("line", "path", "what", "way_out"), STORAGE)
def test_storage(line: str, path: str, what: str, way_out: str, tmp_path: Path) -> None:
    check(tmp_path, f"{SMALL}  {line}\n", path, what, way_out)


@pytest.mark.parametrize(("line", "path", "what", "way_out"), STORES)
def test_stores(line: str, path: str, what: str, way_out: str, tmp_path: Path) -> None:
    check(tmp_path, f"{SMALL}    {line}\n", path, what, way_out)


@pytest.mark.parametrize(("api", "line", "field", "way_out"), PROVIDERS)
def test_providers(api: str, line: str, field: str, way_out: str, tmp_path: Path) -> None:
    text = SMALL.replace(
        "providers: {}",
        f"providers:\n  {api}:\n  - provider_id: p\n    config:\n      {line}",
    )
    check(tmp_path, text, f"providers.{api}[0].config.{field}", way_out)


def test_what_is_not_ours_passes(tmp_path: Path) -> None:
    text = SMALL.replace("distro_name: small", "image_name: small\ntelemetry: {a: '${env.NOPE}'}")
    text = text.replace(
        "providers: {}",
        "providers: {eval: [{provider_id: e, config: {kvstore: {backend: x, namespace: y}}}],"
        " inference: [{provider_id: i, config: {api_key: '${env.NOPE}', store: yes}}], other: 5,"
        " files: null, skills: [{provider_id: s}]}",
    )
    assert load_text(tmp_path, text).providers == ()
