"""Chat completions: written through a queue, read as their users may."""

from stackstore.stores.inference.store import InferenceStore

__all__ = ["InferenceStore"]
