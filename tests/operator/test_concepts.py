"""The example of docs/concepts.md, executed: what it shows is what comes of it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml

from tests.support.operator import Api, until

PAGE = Path(__file__).resolve().parents[2] / "docs" / "concepts.md"


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE.read_text(), re.DOTALL | re.MULTILINE)


def logins(api: Api) -> dict[str, dict[str, object]]:
    snapshot = json.loads(
        api.data("Secret", "chat-storage").get("stackstore.json", '{"backends": {}}')
    )
    return {name: backend["current"] for name, backend in snapshot["backends"].items()}


@pytest.mark.usefixtures("operator")
def test_the_example_of_the_concepts_is_so(api: Api):
    objects, config, rotation = blocks("yaml")
    (login,) = blocks("json")
    api.apply(objects)
    api.ready("chat", seconds=30)
    shown = yaml.safe_load(config)["storage"]
    assert api.config()["storage"] == shown, yaml.safe_dump(
        api.config()["storage"], sort_keys=False
    )
    expected = json.loads(login.replace("NAMESPACE", api.namespace))
    for found in logins(api).values():
        assert {key: found[key] for key in expected} == expected
    assert {"KV_DEFAULT_URL", "SQL_DEFAULT_URL", "SQL_DEFAULT_PASSWORD"} <= api.data(
        "Secret", "chat-storage"
    ).keys()
    before = (api.get("ConfigMap", "chat-run-config") or {})["metadata"]["resourceVersion"]
    revision = (api.get("StoreBinding", "chat") or {})["status"]["revision"]

    # As `kubectl apply` merges it: what isn't said stays.
    api.merge("Secret", "pg-app", yaml.safe_load(rotation))
    until(lambda: {one["password"] for one in logins(api).values()} == {"second"}, 30)
    until(lambda: (api.get("StoreBinding", "chat") or {})["status"]["revision"] != revision, 30)
    snapshot = json.loads(api.data("Secret", "chat-storage")["stackstore.json"])
    for backend in snapshot["backends"].values():
        assert [one["password"] for one in backend["previous"]] == ["first"]
    assert (api.get("ConfigMap", "chat-run-config") or {})["metadata"]["resourceVersion"] == before
