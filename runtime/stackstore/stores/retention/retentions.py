"""The retentions of a stack's stores: begun store by store, shown and ended together."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from stackstore.sql import SqlStore
from stackstore.stores.retention.ageing import Ageing
from stackstore.stores.retention.retention import Retention, RetentionStats


class Ready(Protocol):
    """A store, as far as its retention goes."""

    async def ready(self) -> object:
        """Its tables, in the database."""


@dataclass(frozen=True, slots=True)
class Retained:
    """A table whose rows grow old.

    Attributes:
        store: whose it is.
        backend: where it is.
        table: its name.
        stats: how its retention stands.
    """

    store: str
    backend: str
    table: str
    stats: RetentionStats


class Retentions:
    """Those that have been begun."""

    def __init__(self) -> None:
        self._of: dict[str, list[tuple[str, Retention]]] = {}

    def __contains__(self, name: str) -> bool:
        """Whether a store's have been begun."""
        return name in self._of

    def begin(
        self,
        name: str,
        store: Ready,
        ageings: Sequence[Ageing],
        *,
        backend: str,
        sql: SqlStore,
        seconds: int,
    ) -> None:
        """Begin a store's, in the running event loop. Nothing is connected yet.

        Args:
            name: the store's.
            store: makes sure of its tables.
            ageings: what of it grows old.
            backend: its backend.
            sql: where its tables are.
            seconds: the age, as of `Retention`.
        """
        begun = [Retention(sql, one, store.ready, seconds=seconds) for one in ageings]
        self._of[name] = [(backend, one) for one in begun]
        for one in begun:
            one.begin()

    def keep(self, name: str, seconds: int | None) -> None:
        """From now on a store's rows go at this age, if its retention was begun; None: they stay."""
        for _, one in self._of.get(name, ()):
            one.keep(seconds)

    def retained(self) -> list[Retained]:
        """How they stand, table by table."""
        return [
            Retained(name, backend, one.table, one.stats)
            for name, begun in self._of.items()
            for backend, one in begun
        ]

    async def close(self) -> None:
        """Stop all of them, in the middle of a batch if need be."""
        await asyncio.gather(*(one.close() for begun in self._of.values() for _, one in begun))
