"""The records of batches."""

from stackstore.stores.batches.store import BatchesStore

__all__ = ["BatchesStore"]
