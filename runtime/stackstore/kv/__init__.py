"""Key-value stores."""

from stackstore.kv.store import KVStore

__all__ = ["KVStore"]
