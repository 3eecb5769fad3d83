"""What memory needs to remember: files of conversations, and the default vector stores."""

from __future__ import annotations

import hashlib
import json
import time
from typing import Any

from stackstore.errors import ConflictError
from stackstore.sql.names import derived
from stackstore.stores.ids import minted
from stackstore.stores.retention import Ageing
from stackstore.stores.tables import (
    MAYBE_TEXT,
    NUMBER,
    TEXT,
    TEXT_KEY,
    StoreTables,
    TableDefinition,
)


def definitions(table: str) -> list[TableDefinition]:
    """The tables."""
    records, vector_stores = _names(table)
    return [
        TableDefinition(
            records,
            {
                "id": TEXT_KEY,
                # The API's owner_id, which is another thing than the row's owner.
                "memory_owner": TEXT,
                "conversation_id": TEXT,
                "vector_store_id": TEXT,
                "file_id": TEXT,
                "response_id": TEXT,
                "created_at": NUMBER,
                "updated_at": NUMBER,
            },
            {derived(records, "updated"): ["updated_at"]},
        ),
        TableDefinition(
            vector_stores,
            {
                "namespace": TEXT_KEY,
                "vector_store_id": MAYBE_TEXT,
                "provider_id": MAYBE_TEXT,
                "created_at": NUMBER,
                "updated_at": NUMBER,
                "version": TEXT,
            },
        ),
    ]


def ageing(table: str) -> Ageing:
    """A record is as old as its last change. What vector stores are whose is somebody's set-up."""
    return Ageing(_names(table)[0], "updated_at")


class Memory:
    """The methods of a responses store that are about memory."""

    _tables: StoreTables
    _table: str

    async def upsert_memory_record(
        self,
        owner_id: str,
        conversation_id: str,
        vector_store_id: str,
        file_id: str,
        response_id: str,
    ) -> None:
        """Say which file is a conversation's memory in a vector store.

        Raises:
            AccessDeniedError, InvalidArgumentError, BackendUnavailableError: see the store's
                `store_response_object`.
        """
        store = await self._tables.ready()
        now = int(time.time())
        row = {
            "id": _record_id(owner_id, conversation_id, vector_store_id),
            "memory_owner": owner_id,
            "conversation_id": conversation_id,
            "vector_store_id": vector_store_id,
            "file_id": file_id,
            "response_id": response_id,
            "created_at": now,
            "updated_at": now,
        }
        records, _ = _names(self._table)
        await store.upsert(records, row, ["id"], ["file_id", "response_id", "updated_at"])

    async def get_memory_record(
        self, owner_id: str, conversation_id: str, vector_store_id: str
    ) -> dict[str, Any] | None:
        """Which file is it; None: none is known."""
        store = await self._tables.ready()
        records, _ = _names(self._table)
        key = _record_id(owner_id, conversation_id, vector_store_id)
        row = await store.fetch_one(records, {"id": key}, [("updated_at", "desc")])
        if row is None:
            return None
        del row["id"]
        return {"owner_id": row.pop("memory_owner"), **row}

    async def upsert_default_memory_vector_store(
        self, namespace: str, vector_store_id: str, provider_id: str | None
    ) -> None:
        """Say which vector store is a namespace's; this ends a claim on it."""
        store = await self._tables.ready()
        _, vector_stores = _names(self._table)
        row = _claim(namespace)
        row |= {"vector_store_id": vector_store_id, "provider_id": provider_id}
        changed = ["vector_store_id", "provider_id", "updated_at", "version"]
        await store.upsert(vector_stores, row, ["namespace"], changed)

    async def get_default_memory_vector_store(self, namespace: str) -> dict[str, Any] | None:
        """A namespace's vector store; None: nobody has claimed to make it.

        `vector_store_id` is None where somebody is making it, since `updated_at`.
        """
        store = await self._tables.ready()
        _, vector_stores = _names(self._table)
        # His own, whatever others call theirs: what is kept there is his memory.
        row = await store.fetch_one(vector_stores, {"namespace": namespace}, own=True)
        if row is not None:
            del row["version"]
        return row

    async def claim_default_memory_vector_store(self, namespace: str) -> bool:
        """Claim to make a namespace's vector store; False: somebody does, or did.

        One of all who act as the same user gets it. Whoever wants one for all users claims as one
        user for all of them, as the server does.
        """
        store = await self._tables.ready()
        _, vector_stores = _names(self._table)
        try:
            await store.insert(vector_stores, _claim(namespace))
        except ConflictError:
            return False
        return True

    async def delete_default_memory_vector_store_claim(self, namespace: str) -> None:
        """Give up one's claim; a vector store that was made meanwhile stays."""
        store = await self._tables.ready()
        _, vector_stores = _names(self._table)
        row = await store.fetch_one(vector_stores, {"namespace": namespace}, own=True)
        if row is not None and row["vector_store_id"] is None:
            # By its version, which no other user's has.
            claim = {"namespace": namespace, "version": row["version"]}
            await store.delete(vector_stores, claim)


def _names(table: str) -> tuple[str, str]:
    return derived(table, "memory_records"), derived(table, "memory_vector_stores")


def _claim(namespace: str) -> dict[str, Any]:
    now = int(time.time())
    return {
        "namespace": namespace,
        "vector_store_id": None,
        "provider_id": None,
        "created_at": now,
        "updated_at": now,
        "version": minted("v", 24),
    }


def _record_id(*parts: str) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()
