"""`config.yaml`: the base config with its storage section replaced and its references filled in.

Only shape goes in: no host, no secret. What a stock server needs at run time it finds in its
environment, by the placeholders written here.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Hashable
from typing import Any

import yaml

from stackstore.config.document import Document
from stackstore.credentials.snapshot import PostgresBackend, SqliteBackend
from stackstore_operator.api.conditions import Reason
from stackstore_operator.render import base, places, references
from stackstore_operator.render.model import (
    PlacedStore,
    RenderError,
    ResolvedStack,
    check_prefixes,
    environment_prefix,
)

_MOST = 256
_made: OrderedDict[tuple[Hashable, ...], str | RenderError] = OrderedDict()
"""The newest results, by `_shape`."""

_KV_TIMEOUT = 30
"""Seconds; the server's own bound where nobody says one."""


def config_yaml(stack: ResolvedStack) -> str:
    """The run config's text; the same input gives the same bytes.

    Raises:
        RenderError: with the reason and a message that names what is wrong.
    """
    # A login's rotation changes nothing here, and YAML is slow: who looks at thirty stacks that share
    # a large base config must not keep everybody else waiting.
    key = _shape(stack)
    found = _made.get(key)
    if found is None:
        try:
            found = _config_yaml(stack)
        except RenderError as error:
            found = error
        _made[key] = found
        while len(_made) > _MOST:
            _made.popitem(last=False)
    _made.move_to_end(key)
    if isinstance(found, RenderError):
        raise RenderError(found.reason, str(found))
    return found


def places_of(stack: ResolvedStack) -> dict[str, list[str]]:
    """Where everything is put: `stores/<name>` or `providers/<api>/<id>/<field>` to [backend, place].

    Raises:
        RenderError: as `config_yaml`, for its stores.
    """
    stores = {f"stores/{s.name}": [s.backend, s.place] for s in _complete(stack)}
    own = {
        f"providers/{p.api}/{p.provider_id}/{p.field}": [p.backend, p.place]
        for p in stack.providers
    }
    return stores | own


def _shape(stack: ResolvedStack) -> tuple[Hashable, ...]:
    """All that the run config depends on; no login is in it."""
    return (
        stack.base_config,
        stack.stores,
        stack.providers,
        stack.default_kv,
        stack.default_sql,
        stack.release.name,
        tuple(
            (name, b.type, b.path if isinstance(b, SqliteBackend) else "", places.database(b))
            for name, b in sorted(stack.backends.items())
        ),
    )


def _config_yaml(stack: ResolvedStack) -> str:
    check_prefixes(stack.backends)
    document = _document(stack)
    stores = _complete(stack)
    references.fill(document, stack)
    places.check(stores, references.found(document, stack), stack)
    data = document.data | {
        "storage": {
            "backends": {name: _backend(name, b) for name, b in sorted(stack.backends.items())},
            "stores": {store.name: _store(store, stack) for store in stores},
        }
    }
    return dump(data)


def dump(data: dict[str, Any]) -> str:
    """YAML that every reader takes for the same data."""
    # Lines are never folded: a text keeps its shape for people, and for greps.
    return yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=float("inf"))


class _Dumper(yaml.SafeDumper):
    """PyYAML's own, but for texts."""


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.Node:
    # PyYAML quotes what YAML 1.1 would take for something else. Readers of YAML 1.2 take other
    # texts for numbers (`1e5`, `0o17`), and some still know `y` and `n`.
    doubtful = re.match(r"[-+.]?[0-9]|[-+.]", text) or text.lower() in {"y", "n", "null", "~"}
    # And PyYAML itself loses line breaks of other scripts (U+0085) outside double quotes.
    hidden = not text.replace("\n", "").isprintable()
    style = '"' if hidden or (doubtful and "\n" not in text) else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _text)


def _document(stack: ResolvedStack) -> Document:
    if stack.base_config is not None:
        return base.parse(stack.base_config)
    if stack.providers:
        raise RenderError(
            Reason.BASE_CONFIG_NOT_FOUND,
            "`spec.providers` is given, and no `spec.baseConfigRef` that has the providers",
        )
    # The least that a server boots on.
    return Document(base.SOURCE, {"distro_name": "stackstore", "providers": {}}, {})


def _backend(name: str, backend: PostgresBackend | SqliteBackend) -> dict[str, Any]:
    prefix = environment_prefix(name)
    if isinstance(backend, SqliteBackend):
        _check_path(name, backend)
        return {"type": backend.type, "db_path": backend.path}
    entry = {
        "type": backend.type,
        # A URI, because a server turns a value of digits into a number and then refuses it as a
        # password; inside a URI it stays text.
        "connection_string": f"${{env.{prefix}_URL}}",
        "pool_size": f"${{env.{prefix}_POOL_SIZE}}",
        "max_overflow": f"${{env.{prefix}_MAX_OVERFLOW}}",
    }
    if backend.type == "kv_postgres":
        entry["command_timeout"] = f"${{env.{prefix}_COMMAND_TIMEOUT:={_KV_TIMEOUT}}}"
    else:
        entry["pool_recycle"] = f"${{env.{prefix}_POOL_RECYCLE}}"
    return entry


def _check_path(name: str, backend: SqliteBackend) -> None:
    # The server puts a sql path into a URI as it is, and looks for words in a kv path.
    for bad, kind in (("?", "sql_sqlite"), ("mode=memory", "kv_sqlite")):
        if backend.type == kind and bad in backend.path:
            raise RenderError(
                Reason.INVALID,
                f"the path of backend '{name}' holds '{bad}', which the server would not take for a "
                "part of the file's name; rename the file",
            )


def _complete(stack: ResolvedStack) -> list[PlacedStore]:
    """The stores in the release's order, those it requires filled in from the defaults."""
    bound = {store.name: store for store in stack.stores}
    for store in stack.stores:
        rule = stack.release.stores.get(store.name)
        if rule is None:
            raise RenderError(
                Reason.FIELD_UNKNOWN,
                f"{stack.release.name} has no store '{store.name}'; it has "
                f"{', '.join(stack.release.stores)}",
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
    entry = references.reference(store.family, store.backend, store.place)
    if stack.release.stores[store.name].queued:
        if store.max_write_queue_size is not None:
            entry["max_write_queue_size"] = store.max_write_queue_size
        if store.num_writers is not None:
            entry["num_writers"] = store.num_writers
    return entry
