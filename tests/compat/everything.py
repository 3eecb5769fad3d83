"""A stack with every provider that the bare server can run, each bound to a backend, and its use."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import httpx

from tests.compat import modelapi

BASE = """\
distro_name: everything
apis: [inference, responses, files, batches, messages, interactions, skills, vector_io, tool_runtime]
providers:
  inference:
  - {provider_id: openai, provider_type: "remote::openai", config: {base_url: "${env.MODEL_URL}", api_key: none}}
  files:
  - {provider_id: localfs, provider_type: "inline::localfs", config: {storage_dir: "${env.FILES_DIR}"}}
  batches: [{provider_id: reference, provider_type: "inline::reference"}]
  messages: [{provider_id: builtin, provider_type: "inline::builtin", config: {}}]
  interactions: [{provider_id: builtin, provider_type: "inline::builtin"}]
  skills: [{provider_id: builtin, provider_type: "inline::builtin", config: }]
  responses: [{provider_id: builtin, provider_type: "inline::builtin", config: {persistence: }}]
  tool_runtime: [{provider_id: mcp, provider_type: "remote::model-context-protocol", config: {}}]
"""


def _bound(api: str, provider_id: str, field: str, **place: str) -> dict[str, Any]:
    backend = "kv-default" if "namespace" in place else "sql-default"
    return {
        "api": api,
        "providerId": provider_id,
        "field": field,
        "backendRef": {"name": backend},
        **place,
    }


PROVIDERS = [
    _bound("files", "localfs", "metadata_store", tableName="my_files"),
    _bound("batches", "reference", "sqlstore", tableName="my_batches"),
    _bound("messages", "builtin", "kvstore", namespace="my::messages"),
    _bound("interactions", "builtin", "store", tableName="my_interactions"),
    _bound("skills", "builtin", "persistence", namespace="my::skills"),
    _bound("responses", "builtin", "persistence.responses", tableName="my_responses"),
]
ROWS = (
    "my_responses",
    "my_interactions",
    "openai_files",
    "openai_conversations",
    "prompts",
    "ogx_kvstore WHERE key LIKE 'my::messages:%'",
    "ogx_kvstore WHERE key LIKE 'registry:%'",
)
"""What must be there after `use`: in bound places where the server honours them, else in its own."""


def use(url: str, client: httpx.Client, count: Callable[[str], int]) -> None:
    """Make one of everything; each must answer, and leave a row."""
    model = f"openai/{modelapi.MODEL}"
    asked = {"model": model, "input": "A question?"}
    message = {
        "model": model,
        "max_tokens": 10,
        "messages": [{"role": "user", "content": "A question?"}],
    }
    upload = {"file": ("a.txt", b"text", "text/plain")}
    sent: dict[str, dict[str, Any]] = {
        "v1/responses": {"json": asked},
        "v1alpha/interactions": {"json": asked},
        "v1/conversations": {"json": {}},
        "v1/prompts": {"json": {"prompt": "Say {{what}}", "variables": ["what"]}},
        "v1/files": {"files": upload, "data": {"purpose": "assistants"}},
        "v1/messages/batches": {"json": {"requests": [{"custom_id": "one", "params": message}]}},
    }
    for path, content in sent.items():
        answer = client.post(f"{url}/{path}", **content)
        assert answer.status_code == 200, (path, answer.text[:500])
    deadline = time.monotonic() + 10
    while missing := [rows for rows in ROWS if not count(rows)]:
        assert time.monotonic() < deadline, f"no row in {', '.join(missing)}"
        time.sleep(0.1)
