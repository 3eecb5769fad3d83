"""Runs inside the real server's environment: its own loader, registry and stores on our cases.

`python inside.py QUESTIONS ANSWERS`: two JSON files, because the server writes to both streams.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import ssl
import sys
import typing
from pathlib import Path
from typing import Any

import yaml
from asyncpg.connect_utils import _parse_connect_dsn_and_args
from ogx.core.configure import parse_and_maybe_upgrade_config
from ogx.core.distribution import get_provider_registry
from ogx.core.storage.datatypes import KVStoreReference, SqlStoreReference
from ogx.core.storage.kvstore.postgres import PostgresKVStoreImpl
from ogx.core.storage.sqlstore.sqlalchemy_sqlstore import SqlAlchemySqlStoreImpl
from ogx_api.internal.sqlstore import ColumnDefinition, ColumnType
from pydantic import BaseModel

REGISTRY = get_provider_registry()


def config_class(api: str, kind: str) -> Any:
    (spec,) = [found[kind] for of, found in REGISTRY.items() if of.value == api]
    module, _, name = spec.config_class.rpartition(".")
    return getattr(importlib.import_module(module), name)


def classes(annotation: Any) -> list[type]:
    if isinstance(annotation, type):
        return [annotation]
    return [found for part in typing.get_args(annotation) for found in classes(part)]


def references(model: type[BaseModel], above: tuple[str, ...] = ()) -> Any:
    """Every field that refers to a backend: dotted name, family, whether it is required."""
    for name, field in model.model_fields.items():
        here = (*above, name)
        for kind in classes(field.annotation):
            if issubclass(kind, KVStoreReference):
                yield ".".join(here), "kv", field.is_required()
            elif issubclass(kind, SqlStoreReference):
                yield ".".join(here), "sql", field.is_required()
            elif issubclass(kind, BaseModel):
                yield from references(kind, here)


def registry() -> list[list[Any]]:
    return [
        [api.value, kind, *found]
        for api, kinds in REGISTRY.items()
        for kind in kinds
        for found in references(config_class(api.value, kind))
    ]


def connection(uri: str) -> dict[str, Any]:
    """What the server's driver makes of a URI."""
    addresses, parameters = _parse_connect_dsn_and_args(
        dsn=uri, host=None, port=None, user=None, password=None, passfile=None, database=None,
        ssl=None, service=None, servicefile=None, direct_tls=None, server_settings=None,
        target_session_attrs=None, krbsrvname=None, gsslib=None,
    )  # fmt: skip
    (address,) = addresses
    context = parameters.ssl
    return {
        "address": address if isinstance(address, str) else list(address),
        "user": parameters.user,
        "password": parameters.password,
        "database": parameters.database,
        "encrypted": bool(context),
        "checks_chain": bool(context) and context.verify_mode == ssl.CERT_REQUIRED,
        "checks_host": bool(context) and context.check_hostname,
        "authorities": len(context.get_ca_certs()) if context else 0,
        "falls_back": parameters.sslmode.name in {"allow", "prefer"},
    }


def backend(config: Any) -> dict[str, Any]:
    found: dict[str, Any] = {"type": config.type.value}
    for name in ("db_path", "pool_size", "max_overflow", "pool_recycle", "command_timeout"):
        if hasattr(config, name):
            found[name] = getattr(config, name)
    if getattr(config, "connection_string", None) is not None:
        found["connection"] = connection(config.connection_string.get_secret_value())
        found["own_tls"] = [config.ssl_mode, config.ca_cert_path]
    return found


def provider(api: str, entry: Any, fields: list[str]) -> dict[str, Any]:
    made = config_class(api, entry.provider_type)(**entry.config)
    found: dict[str, Any] = {"config": entry.config}
    for field in fields:
        node: Any = made
        for part in field.split("."):
            node = getattr(node, part, None)
        found[field] = None if node is None else node.model_dump()
    return found


def load(question: dict[str, Any]) -> dict[str, Any]:
    made = parse_and_maybe_upgrade_config(yaml.safe_load(question["config"]))
    return {
        "distro_name": made.distro_name,
        "backends": {name: backend(found) for name, found in made.storage.backends.items()},
        "stores": made.storage.stores.model_dump(exclude_none=True),
        "providers": {
            f"{api}/{entry.provider_id}": provider(api, entry, question["fields"].get(api, []))
            for api, entries in made.providers.items()
            for entry in entries
        },
    }


async def use(question: dict[str, Any]) -> dict[str, Any]:
    """Write and read a value through the server's own stores, on every Postgres backend."""
    made = parse_and_maybe_upgrade_config(yaml.safe_load(question["config"]))
    found: dict[str, Any] = {}
    for name, config in made.storage.backends.items():
        if config.type.value == "kv_postgres":
            kv = PostgresKVStoreImpl(config.model_copy(update={"namespace": "n"}))
            try:
                await kv.set("key", "value")
                found[name] = await kv.get("key")
            finally:
                await kv.shutdown()
        elif config.type.value == "sql_postgres":
            sql = SqlAlchemySqlStoreImpl(config)
            try:
                column = ColumnDefinition(type=ColumnType.STRING, primary_key=True)
                await sql.create_table("used", {"id": column, "text": ColumnType.STRING})
                await sql.upsert("used", {"id": "key", "text": "value"}, conflict_columns=["id"])
                row = await sql.fetch_one("used", {"id": "key"})
                found[name] = row and row["text"]
            finally:
                await sql.shutdown()
    return found


def answer(question: dict[str, Any]) -> dict[str, Any]:
    before = dict(os.environ)
    os.environ.update(question["environ"])
    try:
        if question["ask"] == "use":
            return {"found": asyncio.run(use(question))}
        return {"found": load(question)}
    except Exception as error:
        causes: list[str] = []
        at: BaseException | None = error
        while at is not None and len(causes) < 5:
            causes.append(f"{type(at).__name__}: {at}"[:500])
            at = at.__cause__ or at.__context__
        return {"error": " <- ".join(causes)}
    finally:
        os.environ.clear()
        os.environ.update(before)


def main() -> None:
    questions, answers = map(Path, sys.argv[1:])
    asked = json.loads(questions.read_text())
    found = {"registry": registry(), "answers": [answer(question) for question in asked]}
    answers.write_text(json.dumps(found, default=str))


main()
