"""`config.yaml`: the base config with its storage section replaced and its references filled in.

Only shape goes in: no host, no secret. What a stock server needs at run time it finds in its
environment, by the placeholders written here.
"""

from __future__ import annotations

from typing import Any

import yaml

from stackstore.credentials.snapshot import PostgresBackend, SqliteBackend
from stackstore_operator.api.conditions import Reason
from stackstore_operator.render.model import (
    PlacedProvider,
    PlacedStore,
    RenderError,
    ResolvedStack,
    environment_prefix,
)

MAX_BASE_BYTES = 512 * 1024
_MAX_NODES = 50_000


def config_yaml(stack: ResolvedStack) -> str:
    """The run config's text; the same input gives the same bytes.

    Raises:
        RenderError: with the reason and a message that names what is wrong.
    """
    base = _base(stack.base_config)
    stores = _complete(stack)
    _check_collisions(stores, stack.providers, stack)
    base["storage"] = {
        "backends": {name: _backend(name, b) for name, b in sorted(stack.backends.items())},
        "stores": {store.name: _store(store, stack) for store in stores},
    }
    if stack.base_config is not None:
        for provider in stack.providers:
            _refer(base, provider, stack)
    return yaml.safe_dump(base, sort_keys=False, allow_unicode=True, width=100)


def _base(text: str | None) -> dict[str, Any]:
    if text is None:
        return {}

    def fail(message: str) -> RenderError:
        return RenderError(Reason.BASE_CONFIG_INVALID, f"the base config {message}")

    if len(text.encode()) > MAX_BASE_BYTES:
        raise fail(f"is larger than {MAX_BASE_BYTES} bytes")
    try:
        # Events are counted before anything is built: aliases could make it grow without end.
        events = list(yaml.parse(text, yaml.SafeLoader))
        if any(isinstance(event, yaml.AliasEvent) for event in events):
            raise fail("uses YAML aliases (`*name`), which are not supported; write the values out")
        if len(events) > _MAX_NODES:
            raise fail(f"has more than {_MAX_NODES} values")
        data = yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        line = f" at line {mark.line + 1}" if mark else ""
        raise fail(f"is not YAML{line}") from None
    except (yaml.YAMLError, ValueError, RecursionError, OverflowError, TypeError):
        raise fail("is not YAML") from None
    if not isinstance(data, dict):
        raise fail("must be a mapping")
    return data


def _backend(name: str, backend: PostgresBackend | SqliteBackend) -> dict[str, Any]:
    if isinstance(backend, SqliteBackend):
        return {"type": backend.type, "db_path": backend.path}
    prefix = environment_prefix(name)
    return {
        "type": backend.type,
        # A URI, because a server turns a value of digits into a number and then refuses it as a
        # password; inside a URI it stays text.
        "connection_string": f"${{env.{prefix}_URL}}",
        "pool_size": f"${{env.{prefix}_POOL_SIZE}}",
        "max_overflow": f"${{env.{prefix}_MAX_OVERFLOW}}",
    }


def _complete(stack: ResolvedStack) -> list[PlacedStore]:
    """The stores in the release's order, those it requires filled in from the defaults."""
    bound = {store.name: store for store in stack.stores}
    for store in stack.stores:
        rule = stack.release.stores.get(store.name)
        if rule is None:
            raise RenderError(
                Reason.FIELD_UNKNOWN, f"{stack.release.name} has no store '{store.name}'"
            )
        if rule.family != store.family:
            raise RenderError(
                Reason.FAMILY_MISMATCH,
                f"store '{store.name}' is a {rule.family} store in {stack.release.name}",
            )
    complete: list[PlacedStore] = []
    for name, rule in stack.release.stores.items():
        if name in bound:
            complete.append(bound[name])
        elif rule.required:
            backend = stack.default_kv if rule.family == "kv" else stack.default_sql
            if backend is None:
                raise RenderError(
                    Reason.STORE_MISSING,
                    f"{stack.release.name} needs the store '{name}': bind it, or set "
                    f"`spec.defaults.{rule.family}`",
                )
            complete.append(PlacedStore(name, rule.family, backend, rule.place))
    return complete


def _store(store: PlacedStore, stack: ResolvedStack) -> dict[str, Any]:
    reference = _reference(store.family, store.backend, store.place)
    if stack.release.stores[store.name].queued:
        if store.max_write_queue_size is not None:
            reference["max_write_queue_size"] = store.max_write_queue_size
        if store.num_writers is not None:
            reference["num_writers"] = store.num_writers
    return reference


def _reference(family: str, backend: str, place: str) -> dict[str, Any]:
    return {"backend": backend, "namespace" if family == "kv" else "table_name": place}


def _check_collisions(
    stores: list[PlacedStore], providers: tuple[PlacedProvider, ...], stack: ResolvedStack
) -> None:
    users: dict[tuple[object, ...], str] = {}
    places: list[tuple[str, PlacedStore | PlacedProvider]] = [
        *((f"store '{store.name}'", store) for store in stores),
        *((f"{p.api} provider '{p.provider_id}' field '{p.field}'", p) for p in providers),
    ]
    for label, user in places:
        key = (user.family, _database(stack, user.backend), user.place)
        if key in users:
            what = "table" if user.family == "sql" else "kv namespace"
            raise RenderError(
                Reason.TABLE_COLLISION,
                f"{label} and {users[key]} would share the {what} '{user.place}' of one database",
            )
        users[key] = label


def _database(stack: ResolvedStack, backend: str) -> tuple[object, ...]:
    found = stack.backends[backend]
    if isinstance(found, SqliteBackend):
        return ("sqlite", found.path)
    return (found.current.host, found.current.port, found.current.database)


def _refer(base: dict[str, Any], placed: PlacedProvider, stack: ResolvedStack) -> None:
    """Put a reference into the base config's provider."""
    expected = stack.release.providers.get((placed.api, placed.field))
    where = f"provider '{placed.provider_id}' of `{placed.api}`"
    if expected is None:
        known = sorted(field for api, field in stack.release.providers if api == placed.api)
        raise RenderError(
            Reason.FIELD_UNKNOWN,
            f"{where}: {stack.release.name} has no field '{placed.field}' there; "
            f"it has {', '.join(known) or 'none'}",
        )
    if expected != placed.family:
        raise RenderError(
            Reason.FAMILY_MISMATCH, f"{where}: field '{placed.field}' is a {expected} reference"
        )
    providers = base.get("providers")
    entries = providers.get(placed.api) if isinstance(providers, dict) else None
    entries = [entry for entry in entries or [] if isinstance(entry, dict)]
    for entry in entries:
        if entry.get("provider_id") == placed.provider_id:
            config = entry.get("config")
            if not isinstance(config, dict):
                config = entry["config"] = {}
            *above, last = placed.field.split(".")
            for level in above:
                inner = config.get(level)
                if not isinstance(inner, dict):
                    inner = config[level] = {}
                config = inner
            config[last] = _reference(placed.family, placed.backend, placed.place)
            return
    have = ", ".join(sorted(str(entry.get("provider_id")) for entry in entries))
    raise RenderError(
        Reason.PROVIDER_NOT_FOUND,
        f"the base config has no {where}; it has {have or 'none'} there",
    )
