"""SQL stores: named tables of typed columns, the same on SQLite and Postgres."""

from stackstore.sql.columns import ColumnDefinition, ColumnType, JsonText
from stackstore.sql.operations import DeleteOperation, Operations, Page
from stackstore.sql.store import SqlStore
from stackstore.sql.transactions import Transaction

__all__ = [
    "ColumnDefinition",
    "ColumnType",
    "DeleteOperation",
    "JsonText",
    "Operations",
    "Page",
    "SqlStore",
    "Transaction",
]
