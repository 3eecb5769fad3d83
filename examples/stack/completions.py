"""Where completions are kept: each is a row of a sql store and registered in a kv store."""

from __future__ import annotations

import asyncio
import re
import time
from dataclasses import dataclass
from typing import Any

from examples.stack.shapes import Refusal
from stackstore import NotFoundError, Storage
from stackstore.sql import ColumnDefinition, ColumnType

MAX_PAGE = 100

_ID = re.compile(r"chatcmpl-[0-9a-f]{32}")
_KEY = "completion:"
_SCHEMA = {
    "id": ColumnDefinition(ColumnType.STRING, primary_key=True),
    # In microseconds, unlike the completion's own: many come in one second.
    "created": ColumnDefinition(ColumnType.INTEGER, nullable=False),
    "model": ColumnDefinition(ColumnType.STRING, nullable=False),
    "completion": ColumnDefinition(ColumnType.JSON, nullable=False),
}
_NEWEST_FIRST = [("created", "desc")]


@dataclass(frozen=True, slots=True)
class CompletionPage:
    """Some completions, and whether there are more beyond."""

    completions: list[dict[str, Any]]
    has_more: bool


class Completions:
    """The completions of a stack.

    Every method raises BackendUnavailableError while a database can't serve.
    """

    def __init__(self, storage: Storage) -> None:
        self._sql = storage.sql("inference")
        self._table = storage.table("inference")
        self._kv = storage.kv("metadata")
        self._made = False
        self._making = asyncio.Lock()

    async def add(self, completion: dict[str, Any]) -> None:
        """Keep one. When this returns, both stores have it."""
        await self._make_table()
        row = {
            "id": completion["id"],
            "created": time.time_ns() // 1000,
            "model": completion["model"],
            "completion": completion,
        }
        await self._sql.insert(self._table, row)
        # Last: what is registered is there. A row without its registration was never acknowledged.
        await self._kv.set(_KEY + completion["id"], completion["model"])

    async def get(self, completion_id: str) -> dict[str, Any] | None:
        """One, if both stores have it."""
        if not _ID.fullmatch(completion_id) or await self._kv.get(_KEY + completion_id) is None:
            return None
        await self._make_table()
        row = await self._sql.fetch_one(self._table, {"id": completion_id})
        completion: dict[str, Any] | None = None if row is None else row["completion"]
        return completion

    async def page(self, limit: int, after: str | None) -> CompletionPage:
        """The newest ones, or those that come after the one with the id `after`.

        Raises:
            Refusal: there is none with that id.
        """
        missing = Refusal(
            404, f"after: there is no completion {after!r}", param="after", code="not_found"
        )
        if after is not None and not _ID.fullmatch(after):
            raise missing
        await self._make_table()
        try:
            page = await self._sql.fetch_all(
                self._table, order_by=_NEWEST_FIRST, limit=limit, after=after
            )
        except NotFoundError:
            raise missing from None
        return CompletionPage([row["completion"] for row in page.data], page.has_more)

    async def answer(self) -> None:
        """Ask each store something; returns when both have answered."""
        await self._make_table()
        await self._sql.fetch_one(self._table, {"id": ""})
        await self._kv.get(_KEY)

    async def _make_table(self) -> None:
        # Not when the server starts: it starts without its database, and heals when that comes.
        if self._made:
            return
        async with self._making:
            if not self._made:
                await self._sql.create_table(self._table, _SCHEMA)
                await self._sql.create_index(f"{self._table}_created", self._table, _NEWEST_FIRST)
                self._made = True
