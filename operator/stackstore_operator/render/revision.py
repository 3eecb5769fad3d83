"""Revisions: short names of logins that can be compared but not guessed from."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Mapping

from stackstore.credentials.snapshot import Login, PostgresBackend, SqliteBackend, Tls


def of_login(key: bytes, namespace: str, login: Login, tls: Tls) -> str:
    """8 hex digits that change when the address, the login or the TLS does.

    The namespace is the backend's: from another one the operator would otherwise tell whether a
    guessed login is right, by giving it the same name.
    """
    password = login.password.get_secret_value() if login.password else ""
    facts = [
        namespace,
        login.host,
        login.port,
        login.database,
        login.username,
        password,
        tls.mode,
        tls.ca or "",
    ]
    return _digest(key, facts)


def of_path(key: bytes, path: str) -> str:
    """The same for a SQLite file."""
    return _digest(key, [path])


def of_stack(key: bytes, backends: Mapping[str, PostgresBackend | SqliteBackend]) -> str:
    """One for all of a stack's backends together."""
    parts = [
        (name, b.current.revision if isinstance(b, PostgresBackend) else of_path(key, b.path))
        for name, b in sorted(backends.items())
    ]
    return _digest(key, parts)


def of_content(key: bytes, environment: Mapping[str, str], config: str) -> str:
    """One for all that a server reads when it starts: its environment and its run config."""
    return _digest(key, [dict(environment), config])


def stack_id(namespace: str, stack: str) -> str:
    """12 hex digits that name a stack in databases."""
    return hashlib.sha256(f"{namespace}/{stack}".encode()).hexdigest()[:12]


def _digest(key: bytes, facts: object) -> str:
    text = json.dumps(facts, sort_keys=True, separators=(",", ":"))
    return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()[:8]
