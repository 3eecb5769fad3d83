"""The records of vector stores: their files, the files' contents, and batches of files."""

from stackstore.stores.vector_stores.store import VectorStoresStore

__all__ = ["VectorStoresStore"]
