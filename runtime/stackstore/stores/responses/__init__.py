"""Responses, what they were answered on, and what belongs to the Responses API beside them."""

from stackstore.stores.responses.store import ResponsesStore, StoredResponse

__all__ = ["ResponsesStore", "StoredResponse"]
