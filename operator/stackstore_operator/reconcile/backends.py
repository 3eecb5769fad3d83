"""What a StorageBackend amounts to: its login, or why there is none. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from stackstore.credentials.snapshot import PoolSettings, PostgresBackend, SqliteBackend
from stackstore_operator.api.backend import (
    Credentials,
    Postgres,
    ServiceBinding,
    StorageBackend,
    StorageBackendSpec,
    StorageBackendStatus,
    Tls,
)
from stackstore_operator.api.conditions import Reason
from stackstore_operator.api.support import unsupported
from stackstore_operator.reconcile import adoption, conditions, provisioned, verification
from stackstore_operator.reconcile.conditions import Said
from stackstore_operator.reconcile.credentials import CredentialsProblem, Resolved, resolve
from stackstore_operator.reconcile.inputs import BackendInputs, Key
from stackstore_operator.reconcile.sources import Source
from stackstore_operator.render import revision

MAX_CA_LENGTH = 256 * 1024
"""Most characters of a CA: about 150 certificates. It is taken apart in the operator's one loop."""


@dataclass(frozen=True, slots=True)
class BackendState:
    """A backend looked at.

    Attributes:
        snapshot: what goes into stacks' Secrets (without previous logins); None when unusable.
        binding: the Secret that may be handed on as that of a provisioned service; empty: none.
    """

    accepted: Said
    credentials: Said
    snapshot: PostgresBackend | SqliteBackend | None
    revision: str
    binding: str = ""


def look(
    backend: StorageBackend,
    secrets: Mapping[Key, Mapping[str, bytes]],
    config_maps: Mapping[Key, Mapping[str, str]],
    key: bytes,
) -> BackendState:
    """Resolve a backend's credentials."""
    accepted = Said("Accepted", "True", Reason.ACCEPTED, _caveat(backend.spec.postgres))
    missing = unsupported(backend)
    if missing:
        message = f"not supported yet: {', '.join(missing)}; remove it"
        accepted = Said("Accepted", "False", Reason.NOT_YET_SUPPORTED, message)
    spec = backend.spec
    if spec.postgres is None or spec.credentials is None:
        return _sqlite(spec, accepted, key)
    try:
        resolved = _resolved(
            backend.metadata.namespace, spec.postgres, spec.credentials, secrets, config_maps
        )
    except CredentialsProblem as problem:
        # Not there (yet) is Unknown; there and wrong is False.
        absent = problem.reason in (Reason.SECRET_NOT_FOUND, Reason.CA_NOT_FOUND)
        credentials = Said(
            "CredentialsResolved", "Unknown" if absent else "False", problem.reason, str(problem)
        )
        return BackendState(accepted, credentials, None, "")
    postgres = _snapshot(spec, backend.metadata.namespace, resolved, key)
    name = spec.credentials.secret_ref.name
    secret = secrets[backend.metadata.namespace, name]
    shortcoming = provisioned.shortcoming(secret)
    notes = [f"login from Secret '{name}'", resolved.stale]
    if shortcoming and provisioned.is_meant(secret):
        notes.append(f"no provisioned service (status.binding): {shortcoming}")
    return BackendState(
        accepted,
        Said(
            "CredentialsResolved",
            "True",
            Reason.RESOLVED,
            "; ".join(note for note in notes if note),
        ),
        None if missing else postgres,
        postgres.current.revision,
        binding="" if shortcoming else name,
    )


def status(
    inputs: BackendInputs, now: int, state: BackendState | None = None
) -> StorageBackendStatus:
    """The status to write.

    Args:
        inputs: what was read.
        now: epoch seconds.
        state: what the backend amounts to, if that was looked at already.
    """
    backend = inputs.backend
    state = state or look(backend, inputs.secrets, inputs.config_maps, inputs.key)
    finding = inputs.finding
    if finding is not None and finding.revision != state.revision:
        finding = None
    verified = verification.said(backend, state.snapshot, finding)
    accepted = _accepted(inputs, state.accepted)
    parts = [accepted, state.credentials]
    # What nobody knows takes nothing away from a backend that may be fine; a refusal does.
    if verified.status == "False":
        parts.append(verified)
    said = [
        conditions.summary(parts),
        accepted,
        state.credentials,
        verified,
        adoption.of_backend(backend, state.snapshot, finding, inputs.uses),
        # It lowers nothing: who has a login keeps it.
        *([inputs.within] if inputs.within is not None else []),
    ]
    version = finding.server_version if finding is not None else ""
    if not version and backend.status.revision == state.revision:
        version = backend.status.server_version
    generation = backend.metadata.generation
    return StorageBackendStatus(
        observed_generation=generation,
        conditions=conditions.timed(said, backend.status.conditions, generation, now),
        bindings=inputs.bindings,
        refused_bindings=inputs.refused,
        revision=state.revision,
        server_version=version,
        binding=ServiceBinding(name=state.binding) if state.binding else None,
    )


def _caveat(postgres: Postgres | None) -> str:
    """What a stock server can't do with it, though it is served."""
    if postgres is None or postgres.pooler != "Transaction":
        return ""
    return (
        "`spec.postgres.pooler: Transaction` is served by the Stackstore runtime; a stock server names "
        "its prepared statements and has no setting for it: before one, the pooler must keep track of "
        "them (pgbouncer 1.21 or newer with `max_prepared_statements` above 0), else say Session"
    )


def _accepted(inputs: BackendInputs, accepted: Said) -> Said:
    """What speaks against the backend beside its own fields; its own namespace is served all the same."""
    if inputs.holding is not None:
        users = f"it serves who uses it, takes nobody new, and goes with the last: {inputs.holding}"
        return Said(
            "Accepted",
            "False",
            Reason.BACKEND_TERMINATING,
            f"the backend is being deleted; {users if inputs.holding else 'nobody uses it'}",
        )
    selects = inputs.backend.spec.allowed_namespaces.from_ == "Selector"
    if accepted.status != "True" or not selects or inputs.namespaces_readable:
        return accepted
    return Said(
        "Accepted",
        "False",
        Reason.NAMESPACES_NOT_READABLE,
        "`spec.allowedNamespaces.from: Selector`: this installation may not read the labels of "
        "namespaces, so that no other namespace is let in; set `Same` or `All`, or let the operator "
        "list and watch namespaces",
    )


def _sqlite(spec: StorageBackendSpec, accepted: Said, key: bytes) -> BackendState:
    assert spec.sqlite is not None  # noqa: S101 - the model has seen to it
    path = spec.sqlite.path
    snapshot = SqliteBackend(
        type="kv_sqlite" if spec.type == "kv_sqlite" else "sql_sqlite", path=path
    )
    return BackendState(
        accepted,
        Said("CredentialsResolved", "True", Reason.NO_CREDENTIALS),
        snapshot if accepted.status == "True" else None,
        revision.of_path(key, path),
    )


def _resolved(
    namespace: str,
    postgres: Postgres,
    credentials: Credentials,
    secrets: Mapping[Key, Mapping[str, bytes]],
    config_maps: Mapping[Key, Mapping[str, str]],
) -> Resolved:
    name = credentials.secret_ref.name
    secret = secrets.get((namespace, name))
    if secret is None:
        raise CredentialsProblem(
            Reason.SECRET_NOT_FOUND, f"there is no Secret '{name}' in namespace '{namespace}'"
        )
    refused = secret.refused if isinstance(secret, Source) else ""
    if refused:
        raise CredentialsProblem(Reason.SECRET_INVALID, f"Secret '{name}' {refused}")
    ca = _ca(namespace, postgres.tls, secrets, config_maps)
    return resolve(namespace, postgres, credentials, secret, ca)


def _snapshot(
    spec: StorageBackendSpec, namespace: str, resolved: Resolved, key: bytes
) -> PostgresBackend:
    postgres = spec.postgres
    assert postgres is not None  # noqa: S101 - the model has seen to it
    named = revision.of_login(key, namespace, resolved.login, resolved.tls)
    pool = postgres.pool
    return PostgresBackend(
        type="kv_postgres" if spec.type == "kv_postgres" else "sql_postgres",
        current=resolved.login.model_copy(update={"revision": named}),
        tls=resolved.tls,
        pooler=postgres.pooler,
        pool=PoolSettings(
            size=pool.size,
            max_overflow=pool.max_overflow,
            recycle_seconds=pool.recycle_seconds,
            acquire_timeout_seconds=pool.acquire_timeout_seconds,
        ),
        statement_timeout_seconds=postgres.statement_timeout_seconds,
    )


def _ca(
    namespace: str,
    tls: Tls,
    secrets: Mapping[Key, Mapping[str, bytes]],
    config_maps: Mapping[Key, Mapping[str, str]],
) -> str | None:
    reference = tls.ca_ref
    if reference is None:
        return None
    key = (namespace, reference.name)
    if reference.kind == "Secret":
        # What is not text is found to be no certificate later.
        text = secrets.get(key, {}).get(reference.key, b"").decode("utf-8", "replace")
    else:
        text = config_maps.get(key, {}).get(reference.key, "")
    if not text:
        raise CredentialsProblem(
            Reason.CA_NOT_FOUND,
            f"there is no {reference.kind} '{reference.name}' with a key '{reference.key}'",
        )
    if len(text) > MAX_CA_LENGTH:
        raise CredentialsProblem(
            Reason.CA_INVALID,
            f"key '{reference.key}' of {reference.kind} '{reference.name}' has {len(text)} characters; "
            f"allowed are {MAX_CA_LENGTH}: keep the certificates that signed this server's only",
        )
    return text
