"""Which backends share a pool: pure.

Two backends share one when their address, user, TLS and pooler are equal in the snapshot in force,
whatever their names and families. The pool is as large as the largest of them asks.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass

from stackstore.credentials.snapshot import PoolSettings, PostgresBackend, SqliteBackend


@dataclass(frozen=True, slots=True)
class Group:
    """Backends that share one pool; `members` are sorted, the first names it."""

    members: tuple[str, ...]
    backend: PostgresBackend | SqliteBackend

    @property
    def key(self) -> Hashable:
        """What its members have in common, and no other group has."""
        return _key(self.backend)


def groups(backends: Mapping[str, PostgresBackend | SqliteBackend]) -> tuple[Group, ...]:
    """Sort the backends of a snapshot into pools, in the order of their first names."""
    found: dict[Hashable, list[str]] = {}
    for name in sorted(backends):
        found.setdefault(_key(backends[name]), []).append(name)
    return tuple(
        Group(tuple(names), _united([backends[name] for name in names])) for names in found.values()
    )


def successors(
    before: Mapping[str, int], keys: Mapping[int, Hashable], after: tuple[Group, ...]
) -> dict[tuple[str, ...], int | None]:
    """Which pool each new group goes on with.

    Args:
        before: the pool (a number) of each backend until now.
        keys: the key of the group that each pool served.
        after: the groups of the new snapshot.

    Returns:
        For each group's members a pool that one of them had: when a group parts, those whose key
        stays keep the pool and its connections; among the others it is the one that most of them
        had (the lowest number on a tie). None: it needs a new one. No pool is given twice.
    """
    taken: set[int] = set()
    chosen: dict[tuple[str, ...], int | None] = {}
    for group in sorted(
        after,
        key=lambda group: (
            group.key not in {keys[before[name]] for name in group.members if name in before},
            -len(group.members),
            group.members,
        ),
    ):
        votes: dict[int, int] = {}
        for name in group.members:
            if name in before and before[name] not in taken:
                votes[before[name]] = votes.get(before[name], 0) + 1
        pick = (
            min(votes, key=lambda pool: (keys[pool] != group.key, -votes[pool], pool))
            if votes
            else None
        )
        if pick is not None:
            taken.add(pick)
        chosen[group.members] = pick
    return chosen


def _key(backend: PostgresBackend | SqliteBackend) -> Hashable:
    if isinstance(backend, SqliteBackend):
        return backend.path
    login = backend.current
    return (
        login.host.lower(),
        login.port,
        login.database,
        login.username,
        backend.tls,
        backend.pooler,
    )


def _united(backends: list[PostgresBackend | SqliteBackend]) -> PostgresBackend | SqliteBackend:
    first = backends[0]
    if isinstance(first, SqliteBackend):
        return first
    postgres = [backend for backend in backends if isinstance(backend, PostgresBackend)]
    pools = [backend.pool for backend in postgres]
    largest = max(pools, key=lambda pool: (pool.size + pool.max_overflow, pool.size))
    recycles = [pool.recycle_seconds for pool in pools if pool.recycle_seconds > 0]
    settings = PoolSettings(
        size=largest.size,
        max_overflow=largest.max_overflow,
        recycle_seconds=min(recycles, default=-1),
        acquire_timeout_seconds=max(pool.acquire_timeout_seconds for pool in pools),
    )
    timeouts = [backend.statement_timeout_seconds for backend in postgres]
    known = [timeout for timeout in timeouts if timeout is not None]
    return first.model_copy(
        update={
            "pool": settings,
            # The longest: a shared connection must not cut off who asked for more time.
            "statement_timeout_seconds": max(known) if len(known) == len(timeouts) else None,
        }
    )
