"""The rows of batches, and what is asked of a new one; pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stackstore.sql.names import derived
from stackstore.stores import claims
from stackstore.stores.batches.status import check_metadata
from stackstore.stores.ids import filled
from stackstore.stores.tables import JSON, NUMBER, TEXT, TEXT_KEY, TableDefinition


def definition(table: str) -> TableDefinition:
    """The table."""
    return TableDefinition(
        table,
        {
            "id": TEXT_KEY,
            "created_at": NUMBER,
            # Microseconds, for the order of what was made in one second.
            "sequence": NUMBER,
            "status": TEXT,
            # Random: says which row, where several users have one of this id.
            "uid": TEXT,
            # Counts the changes: it is what is compared.
            "version": NUMBER,
            **claims.COLUMNS,
            "batch_data": JSON,
        },
        {derived(table, "sequence"): ["sequence"], derived(table, "due"): claims.INDEX},
    )


def asked_of(
    input_file_id: object,
    endpoint: object,
    completion_window: object,
    metadata: Mapping[str, str] | None,
) -> dict[str, Any]:
    """What a new batch is made of.

    Raises:
        InvalidArgumentError: an argument isn't possible.
    """
    check_metadata(metadata)
    return {
        "input_file_id": filled("input_file_id", input_file_id),
        "endpoint": filled("endpoint", endpoint),
        "completion_window": filled("completion_window", completion_window),
        "metadata": None if metadata is None else dict(metadata),
    }
