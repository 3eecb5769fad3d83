"""Conversations and their items."""

from stackstore.stores.conversations.store import ConversationsStore

__all__ = ["ConversationsStore"]
