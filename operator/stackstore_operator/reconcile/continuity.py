"""What goes on from the last good render: logins that were replaced, backends in force. Pure.

Nothing is remembered between two looks but what the stack's own Secret holds: the snapshot, and the
note beside it (`record`).
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from stackstore.credentials.snapshot import (
    MAX_PREVIOUS,
    Login,
    PostgresBackend,
    PreviousLogin,
    Snapshot,
)
from stackstore.errors import ConfigError
from stackstore_operator.reconcile import record
from stackstore_operator.reconcile.inputs import Key, StackInputs
from stackstore_operator.reconcile.outputs import is_ours, secret_name
from stackstore_operator.reconcile.record import Record
from stackstore_operator.reconcile.resolution import Backend, Found, find, is_withdrawn
from stackstore_operator.render import revision
from stackstore_operator.render.model import SNAPSHOT_KEY


@dataclass(frozen=True)
class Before:
    """The last good render, as far as it can be read.

    Attributes:
        snapshot: what the Secret holds; None when there is none.
        record: what it was made from.
    """

    snapshot: Snapshot | None = None
    record: Record = field(default_factory=Record)


def read(inputs: StackInputs) -> Before:
    """The last good render; what somebody has damaged counts as not there."""
    secret = inputs.secret
    noted = record.read(secret, inputs.key, inputs.namespace, inputs.stack)
    if secret is None or not is_ours(secret, inputs.stack):
        return Before(None, noted)
    content = (secret.get("data") or {}).get(SNAPSHOT_KEY)
    try:
        found = Snapshot.parse(base64.b64decode(content or ""), secret_name(inputs.stack))
    except (ConfigError, ValueError):
        return Before(None, noted)
    return Before(found, noted)


def withdrawn(inputs: StackInputs, before: Before) -> set[str]:
    """The backends in force whose owners no longer let this namespace use them."""
    in_force = before.snapshot.backends if before.snapshot else ()
    return {
        name
        for name in in_force
        if name in before.record.origins and is_withdrawn(inputs, before.record.origins[name])
    }


def continued(name: str, found: Found, before: Before, now: int) -> Backend:
    """A backend with the logins it had before, for as long as their grace lasts or they are used."""
    old = before.snapshot.backends.get(name) if before.snapshot else None
    new = found.snapshot
    if (
        not isinstance(new, PostgresBackend)
        or not isinstance(old, PostgresBackend)
        or before.record.origins.get(name, found.key) != found.key
        or found.settled
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
        origin = before.record.origins.get(name)
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


def earlier(snapshot: Snapshot | None, origins: Mapping[str, Key]) -> dict[Key, bool]:
    """The backends of which there are earlier logins; True: one of them is for another address."""
    found: dict[Key, bool] = {}
    for name, backend in (snapshot.backends if snapshot else {}).items():
        if isinstance(backend, PostgresBackend) and backend.previous and name in origins:
            moved = any(_place(login) != _place(backend.current) for login in backend.previous)
            found[origins[name]] = found.get(origins[name], False) or moved
    return found


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


def _place(login: Login) -> tuple[object, ...]:
    return login.host.lower(), login.port, login.database


def _same(login: Login) -> tuple[object, ...]:
    """What makes two logins one; a revision also changes with TLS."""
    password = login.password.get_secret_value() if login.password else None
    return login.host, login.port, login.database, login.username, password
