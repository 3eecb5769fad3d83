"""The rows of batches, and what is asked of a new one; pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stackstore.errors import InvalidArgumentError
from stackstore.sql import ColumnDefinition, ColumnType
from stackstore.sql.names import derived
from stackstore.stores import claims
from stackstore.stores.tables import TableDefinition


def definition(table: str) -> TableDefinition:
    """The table."""
    return TableDefinition(
        table,
        {
            "id": ColumnDefinition(ColumnType.STRING, primary_key=True),
            "created_at": ColumnDefinition(ColumnType.INTEGER, nullable=False),
            # Microseconds, for the order of what was made in one second.
            "sequence": ColumnDefinition(ColumnType.INTEGER, nullable=False),
            "status": ColumnDefinition(ColumnType.STRING, nullable=False),
            # Random: says which row, where several users have one of this id.
            "uid": ColumnDefinition(ColumnType.STRING, nullable=False),
            # Counts the changes: it is what is compared.
            "version": ColumnDefinition(ColumnType.INTEGER, nullable=False),
            **claims.COLUMNS,
            "batch_data": ColumnDefinition(ColumnType.JSON, nullable=False),
        },
        {derived(table, "sequence"): ["sequence"], derived(table, "due"): claims.INDEX},
    )


def asked_of(
    input_file_id: object, endpoint: object, completion_window: object, metadata: object
) -> dict[str, Any]:
    """What a new batch is made of.

    Raises:
        InvalidArgumentError: an argument isn't possible.
    """
    if metadata is not None and not (
        isinstance(metadata, Mapping)
        and all(isinstance(part, str) for item in metadata.items() for part in item)
    ):
        raise InvalidArgumentError("metadata of a batch is a mapping of texts to texts, or None")
    return {
        "input_file_id": checked("input_file_id", input_file_id),
        "endpoint": checked("endpoint", endpoint),
        "completion_window": checked("completion_window", completion_window),
        "metadata": None if metadata is None else dict(metadata),
    }


def checked(what: str, given: object) -> str:
    """A text that is not empty.

    Raises:
        InvalidArgumentError: it isn't one.
    """
    if not isinstance(given, str) or not given:
        raise InvalidArgumentError(f"{what} is a text that is not empty")
    return given
