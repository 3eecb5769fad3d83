"""The registry of what a stack serves: models, vector stores, groups of tools."""

from stackstore.stores.metadata.store import MetadataStore

__all__ = ["MetadataStore"]
