"""What goes on from the last good render: logins that were replaced, backends in force. Pure.

Nothing is remembered between two looks but what the stack's own objects hold. Beside the snapshot
the Secret says which StorageBackend each of its backends came from: a name alone would not tell a
rotation from a reference that now leads to another database, and an earlier login of that other
database must never be fallen back on.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

from stackstore.credentials.snapshot import (
    MAX_PREVIOUS,
    Login,
    PostgresBackend,
    PreviousLogin,
    Snapshot,
)
from stackstore.errors import ConfigError
from stackstore_operator.reconcile.inputs import Key, StackInputs
from stackstore_operator.reconcile.outputs import is_ours, secret_name
from stackstore_operator.reconcile.resolution import Backend, Found, find, is_withdrawn
from stackstore_operator.render import revision
from stackstore_operator.render.model import CONFIG_KEY, SNAPSHOT_KEY

ORIGINS_KEY = "backends.json"
"""Key of the Secret: name in the run config to `namespace/name` of the StorageBackend."""


@dataclass(frozen=True)
class Before:
    """The last good render, as far as it can be read.

    Attributes:
        snapshot: what the Secret holds; None when there is none.
        origins: by name in the run config, where its backends came from.
        config: what the ConfigMap holds, parsed; empty when there is none.
    """

    snapshot: Snapshot | None = None
    origins: Mapping[str, Key] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)


def read(inputs: StackInputs) -> Before:
    """The last good render; what somebody has damaged counts as not there."""
    snapshot = None
    content = _data(inputs.secret, inputs.stack).get(SNAPSHOT_KEY)
    if content is not None:
        try:
            snapshot = Snapshot.parse(base64.b64decode(content), secret_name(inputs.stack))
        except (ConfigError, ValueError):
            snapshot = None
    try:
        config = yaml.safe_load(_data(inputs.config_map, inputs.stack).get(CONFIG_KEY, ""))
    except (yaml.YAMLError, ValueError, RecursionError):
        config = None
    return Before(
        snapshot,
        origins_of(inputs.secret, inputs.stack),
        config if isinstance(config, dict) else {},
    )


def origins_of(secret: Mapping[str, Any] | None, stack: str) -> dict[str, Key]:
    """Where the backends in a stack's Secret came from, whatever its bindings say by now."""
    try:
        named = json.loads(base64.b64decode(_data(secret, stack).get(ORIGINS_KEY, "")) or b"{}")
        split = {name: str(origin).partition("/") for name, origin in named.items()}
    except (ValueError, AttributeError):
        return {}
    return {name: (namespace, backend) for name, (namespace, _, backend) in split.items()}


def write_origins(origins: Mapping[str, Key]) -> bytes:
    """The content of `ORIGINS_KEY`."""
    named = {name: "/".join(key) for name, key in origins.items()}
    return json.dumps(named, sort_keys=True, indent=1).encode()


def withdrawn(inputs: StackInputs, before: Before) -> set[str]:
    """The backends in force whose owners no longer let this namespace use them."""
    in_force = before.snapshot.backends if before.snapshot else ()
    return {
        name
        for name in in_force
        if name in before.origins and is_withdrawn(inputs, before.origins[name])
    }


def continued(name: str, found: Found, before: Before, now: int) -> Backend:
    """A backend with the logins it had before, for as long as their grace lasts."""
    old = before.snapshot.backends.get(name) if before.snapshot else None
    new = found.snapshot
    if (
        not isinstance(new, PostgresBackend)
        or not isinstance(old, PostgresBackend)
        or before.origins.get(name, found.key) != found.key
    ):
        return new
    until = now + found.grace
    known = [PreviousLogin(**dict(old.current), usable_until=until)]
    # A clock that was set back, or a grace that was shortened, must not keep a login for longer.
    known += [
        login.model_copy(update={"usable_until": min(login.usable_until, until)})
        for login in old.previous
    ]
    kept = [
        login for login in known if login.usable_until > now and _same(login) != _same(new.current)
    ]
    return new.model_copy(update={"previous": tuple(kept[:MAX_PREVIOUS])})


def followed(inputs: StackInputs, before: Before) -> Snapshot | None:
    """The last good snapshot with what may change without a render.

    Where nothing new can be rendered, rotations still arrive, and what is withdrawn still goes.
    """
    if before.snapshot is None:
        return None
    gone = withdrawn(inputs, before)
    kept: dict[str, Backend] = {}
    for name, old in before.snapshot.backends.items():
        origin = before.origins.get(name)
        found = None if origin is None else find(inputs, origin)
        if name in gone:
            continue
        if found is None or found.snapshot.type != old.type:
            kept[name] = _expired(old, inputs.now)
        else:
            kept[name] = continued(name, found, before, inputs.now)
    return before.snapshot.model_copy(
        update={"backends": kept, "revision": revision.of_stack(inputs.key, kept)}
    )


def next_expiry(snapshot: Snapshot | None) -> int | None:
    """Epoch seconds at which the first previous login expires; None when there is none."""
    backends: Iterable[Backend] = snapshot.backends.values() if snapshot else ()
    return min(
        (
            login.usable_until
            for backend in backends
            if isinstance(backend, PostgresBackend)
            for login in backend.previous
        ),
        default=None,
    )


def _expired(old: Backend, now: int) -> Backend:
    """A backend that can't be looked at: its login is kept, but earlier ones still expire."""
    if not isinstance(old, PostgresBackend):
        return old
    kept = tuple(login for login in old.previous if login.usable_until > now)
    return old.model_copy(update={"previous": kept})


def _same(login: Login) -> tuple[object, ...]:
    """What makes two logins one; a revision also changes with TLS."""
    password = login.password.get_secret_value() if login.password else None
    return login.host, login.port, login.database, login.username, password


def _data(obj: Mapping[str, Any] | None, stack: str) -> Mapping[str, str]:
    if obj is None or not is_ours(obj, stack):
        return {}
    return obj.get("data") or {}
