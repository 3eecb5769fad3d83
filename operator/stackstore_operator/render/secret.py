"""The Secret's keys: one snapshot for our runtime, the same as environment for stock servers."""

from __future__ import annotations

from urllib.parse import quote, urlencode

from stackstore.credentials.snapshot import (
    Durability,
    PostgresBackend,
    Snapshot,
    SqliteBackend,
    StoreSettings,
    TlsMode,
    provider_key,
)
from stackstore_operator.render.model import (
    SNAPSHOT_KEY,
    STORAGE_MOUNT,
    PlacedStore,
    ResolvedStack,
    environment_prefix,
)

_SSL_MODES: dict[TlsMode, str] = {
    "Disable": "disable",
    "Allow": "allow",
    "Prefer": "prefer",
    "Require": "require",
    "VerifyCA": "verify-ca",
    "VerifyFull": "verify-full",
}


def data(stack: ResolvedStack, revision: str) -> dict[str, bytes]:
    """Every key of the Secret; the same input gives the same bytes."""
    snapshot = Snapshot(
        stack_id=stack.stack_id,
        revision=revision,
        backends=dict(stack.backends),
        stores=_said({store.name: _settings(store) for store in stack.stores}),
        providers=_said(
            {
                provider_key(p.api, p.provider_id, p.field): StoreSettings(
                    retention_seconds=p.retention_seconds
                )
                for p in stack.providers
            }
        ),
    )
    return of_snapshot(snapshot)


def _settings(store: PlacedStore) -> StoreSettings:
    journal = store.journal
    return StoreSettings(
        max_write_queue_size=store.max_write_queue_size,
        num_writers=store.num_writers,
        retention_seconds=store.retention_seconds,
        durability=None if journal is None else Durability(mode="Journal", path=journal),
    )


def _said(settings: dict[str, StoreSettings]) -> dict[str, StoreSettings]:
    """Without those that say nothing."""
    return {name: found for name, found in settings.items() if found != StoreSettings()}


def of_snapshot(snapshot: Snapshot) -> dict[str, bytes]:
    """The keys that go with a snapshot."""
    found = {SNAPSHOT_KEY: snapshot.to_bytes()}
    for name, backend in sorted(snapshot.backends.items()):
        if not isinstance(backend, SqliteBackend):
            found |= {
                key: text.encode() for key, text in _keys(name, backend, snapshot.stack_id).items()
            }
    return found


def _keys(name: str, backend: PostgresBackend, stack_id: str) -> dict[str, str]:
    prefix = environment_prefix(name)
    login = backend.current
    found = {
        f"{prefix}_URL": url(name, backend, stack_id),
        f"{prefix}_HOST": login.host,
        f"{prefix}_PORT": str(login.port),
        f"{prefix}_DATABASE": login.database,
        f"{prefix}_USER": login.username,
        f"{prefix}_PASSWORD": login.password.get_secret_value() if login.password else "",
        f"{prefix}_POOL_SIZE": str(backend.pool.size),
        f"{prefix}_MAX_OVERFLOW": str(backend.pool.max_overflow),
    }
    if backend.type == "sql_postgres":
        found[f"{prefix}_POOL_RECYCLE"] = str(backend.pool.recycle_seconds)
    elif backend.statement_timeout_seconds is not None:
        found[f"{prefix}_COMMAND_TIMEOUT"] = str(backend.statement_timeout_seconds)
    if backend.tls.ca is not None:
        found[f"{name}.ca.crt"] = backend.tls.ca
    return found


def url(name: str, backend: PostgresBackend, stack_id: str) -> str:
    """A connection string that the server's driver takes apart into the same parts again.

    Every part is percent-encoded. A socket's directory as the host too: in that form the server
    takes it, and in no other. TLS is said here and nowhere else, because beside a URI the server
    reads `ssl_mode: disable` as "prefer", and a kv backend's CA only under verify-full.
    """
    login = backend.current
    host = quote(login.host, safe="")
    if ":" in login.host:
        host = f"[{quote(login.host, safe=':')}]"
    options = {"sslmode": _SSL_MODES[backend.tls.mode]}
    if backend.tls.ca is not None and backend.tls.mode in ("VerifyCA", "VerifyFull"):
        options["sslrootcert"] = f"{STORAGE_MOUNT}/{name}.ca.crt"
    options["application_name"] = f"stackstore:{login.revision}:{stack_id}"
    # Of the rest a stock server has no setting for it; a pooler refuses start-up options.
    if backend.statement_timeout_seconds is not None and backend.pooler == "None":
        options["options"] = f"-c statement_timeout={backend.statement_timeout_seconds * 1000}"
    user = quote(login.username, safe="")
    if login.password is not None:
        user += f":{quote(login.password.get_secret_value(), safe='')}"
    return (
        f"postgresql://{user}@{host}:{login.port}/{quote(login.database, safe='')}"
        f"?{urlencode(options, quote_via=quote, safe='/:')}"
    )
