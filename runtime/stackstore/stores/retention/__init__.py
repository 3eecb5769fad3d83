"""Retention: rows that are old enough are deleted, in small batches, by one process at a time."""

from stackstore.stores.retention.ageing import MICROSECONDS, SECONDS, Ageing, Part
from stackstore.stores.retention.retention import Retention, RetentionStats

__all__ = ["MICROSECONDS", "SECONDS", "Ageing", "Part", "Retention", "RetentionStats"]
