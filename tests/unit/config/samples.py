"""Configs that the tests begin with. The canary is no credential of anything."""

from __future__ import annotations

from pathlib import Path

from stackstore.config import InvalidConfigError, RunConfig, load

CANARY = "cAnArY7Zq"

SMALL = f"""\
distro_name: small
providers: {{}}
storage:
  backends:
    kv_default: {{type: kv_sqlite, db_path: /data/kv.db}}
    sql_default:
      type: sql_postgres
      host: db
      user: app
      password: {CANARY}
  stores:
    metadata: {{backend: kv_default, namespace: registry}}
    inference: {{backend: sql_default, table_name: inference_store}}
"""

FULL = """\
distro_name: full
image_name: full
version: 2
apis: [inference, responses, files, batches, messages, interactions, skills, vector_io]
providers:
  inference:
  - provider_id: mock
    provider_type: remote::openai
    config: {base_url: "http://127.0.0.1:18080/v1", api_key: "${env.NOBODY_SET_THIS_KEY}"}
  - provider_id: vertex
    provider_type: remote::vertexai
    config: {thought_signature_store: {backend: kv_pg, namespace: vertexai_thought_signatures}}
  files:
  - provider_id: localfs
    provider_type: inline::localfs
    config:
      storage_dir: "${env.NOBODY_SET_THIS_DIR}/files"
      metadata_store: {backend: sql_default, table_name: files_metadata}
  batches:
  - {provider_id: ref, provider_type: inline::reference, config: {sqlstore: {backend: sql_default, table_name: batches}}}
  messages:
  - {provider_id: builtin, provider_type: inline::builtin, config: {kvstore: {backend: kv_default, namespace: message_batches}}}
  interactions:
  - {provider_id: builtin, provider_type: inline::builtin, config: {}}
  - {provider_id: other, provider_type: inline::builtin, config: {store: {backend: sql_default, table_name: interactions}}}
  skills:
  - {provider_id: builtin, provider_type: inline::builtin, config: {persistence: {backend: kv_default, namespace: skills}}}
  responses:
  - {provider_id: builtin, provider_type: inline::builtin, config: {persistence: {responses: {backend: sql_default, table_name: responses}}}}
  vector_io:
  - provider_id: "${env.WITH_CHROMA:=__disabled__}"
    provider_type: remote::chromadb
    config: {persistence: {backend: nothing_like_it, namespace: "vector_io::chroma_remote"}}
  - provider_id: faiss
    provider_type: inline::faiss
    config:
      persistence: {backend: kv_default, namespace: "vector_io::faiss"}
      metadata_store: {backend: sql_default, table_name: vector_stores}
  - provider_id: milvus
    provider_type: inline::milvus
    config:
      persistence: {backend: kv_default, namespace: "vector_io::milvus"}
      metadata_store: {backend: sql_default, table_name: vector_stores}
  tool_runtime:
  - {provider_id: mcp, provider_type: "remote::model-context-protocol", config: {}}
storage:
  backends:
    kv_default: {type: kv_sqlite, db_path: /data/kv.db}
    kv_pg: {type: kv_postgres, host: pg, port: "5433", db: stack, user: app, password: "${env.PG_PASSWORD}", ssl_mode: disable, command_timeout: 2.5}
    sql_default: {type: sql_postgres, connection_string: "${env.SQL_DEFAULT_URL}", pool_size: "${env.SQL_DEFAULT_POOL_SIZE}", max_overflow: "${env.SQL_DEFAULT_MAX_OVERFLOW:=7}"}
    sql_file: {type: sql_sqlite, db_path: "${env.DATA:=/data}/sql.db", pool_pre_ping: false}
  stores:
    metadata: {backend: kv_default, namespace: registry}
    inference: {backend: sql_default, table_name: inference_store, max_write_queue_size: 500, num_writers: 2}
    responses: {backend: sql_default}
    conversations: {backend: sql_default, table_name: openai_conversations}
    prompts: {backend: sql_file, table_name: prompts}
    connectors: {backend: sql_file, table_name: connectors}
    vector_stores: {backend: sql_default, table_name: vector_stores}
server: {port: 8321, auth: {provider_config: {type: upstream_header, principal_header: x-auth-user}}}
"""

FULL_ENVIRON = {
    "PG_PASSWORD": "0123",
    "SQL_DEFAULT_URL": "postgresql://app:p%40ss%2Fw%3Ard%231%3F%25@[2001:db8::7]:6432/stack?sslmode=require",
    "SQL_DEFAULT_POOL_SIZE": "3",
}


def load_text(
    directory: Path,
    text: str | bytes,
    environ: dict[str, str] | None = None,
    snapshot_backends: frozenset[str] = frozenset(),
) -> RunConfig:
    path = directory / "config.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass"))
    return load(path, environ or {}, snapshot_backends=snapshot_backends)


def refused(
    directory: Path, text: str | bytes, environ: dict[str, str] | None = None
) -> InvalidConfigError:
    try:
        load_text(directory, text, environ)
    except InvalidConfigError as error:
        return error
    raise AssertionError("the config was accepted")
