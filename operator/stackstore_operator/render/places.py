"""Two users of one place: what one writes there the other would read, or lose.

The server checks none of it. Some of its tables have fixed names, whatever the config says.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Iterator, Mapping

from stackstore.config.schema import RESERVED_TABLES
from stackstore.credentials.snapshot import PostgresBackend, SqliteBackend
from stackstore_operator.api.conditions import Reason
from stackstore_operator.render.model import PlacedStore, RenderError, ResolvedStack
from stackstore_operator.render.references import Reference
from stackstore_operator.render.releases import Family

_IDENTIFIER_BYTES = 63
"""Postgres cuts names there (NAMEDATALEN - 1), with a notice that nobody reads."""

_Claim = tuple[str, str, str]
"""What kind of place, its name, and the word of those who share it on purpose."""


def check(
    stores: Iterable[PlacedStore], references: Iterable[Reference], stack: ResolvedStack
) -> None:
    """Raise `RenderError` when two users would share a place, or one would take ours."""
    taken: dict[tuple[object, ...], tuple[int, str, str]] = {}
    # Counted, because a label need not be one user's alone: ids that may be secret aren't shown.
    for user, (label, backend, claims) in enumerate(_users(stores, references, stack)):
        place = database(stack.backends[backend])
        for kind, name, common in claims:
            # SQLite knows no case in a table's name.
            if kind == "table" and name.casefold() in RESERVED_TABLES:
                raise RenderError(
                    Reason.TABLE_COLLISION,
                    f"{label}: the table name '{name}' is kept for Stackstore's own; choose another",
                )
            key = (*place, kind, folded(kind, name, stack.backends[backend]))
            owner, other, theirs = taken.setdefault(key, (user, label, common))
            if owner != user and not (common and common == theirs):
                raise RenderError(
                    Reason.TABLE_COLLISION,
                    f"{label} and {other} would share the {kind} '{name}' of one database; "
                    "give each its own, or another backend",
                )
    _check_prefixes(taken)


def folded(kind: str, name: str, backend: PostgresBackend | SqliteBackend) -> str:
    """What two names of one place have in common: SQLite knows no case, Postgres 63 bytes."""
    if kind != "table":
        return name
    name = name.casefold()
    if isinstance(backend, SqliteBackend):
        return name
    return name.encode()[:_IDENTIFIER_BYTES].decode(errors="ignore")


def _check_prefixes(taken: Mapping[tuple[object, ...], tuple[int, str, str]]) -> None:
    """The server joins namespace and key by a colon: `a` reads under `b:c` what `a:b` has under `c`."""
    for (*place, kind, name), (_, label, _) in taken.items():
        if kind != "kv namespace":
            continue
        for above in _prefixes(str(name)):
            other = taken.get((*place, kind, above))
            if other is not None:
                raise RenderError(
                    Reason.TABLE_COLLISION,
                    f"{label} would share keys with {other[1]}: the server puts a ':' between kv "
                    f"namespace and key, so that '{above}' also reads what '{name}' holds; give one a "
                    "name that does not begin with the other's, or another backend",
                )


def _prefixes(name: str) -> Iterator[str]:
    return (name[:at] for at, letter in enumerate(name) if letter == ":" and at)


def _users(
    stores: Iterable[PlacedStore], references: Iterable[Reference], stack: ResolvedStack
) -> Iterator[tuple[str, str, list[_Claim]]]:
    release = stack.release
    for name, backend in sorted(stack.backends.items()):
        if backend.type in release.kv_tables:
            yield f"kv backend '{name}'", name, [("table", release.kv_tables[backend.type], "kv")]
        else:
            yield f"sql backend '{name}'", name, [("table", t, "jobs") for t in release.reserved]
    for store in stores:
        rule = release.stores[store.name]
        claims = _claims(store.family, store.place, rule.fixed, rule.common)
        yield f"store '{store.name}'", store.backend, claims
    for found in references:
        if found.backend is not None:
            used = found.rule
            claims = _claims(used.family, found.place, used.fixed, used.common)
            yield found.label, found.backend, claims


def _claims(family: Family, place: str | None, fixed: tuple[str, ...], common: str) -> list[_Claim]:
    if family == "kv":
        return [] if place is None else [("kv namespace", place, "")]
    # The name that was given counts too: it is the one our runtime uses.
    return [("table", table, common) for table in (*fixed, *([place] if place else []))]


def database(backend: PostgresBackend | SqliteBackend) -> tuple[object, ...]:
    """What two backends of one database have in common."""
    if isinstance(backend, SqliteBackend):
        # POSIX lets a path begin with two slashes and mean something else; Linux does not.
        return ("sqlite", posixpath.normpath("/" + backend.path.lstrip("/")))
    login = backend.current
    host = login.host.lower().rstrip(".").removesuffix(".cluster.local")
    return ("postgres", host, login.port, login.database)
