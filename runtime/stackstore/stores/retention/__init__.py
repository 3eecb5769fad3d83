"""Retention: rows that are old enough are deleted, in small batches, by one process at a time."""

from stackstore.stores.retention.ageing import MICROSECONDS, SECONDS, Ageing, Part
from stackstore.stores.retention.retention import Retention, RetentionStats
from stackstore.stores.retention.retentions import Ready, Retained, Retentions

__all__ = [
    "MICROSECONDS",
    "SECONDS",
    "Ageing",
    "Part",
    "Ready",
    "Retained",
    "Retention",
    "RetentionStats",
    "Retentions",
]
