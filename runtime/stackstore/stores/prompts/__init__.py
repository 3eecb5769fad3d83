"""Prompts and their versions."""

from stackstore.stores.prompts.store import PromptsStore

__all__ = ["PromptsStore"]
