"""Secrets of other operators and charts against a real API server, as their makers apply them."""

from __future__ import annotations

import asyncio
import json
import re
import secrets
from pathlib import Path
from urllib.parse import quote as encoded

import asyncpg
import pytest
import yaml

from tests.support.makers import NAMES, made
from tests.support.operator import (
    DEFAULTS,
    Api,
    OperatorProcess,
    binding,
    kv,
    postgres_backend,
    sqlite_backend,
    until,
)
from tests.support.postgres import PostgresServer, quote

CONCEPTS = Path(__file__).resolve().parents[2] / "docs" / "concepts.md"
COMPLETE = {
    "type": "postgresql",
    "host": "pg-rw",
    "username": "app",
    "password": "c4n4ry",
    "database": "stack",
}


def published(api: Api) -> object:
    return (api.get("StorageBackend", "sql-default") or {}).get("status", {}).get("binding")


@pytest.mark.usefixtures("operator")
def test_each_gives_the_login_that_its_maker_means(api: Api):
    """One stack that uses them all: what a pod would read is what each of them says."""
    makers = {f"m-{name}": made(name, api.namespace) for name in NAMES}
    api.apply(*(one.secret for one in makers.values()))
    api.apply(
        *(postgres_backend(name, one.name, **one.backend) for name, one in makers.items()),
        sqlite_backend(),
    )
    usable = {name: one for name, one in makers.items() if one.gives}
    for name, one in makers.items():
        if one.lacks:
            said = api.wait(
                "StorageBackend", name, "CredentialsResolved", "False", "SecretKeyMissing"
            )
            assert one.lacks in said
        else:
            said = api.wait(
                "StorageBackend", name, "CredentialsResolved", "True", "Resolved", seconds=30
            )
            assert said == "; ".join([f"login from Secret '{one.name}'", *one.says])
        status = (api.get("StorageBackend", name) or {})["status"]
        assert status.get("binding") == ({"name": one.name} if one.binding else None)
        shown = json.dumps(status, ensure_ascii=False)
        secret = [
            text
            for key, text in one.secret["stringData"].items()
            if "password" in key or "uri" in key
        ]
        assert [text for text in secret if text in shown] == []
    providers = [
        {"api": "interactions", "providerId": name, "field": "store", "tableName": f"t{number}",
         "backendRef": {"name": name}}
        for number, name in enumerate(sorted(usable))
    ]  # fmt: skip
    api.config_map("base", config_yaml=json.dumps({
        "distro_name": "x", "providers": {"interactions": [
            {"provider_id": name, "provider_type": "inline::builtin", "config": {}} for name in usable
        ]},
    }))  # fmt: skip
    defaults = {"kv": {"name": "kv-default"}, "sql": {"name": "m-crunchy"}}
    api.apply(
        binding(stores=[kv("metadata")], providers=providers, defaults=defaults,
                baseConfigRef={"name": "base"})
    )  # fmt: skip
    api.ready("chat", seconds=30)
    backends = json.loads(api.data("Secret", "chat-storage")["stackstore.json"])["backends"]
    for name, one in usable.items():
        found = backends[name.replace("-", "_")]
        assert {key: found["current"][key] for key in one.gives} == one.gives, name
        assert found["pooler"] == one.postgres.get("pooler", "None")


@pytest.mark.usefixtures("operator")
def test_a_login_that_was_encoded_in_a_uri_is_let_in_by_a_real_server(
    api: Api, postgres: PostgresServer
):
    """Decoded from the Secret, and encoded again for stock servers."""
    role, password = f"R öle@{secrets.token_hex(6)}", "3:x/Q@k#9%zz ?&+ü"
    postgres.execute(f'CREATE ROLE "{role}" LOGIN PASSWORD {quote(password)}')
    place = f"{postgres.host}:{postgres.port}/postgres"
    api.secret(
        "pg-app", url=f"postgresql://{encoded(role, safe='')}:{encoded(password, safe='')}@{place}"
    )
    spec = {"postgres": {"tls": {"mode": "Disable"}}, "verification": {"mode": "Connect"}}
    api.apply(postgres_backend(**spec), sqlite_backend())
    try:
        api.wait("StorageBackend", "sql-default", "Verified", "True", "Connected", seconds=60)
        api.apply(binding(stores=[kv("metadata")], defaults=DEFAULTS))
        api.ready("chat", seconds=30)
        url = api.data("Secret", "chat-storage")["SQL_DEFAULT_URL"]
        assert asyncio.run(who(url)) == role
    finally:
        api.clear()
        postgres.execute(f'DROP ROLE "{role}"')


async def who(url: str) -> object:
    """As a stock server's driver takes the string."""
    connection = await asyncpg.connect(dsn=url)
    try:
        return await connection.fetchval("SELECT session_user")
    finally:
        await connection.close()


@pytest.mark.usefixtures("operator")
def test_a_provisioned_service_is_one_as_long_as_its_secret_is_complete(api: Api):
    api.secret("pg-app", **COMPLETE)
    api.apply(postgres_backend(postgres={}))
    found = until(lambda: published(api), 30)
    assert found == {"name": "pg-app"}
    api.secret("pg-app", **{**COMPLETE, "type": ""})
    until(lambda: published(api) is None, 30)
    said = api.wait("StorageBackend", "sql-default", "Ready", "True", "Ready", seconds=30)
    assert said.endswith("no provisioned service (status.binding): there is nothing under 'type'")
    api.secret("pg-app", **COMPLETE)
    until(lambda: published(api), 30)
    # Nothing is left of it when the login goes, and nothing is written that is null.
    api.delete("Secret", "pg-app")
    api.wait("StorageBackend", "sql-default", "Ready", "Unknown", "SecretNotFound", seconds=30)
    assert "binding" not in (api.get("StorageBackend", "sql-default") or {})["status"]


@pytest.mark.usefixtures("operator")
def test_a_stale_uri_is_told_and_leaves_with_its_cause(api: Api, operator: OperatorProcess):
    api.secret("pg-app", **COMPLETE, uri="postgresql://app:0ldc4n4ry@pg-rw/stack")
    api.apply(postgres_backend(postgres={}))
    words = "the URI under 'uri' is stale, it has another password: it is not used"
    until(lambda: words in api.condition("StorageBackend", "sql-default")[2], 30)
    api.secret("pg-app", **COMPLETE, uri="postgresql://app:c4n4ry@pg-rw/stack")
    until(lambda: words not in api.condition("StorageBackend", "sql-default")[2], 30)
    assert api.condition("StorageBackend", "sql-default")[:2] == ("True", "Ready")
    shown = json.dumps([api.list("StorageBackend"), api.list("Event")]) + operator.log()
    assert "c4n4ry" not in shown


@pytest.mark.usefixtures("operator")
def test_a_pooler_in_transaction_mode_is_served_and_what_a_stock_server_needs_is_told(api: Api):
    api.secret("pg-app", **COMPLETE)
    place = {"pooler": "Transaction", "statementTimeoutSeconds": 7}
    api.apply(postgres_backend(postgres=place), sqlite_backend())
    said = api.wait("StorageBackend", "sql-default", "Accepted", "True", "Accepted", seconds=30)
    assert "`max_prepared_statements`" in said
    defaults = {"kv": {"name": "kv-default"}, "sql": {"name": "sql-default"}}
    api.apply(binding(stores=[kv("metadata")], defaults=defaults))
    api.ready("chat", seconds=30)
    data = api.data("Secret", "chat-storage")
    assert json.loads(data["stackstore.json"])["backends"]["sql_default"]["pooler"] == "Transaction"
    # A start-up option, which a pooler refuses.
    assert "options=" not in data["SQL_DEFAULT_URL"]


# -- the example of docs/concepts.md, which begins with such a Secret; here it shares their operator


def blocks(language: str) -> list[str]:
    return re.findall(
        rf"^```{language}\n(.*?)^```$", CONCEPTS.read_text(), re.DOTALL | re.MULTILINE
    )


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
