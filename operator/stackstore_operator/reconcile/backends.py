"""What a StorageBackend amounts to: its login, or why there is none. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from stackstore.credentials.snapshot import PoolSettings, PostgresBackend, SqliteBackend
from stackstore_operator.api.backend import StorageBackend, StorageBackendStatus
from stackstore_operator.api.conditions import Reason
from stackstore_operator.api.support import unsupported
from stackstore_operator.reconcile import conditions
from stackstore_operator.reconcile.conditions import Said
from stackstore_operator.reconcile.credentials import CredentialsProblem, resolve
from stackstore_operator.reconcile.inputs import BackendInputs, Key
from stackstore_operator.render import revision


@dataclass(frozen=True, slots=True)
class BackendState:
    """A backend looked at.

    Attributes:
        snapshot: what goes into stacks' Secrets (without previous logins); None when unusable.
    """

    accepted: Said
    credentials: Said
    snapshot: PostgresBackend | SqliteBackend | None
    revision: str


def look(
    backend: StorageBackend,
    secrets: Mapping[Key, Mapping[str, bytes]],
    config_maps: Mapping[Key, Mapping[str, str]],
    key: bytes,
) -> BackendState:
    """Resolve a backend's credentials."""
    accepted = Said("Accepted", "True", Reason.ACCEPTED)
    missing = unsupported(backend)
    if missing:
        message = f"not supported yet: {', '.join(missing)}; remove it"
        accepted = Said("Accepted", "False", Reason.NOT_YET_SUPPORTED, message)
    spec = backend.spec
    if spec.sqlite is not None:
        found = revision.of_path(key, spec.sqlite.path)
        credentials = Said("CredentialsResolved", "True", Reason.NO_CREDENTIALS)
        sqlite = None
        if not missing and (spec.type in {"kv_sqlite", "sql_sqlite"}):
            sqlite = SqliteBackend(type=spec.type, path=spec.sqlite.path)
        return BackendState(accepted, credentials, sqlite, found)
    try:
        postgres = _postgres(backend, secrets, config_maps, key)
    except CredentialsProblem as problem:
        # Not there (yet) is Unknown; there and wrong is False.
        absent = problem.reason in (Reason.SECRET_NOT_FOUND, Reason.CA_NOT_FOUND)
        credentials = Said(
            "CredentialsResolved", "Unknown" if absent else "False", problem.reason, str(problem)
        )
        return BackendState(accepted, credentials, None, "")
    credentials = Said("CredentialsResolved", "True", Reason.RESOLVED)
    return BackendState(
        accepted, credentials, None if missing else postgres, postgres.current.revision
    )


def status(inputs: BackendInputs, now: int) -> StorageBackendStatus:
    """The status to write."""
    backend = inputs.backend
    state = look(backend, inputs.secrets, inputs.config_maps, inputs.key)
    said = [
        conditions.summary([state.accepted, state.credentials]),
        state.accepted,
        state.credentials,
        conditions.not_yet("Verified"),
        conditions.not_yet("Adopted"),
    ]
    generation = backend.metadata.generation
    return StorageBackendStatus(
        observed_generation=generation,
        conditions=conditions.timed(said, backend.status.conditions, generation, now),
        bindings=inputs.bindings,
        revision=state.revision,
    )


def _postgres(
    backend: StorageBackend,
    secrets: Mapping[Key, Mapping[str, bytes]],
    config_maps: Mapping[Key, Mapping[str, str]],
    key: bytes,
) -> PostgresBackend:
    spec, namespace = backend.spec, backend.metadata.namespace
    if (
        spec.postgres is None
        or spec.credentials is None
        or spec.type not in ("kv_postgres", "sql_postgres")
    ):
        raise CredentialsProblem(Reason.INVALID, "`postgres` and `credentials` must be given")
    name = spec.credentials.secret_ref.name
    secret = secrets.get((namespace, name))
    if secret is None:
        raise CredentialsProblem(Reason.SECRET_NOT_FOUND, f"there is no Secret '{name}'")
    resolved = resolve(backend, secret, _ca(backend, secrets, config_maps))
    login = resolved.login.model_copy(
        update={"revision": revision.of_login(key, resolved.login, resolved.tls)}
    )
    pool = spec.postgres.pool
    return PostgresBackend(
        type="kv_postgres" if spec.type == "kv_postgres" else "sql_postgres",
        current=login,
        tls=resolved.tls,
        pooler=spec.postgres.pooler,
        pool=PoolSettings(
            size=pool.size,
            max_overflow=pool.max_overflow,
            recycle_seconds=pool.recycle_seconds,
            acquire_timeout_seconds=pool.acquire_timeout_seconds,
        ),
        statement_timeout_seconds=spec.postgres.statement_timeout_seconds,
    )


def _ca(
    backend: StorageBackend,
    secrets: Mapping[Key, Mapping[str, bytes]],
    config_maps: Mapping[Key, Mapping[str, str]],
) -> str | None:
    reference = backend.spec.postgres.tls.ca_ref if backend.spec.postgres else None
    if reference is None:
        return None
    key = (backend.metadata.namespace, reference.name)
    if reference.kind == "Secret":
        raw = secrets.get(key, {}).get(reference.key)
        text = None if raw is None else raw.decode("utf-8", "replace")
    else:
        text = config_maps.get(key, {}).get(reference.key)
    if not text:
        raise CredentialsProblem(
            Reason.CA_NOT_FOUND,
            f"there is no {reference.kind} '{reference.name}' with a key '{reference.key}'",
        )
    return text
